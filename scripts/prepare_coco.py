"""Check a data set in the COCO panoptic layout, and write the instance truth and the stuff maps that a training may need.

$ python scripts/prepare_coco.py --data-root /path/to/coco
"""

import argparse
import os
from functools import partial
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.layouts.coco import CocoPictures, coco_root, find_splits
from data.layouts.coco_derived import Prepared, categories_path, prepare_split, write_categories
from runtime.files import InputError, one_line_errors, read_json

EPILOG = """
Looked for: annotations/panoptic_SPLIT.json, annotations/panoptic_SPLIT/*.png, SPLIT/ with the pictures (train2017, val2017).
Checked: that all files are there, decode, are 8-bit and of one size, and that PNG and JSON name the same segments.
For every split this writes into the data root
  annotations/panoptic_stuff_SPLIT/      8-bit PNGs as detectron2's prepare_panoptic_fpn.py: 0 things, 1.. stuff, 255 void
  annotations/instances_SPLIT.json       the things (RLE masks), where there is none yet
  annotations/panoptic_categories.json   the classes
What is finished is kept, and an interrupted run goes on where it stopped: run the same command again.
"""
SHOWN_PROBLEMS = 20


def parse_arguments() -> argparse.Namespace:
    """Flags of the command line."""
    parser = argparse.ArgumentParser(
        description="Check panoptic truth in the COCO layout; make COCO instance JSON and stuff maps from it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    help_root = "folder with annotations/ (default: $COCO_DATASET, else the embedded Snapshots)"
    parser.add_argument("--data-root", metavar="R", help=help_root)
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="splits to prepare (default: all with a panoptic JSON)")
    parser.add_argument("--again", action="store_true", help="write anew what is already finished")
    parser.add_argument("--workers", type=int, metavar="N", default=min(8, os.cpu_count() or 1), help="threads")
    arguments = parser.parse_args()
    if arguments.workers < 1:
        parser.error(f"--workers {arguments.workers}, but at least 1 is needed")
    return arguments


def prepare(root: Path, splits: list[str], again: bool, workers: int) -> dict[str, Prepared]:
    """What became of each split."""
    found = {split: CocoPictures(root, split) for split in splits}
    first = found[splits[0]]
    for split, pictures in found.items():
        if pictures.taxonomy != first.taxonomy:
            raise InputError(f"{pictures.json_path}: other `categories` than {first.json_path}; list the same in all splits")
        (num_things, num_crowds), num_classes = pictures.count_things(), pictures.taxonomy.num_classes
        print(f"{split}: {len(pictures)} pictures, {num_things} things, {num_crowds} crowds, {num_classes} classes")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("images,"), TimeRemainingColumn())
    done = {}
    with Progress(*columns, TextColumn("left")) as progress:
        for split, pictures in found.items():
            track = partial(progress.track, description=split)
            done[split] = prepare_split(pictures, root, split, again=again, track=track, workers=workers)
    path, categories = categories_path(root), first.taxonomy.to_coco_categories()
    if again or not path.exists() or read_json(path) != categories:
        done[splits[0]].written.append(write_categories(root, first.taxonomy))
    else:
        done[splits[0]].kept.append(path)
    return done


def main() -> None:
    """Prepare all splits, say what was written, and end with an error where an image is broken."""
    arguments = parse_arguments()
    root = coco_root(arguments.data_root)
    if arguments.data_root:
        print(f"preparing {root}")
    splits = arguments.splits or find_splits(root)
    if not splits:
        raise InputError(f"{root}: no annotations/panoptic_SPLIT.json with a folder of PNGs beside it; unpack the panoptic truth")
    done = prepare(root, splits, arguments.again, arguments.workers)
    for verb, places in (("already finished", "kept"), ("wrote", "written")):
        for prepared in done.values():
            for path in getattr(prepared, places):
                print(f"{verb} {path}")
    problems = [problem for prepared in done.values() for problem in prepared.problems]
    for problem in problems[:SHOWN_PROBLEMS]:
        print(f"broken: {problem}")
    if problems:
        raise InputError(f"{root}: {len(problems)} broken images, see above; copy them again and run the same command")


if __name__ == "__main__":
    with one_line_errors():
        main()
