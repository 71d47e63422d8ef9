"""Every command in the pages, docstrings and heads of configurations is taken by the parser of its script.

Nothing is run: test_commands_run.py does that. Names of files stay words, but for configurations, which must be there.
"""

import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from runtime.command_line import OneLineParser
from tests.documented import commands
from tests.documented.commands import REPOSITORY, Line, Snippet, command_of, simple_commands
from tests.documented.settings import OTHER_PROGRAMS, PLACEHOLDERS

TRAININGS = {"efficientps/train_net.py", "panoptic_fpn/train.py", "pan_secb/train.py"}
"""By Lightning, whose own parser reads what ours does not know."""
TYPED = [content for page in commands.pages() for content in commands.page_content(page)]
LINES = [content for content in TYPED if isinstance(content, Line)]
SNIPPETS = [content for content in TYPED if isinstance(content, Snippet) and not content.is_part]
QUOTED = [line for page in commands.pages() for line in commands.inline_commands(page)]
HEADS = [line for path in commands.commented() for line in commands.docstring_lines(path)]

ANSWERS: dict[tuple[str, ...], str] = {}
"""(script, arguments...) -> what its parser has said; many commands stand on several pages."""


class Parsed(BaseException):
    """Ends a command when its arguments have been read; no error that a command would catch."""


@pytest.fixture
def parse(monkeypatch, tmp_path):
    """Let a script's main() read arguments, and end there; return the line with which it refuses them, or ""."""
    empty = tmp_path / "empty.yaml"
    empty.write_text("{}\n")
    original = OneLineParser.parse_args

    def end(parser, *args, **kwargs):
        raise Parsed(original(parser, *args, **kwargs))

    def end_training(cli):
        raise Parsed(cli.config)

    def run(script: str, arguments: list[str]) -> str:
        known = (script, *arguments)
        if known not in ANSWERS:
            ANSWERS[known] = ask(script, arguments)
        return ANSWERS[known]

    def ask(script: str, arguments: list[str]) -> str:
        if script in TRAININGS:
            import training.command

            monkeypatch.setattr(training.command.TrainCLI, "before_instantiate_classes", end_training)
        else:
            monkeypatch.setattr(OneLineParser, "parse_args", end)
        # A file that another command writes.
        arguments = [str(empty) if re.fullmatch(r"outputs/.*\.yaml", word) else word for word in arguments]
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        try:
            load(script).main()
        except Parsed as parsed:
            return check_mmengine(parsed.args[0]) if script.startswith("solov2/") else ""
        except SystemExit as refused:
            return f"{refused.code}"
        raise AssertionError(f"{script} has read its arguments by another parser than runtime.command_line's")

    return run


@cache
def load(script: str) -> ModuleType:
    """The module of a script."""
    path = REPOSITORY / script
    spec = importlib.util.spec_from_file_location(f"documented_{path.stem}_{abs(hash(script))}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where a dataclass looks for its types
    spec.loader.exec_module(module)
    return module


def check_mmengine(args) -> str:
    """What is wrong with --config and --cfg-options of a command of stage 1."""
    import solov2  # noqa: F401, before mmengine

    # isort: split
    from runtime.files import InputError
    from solov2.settings import find_config, load_config, parse_options

    if not str(args.config).startswith("configs/"):
        return ""  # the user's own
    try:
        if not args.cfg_options:
            find_config(args.config)
            return ""
        config, options = load_config(find_config(args.config)), parse_options(args.cfg_options)
    except InputError as error:
        return str(error)
    absent = [name for name in options if not is_setting(config, name)]
    return f"{args.config} has no setting {', '.join(absent)}" if absent else ""


def is_setting(config, name: str) -> bool:
    """Whether a configuration has a dotted name, or could have it: what a place that has settings takes, only its owner knows."""
    top, *rest = name.split(".")
    return top in config or top in ("randomness", "sync_bn", "truth_classes") or not rest


def problem_of(line: Line, parse, is_mention: bool = False) -> str:
    """What is wrong with a line, or "".

    Args:
        is_mention: without arguments it names a script, and is not meant to be typed so.
    """
    try:
        simple = simple_commands(line.text)
    except ValueError as error:
        return f"cannot be read: {error}"
    for command in simple:
        found = command_of(command)
        if found is None:
            problem = problem_of_program(command.words)
        else:
            script, arguments = found
            arguments = [PLACEHOLDERS.get(word, word) for word in arguments]
            if script.startswith("-m "):
                problem = problem_of_module(script.removeprefix("-m "), arguments, parse)
            elif not (REPOSITORY / script).is_file():
                problem = f"there is no {script}"
            elif (is_mention and not arguments) or "make_parser" not in reached_source(script):
                problem = ""
            else:
                problem = parse(script, arguments)
                if is_mention and "arguments are required" in problem:
                    problem = ""  # a sentence may leave out what it is not about
        if problem:
            return problem
    return ""


@cache
def reached_source(script: str) -> str:
    """The text of a script and of what it may have its parser from; "make_parser" for a training."""
    text = (REPOSITORY / script).read_text()
    return text + "make_parser" if re.search("training_arguments|panoptic_fpn.arguments", text) else text


def problem_of_module(name: str, arguments: list[str], parse) -> str:
    """What is wrong with `python -m NAME`: ours have their file, others are installed."""
    if importlib.util.find_spec(name.split(".")[0]) is None or importlib.util.find_spec(name) is None:
        return f"there is no module {name}"
    path = Path(*name.split(".")).with_suffix(".py")
    if (REPOSITORY / path).is_file() and "make_parser" in (REPOSITORY / path).read_text():
        return parse(path.as_posix(), arguments)
    return ""


def problem_of_program(words: tuple[str, ...]) -> str:
    """What is wrong with a command that is none of Python's scripts."""
    program, *arguments = words
    if program not in OTHER_PROGRAMS and not re.fullmatch(r"(?:\S*/)?python[\d.]*", program):
        known = ", ".join(OTHER_PROGRAMS)
        return (
            f"{program} is none of the programs that are known here; OTHER_PROGRAMS in tests/documented/settings.py has {known}"
        )
    if program == "make":
        targets = {word for word in arguments if re.fullmatch("[a-z][a-z0-9-]*", word)}
        absent = targets - set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
        return f"Makefile has no {', '.join(sorted(absent))}" if absent else ""
    if program == "pip":
        named = {name for word in arguments for name in re.findall(r"^\.\[([\w,-]+)\]$", word)}
        project = (REPOSITORY / "pyproject.toml").read_text()
        extras = re.findall(r"^(\w+) = \[", project.split("[project.optional-dependencies]")[1].split("\n[")[0], re.MULTILINE)
        absent = {extra for names in named for extra in names.split(",")} - set(extras)
        return f"pyproject.toml has no extra {', '.join(sorted(absent))}" if absent else ""
    return ""


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_command_of_a_page_is_taken_by_its_parser(line, parse):
    assert problem_of(line, parse) == "", f"{line}: {line.text}"


@pytest.mark.parametrize("page", sorted({line.page for line in QUOTED}))
def test_the_commands_in_the_sentences_of_a_page_are_taken_by_their_parsers(page, parse):
    found = {f"{line}: {line.text}": problem_of(line, parse, is_mention=True) for line in QUOTED if line.page == page}
    assert {text: problem for text, problem in found.items() if problem} == {}


@pytest.mark.parametrize("path", sorted({line.page for line in HEADS}))
def test_the_commands_of_a_docstring_are_taken_by_their_parsers(path, parse):
    found = {f"{line}: {line.text}": problem_of(line, parse) for line in HEADS if line.page == path}
    assert {text: problem for text, problem in found.items() if problem} == {}


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_a_block_of_python_compiles(snippet):
    compile(snippet.text, str(snippet), "exec")


@pytest.mark.parametrize("page", commands.pages())
def test_every_file_that_a_page_names_is_there(page):
    text = (REPOSITORY / page).read_text()
    folders = (
        "configs|data|detection|prediction|runtime|training|fusion|evaluation|backbones|solov2|efficientps|panoptic_fpn|pan_secb"
    )
    named = re.findall(rf"`((?:{folders}|benchmarks|scripts|tests|docs|docker)/[\w/.-]+\.\w+)`", text)
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize("page", commands.pages())
def test_every_link_of_a_page_resolves(page):
    text = (REPOSITORY / page).read_text()
    links = re.findall(r"\]\(((?!\w+:)[^)\s]*)\)", re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE))
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", ["configs", "docs"])
def test_every_yaml_beside_the_pages_reads(path):
    for file in (REPOSITORY / path).rglob("*.yaml"):
        yaml.safe_load(file.read_text())


# What the reading of pages promises.

PAGE = """\
Do it by `python a.py --x 1`, or `python ...`.

```bash
A=1 python a.py "b # c" \\
    --long 2   # why
# only this
cd solov2 && python train.py && cd ..
for i in 1 2; do python b.py $i/2; done
```

```
$ python c.py
printed
```

```
no command
```

```python
print(1)
```
"""


def test_commands_are_joined_and_lose_prompts_and_comments():
    found = commands.page_content("page.md", PAGE)
    expected = [
        (4, 'A=1 python a.py "b # c" --long 2'),
        (7, "cd solov2 && python train.py && cd .."),
        (8, "for i in 1 2; do python b.py $i/2; done"),
        (12, "python c.py"),
        (21, "print(1)\n"),
    ]
    assert [(content.number, content.text) for content in found] == expected
    assert isinstance(found[-1], Snippet)
    assert [(line.number, line.text) for line in commands.inline_commands("page.md", PAGE)] == [(1, "python a.py --x 1")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('A=1 python a.py "b # c" --long 2', [("a.py", ["b # c", "--long", "2"])]),
        ("cd solov2 && python train.py && cd .. && python b.py", [None, ("solov2/train.py", []), None, ("b.py", [])]),
        ("for i in 1 2; do python b.py $i/2; done", [("b.py", ["1/2"])]),
        ("torchrun --nproc-per-node 2 solov2/train.py --x", [("solov2/train.py", ["--x"])]),
        (".venv/bin/python -m a.b c | tee log", [("-m a.b", ["c"]), None]),
        ("make test", [None]),
    ],
)
def test_the_scripts_of_a_line_are_found_with_their_arguments(text, expected):
    assert [command_of(simple) for simple in simple_commands(text)] == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("python scripts/predict.py --imagse x", "--imagse"),
        ("python scripts/predict.py --batch-size many", "--batch-size"),
        ("python scripts/preddict.py", "there is no scripts/preddict.py"),
        ("python efficientps/train_net.py --config configs/efficientps/no.yaml", "no such configuration"),
        ("python efficientps/train_net.py --model.optimizer.rate 1", "rate"),
        ("python solov2/train.py --config configs/solov2/no.py", "no such config"),
        ("python solov2/train.py --cfg-options modl.neck=1", "modl"),
        ("python -m benchmarks.no", "no module"),
        ("make tests", "no tests"),
        ("pip install -e '.[no]'", "no extra no"),
        ("frobnicate x", "frobnicate is none of the programs"),
        ("python a.py 'x", "cannot be read"),
    ],
)
def test_a_wrong_command_is_found(text, words, parse):
    assert words in problem_of(Line("page.md", 1, text), parse)


def test_the_commands_of_all_systems_are_found():
    scripts = {found[0] for line in LINES for simple in simple_commands(line.text) if (found := command_of(simple))}
    assert {"solov2/train.py", "efficientps/train_net.py", "panoptic_fpn/train.py", "pan_secb/train.py"} <= scripts
    assert {"fusion/solo_fusion.py", "scripts/predict.py", "scripts/evaluate.py"} <= scripts
    assert len(HEADS) > 50
