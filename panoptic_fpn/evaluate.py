"""Score a trained Panoptic FPN on a split: the results table, with mask AP and mIoU, and the predictions that it is of.

    $ python panoptic_fpn/evaluate.py
    $ python panoptic_fpn/evaluate.py --checkpoint outputs/panoptic_fpn/cityscapes_r50/best.ckpt --data-root /path/to/cityscapes
    $ python panoptic_fpn/evaluate.py --checkpoint coco.ckpt --data-root /path/to/coco

Writes results.md and scores.json, panoptic.json with panoptic/*.png (any scorer of COCO panoptic files reads them), and for
mIoU and AP the class maps (semantic/) and the instances before the merge (instances/). The same command again predicts only
what is missing.
"""

import sys
from pathlib import Path

from jsonargparse import Namespace

from panoptic_fpn.arguments import FOLDER, build_parser, predictor_of
from prediction.arguments import predict_and_score, split_of
from runtime.command_line import current_spelling
from runtime.files import InputError, one_line_errors


def run(args: Namespace) -> None:
    """Predict, score, and write everything."""
    predictor, split = predictor_of(args), split_of(args)
    if split.taxonomy is None:
        raise InputError(f"--images {args.images}: has no truth to score; take panoptic_fpn/inference.py, or --data-root")
    print(f"checkpoint {args.checkpoint} ({predictor.name}), {len(split)} images, {split.name}", flush=True)
    facts = {
        "weights": f"{args.checkpoint} ({predictor.name})",
        "input": predictor.network_input.size,
        "merge": predictor.merging,
    }
    predict_and_score(args, split, predictor, Path(args.output or FOLDER / "evaluation").expanduser(), facts)


def main() -> None:
    """The command; see above."""
    parser = build_parser("evaluate.py", __doc__, FOLDER / "evaluation", ("panoptic", "instances", "semantic"))
    with one_line_errors():
        run(parser.parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
