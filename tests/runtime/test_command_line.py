"""One spelling of the arguments: what older ones become, and which settings were given."""

from dataclasses import dataclass

import pytest
from jsonargparse.typing import ClosedUnitInterval, NonNegativeInt

from runtime.command_line import add_settings, add_switch, current_spelling, given_settings, make_parser
from runtime.files import InputError


def test_help_keeps_the_lines_of_a_description_that_are_to_be_copied():
    description = "Do it.\n\n    $ python it.py\n    $ python it.py --data-root /path\n"
    assert description in make_parser("it.py", description, has_config=False).format_help()


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


@pytest.mark.parametrize("arguments", [["--data-root", ""], ["--data-root="], ["--images", "a", "--output", ""]])
def test_empty_text_is_refused_as_a_variable_that_is_unset_gives_it(arguments):
    with pytest.raises(InputError, match="is given empty text; give a value"):
        current_spelling(arguments)


def test_numbers_are_plain_ones_so_that_a_checkpoint_may_hold_them():
    parser = make_parser("it.py", "Do it.")
    parser.add_argument("--seed", type=NonNegativeInt | None, default=None)
    parser.add_argument("--share", type=ClosedUnitInterval, default=0.5)
    found = parser.parse_args(["--seed", "7", "--share", "0.25"])
    assert (type(found.seed), found.seed, type(found.share), found.share) == (int, 7, float, 0.25)
