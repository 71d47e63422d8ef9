"""Arguments that evaluate.py and inference.py share: which checkpoint, on which device, at which size, merged how."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from fusion.heuristic_merge import MergeSettings
from panoptic_fpn.predictor import InputSize, PanopticFPNPredictor, load_predictor
from runtime.device import DEFAULT_DEVICE, check_device

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUTS = REPOSITORY / "outputs" / "panoptic_fpn"
DEFAULT_CHECKPOINT = OUTPUTS / "streets_r18" / "last.ckpt"


def make_parser(prog: str, description: str, output: Path) -> ArgumentParser:
    """A parser with the shared arguments.

    Args:
        output: default of --output.
    """
    parser = ArgumentParser(prog=prog, description=description, formatter_class=RawDescriptionHelpFormatter)
    merging = MergeSettings()
    help_checkpoint = f"of panoptic_fpn/train.py; default: {DEFAULT_CHECKPOINT.relative_to(REPOSITORY)}"
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT, metavar="FILE", help=help_checkpoint)
    help_output = f"folder; default: {output.relative_to(REPOSITORY)}"
    parser.add_argument("--output", type=Path, default=output, metavar="DIR", help=help_output)
    parser.add_argument("--device", default=DEFAULT_DEVICE, help="cpu, cuda, cuda:1, ...; default: %(default)s")
    size = parser.add_argument_group("size before the network", "default: as the checkpoint was validated")
    size.add_argument("--shorter-side", type=int, metavar="PIXELS", help="COCO's is 800; 0 leaves pictures as they are")
    size.add_argument("--longer-side", type=int, metavar="PIXELS", help="at most; COCO's is 1333")
    group = parser.add_argument_group("merge")
    help_score = "instances below are ignored; default: %(default)s"
    group.add_argument("--min-score", type=float, default=merging.min_score, metavar="SHARE", help=help_score)
    help_overlap = "an instance of which better ones take more than this share is dropped; default: %(default)s"
    group.add_argument("--max-overlap", type=float, default=merging.max_overlap, metavar="SHARE", help=help_overlap)
    help_area = "smaller stuff becomes void, in pixels of a 1024x2048 picture; default: %(default)s"
    group.add_argument("--min-stuff-area", type=float, default=merging.min_stuff_area, metavar="PIXELS", help=help_area)
    return parser


def predictor_of(args: Namespace) -> PanopticFPNPredictor:
    """The network that the arguments name.

    Raises:
        InputError: if a setting is impossible, the device is absent, or the checkpoint is none.
    """
    merging = MergeSettings(args.min_score, args.max_overlap, args.min_stuff_area)
    input_size = None
    if args.shorter_side is not None or args.longer_side is not None:
        input_size = InputSize(args.shorter_side or None, args.longer_side)
    return load_predictor(args.checkpoint.expanduser(), check_device(args.device), input_size, merging)
