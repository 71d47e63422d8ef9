"""Every command of the pages is typed, in order, in a working copy with small data sets; blocks of Python are run.

    $ python -m pytest -m everything tests/documented/test_commands_run.py -k README

What is changed or left out, and why, stands in settings.py.
"""

import re
import shutil

import pytest

from tests.documented import workshop
from tests.documented.commands import Line, command_of, page_content, pages, simple_commands
from tests.documented.settings import MAY_FIND, NOT_RUN, PAGES_NOT_RUN, REFUSED, STAND_INS, TINY
from tests.label_exports import EXPORTS

pytestmark = [pytest.mark.slow, pytest.mark.everything]
PAGES = [page for page in pages() if page_content(page) and page not in PAGES_NOT_RUN]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A working copy with the demo's results."""
    folder = workshop.build(tmp_path_factory.mktemp("documented") / "project")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_does_what_it_should(page, copy, tmp_path):
    folder = workshop.link(copy, tmp_path / "project")
    variables, problems = {}, []
    for content in page_content(page):
        if isinstance(content, Line):
            problem = problem_of_line(content, folder, variables)
        elif content.is_part:
            continue
        else:
            (folder / "snippet.py").write_text(content.text)
            problem = problem_of(workshop.type_line(folder, "python snippet.py", variables))
        if problem:
            problems.append(f"{content}: {content.text}\n{problem}")
    shutil.rmtree(folder)
    assert not problems, "\n\n".join(problems)


def problem_of_line(line: Line, folder, variables: dict[str, str]) -> str:
    """Type a line; return what went wrong, or ""."""
    if any(re.search(pattern, line.text) for pattern in NOT_RUN):
        return ""
    text = workshop.as_typed(line, folder)
    if exported := re.match(r"export (\w+)=(\S+)", text):
        variables[exported[1]] = exported[2]
        return ""
    given = {"CITYSCAPES_DATASET": str(folder / "the_users/cityscapes")} if "$CITYSCAPES_DATASET" in text else {}
    if "import_labels.py" in text:
        bring_export(line, folder)
    done = workshop.type_line(folder, text, given | variables)
    if done.returncode == 1 and any(rule.fits(line.text) and re.search(rule.value, done.stdout) for rule in MAY_FIND):
        return ""
    refused = next((rule for rule in REFUSED if rule.fits(line.text)), None)
    if refused is None:
        problem = problem_of(done)
    else:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        is_as_promised = done.returncode == 1 and last.startswith("error: ") and re.search(refused.value, last)
        problem = "" if is_as_promised else f"should be refused in one line ({refused.reason})\n{problem_of(done)}{last}"
    return f"$ {text}\n{problem}" if problem else ""


def problem_of(done) -> str:
    """What a command that failed has printed, or ""."""
    return "" if done.returncode == 0 else f"exit code {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"


def bring_export(line: Line, folder) -> None:
    """The export that a command is to read, where it looks for it; each section stands for itself, though two name one output."""
    (found,) = [command_of(simple) for simple in simple_commands(line.text)]
    words = found[1]
    kind, source = words[words.index("--from") + 1], folder / words[words.index("--source") + 1]
    for place in (source, folder / words[words.index("--output") + 1]):
        shutil.rmtree(place, ignore_errors=True)
    EXPORTS[kind](source)


def test_every_setting_is_of_use():
    texts = [content.text for page in PAGES for content in page_content(page) if isinstance(content, Line)]
    scripts = [
        f"{found[0]} {' '.join(found[1])}" for text in texts for simple in simple_commands(text) if (found := command_of(simple))
    ]
    for rule in STAND_INS:
        assert any(rule.fits(text) for text in texts), rule
    for rule in (*TINY, *REFUSED):
        assert any(rule.fits(text) for text in scripts), rule
