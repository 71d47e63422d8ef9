"""`--help` of every command is short and there at once, without torch, which takes seconds; `--help-all` tells everything."""

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from prediction.models import SYSTEMS
from runtime.command_line import make_parser, mark_common

REPOSITORY = Path(__file__).parents[1]
FOLDERS = ("scripts", "solov2", "fusion", *SYSTEMS, "tests/fuzz")
COMMANDS = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for folder in FOLDERS
    for path in (REPOSITORY / folder).rglob("*.py")
    if '__name__ == "__main__"' in path.read_text()
)
LIGHTNING = [command for command in COMMANDS if " = training_arguments(" in (REPOSITORY / command).read_text()]
"""Their --help-all goes on with the settings of LightningCLI, which needs torch."""
WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise RuntimeError("torch is imported")

sys.meta_path.insert(0, NoTorch())
"""


@pytest.fixture(scope="module")
def no_torch(tmp_path_factory):
    """A folder in the PYTHONPATH of which no process imports torch."""
    folder = tmp_path_factory.mktemp("no_torch")
    (folder / "sitecustomize.py").write_text(WITHOUT_TORCH)  # Python itself imports it first
    return folder


@cache
def show(command: str, flag: str, path: Path | None = None) -> str:
    """What a command prints in a terminal of 100 columns, with a PYTHONPATH."""
    environment = os.environ | {"COLUMNS": "100"} | ({} if path is None else {"PYTHONPATH": str(path)})
    words = [sys.executable, REPOSITORY / command, flag]
    result = subprocess.run(words, capture_output=True, text=True, cwd="/", env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: ")
    assert result.stderr == ""
    return result.stdout


def entries(text: str) -> dict[str, str]:
    """Flags, such as "--output, --json FILE" -> what a help text says of them."""
    _, options = re.split("^(?:positional arguments|options):$", text, maxsplit=1, flags=re.MULTILINE)
    blocks = re.findall(r"^  (\S.*(?:\n   .*)*)", options, re.MULTILINE)
    return dict((*re.split(r" {2,}|\n +", block, maxsplit=1), "")[:2] for block in blocks)


def check_entries(found: dict[str, str]) -> None:
    """Each is described, and its default named, but for flags that only show something."""
    for flags, words in found.items():
        described = re.sub(r"\((default: .*|required)\)$", "", words, flags=re.DOTALL)
        assert re.search("[a-z]{2}", described), flags
        is_shown = re.search(r"help|--print_config| CONFIG$|-->", flags)
        assert is_shown or re.search("default|Default|required", words), flags


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_two_screens_and_needs_no_torch(command, no_torch):
    lines = show(command, "--help", no_torch).splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 100
    assert re.match(r"--help-all: all \d+ options", lines[-1])


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {*LIGHTNING}))
def test_help_all_describes_every_option_with_its_default(command, no_torch):
    found = entries(show(command, "--help-all", no_torch))
    count = int(re.search(r"all (\d+) options", show(command, "--help", no_torch))[1])
    assert len(found) == count + len(["--help", "--help-all"])
    check_entries(found)


@pytest.mark.parametrize("command", [LIGHTNING[0], *(pytest.param(c, marks=pytest.mark.everything) for c in LIGHTNING[1:])])
def test_help_all_of_a_lightning_training_describes_every_setting_too(command):
    own, settings = show(command, "--help-all").split("settings of the YAML, each of which is a flag, too:")
    count = int(re.search(r"all (\d+) options", show(command, "--help"))[1])
    assert len(entries(own)) == count + len(["--help", "--help-all"])
    check_entries(entries(own))
    check_entries(entries(settings))
    assert {"--model.optimizer.lr LR", "--data.augmentation.crop_height CROP_HEIGHT"} <= set(entries(settings))


def test_a_new_option_is_in_help_all_alone_where_others_are_marked_as_common():
    parser = make_parser("it.py", "Do it.\n\n    $ python it.py\n\nNotes.", has_config=False)
    parser.add_argument("--output", "--work-dir", default="out", help="where it goes")
    parser.add_argument("--seed", default=0, help="of all that is random")
    assert "--seed" in parser.format_help()
    mark_common(parser, "--output")
    short = parser.format_help()
    assert "where it goes (default: out)" in short
    assert short.endswith("--help-all: all 2 options and the whole description\n")
    assert not any(word in short for word in ("--seed", "--work-dir", "Notes."))


def test_a_long_example_can_be_copied_from_help():
    example = "    $ python it.py " + " ".join(f"--{letter * 20} '--{letter}  {letter}'" for letter in "abcd")
    text = make_parser("it.py", f"Do it.\n\n{example}\n", has_config=False).format_help()
    (block,) = re.findall(r"\$ (.*?)\n\n", text, re.DOTALL)
    assert "\\\n" in block
    assert shlex.split(block.replace("\\\n", "")) == shlex.split(example)[1:]


def test_importing_torch_fails_where_the_commands_are_tested(no_torch):
    environment = os.environ | {"PYTHONPATH": str(no_torch)}
    result = subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, text=True, env=environment)
    assert "torch is imported" in result.stderr


def test_all_commands_are_found():
    assert {"solov2/train.py", "efficientps/train_net.py", "fusion/solo_fusion.py", "scripts/predict.py"} <= set(COMMANDS)
    assert len(COMMANDS) >= 20
