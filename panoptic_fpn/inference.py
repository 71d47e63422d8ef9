"""Any image or video to panoptic PNG, JSON and an overlay with legend, by a trained Panoptic FPN.

    $ python panoptic_fpn/inference.py --images street.png
    $ python panoptic_fpn/inference.py --images 'photos/*.jpg' --output outputs/photos
    $ python panoptic_fpn/inference.py --images drive.mp4 --device cuda

--images (or --images) is an image, a video, a folder of both (searched recursively), or a quoted glob; of any sizes.
Writes panoptic.json (COCO panoptic form) with panoptic/*.png, and overlay/*.png and *.mp4. The same command again does only
what is missing. A broken file is named, and the others are done.
"""

import sys
from pathlib import Path

from jsonargparse import Namespace

from panoptic_fpn.arguments import FOLDER, build_parser, predictor_of
from prediction.arguments import predict_and_score, split_of
from runtime.command_line import current_spelling
from runtime.files import one_line_errors


def run(args: Namespace) -> None:
    """Predict, draw, and write one JSON of all."""
    split, predictor = split_of(args), predictor_of(args)
    classes = f"{predictor.taxonomy.num_classes} classes of {predictor.taxonomy.name}"
    print(f"checkpoint {args.checkpoint} ({predictor.name}, {classes}), {len(split)} images, {split.name}", flush=True)
    facts = {"weights": f"{args.checkpoint} ({predictor.name})"}
    predict_and_score(args, split, predictor, Path(args.output or FOLDER / "inference").expanduser(), facts)


def main() -> None:
    """The command; see above."""
    parser = build_parser("inference.py", __doc__, FOLDER / "inference", ("panoptic", "overlay"))
    with one_line_errors():
        arguments = [a for a in current_spelling(sys.argv[1:]) if a != "--frame-pngs"]  # today every frame has its PNG
        run(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
