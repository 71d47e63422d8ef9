"""Predict images with a trained Pan-SECB, as panoptic PNG + JSON and in the form of Cityscapes' labels, and score them.

    $ python pan_secb/test.py
    $ python pan_secb/test.py --data-root /path/to/cityscapes --checkpoint outputs/pan_secb/cityscapes_finetune/best.ckpt

OUTPUT/panoptic.json and OUTPUT/panoptic/ are the segments in COCO's form. Of a split in the Cityscapes layout
OUTPUT/gtFine/SPLIT/CITY/ gets the same as *_gtFine_instanceIds.png (label id * 1000 + k for things, the label id for stuff, 0
for void) and *_gtFine_labelIds.png, so that cityscapesscripts' createPanopticImgs and evaluators take OUTPUT as they take the
truth:

    $ python -m cityscapesscripts.preparation.createPanopticImgs --dataset-folder OUTPUT/gtFine --set-names val

Where the split has labels, results.md and scores.json hold PQ, mIoU and the mask AP of the segments. The same command again
predicts only what is missing.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from fusion.settings import ClusterSettings
from prediction.arguments import (
    add_input_arguments,
    add_model_arguments,
    add_run_arguments,
    device_of,
    predict_and_score,
    shard_of,
    split_of,
    views_of,
)
from runtime.command_line import OUTPUTS, add_settings, current_spelling, given_settings, make_parser
from runtime.files import one_line_errors

if TYPE_CHECKING:
    from pan_secb.predictor import PanSECBPredictor

CHECKPOINT = OUTPUTS / "pan_secb" / "streets_finetune" / "last.ckpt"
OUTPUT = OUTPUTS / "pan_secb" / "test"


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("test.py", __doc__)
    add_input_arguments(parser)
    add_run_arguments(parser, OUTPUT, ("panoptic", "semantic"))
    add_model_arguments(parser, CHECKPOINT, "of pan_secb/train.py")
    names = ("min_candidate_seed", "min_seed", "min_pixels", "vote", "min_thing_area", "min_stuff_area")
    short = {name: f"--{name.replace('_', '-')}" for name in names}
    add_settings(parser, "clustering", ClusterSettings, "clustering", short, "as the checkpoint says")
    return parser


def predictor_of(args: Namespace) -> "PanSECBPredictor":
    """The network that the arguments name, with the clustering that they change.

    Raises:
        InputError: if a setting is impossible, the device is absent, or the checkpoint is none of Pan-SECB's.
    """
    from pan_secb.predictor import load_predictor

    path = Path(args.checkpoint).expanduser()
    return load_predictor(path, device_of(args), views_of(args), given_settings(args.clustering))


def run(args: Namespace) -> None:
    """Predict, score where there is truth, and write everything."""
    from data.layouts.cityscapes import CityscapesSplit
    from pan_secb.cityscapes_result import write_split

    predictor, split = predictor_of(args), split_of(args)
    output = Path(args.output or OUTPUT).expanduser()
    print(f"checkpoint {args.checkpoint} ({predictor.name}), {len(split)} images, {split.name}", flush=True)
    facts = {"weights": f"{args.checkpoint} ({predictor.name})", "clustering": predictor.clustering}
    done = predict_and_score(args, split, predictor, output, facts)
    if isinstance(split, CityscapesSplit) and {"panoptic", "semantic"} <= set(done.kept) and shard_of(args).count == 1:
        num_files = write_split(done, split)
        print(f"wrote {num_files} PNGs in the form of Cityscapes' labels to {output / 'gtFine' / split.split}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
