"""One spelling of the arguments: what older ones become, and that --help is there at once."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.command_line import REPOSITORY, add_settings, add_switch, current_spelling, given_settings, make_parser

COMMANDS = [
    *("scripts/prepare_cityscapes.py", "scripts/prepare_coco.py", "scripts/draw_streets.py", "scripts/draw_snapshots.py"),
    *("scripts/evaluate.py", "solov2/grids/doctor.py"),
]


@pytest.mark.parametrize("script", COMMANDS)
def test_help_needs_no_heavy_library(script):
    # An import of these would raise, as None stands in sys.modules where they would be looked up.
    heavy = ("torch", "numpy", "cv2", "mmengine", "mmdet", "mmcv", "pytorch_lightning", "numba", "albumentations", "PIL")
    code = f"import sys, runpy; sys.modules.update(dict.fromkeys({heavy})); sys.argv = [{script!r}, '--help']; "
    code += f"runpy.run_path({str(REPOSITORY / script)!r}, run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f"usage: {Path(script).name}" in result.stdout
    assert f"    $ python {script}" in result.stdout  # the lines to copy are kept


@pytest.mark.parametrize(
    ("older", "current"),
    [
        ("--image-path x.png", "--images x.png"),
        ("--work-dir=out", "--output=out"),
        ("--amp bf16", "--precision bf16"),
        ("--again --splits val", "--no-resume --splits val"),
        ("--tta-scales 0.75 1 --device cpu", "--tta.scales [0.75,1] --device cpu"),
        ("--tta.scales=[0.5, 1]", "--tta.scales [0.5,1]"),
        ("--tta-flip --device cpu", "--tta.flip true --device cpu"),
        ("--tta.flip False", "--tta.flip false"),
        ("--resume false", "--no-resume"),
        ("--resume=true", "--resume"),
        ("--resume --epochs 2", "--resume --epochs 2"),
    ],
)
def test_an_older_spelling_becomes_the_one_of_today(older, current):
    assert current_spelling(older.split(" ")) == current.split(" ")


@dataclass(frozen=True)
class Sizes:
    """Of something."""

    small: int | None = 3
    """Pixels of a small one."""
    large: float = 8.0
    """Pixels of a large one."""


def test_settings_that_are_not_given_are_not_taken():
    parser = make_parser("test", "", has_config=False)
    add_settings(parser, "sizes", Sizes, "sizes", {"large": "--large"})
    assert given_settings(parser.parse_args([]).sizes) == {}
    assert given_settings(parser.parse_args(["--large", "2.5"]).sizes) == {"large": 2.5}
    assert given_settings(parser.parse_args(["--sizes.small", "4", "--sizes.large", "1"]).sizes) == {"small": 4, "large": 1.0}
    assert "Pixels of a large one." in parser.format_help()


def test_a_switch_is_turned_on_and_off():
    parser = make_parser("test", "", has_config=False)
    add_switch(parser, "--resume", True, "go on")
    assert [parser.parse_args(a).resume for a in ([], ["--resume"], ["--no-resume"])] == [True, True, False]
