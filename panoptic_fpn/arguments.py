"""What evaluate.py and inference.py share: which network, at which size, merged how."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from data.input_size import InputSize
from fusion.settings import MergeSettings
from prediction.arguments import add_input_arguments, add_model_arguments, add_run_arguments, device_of, views_of
from runtime.command_line import OUTPUTS, add_settings, given_settings, make_parser

if TYPE_CHECKING:
    from panoptic_fpn.predictor import PanopticFPNPredictor

FOLDER = OUTPUTS / "panoptic_fpn"
CHECKPOINT = FOLDER / "streets_r18" / "last.ckpt"
AS_TRAINED = "as the checkpoint says"


def build_parser(prog: str, description: str, output: Path, keep: tuple[str, ...]) -> ArgumentParser:
    """A parser of all arguments.

    Args:
        output, keep: defaults.
    """
    parser = make_parser(prog, description)
    add_input_arguments(parser)
    add_run_arguments(parser, output, keep)
    add_model_arguments(parser, CHECKPOINT, "of panoptic_fpn/train.py")
    sides = {"shorter_side": "--shorter-side", "longer_side": "--longer-side"}
    add_settings(parser, "input_size", InputSize, "size before the network", sides, AS_TRAINED)
    short = {"min_score": "--min-score", "max_overlap": "--max-overlap", "min_stuff_area": "--min-stuff-area"}
    add_settings(parser, "merging", MergeSettings, "merge", short, AS_TRAINED)
    return parser


def predictor_of(args: Namespace) -> "PanopticFPNPredictor":
    """The network that the arguments name.

    Raises:
        InputError: if a setting is impossible, the device is absent, or the checkpoint is none.
    """
    from panoptic_fpn.predictor import load_predictor

    input_size, merging = given_settings(args.input_size), given_settings(args.merging)
    if input_size.get("shorter_side") == 0:  # leaves images as they are
        input_size = {"shorter_side": None, "longer_side": None, "trained_sides": None}
    path = Path(args.checkpoint).expanduser()
    return load_predictor(path, device_of(args), views_of(args), input_size, merging)
