"""The documentation as a site: it builds without a warning, lacks no page, and no link of it leads nowhere."""

import json
import os
import posixpath
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

REPOSITORY = Path(__file__).parents[1]
ROOT_PAGES = ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = {path.relative_to(REPOSITORY / "docs").as_posix(): path for path in sorted((REPOSITORY / "docs").rglob("*.md"))}
PAGES |= {name: REPOSITORY / name for name in ROOT_PAGES}
"""By the path that a page has in the site."""


class Links(HTMLParser):
    """What a page refers to, what a reader follows and what a browser loads, and the anchors by which it can be referred to."""

    def __init__(self, html: str):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], {""}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors.update(found[name] for name in ("id", "name") if found.get(name))
        if found.get("href"):
            (self.links if tag == "a" else self.loaded).append(found["href"])
        if found.get("src"):
            self.loaded.append(found["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, and what MkDocs said."""
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        REPOSITORY / "mkdocs.yml",
        "--site-dir",
        folder,
    ]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # the theme's advertisement of its successor
    built = subprocess.run(command, cwd=folder, env=quiet, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder, built.stdout + built.stderr


@pytest.fixture(scope="module")
def pages(site):
    """Of each HTML file, by its path in the site, its links."""
    folder, _ = site
    return {path.relative_to(folder).as_posix(): Links(path.read_text()) for path in folder.rglob("*.html")}


def html_name(page: str) -> str:
    """The file of the site that is a page."""
    return f"{page.removesuffix('.md')}.html"


def count_blocks(html: str) -> Counter:
    """How many list items, tables, blocks of code and headings there are."""
    return Counter(re.findall(r"<(li|table|pre|h[1-4])[ >]", html))


def test_the_site_builds_without_a_warning(site):
    assert "WARNING" not in site[1]


def test_every_page_of_docs_is_in_the_navigation(pages):
    linked = {posixpath.normpath(urlsplit(link).path) for link in pages["index.html"].links}
    assert {html_name(page) for page in PAGES} <= linked | {"index.html"}


def test_every_link_inside_the_site_leads_somewhere(site, pages):
    lost = []
    for page, of_page in pages.items():
        for link in (*of_page.links, *of_page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            # 404.html is shown at any address, so its links begin at the root.
            folder = "" if parts.path.startswith("/") else posixpath.dirname(page)
            target = posixpath.normpath(posixpath.join(folder, unquote(parts.path).lstrip("/"))) if parts.path else page
            if not (site[0] / target).exists():
                lost.append(f"{page}: {link}")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                lost.append(f"{page}: {link} has no such place")
    assert not lost


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("api/")])
def test_a_page_has_the_blocks_in_the_site_that_it_has_on_github(site, page):
    """MkDocs wants four spaces before what belongs to a list item, and an empty line before a list, which CommonMark does not."""
    article = re.search("<article.*?</article>", (site[0] / html_name(page)).read_text(), re.DOTALL)[0]
    assert count_blocks(article) == count_blocks(MarkdownIt("commonmark").enable("table").render(PAGES[page].read_text()))


def test_a_page_loads_nothing_from_another_server(pages):
    assert [link for page in pages.values() for link in page.loaded if urlsplit(link).netloc] == []


def test_a_word_of_a_docstring_can_be_searched(site):
    entries = json.loads((site[0] / "search" / "search_index.json").read_text())["docs"]
    assert any("load_pipeline" in entry["title"] and entry["location"].startswith("api/") for entry in entries)
    assert any(entry["location"].startswith("SECURITY.html") for entry in entries)


@pytest.mark.parametrize("figure", sorted((REPOSITORY / "docs" / "systems").glob("*.svg")), ids=lambda path: path.name)
def test_a_figure_is_small_and_its_words_are_text(figure):
    text = figure.read_text()
    assert len(text.encode()) < 12 * 1024
    assert "Panoptic map" in text
    assert "prefers-color-scheme: dark" in text
