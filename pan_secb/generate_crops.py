"""Cut crops around every object of a data set in the Cityscapes layout, and compute the foreground weights of the seed loss.

$ python pan_secb/generate_crops.py
$ python pan_secb/generate_crops.py --data-root /path/to/cityscapes
"""

import argparse
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.layouts.cityscapes import IMAGE_SUFFIX, LABEL_SUFFIX, data_root, find_frames, find_splits
from pan_secb.crop_cutting import FORMULA, MIN_AREA, CropSettings, default_crop_size, generate
from pan_secb.crops import WEIGHTS_FILE, default_folder
from runtime.files import InputError, one_line_errors

EPILOG = f"""
OUTPUT/SPLIT/crops_ID gets one crop for each object of the class ID (26: cars), its middle as near to the object's centre as
the picture's edges allow: IMAGE_INSTANCE{IMAGE_SUFFIX} and IMAGE_INSTANCE{LABEL_SUFFIX}.
OUTPUT/SPLIT/{WEIGHTS_FILE} gets what an object's pixels weigh in the seed loss of their class, for training on crops
and for fine-tuning on whole images:
  {FORMULA}
Pixels of groups of the class and void count for neither, as in the loss. (The published formula is not known.)
What is finished is kept, and an interrupted run goes on where it stopped: run the same command again.
"""


def labelled_splits(root: Path) -> list[str]:
    """Those whose images have labels.

    Raises:
        InputError: if there is none.
    """
    found = [s for s in find_splits(root) if any(f.label_path for f in find_frames(root, s, need_labels=False))]
    if not found:
        raise InputError(f"{root}: no split has images and labels; needed are leftImg8bit/SPLIT/CITY/ and gtFine/SPLIT/CITY/")
    return found


def parse_arguments() -> argparse.Namespace:
    """See --help."""
    parser = argparse.ArgumentParser(
        description="Crops around every object of each thing class, for the first step of Pan-SECB's training.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    help_root = "folder with leftImg8bit/ and gtFine/ (default: $CITYSCAPES_DATASET, $CITYSCAPES_DIR, else the embedded Streets)"
    parser.add_argument("--data-root", metavar="R", help=help_root)
    parser.add_argument("--output", type=Path, help="default: outputs/pan_secb/crops/<name of the data root>")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="default: all that have labels")
    parser.add_argument(
        "--crop-size", type=int, help="pixels (default: half the height of the first image, so 512 for Cityscapes)"
    )
    help_area = f"smallest object that gets a crop, in pixels (default: {MIN_AREA})"
    parser.add_argument("--min-area", type=int, default=MIN_AREA, help=help_area)
    parser.add_argument("--workers", type=int, default=2, help="threads (default: 2)")
    return parser.parse_args()


def main() -> None:
    """Cut what the arguments say and report counts and weights; one line where that fails."""
    arguments = parse_arguments()
    with one_line_errors():
        cut_splits(arguments)


def cut_splits(arguments: argparse.Namespace) -> None:
    """Cut the crops of each split and print what they are.

    Raises:
        InputError: if the data set, the settings or the output folder do not fit.
    """
    root = data_root(arguments.data_root)
    output = (arguments.output or default_folder(root)).expanduser()
    splits = arguments.splits or labelled_splits(root)
    crop_size = default_crop_size(root, splits[0]) if arguments.crop_size is None else arguments.crop_size
    settings = CropSettings(crop_size, arguments.min_area)
    print(f"cutting {crop_size}x{crop_size} crops of {root} into {output}", flush=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("images,"), TimeRemainingColumn())
    for split in splits:
        with Progress(*columns, TextColumn("left")) as progress:
            folder = output / split
            weights = generate(root, split, folder, settings, track=progress.track, workers=arguments.workers)
        print(f"{split}: class         crops   weight on crops   on whole images")
        for name, row in weights.items():
            on_crops, on_full = ("-" if row[column] is None else f"{row[column]:.2f}" for column in ("crops", "full"))
            print(f"{'':{len(split) + 2}}{name:10} {row['num_crops']:8} {on_crops:>17} {on_full:>17}")
        print(f"wrote {sum(row['num_crops'] for row in weights.values())} crops and {WEIGHTS_FILE} in {folder}")


if __name__ == "__main__":
    main()
