"""Any image or video to panoptic PNGs, their JSON and overlays, with the trained two-stage pipeline or any other checkpoint.

    $ python scripts/predict.py --images street.png
    $ python scripts/predict.py --images 'images/*.jpg' --output outputs/images --tta.scales 0.75 1 1.25 --tta.flip
    $ python scripts/predict.py --images drive.mp4 --checkpoint outputs/panoptic_fpn/streets_r18/last.ckpt

By default the demo's two checkpoints: SOLOv2's instances and EfficientPS's semantics, fused. The same command again does only
what is missing. A broken file is named, and the others are done.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from fusion.settings import FusionSettings
from prediction.arguments import (
    add_input_arguments,
    add_model_arguments,
    add_run_arguments,
    device_of,
    predict_and_score,
    split_of,
    views_of,
)
from runtime.command_line import OUTPUTS, add_settings, current_spelling, given_settings, make_parser
from runtime.files import InputError, one_line_errors

if TYPE_CHECKING:
    from prediction.predictor import Predictor

OUTPUT = OUTPUTS / "predict"
STAGE_1, STAGE_2 = OUTPUTS / "solov2" / "streets_lite0", OUTPUTS / "efficientps" / "streets_lite0" / "best.ckpt"


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("predict.py", __doc__)
    add_input_arguments(parser)
    add_model_arguments(parser, None, "of one training that gives everything, instead of the two below")
    group = parser.add_argument_group("two stages")
    help_instances = "checkpoint of stage 1; default: the last one in outputs/solov2/streets_lite0"
    group.add_argument("--instances", "--stage1-checkpoint", type=str | None, default=None, metavar="FILE", help=help_instances)
    help_config = "instead: the configuration of solov2/train.py whose last checkpoint is taken"
    group.add_argument("--stage1-config", type=str | None, default=None, metavar="FILE", help=help_config)
    help_semantics = "checkpoint of stage 2; default: outputs/efficientps/streets_lite0/best.ckpt"
    group.add_argument("--semantics", "--stage2-checkpoint", type=str | None, default=None, metavar="FILE", help=help_semantics)
    add_run_arguments(parser, OUTPUT, ("panoptic", "overlay"))
    add_settings(parser, "fusion", FusionSettings, "fusion", {"min_score": "--min-score"})
    return parser


def predictor_of(args: Namespace) -> "Predictor":
    """The network, or the two, that the arguments name.

    Raises:
        InputError: if a checkpoint is missing or of no use.
    """
    device = device_of(args)
    if args.checkpoint is None:
        # First: it sets what torch reads when it is loaded.
        import solov2  # noqa: F401
    from prediction.fused import FusedPredictor, LogitRule, with_panoptic
    from prediction.models import load_predictor

    views, rule = views_of(args), LogitRule(FusionSettings(**given_settings(args.fusion)), device)
    if args.checkpoint is not None:
        return with_panoptic(load_predictor(Path(args.checkpoint).expanduser(), device, views), rule)
    from solov2.checkpoints import find_checkpoint
    from solov2.settings import find_config, output_folder

    folder = output_folder(find_config(args.stage1_config)) if args.stage1_config else STAGE_1
    instances = load_predictor(find_checkpoint(args.instances, folder), device, views)
    semantics = load_predictor(Path(args.semantics or STAGE_2).expanduser(), device, views)
    return FusedPredictor(instances, semantics, rule)


def run(args: Namespace) -> None:
    """Predict, draw, and write one JSON of all."""
    if not (args.images or args.data_root):
        raise InputError("--images is needed: an image, a video, a folder of both, or a quoted glob; or --data-root")
    split = split_of(args)
    facts = {"checkpoint": args.checkpoint, "instances": args.instances, "semantics": args.semantics}
    predict_and_score(args, split, predictor_of(args), Path(args.output or OUTPUT).expanduser(), facts)


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
