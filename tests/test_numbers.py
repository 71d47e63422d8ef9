"""Measured numbers in README and docs say where they are from: a results file that a command wrote, or a commit.

Below a table stands `*Numbers: [NAME.json](results/NAME.json).*`, of one or more files that scripts/record_result.py wrote,
or `*Numbers: commit HASH.*` of the state that was measured, or `*Numbers: of the sources named.*` where the table says which.
A number with its unit in a sentence (PQ 50.6, 26 ms, 1.2 GB) stands in one of the files that its page names, unless the next
such line of its section, or behind the last one that, names a commit or sources. Ratios and rounded words ("half as long") are
not compared.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
RESULTS = REPOSITORY / "docs" / "results"
MARK = re.compile(r"\*Numbers: (?:commit (?P<commit>\w+)|(?P<files>\[.*\))|of the sources named)\.\*")
NAME = re.compile(r"\[([\w.]+)\]")
TABLE = re.compile(r"(?:^ *\|.*\n)+", re.MULTILINE)
NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
MEASURED = re.compile(rf"-?[\d,]+\.\d+|{NUMBER.pattern}(?: ± {NUMBER.pattern}| (?:ms|s|min|MB|GB|%))")
UNITS = {
    **{"ms": (1, 1e3), "s": (1, 1e-3), "seconds": (1,), "CPU seconds": (1,), "min": (1 / 60,), "minutes": (1 / 60,)},
    **{"KB": (1, 1e-3), "MB": (1, 1e-3, 1e-6), "GB": (1, 1e-3, 1 / 1024, 1e-9)},  # du counts in 1024
    **{"%": (1, 100), "points": (1, 100), "images a second": (1,)},
}
"""Of a number with its unit: by what one of a results file may be multiplied to give it."""
SCORE = r"\b(?:V?PQ|STQ|[SRA]Q|AP|AR|mIoU|things|stuff)"
QUANTITY = re.compile(
    rf"(?P<minutes>\d+) min (?P<seconds>\d+) s\b"
    rf"|(?:(?P<first>{NUMBER.pattern}) (?:to|and|or|instead of) )?(?P<number>{NUMBER.pattern}) "
    rf"(?P<unit>{'|'.join(sorted(UNITS, key=len, reverse=True))})(?!\w)"
    rf"|{SCORE} (?P<score>-?\d+\.\d+)(?: (?:to|and|or|instead of|±) (?P<other>-?\d+\.\d+))?"
)
NOT_MEASURED = {
    ("docs/evaluation.md", "95 %"): "the level of an interval",
    ("docs/evaluation.md", "2 %"): "the width of boundaries, by definition",
}
"""Numbers with a unit that are chosen, or another's, and why."""
NOT_RESULTS = ("provenance", "facts")
"""Of a result: settings, digests and dates."""


class Values(NamedTuple):
    """The numbers of results files: all, and those that are seconds of the clock or of processors."""

    all: list[float]
    seconds: list[float]


def sections(page: Path) -> Iterator[tuple[str, str]]:
    """The heading and the text of each section of a page, without code."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    heading = page.name
    for part in re.split(r"^(#+ .*)$", text, flags=re.MULTILINE):
        if part.startswith("#"):
            heading = part.lstrip("# ")
        elif part.strip():
            yield heading, part


def passages(section: str) -> Iterator[str]:
    """The sentences of a section that are to be compared: those in front of a line that names files.

    Those in front of a line that names a commit are not; those behind the last line belong to it.
    """
    start, last = 0, None
    for mark in MARK.finditer(section):
        if mark["files"]:
            yield " ".join(TABLE.sub("", section[start : mark.start()]).split())
        start, last = mark.end(), mark
    if last is None or last["files"]:
        yield " ".join(TABLE.sub("", section[start:]).split())


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
            if MARK.match(below) or any(MEASURED.fullmatch(cell) for row in rows for cell in row[1:]):
                found.append(pytest.param(rows, below, id=f"{page.relative_to(REPOSITORY)}:{line}"))
    return found


def leaves(value: object, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a JSON value, with the name of its entry; of texts those that they have."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in NOT_RESULTS:
                yield from leaves(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, name)
    elif isinstance(value, str):
        yield from ((name, float(number.replace(",", ""))) for number in NUMBER.findall(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)


@cache
def values_of(name: str) -> Values:
    """The numbers of a results file."""
    content = json.loads((RESULTS / name).read_text())
    cost = {key: content["about"][key] for key in ("seconds", "cpu_seconds") if key in content["about"]}
    found = list(leaves(content["result"])) + list(leaves(cost))
    return Values([value for _, value in found], [value for key, value in found if "seconds" in key])


def join(names: list[str]) -> Values:
    """The numbers of several results files."""
    files = [values_of(name) for name in names]
    return Values([value for file in files for value in file.all], [value for file in files for value in file.seconds])


def is_among(number: str, values: list[float], scales: tuple[float, ...] = (1, 100)) -> bool:
    """Whether one of the values, multiplied by one of the scales, is printed so."""
    number = number.replace(",", "")
    digits = len(number.partition(".")[2])
    return any(f"{scale * value:.{digits}f}" == number for value in values for scale in scales)


def unknown_quantities(text: str, values: Values) -> list[str]:
    """The numbers with a unit of a text that are none of the values."""
    unknown = []
    for found in QUANTITY.finditer(text):
        if found["minutes"]:
            is_known = is_among(str(60 * int(found["minutes"]) + int(found["seconds"])), values.seconds, (1,))
        elif found["score"]:
            is_known = all(is_among(number, values.all) for number in (found["score"], found["other"]) if number)
        else:
            pool = values.seconds if found["unit"] in ("min", "minutes") else values.all
            is_known = all(is_among(n, pool, UNITS[found["unit"]]) for n in (found["first"], found["number"]) if n)
        if not is_known:
            unknown.append(found[0])
    return unknown


def unknown_in_cell(cell: str, values: Values) -> list[str]:
    """What a cell of a table measures and the values have not: numbers alone, with a deviation, or with a unit."""
    if NUMBER.fullmatch(cell) or MEASURED.fullmatch(cell):
        return [number for number in NUMBER.findall(cell) if not is_among(number, values.all)]
    return unknown_quantities(cell, values)


@pytest.mark.parametrize(("rows", "below"), measured_tables())
def test_a_table_of_measured_numbers_says_where_they_are_from(rows, below):
    mark = MARK.match(below)
    assert mark, f"below the table stands {below[:60]!r}, but one of the lines of this file's docstring is needed"
    if mark["files"]:
        values = join(NAME.findall(mark["files"]))
        assert [unknown for row in rows for cell in row[1:] for unknown in unknown_in_cell(cell, values)] == []


def passages_with_quantities() -> list:
    return [
        pytest.param(page, text, id=f"{page.relative_to(REPOSITORY)}:{heading}")
        for page in PAGES
        for heading, section in sections(page)
        for text in passages(section)
        if QUANTITY.search(text)
    ]


def files_named_by(page: Path) -> list[str]:
    """The results files that a page links to."""
    return re.findall(r"\]\([./\w]*results/(\w+\.json)\)", page.read_text())


@pytest.mark.parametrize(("page", "text"), passages_with_quantities())
def test_a_number_in_a_sentence_stands_in_a_results_file(page, text):
    chosen = {phrase for where, phrase in NOT_MEASURED if where == str(page.relative_to(REPOSITORY))}
    assert [phrase for phrase in unknown_quantities(text, join(files_named_by(page))) if phrase not in chosen] == []


def test_a_quantity_is_compared_in_its_unit():
    values = Values([0.50649, 579.2, 972.4, 0.024], [579.2])
    text = "It reaches PQ 50.6 in 9 min 39 s with 0.97 GB, in 24 ms. Not PQ 50.7, 10 ms, 24 and 25 ms, 16 min, 9 min 40 s."
    assert unknown_quantities(text, values) == ["PQ 50.7", "10 ms", "24 and 25 ms", "16 min", "9 min 40 s"]


def test_sentences_that_a_commit_is_named_for_are_left_out_and_no_others():
    files, commit = "\n\n*Numbers: [a.json](results/a.json).*\n\n", "\n\n*Numbers: commit abc.*\n\n"
    assert list(passages(f"PQ 1.5 in\n 3 ms.{files}PQ 2.5.{commit}PQ 3.5.")) == ["PQ 1.5 in 3 ms."]
    assert list(passages(f"PQ 1.5.{commit}PQ 2.5.{files}PQ 3.5.")) == ["PQ 2.5.", "PQ 3.5."]
    assert list(passages("PQ 1.5.")) == ["PQ 1.5."]


def test_commits_that_are_named_exist():
    git = ["git", "-C", str(REPOSITORY)]
    is_shallow = subprocess.run([*git, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True)
    if is_shallow.stdout.strip() != "false":
        pytest.skip("the history is not here")
    named = {mark["commit"] for page in PAGES for mark in MARK.finditer(page.read_text()) if mark["commit"]}
    named |= {json.loads(path.read_text())["about"]["commit"] for path in RESULTS.glob("*.json")}
    unknown = [commit for commit in named if subprocess.run([*git, "cat-file", "-e", f"{commit}^{{commit}}"]).returncode]
    assert unknown == []


def test_a_results_file_says_how_it_was_made_and_is_named_by_a_page():
    for path in RESULTS.glob("*.json"):
        about = json.loads(path.read_text())["about"]
        assert {"command", "commit", "date"} <= set(about), path.name
    named = {name for page in PAGES for name in files_named_by(page)}
    assert {path.name for path in RESULTS.glob("*.json")} == named


def test_a_number_is_recognised_by_the_digits_that_are_printed():
    assert is_among("50.6", [0.50649])
    assert is_among("751", [751.2])
    assert not is_among("50.7", [0.50649])
    assert not is_among("50.60", [0.50649])
