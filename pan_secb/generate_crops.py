"""Cut crops around every object of a data set, and compute the foreground weights of the seed loss.

    $ python pan_secb/generate_crops.py
    $ python pan_secb/generate_crops.py --data-root /path/to/cityscapes

OUTPUT/SPLIT/crops_ID gets one crop for each object of the class ID (26: Cityscapes' cars), its middle as near to the object's
centre as the image's edges allow: IMAGE_SEGMENT.png and IMAGE_SEGMENT_panoptic.png.
OUTPUT/SPLIT/foreground_weights.json gets what an object's pixels weigh in the seed loss of their class, for training on crops
and for fine-tuning on whole images: pixels of other classes / pixels of the class's objects, over the crops or images that hold
one of its objects. Pixels of groups of the class and void count for neither, as in the loss. (The published formula is unknown.)
What is finished is kept, and an interrupted run goes on where it stopped: run the same command again.
"""

import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from runtime.command_line import add_data_arguments, current_spelling, make_parser, mark_common
from runtime.files import InputError, one_line_errors


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("generate_crops.py", __doc__, has_config=False)
    add_data_arguments(parser)
    help_output = "default: outputs/pan_secb/crops/<name of the data root>"
    parser.add_argument("--output", type=str | None, default=None, metavar="DIR", help=help_output)
    parser.add_argument("--split", "--splits", nargs="+", default=None, metavar="SPLIT", help="default: all that have labels")
    help_size = "pixels; default: half the height of the first image, so 512 for Cityscapes"
    parser.add_argument("--crop-size", type=int | None, default=None, help=help_size)
    parser.add_argument("--min-area", type=int, default=16, help="smallest object that gets a crop, in pixels")
    parser.add_argument("--workers", type=PositiveInt, default=2, help="threads")
    mark_common(parser, "--output", "--split", "--crop-size", "--min-area", "--workers")
    return parser


def cut_splits(args: Namespace) -> None:
    """Cut the crops of each split and print what they are.

    Raises:
        InputError: if the data set, the settings or the output folder do not fit.
    """
    from data.drawn.embedded import find_data_set
    from pan_secb.crop_cutting import CropSettings, default_crop_size, generate
    from pan_secb.crops import WEIGHTS_FILE, default_folder
    from runtime.progress import progress_bar

    data_set = find_data_set(args.data_root, args.layout, args.truth_classes)
    output = Path(args.output or default_folder(data_set.root)).expanduser()
    splits = {name: data_set.split(name) for name in args.split or data_set.splits()}
    labelled = {name: split for name, split in splits.items() if args.split or any(map(split.has_truth, range(len(split))))}
    if not labelled:
        raise InputError(f"{data_set.root}: no split has labels, but crops are cut around their objects")
    size = args.crop_size
    crop_size = default_crop_size(next(iter(labelled.values()))) if size is None else size
    settings = CropSettings(crop_size, args.min_area)
    print(f"cutting {crop_size}x{crop_size} crops of {data_set.root} into {output}", flush=True)
    for name, split in labelled.items():
        folder = output / name
        with progress_bar() as progress:
            weights = generate(split, name, folder, settings, track=progress.track, workers=args.workers)
        print(f"{name}: class         crops   weight on crops   on whole images")
        for class_name, row in weights.items():
            on_crops, on_full = ("-" if row[column] is None else f"{row[column]:.2f}" for column in ("crops", "full"))
            print(f"{'':{len(name) + 2}}{class_name:10} {row['num_crops']:8} {on_crops:>17} {on_full:>17}")
        print(f"wrote {sum(row['num_crops'] for row in weights.values())} crops and {WEIGHTS_FILE} in {folder}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        cut_splits(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
