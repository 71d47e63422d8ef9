"""Check a data set in the COCO panoptic layout, and write the instance truth and the stuff maps that a training may need.

    $ python scripts/prepare_coco.py
    $ python scripts/prepare_coco.py --data-root /path/to/coco

Looked for: annotations/panoptic_SPLIT.json, annotations/panoptic_SPLIT/*.png, SPLIT/ with the images (train2017, val2017).
Checked: that all files are there, decode, are 8-bit and of one size, and that PNG and JSON name the same segments.
For every split this writes into the data root
  annotations/panoptic_stuff_SPLIT/      8-bit PNGs as detectron2's prepare_panoptic_fpn.py: 0 things, 1.. stuff, 255 void
  annotations/instances_SPLIT.json       the things (RLE masks), unless somebody else's is there
  annotations/panoptic_categories.json   the classes
What was made from the truth as it is now is kept, and an interrupted run goes on where it stopped.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from runtime.command_line import add_derived_argument, add_switch, current_spelling, make_parser
from runtime.files import InputError, one_line_errors, read_json
from runtime.progress import track

if TYPE_CHECKING:
    from data.layouts.coco_derived import Prepared

SHOWN_PROBLEMS = 20


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("prepare_coco.py", __doc__, has_config=False)
    help_root = "folder with annotations/; default: $COCO_DATASET, else the embedded Snapshots"
    parser.add_argument("--data-root", type=str | None, default=None, metavar="DIR", help=help_root)
    add_derived_argument(parser)
    parser.add_argument(
        "--split", "--splits", nargs="+", metavar="SPLIT", help="splits to prepare; default: all with a panoptic JSON"
    )
    add_switch(parser, "--resume", True, "keep what is finished; --no-resume writes all anew")
    parser.add_argument("--workers", type=PositiveInt, default=min(8, os.cpu_count() or 1), help="images at once")
    return parser


def prepare(root: Path, names: list[str], again: bool, workers: int, derived: Path) -> "dict[str, Prepared]":
    """Check all splits, write what is missing into the folder `derived`, and tell of each what became of it.

    Raises:
        InputError: if a split does not read, or two have different classes.
    """
    from data.layouts.coco import CocoSplit
    from data.layouts.coco_derived import categories_path, prepare_split, write_categories

    splits = {name: CocoSplit(root, name, derived=derived) for name in names}
    first = splits[names[0]]
    for name, split in splits.items():
        if difference := split.taxonomy.difference(first.taxonomy):
            raise InputError(
                f"{split.json_path}: other `categories` than {first.json_path}, {difference}; list the same in all splits"
            )
        (num_things, num_crowds), num_classes = split.count_things(), split.taxonomy.num_classes
        print(f"{name}: {len(split)} images, {num_things} things, {num_crowds} crowds, {num_classes} classes", flush=True)
    done = {}
    for name, split in splits.items():
        done[name] = prepare_split(
            split, again=again, track=lambda items, total, name=name: track(items, name, total), workers=workers
        )
    path, categories = categories_path(derived), first.taxonomy.to_coco_categories()
    if again or not path.exists() or read_json(path) != categories:
        done[names[0]].written.append(write_categories(derived, first.taxonomy))
    else:
        done[names[0]].kept.append(path)
    return done


def run(args: Namespace) -> None:
    """Prepare all splits, say what was written, and end with an error where an image is broken."""
    from data.drawn.embedded import find_data_set
    from data.layouts import coco

    root = find_data_set(args.data_root, coco.NAME).root
    if args.data_root:
        print(f"preparing {root}", flush=True)
    names = args.split or coco.find_splits(root)
    if not names:
        raise InputError(f"{root}: no annotations/panoptic_SPLIT.json with a folder of PNGs beside it; unpack the panoptic truth")
    done = prepare(root, names, not args.resume, args.workers, args.derived or root)
    for verb, places in (("already finished", "kept"), ("wrote", "written")):
        for prepared in done.values():
            for path in getattr(prepared, places):
                print(f"{verb} {path}")
    problems = [problem for prepared in done.values() for problem in prepared.problems]
    for problem in problems[:SHOWN_PROBLEMS]:
        print(f"broken: {problem}")
    if problems:
        raise InputError(f"{root}: {len(problems)} broken images, see above; copy them again and run the same command")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
