"""Dump stage 1's soft masks, one file an image, and report mask AP where there is truth.

    $ cd solov2 && python eval.py
    $ python solov2/eval.py --data-root /path/to/cityscapes --checkpoint outputs/solov2/cityscapes_r50/epoch_12.pth
    $ python solov2/eval.py --images photos/ --output dumps/photos
    $ python solov2/eval.py --tta.scales 0.75 1 1.25 --tta.flip

Without arguments it takes the last checkpoint of `python train.py` and the val split of the embedded data set. Network, input
size and classes stand in the checkpoint. What the same checkpoint has already dumped is skipped: run the same command again
after a kill, and only what is missing is done.
"""

import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from prediction.arguments import (
    add_input_arguments,
    add_model_arguments,
    add_run_arguments,
    device_of,
    predict_and_score,
    split_of,
    views_of,
)
from runtime.command_line import OUTPUTS, current_spelling, make_parser, mark_common, relative_to_repository
from runtime.files import one_line_errors

FOLDER = OUTPUTS / "solov2"


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("eval.py", __doc__, has_config=False)
    help_config = "of the training whose last checkpoint is taken where --checkpoint names none; default: streets_lite0.py"
    parser.add_argument("--config", default="configs/solov2/streets_lite0.py", help=help_config)
    help_options = "settings of the trained model to change, such as model.test_cfg.score_thr=0.2"
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="NAME=VALUE", help=help_options)
    mark_common(parser, "--config")
    add_input_arguments(parser)
    output = FOLDER / "streets_lite0" / "dumps" / "val"
    help_output = "dumps/<split or folder> below the training of the checkpoint, or else of --config"
    add_run_arguments(parser, output, ("instances",), help_output)
    add_model_arguments(parser, None, "a file, or a training's folder; default: the last one that train.py wrote for --config")
    return parser


def run(args: Namespace) -> None:
    """Everything that the command does."""
    # First: it sets what torch reads when it is loaded.
    import solov2  # noqa: F401
    from prediction.models import find_checkpoint
    from solov2.checkpoints import need_last
    from solov2.predictor import load_predictor
    from solov2.settings import find_config, load_config, output_folder, parse_options

    config_path = find_config(args.config)
    if args.truth_classes is None and not args.images:
        args.truth_classes = load_config(config_path, parse_options(args.cfg_options)).get("truth_classes")
    split, work_dir = split_of(args), output_folder(config_path)
    if args.images:
        place = Path(args.images).expanduser().resolve()
        # Under a name of its own, so that a folder called val is not taken for the split.
        default_name = Path("images", place.name if place.is_dir() else place.parent.name)
    else:
        default_name = Path(split.split)
    checkpoint = find_checkpoint(args.checkpoint) if args.checkpoint else need_last(work_dir)
    # Beside the checkpoints of a training; one from elsewhere has no such folder.
    training = checkpoint.resolve().parent if (checkpoint.parent / "last_checkpoint").is_file() else work_dir
    output = Path(args.output).expanduser().resolve() if args.output else training / "dumps" / default_name
    predictor = load_predictor(checkpoint, device_of(args), views_of(args), parse_options(args.cfg_options))
    shown = relative_to_repository(checkpoint)
    print(f"dumping SOLOv2 instances: {shown} ({predictor.name}) on {len(split)} images, {split.name}", flush=True)
    predict_and_score(args, split, predictor, output, {"weights": f"{shown} ({predictor.name})"})


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
