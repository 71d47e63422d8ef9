"""What the files around the code say: templates of issues and pull requests, the citation, the changelog."""

import re
from datetime import date
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
FORMS = sorted(path for path in (REPOSITORY / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
TEXTS = [*FORMS, REPOSITORY / ".github/pull_request_template.md", REPOSITORY / "CHANGELOG.md"]
KINDS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
"""What GitHub allows in the body of a form."""
(VERSION,) = re.findall(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_of_an_issue_has_what_github_needs(path):
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= set(form)
    assert {part["type"] for part in form["body"]} <= KINDS
    asked = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in asked}) == len(asked)
    assert len({part["attributes"]["label"] for part in asked}) == len(asked)
    assert any(part.get("validations", {}).get("required") for part in asked)


@pytest.mark.parametrize("name", ["bug", "wrong_score"])
def test_a_report_of_a_fault_asks_for_the_machine_and_the_command(name):
    form = yaml.safe_load((REPOSITORY / f".github/ISSUE_TEMPLATE/{name}.yml").read_text())
    needed = {part["id"] for part in form["body"] if part.get("validations", {}).get("required")}
    assert {"command", "environment"} <= needed
    assert "`python scripts/report_environment.py`" in str(form)


def test_whoever_fits_no_form_can_still_write():
    config = yaml.safe_load((REPOSITORY / ".github/ISSUE_TEMPLATE/config.yml").read_text())
    assert config["blank_issues_enabled"] is True


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_every_command_and_file_that_is_named_exists(path):
    text = path.read_text()
    if path.stem == "CHANGELOG":  # what is gone is named after these words; of older versions all may be gone
        text = re.sub(r"no longer\s+`[^`]+`", "", text.partition("\n## [0.1.0]")[0])
    folders = "scripts|solov2|efficientps|fusion|panoptic_fpn|pan_secb|prediction|configs|tests|docs"
    named = set(re.findall(rf"(?<![\w/])((?:{folders})/[\w/.-]*\w)", text))
    assert [name for name in sorted(named) if not (REPOSITORY / name).exists()] == []
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"`make ([\w-]+)`", text))
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_the_citation_is_of_this_version_and_names_what_the_format_needs():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["version"] == VERSION
    assert citation["license"] == "Apache-2.0"
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year"} <= set(reference)


def test_the_changelog_has_this_version_and_lists_versions_from_the_newest_on():
    heads = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    versions = [name for name, _ in heads if name != "Unreleased"]
    assert VERSION in versions
    assert versions == sorted(versions, key=lambda name: [int(part) for part in name.split(".")], reverse=True)
    days = [date.fromisoformat(day) for name, day in heads if name != "Unreleased"]
    assert days == sorted(days, reverse=True)


def test_the_changelog_groups_changes_as_its_form_has_them():
    kinds = set(re.findall(r"^### (.+)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_every_older_spelling_of_a_flag_is_in_the_changelog():
    from prediction.arguments import OLDER_RULES
    from runtime.command_line import OLDER

    text = (REPOSITORY / "CHANGELOG.md").read_text()
    assert [spelling for spelling in (*OLDER, *OLDER_RULES) if f"`{spelling}`" not in text] == []
