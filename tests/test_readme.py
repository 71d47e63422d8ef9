"""What README says can be typed and opened."""

import re
import shlex
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if "python " in line
]


def parse(command: str) -> tuple[str, list[str]]:
    """`cd solov2 && python train.py --config X && cd ..` -> ("solov2/train.py", ["--config"])."""
    folder = match[1] if (match := re.match(r"cd (\S+) && ", command)) else "."
    words = shlex.split(command.split("python ", 1)[1].split(" && ")[0])
    script = (REPOSITORY / folder / words[0]).resolve().relative_to(REPOSITORY)
    return str(script), [word for word in words[1:] if word.startswith("--")]


@pytest.mark.parametrize("script", sorted({parse(command)[0] for command in COMMANDS}))
def test_every_flag_in_readme_is_in_the_commands_help(script, run_command):
    result = run_command(script, "--help")
    assert result.returncode == 0, result.stderr
    for flags in (flags for command in COMMANDS for found, flags in [parse(command)] if found == script):
        for flag in flags:
            assert flag in result.stdout


@pytest.mark.parametrize("page", [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_every_file_that_a_page_names_exists(page):
    text = page.read_text()
    folders = "configs|data|detection|prediction|runtime|training|fusion|evaluation|solov2|efficientps|panoptic_fpn|pan_secb"
    mentioned = re.findall(rf"`((?:{folders}|benchmarks|scripts|tests|docs)/[\w/.]+\.\w+)`", text)
    for path in mentioned:
        assert (REPOSITORY / path).exists(), path
    for path in re.findall(r"\]\(((?!http)[^)#]+)\)", text):
        assert (page.parent / path).exists(), path


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_every_make_target_in_readme_exists(target):
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
