"""Write the panoptic truth and the COCO instance truth of a data set in the Cityscapes layout.

$ python scripts/prepare_cityscapes.py --data-root /path/to/cityscapes
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.layouts.cityscapes import (
    data_root,
    find_frames,
    find_splits,
    instances_json_path,
    is_prepared,
    panoptic_json_path,
    write_instances_json,
    write_panoptic,
)
from runtime.files import InputError, one_line_errors, remove_partial_files

EPILOG = """
For every split with labels this writes into the data root
  annotations/instancesonly_filtered_gtFine_SPLIT.json         instances as mmdet's converter defines them (RLE masks)
  gtFine/cityscapes_panoptic_SPLIT.json and a folder of PNGs   as cityscapesscripts' createPanopticImgs defines them
  gtFine/cityscapes_panoptic_SPLIT_trainId.json and a folder   the same with train ids as category ids
What is finished is kept, and an interrupted run goes on where it stopped: run the same command again.
"""


def parse_arguments() -> argparse.Namespace:
    """The command line, parsed."""
    parser = argparse.ArgumentParser(
        description="Panoptic PNGs and JSON, and COCO instance JSON, from Cityscapes labels (gtFine_instanceIds.png).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data-root",
        metavar="R",
        help="folder with leftImg8bit/ and gtFine/ (default: $CITYSCAPES_DATASET, $CITYSCAPES_DIR, else the embedded Streets)",
    )
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="splits to prepare (default: all that have labels)")
    parser.add_argument("--again", action="store_true", help="write anew what is already finished")
    return parser.parse_args()


def splits_with_labels(root: Path) -> list[str]:
    """Raises InputError where there is none."""
    found = []
    for split in find_splits(root):
        if any(frame.label_path for frame in find_frames(root, split, need_labels=False)):
            found.append(split)
        else:
            print(f"{split}: no labels, left out")
    if not found:
        raise InputError(f"{root}: no split has images and labels; needed are leftImg8bit/SPLIT/CITY/ and gtFine/SPLIT/CITY/")
    return found


def outputs(root: Path, split: str) -> list[tuple[Path, Callable]]:
    """Each JSON of a split with what writes it."""
    panoptic = [
        (panoptic_json_path(root, split, use_train_ids=use), partial(write_panoptic, root, split, use_train_ids=use))
        for use in (False, True)
    ]
    return [(instances_json_path(root, split), partial(write_instances_json, root, split)), *panoptic]


def write_all(missing: list[tuple[Path, Callable]]) -> None:
    """Write them one by one, each with a bar; what a kill has left half-written goes first."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("images,"), TimeRemainingColumn())
    with Progress(*columns, TextColumn("left")) as progress:
        for path, write in missing:
            for folder in (path.parent, path.with_suffix("")):
                remove_partial_files(folder)
            write(track=partial(progress.track, description=path.name))


def main() -> None:
    """The command; see above."""
    arguments = parse_arguments()
    root = data_root(arguments.data_root)
    if arguments.data_root:
        print(f"preparing {root}")
    kept, missing = [], []
    for split in arguments.splits or splits_with_labels(root):
        frames = find_frames(root, split)
        for path, write in outputs(root, split):
            is_kept = not arguments.again and is_prepared(path, frames)
            (kept if is_kept else missing).append((path, write))
    if missing:
        write_all(missing)
    for verb, paths in (("already finished", kept), ("wrote", missing)):
        for path, _ in paths:
            pictures = " and its folder of PNGs" if path.with_suffix("").is_dir() else ""
            print(f"{verb} {path}{pictures}")


if __name__ == "__main__":
    with one_line_errors():
        main()
