"""What MkDocs does not know of this repository: pages beside docs/, and links that leave it.

A page that the nav of mkdocs.yml names and docs/ lacks is taken from the repository's root, where GitHub looks for SECURITY.md
and CONTRIBUTING.md. Links are written for GitHub, relative to where a file lies. In the site, those between pages are brought to
where the pages lie there; those to anything else, such as code, go to `repo_url` if mkdocs.yml has one, and else become plain
text.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[1]
DOCS = "docs"
LINK = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s#:]+)(?P<anchor>#[^()\s]*)?\)")
"""A Markdown link or image whose target is a path."""
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root that the nav names."""
    for name in _named(config.nav):
        if files.get_file_from_path(name) is None and (REPOSITORY / name).is_file():
            files.append(File.generated(config, name, abs_src_path=str(REPOSITORY / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Bring the links of a page to the site."""
    path = Path(page.file.abs_src_path).relative_to(REPOSITORY).as_posix()

    def rewrite(match: re.Match) -> str:
        """One link as it must stand in the site."""
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match["target"]))
        in_site = target.removeprefix(f"{DOCS}/")
        if files.get_file_from_path(in_site) is not None:
            relative = posixpath.relpath(in_site, posixpath.dirname(page.file.src_uri) or ".")
            return f"[{match['text']}]({relative}{match['anchor'] or ''})"
        if not (REPOSITORY / target).exists():
            return match[0]  # MkDocs reports it
        if config.repo_url:
            return f"[{match['text']}]({config.repo_url.rstrip('/')}/blob/HEAD/{target}{match['anchor'] or ''})"
        return f"`{match['text']}`" if match["text"] == match["target"] else match["text"]

    return _outside_code(rewrite, markdown)


def _outside_code(rewrite: Callable[[re.Match], str], markdown: str) -> str:
    """Rewrite every link that stands in no code."""
    parts, end = [], 0
    for code in CODE.finditer(markdown):
        parts += [LINK.sub(rewrite, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, LINK.sub(rewrite, markdown[end:])])


def _named(nav: object) -> Iterator[str]:
    """The pages that a nav of mkdocs.yml names."""
    if isinstance(nav, str):
        if nav.endswith(".md"):
            yield nav
    elif nav:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _named(entry)
