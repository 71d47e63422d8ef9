"""docs/recipes.md followed word by word in a copy: each newcomer passes its contract test, and fails it when it is broken."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import indent
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "recipes.md"
FOLDERS = sorted({path.parent.name for path in REPOSITORY.glob("*/__init__.py")} | {"configs", "docs", "scripts"})
MOST_FILES = 3
"""That a recipe may touch beside the newcomer's own, and the docs of what is a form for users."""
BROKEN = {
    "A network": ("mynet/network.py", "self.encoder(image)", "self.encoder(image).detach()"),
    "A data layout": ("data/layouts/pairs.py", "return bool(find_splits(root))", "return True"),
    "A label format": ("data/label_formats/rectangles.py", "[top:bottom, left:right]", "[top:bottom, :right]"),
    "A result format": ("prediction/sources/instance_maps.py", "file_digest(path)", '"one for all"'),
    "A fusion rule": ("fusion/first_come.py", "settings.lowest_score", "0.0"),
    "An error kind": ("evaluation/error_kinds.py", "inside[:1]", "inside[:0]"),
}
"""Section -> how its newcomer is broken: file, text, and what takes its place."""


class Block(NamedTuple):
    """What goes into one file. place: empty for a new file, else `with the imports`, `before NAME`, `in NAME`, ..."""

    file: str
    place: str
    text: str


class Recipe(NamedTuple):
    """One section: its blocks, the file of its contract test, and what chooses the newcomer's tests in it, as pytest's -k."""

    blocks: list[Block]
    test: str
    chosen: str


def read_recipes() -> dict[str, Recipe]:
    """Title of the section -> recipe."""
    recipes = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        found = re.findall(r"^```(?:python|text)\n# ([\w/.]+)(?:, ([^\n]+))?\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        ((tests, chosen),) = re.findall(r"^python -m pytest (.+) -k (.+)$", section, re.MULTILINE)
        recipes[section.partition("\n")[0]] = Recipe([Block(*block) for block in found], tests.split()[0], chosen.strip('"'))
    return recipes


RECIPES = read_recipes()


def follow(block: Block, root: Path) -> None:
    """Write a block where its first line says."""
    path = root / block.file
    if not block.place:
        assert not path.exists(), f"{block.file} is there; say where in it the block goes"
        path.parent.mkdir(exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(block.text)
        return
    lines, (how, _, name) = path.read_text().splitlines(keepends=True), block.place.partition(" ")
    if block.place == "at the end":
        at = len(lines)
    elif block.place == "with the imports":
        at = next(k for k, line in enumerate(lines) if line.startswith("from "))
    elif how == "behind":
        at = 1 + next(k for k, line in enumerate(lines) if line.startswith(f"| {name.removeprefix('the row of ')} |"))
    else:
        statement = find_assignment("".join(lines), name)
        at = (statement.lineno if how == "before" else statement.end_lineno) - 1
        assert how == "before" or lines[at].strip() in ("}", "]", ")"), f"{block.file}: {name} has no line for each entry"
    text = indent(block.text, "    ") if how == "in" else block.text
    path.write_text("".join([*lines[:at], text, *(["\n\n"] if how == "before" else []), *lines[at:]]))


def find_assignment(code: str, name: str) -> ast.stmt:
    """The statement that gives a module's variable its value."""
    for statement in ast.parse(code).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return statement
    raise AssertionError(f"there is no variable {name}")


def copy_repository(root: Path) -> None:
    """The packages, with the kernels that are compiled already, and what tests read beside them."""

    def left_out(folder: str, names: list[str]) -> list[str]:
        is_cache = Path(folder).name == "__pycache__"
        return [name for name in names if name.startswith(".") or (is_cache and not name.endswith((".nbi", ".nbc")))]

    def copy(source: str, target: str) -> None:
        if Path(source).exists():  # another test's process may be compiling
            shutil.copy2(source, target)

    for folder in FOLDERS:
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=left_out, copy_function=copy)
    shutil.copy2(REPOSITORY / "pyproject.toml", root)


def run_contracts(root: Path) -> dict[str, tuple[int, int]]:
    """Of each recipe how many of the newcomer's tests passed and failed, all in one process: importing torch takes seconds."""
    chosen = " or ".join(f"({recipe.chosen})" for recipe in RECIPES.values())
    words = ["-q", "-p", "no:cacheprovider", "--junit-xml=found.xml", *(recipe.test for recipe in RECIPES.values()), "-k", chosen]
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=root, env=environment, capture_output=True, text=True)
    assert (root / "found.xml").is_file(), result.stdout + result.stderr
    cases = ElementTree.parse(root / "found.xml").iter("testcase")
    outcomes = [(case.attrib["classname"], case.find("failure") is None and case.find("error") is None) for case in cases]
    counts = {}
    for title, recipe in RECIPES.items():
        own = [has_passed for name, has_passed in outcomes if name == recipe.test.removesuffix(".py").replace("/", ".")]
        counts[title] = (own.count(True), own.count(False))
    print(result.stdout)
    return counts


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("recipes") / "copy"
    copy_repository(root)
    for recipe in RECIPES.values():
        for block in recipe.blocks:
            follow(block, root)
    return root


@pytest.fixture(scope="module")
def outcomes(followed) -> dict[str, tuple[int, int]]:
    return run_contracts(followed)


@pytest.fixture(scope="module")
def outcomes_when_broken(followed, outcomes) -> dict[str, tuple[int, int]]:
    for file, before, after in BROKEN.values():
        text = (followed / file).read_text()
        assert before in text, file
        (followed / file).write_text(text.replace(before, after))
    return run_contracts(followed)


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_touches_few_files_beside_the_newcomers_own(title):
    touched = {block.file for block in RECIPES[title].blocks if block.place}
    assert 0 < len(touched) <= MOST_FILES


@pytest.mark.parametrize("title", RECIPES)
def test_a_newcomer_that_follows_its_recipe_passes_its_contract_test(title, outcomes):
    num_passed, num_failed = outcomes[title]
    assert num_failed == 0
    assert num_passed >= 3


@pytest.mark.everything
@pytest.mark.parametrize("title", RECIPES)
def test_the_contract_test_notices_a_newcomer_that_is_broken(title, outcomes_when_broken):
    assert outcomes_when_broken[title][1] > 0
