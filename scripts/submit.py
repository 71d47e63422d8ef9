"""Make the zip that an evaluation server takes, of a run folder or another tool's panoptic JSON; an incomplete one is refused.

    $ python scripts/submit.py --to cityscapes-panoptic --run outputs/cityscapes_test --data-root /path/to/cityscapes
    $ python scripts/submit.py --to cityscapes-semantic --run outputs/cityscapes_test --data-root /path/to/cityscapes
    $ python scripts/submit.py --to cityscapes-instance --run outputs/cityscapes_test --data-root /path/to/cityscapes
    $ python scripts/submit.py --to coco-panoptic --prediction theirs.json --data-root /path/to/coco --name mymodel

Each image of the split must have just one prediction, of its size and of the server's classes; predictions of other images are
left out. Without --split it is the one that the server scores: test, or test-dev2017, whose images are those of
annotations/image_info_test-dev2017.json. Semantics and instances are those that the run has kept, else they are taken from its
panoptic maps. The same predictions give the same bytes. What the zips hold, and what was never uploaded: docs/submit.md.
"""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from runtime.command_line import OUTPUTS, current_spelling, make_parser, relative_to_repository
from runtime.files import InputError, one_line_errors
from runtime.progress import note, track

if TYPE_CHECKING:
    from prediction.submission import ExpectedImage, Predictions, Server

KINDS = ("cityscapes-panoptic", "cityscapes-semantic", "cityscapes-instance", "coco-panoptic")
OUTPUT = OUTPUTS / "submit"


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("submit.py", __doc__, has_config=False)
    parser.add_argument("--to", choices=KINDS, required=True, help="the server, and what it is to score")
    source = parser.add_argument_group("prediction, one of both")
    source.add_argument("--run", type=Path | None, metavar="DIR", help="run folder of any predicting command")
    source.add_argument("--prediction", type=Path | None, metavar="FILE.json", help="COCO panoptic JSON of another tool")
    help_folder = "the PNGs of --prediction; default: FILE.json without .json"
    source.add_argument("--prediction-folder", type=Path | None, metavar="DIR", help=help_folder)
    images = parser.add_argument_group("images that the server expects")
    help_root = "the data set's folder; default: $CITYSCAPES_DATASET, $CITYSCAPES_DIR or $COCO_DATASET, else an embedded one"
    images.add_argument("--data-root", type=str | None, metavar="DIR", help=help_root)
    images.add_argument("--split", type=str | None, help="default: test, of COCO test-dev2017")
    result = parser.add_argument_group("result")
    help_name = "of the algorithm: letters, digits, `-` and `.`; default: that of the run folder or JSON"
    result.add_argument("--name", type=str | None, help=help_name)
    help_output = f"default: in {relative_to_repository(OUTPUT)}, named as the server wants it"
    result.add_argument("--output", type=Path | None, metavar="FILE.zip", help=help_output)
    return parser


def predictions_of(args: Namespace, server: "Server") -> "Predictions":
    """What the arguments name.

    Raises:
        InputError: if they name none or two, or what is there does not read.
    """
    from data.taxonomy import CITYSCAPES
    from prediction.submission import Predictions

    if (args.run is None) == (args.prediction is None):
        raise InputError("give either --run, a run folder, or --prediction, a COCO panoptic JSON of another tool")
    if args.run is not None:
        if args.prediction_folder is not None:
            raise InputError("--prediction-folder belongs to --prediction, and --run has its own; leave it out")
        return Predictions.of_run(args.run.expanduser())
    taxonomy = None if server.taxonomy is CITYSCAPES else server.taxonomy  # ids or train ids of Cityscapes are told apart
    return Predictions.of_file(args.prediction.expanduser(), args.prediction_folder, taxonomy)


def name_of(args: Namespace) -> str:
    """The algorithm's name, for the names of the files.

    Raises:
        InputError: if it holds other characters than they may.
    """
    if args.name is None:
        place = (args.run or args.prediction.with_suffix("")).expanduser().resolve()
        return re.sub("[^A-Za-z0-9.-]+", "-", place.name).strip("-.") or "model"
    if not re.fullmatch("[A-Za-z0-9.-]+", args.name):
        raise InputError(
            f"--name {args.name}: letters, digits, `-` and `.` are needed, since `_` separates the parts of the name"
        )
    return args.name


def images_of(args: Namespace, server: "Server", split: str) -> "list[ExpectedImage]":
    """The images of the split; says so where it is not what the server scores.

    Raises:
        InputError: if there is no such split, or its images are not named as the server wants them.
    """
    from data.drawn.embedded import find_data_set

    root = find_data_set(args.data_root, server.layout).root
    images = server.images(root, split)
    if split != server.test_split:
        note(f"the server scores {server.test_split}; this zip of {split} is for a try")
    elif server.num_images not in (None, len(images)):
        note(f"{root}: {len(images)} images in {split}, but the server's has {server.num_images}; it will not take the zip")
    return images


def run(args: Namespace) -> None:
    """Check, write the zip, and say where it goes."""
    from prediction.submission import SERVERS, write_submission

    server = SERVERS[args.to]
    split = args.split or server.test_split
    predictions = predictions_of(args, server)
    words = {"split": split, "name": name_of(args)}
    zip_name = server.zip_name.format(**words)
    output = (args.output or OUTPUT / zip_name).expanduser()
    if output.suffix != ".zip":
        raise InputError(f"--output {output}: a name that ends in .zip is needed")
    images = images_of(args, server, split)
    stem = server.stem.format(**words)
    write_submission(output, server, predictions, images, stem, lambda items, total: track(items, "packing", total))
    size, source = output.stat().st_size / 1e6, predictions.source_of(server.part)
    print(f"wrote {output}: {len(images)} images of {split}, {size:.1f} MB, from {source} predictions")
    if server.layout == "coco" and output.name != zip_name:
        note(f"COCO's server wants the name {zip_name}; rename the file before you upload it")
    print(f"upload this file as it is: {server.address} (docs/submit.md says what is known of the server)")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
