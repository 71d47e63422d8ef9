"""Any image or video to panoptic PNGs, their JSON and overlays, with the trained two-stage pipeline or any other checkpoint.

    $ python scripts/predict.py --images street.png
    $ python scripts/predict.py --images 'images/*.jpg' --output outputs/images --tta.scales 0.75 1 1.25 --tta.flip
    $ python scripts/predict.py --images drive.mp4 --checkpoint outputs/panoptic_fpn/streets_r18/last.ckpt
    $ python scripts/predict.py --images 0 --live --instances outputs/exported/solov2 --semantics outputs/exported/efficientps

By default the demo's two checkpoints: SOLOv2's instances and EfficientPS's semantics, fused. The same command again does only
what is missing. A broken file is named, and the others are done.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from fusion.settings import RULES
from prediction.arguments import (
    add_half_arguments,
    add_input_arguments,
    add_model_arguments,
    add_rule_arguments,
    add_run_arguments,
    device_of,
    halves_of,
    in_tiles,
    predict_and_score,
    rule_of,
    split_of,
    views_of,
)
from runtime.command_line import OUTPUTS, current_spelling, given_settings, make_parser, relative_to_repository
from runtime.device import has_torch, need_torch
from runtime.files import InputError, one_line_errors

if TYPE_CHECKING:
    from data.split import Split
    from prediction.predictor import Predictor

OUTPUT = OUTPUTS / "predict"
STAGE_1, STAGE_2 = OUTPUTS / "solov2" / "streets_lite0", OUTPUTS / "efficientps" / "streets_lite0" / "best.ckpt"


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("predict.py", __doc__)
    add_input_arguments(parser)
    help_live = "--images is a camera's number, or a film that is played at its own speed: the newest frame is predicted, the "
    help_live += "others are dropped, and --output gets live.mp4 alone; Ctrl-C ends it"
    parser.add_argument("--live", action="store_true", help=help_live)
    add_run_arguments(parser, OUTPUT, ("panoptic", "overlay"))
    add_model_arguments(parser, None, "of one training that gives everything, instead of the two below")
    group = add_half_arguments(parser, "the last checkpoint in outputs/solov2/streets_lite0", relative_to_repository(STAGE_2))
    help_config = "instead of --instances: the configuration of solov2/train.py whose last checkpoint is taken"
    group.add_argument(
        "--stage1-config", type=str | None, default=None, metavar="FILE", help=f"{help_config}; default: streets_lite0's"
    )
    add_rule_arguments(parser)
    return parser


def predictor_of(args: Namespace, split: "Split") -> "Predictor":
    """The network, or the two halves, that the arguments name.

    Raises:
        InputError: if a checkpoint is missing or of no use.
    """
    if args.checkpoint is None and has_torch():
        # First: it sets what torch reads when it is loaded.
        import solov2  # noqa: F401
    if args.checkpoint is not None and args.instances is None and args.semantics is None:
        from prediction.fused import RULES as MAKERS
        from prediction.fused import with_panoptic
        from prediction.models import load_predictor

        given = (("instances_classes", None), ("semantics_classes", None), ("class_names", None), ("instances_images", None))
        if unused := [name for name, default in given if getattr(args, name) != default]:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
            raise InputError(f"{flags} of a half, but --checkpoint gives everything; give it as --instances and --semantics")
        device, (prefix, settings) = device_of(args), RULES[rule_of(args)]
        rule = MAKERS[rule_of(args)](settings(**given_settings(args[prefix])), device)
        return with_panoptic(load_predictor(Path(args.checkpoint).expanduser(), device, views_of(args)), rule)
    instances = args.instances or "none"
    if args.instances is None and rule_of(args) != "argmax":
        need_torch("the demo's first stage, which is taken where no --instances are given")
        from solov2.checkpoints import need_last
        from solov2.settings import find_config, output_folder

        folder = output_folder(find_config(args.stage1_config)) if args.stage1_config else STAGE_1
        instances = str(need_last(folder))
    checkpoint = None if args.checkpoint is None else Path(args.checkpoint).expanduser()
    return halves_of(args, split, instances, str(STAGE_2), checkpoint)


def run(args: Namespace) -> None:
    """Predict, draw, and write one JSON of all."""
    if not (args.images or args.data_root):
        raise InputError("--images is needed: an image, a video, a folder of both, or a quoted glob; or --data-root")
    output = Path(args.output or OUTPUT).expanduser()
    if args.live:
        run_live(args, output)
        return
    split = split_of(args)
    facts = {"checkpoint": args.checkpoint, "instances": args.instances, "semantics": args.semantics}
    predict_and_score(args, split, predictor_of(args, split), output, facts)


def run_live(args: Namespace, output: Path) -> None:
    """Predict a camera or film as it comes.

    Raises:
        InputError: as prediction.live.predict_live, or if a half is files of predictions.
    """
    from prediction.live import predict_live
    from prediction.pipeline import NoImages

    if not args.images:
        raise InputError("--live needs --images, the number of a camera or a film; --data-root has neither")
    predictor = in_tiles(args, predictor_of(args, NoImages()))
    summary = predict_live(args.images, predictor, output)
    print(f"{summary.in_words()}\nwrote {summary.path}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
