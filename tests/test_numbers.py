"""Every table of measured numbers in README and docs says where they are from: a results file that a command wrote, or a commit.

Below the table stands `*Numbers: [NAME.json](results/NAME.json).*`, of one or more files that scripts/record_result.py wrote,
or `*Numbers: commit HASH.*` of the state that was measured, or `*Numbers: of the sources named.*` where the table says which.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
RESULTS = REPOSITORY / "docs" / "results"
MARK = re.compile(r"\*Numbers: (?:commit (?P<commit>\w+)|(?P<files>\[.*\))|of the sources named)\.\*")
TABLE = re.compile(r"(?:^ *\|.*\n)+", re.MULTILINE)
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
MEASURED = re.compile(rf"-?[\d,]+\.\d+|{NUMBER.pattern}(?: ± {NUMBER.pattern}| (?:ms|s|min|MB|GB|%))")


def tables(page: Path) -> Iterator[tuple[int, list[list[str]], str]]:
    """The tables of a page: number of its first line, rows of cells without the header, the first line of text below it."""
    text = page.read_text()
    for found in TABLE.finditer(text):
        rows = [[cell.strip().strip("*") for cell in line.strip().strip("|").split("|")] for line in found[0].splitlines()[2:]]
        yield text[: found.start()].count("\n") + 1, rows, text[found.end() :].lstrip().partition("\n")[0]


def measured_tables() -> list:
    found = []
    for page in PAGES:
        for line, rows, below in tables(page):
            if any(MEASURED.fullmatch(cell) for row in rows for cell in row[1:]):
                found.append(pytest.param(rows, below, id=f"{page.relative_to(REPOSITORY)}:{line}"))
    return found


def leaves(value: object) -> Iterator[float]:
    """Every number of a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def is_among(number: str, values: list[float]) -> bool:
    """Whether a value, or 100 times a value, is printed so."""
    digits = len(number.partition(".")[2])
    return any(f"{scale * value:.{digits}f}" == number for value in values for scale in (1, 100))


@pytest.mark.parametrize(("rows", "below"), measured_tables())
def test_a_table_of_measured_numbers_says_where_they_are_from(rows, below):
    mark = MARK.match(below)
    assert mark, f"below the table stands {below[:60]!r}, but one of the lines of this file's docstring is needed"
    if mark["files"]:
        names = re.findall(r"\[([\w.]+)\]", mark["files"])
        values = [value for name in names for value in leaves(json.loads((RESULTS / name).read_text()))]
        cells = [cell for row in rows for cell in row[1:] if NUMBER.fullmatch(cell) or MEASURED.fullmatch(cell)]
        numbers = [number for cell in cells for number in NUMBER.findall(cell)]
        assert [number for number in numbers if not is_among(number.replace(",", ""), values)] == []
    elif mark["commit"]:
        git = ["git", "-C", str(REPOSITORY)]
        if (
            subprocess.run([*git, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True).stdout.strip()
            != "false"
        ):
            pytest.skip("the history is not here")
        commit = mark["commit"]
        assert subprocess.run([*git, "cat-file", "-e", f"{commit}^{{commit}}"]).returncode == 0, f"no commit {commit}"


def test_a_results_file_says_how_it_was_made():
    for path in RESULTS.glob("*.json"):
        about = json.loads(path.read_text())["about"]
        assert {"command", "commit", "date"} <= set(about), path.name


def test_a_number_is_recognised_by_the_digits_that_are_printed():
    assert is_among("50.6", [0.50649])
    assert is_among("751", [751.2])
    assert not is_among("50.7", [0.50649])
    assert not is_among("50.60", [0.50649])
