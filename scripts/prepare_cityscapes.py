"""Write the panoptic truth and the COCO instance truth of a data set in the Cityscapes layout.

    $ python scripts/prepare_cityscapes.py
    $ python scripts/prepare_cityscapes.py --data-root /path/to/cityscapes

For every split with labels (gtFine_instanceIds.png) this writes into the data root
  annotations/instancesonly_filtered_gtFine_SPLIT.json         instances as mmdet's converter defines them (RLE masks)
  gtFine/cityscapes_panoptic_SPLIT.json and a folder of PNGs   as cityscapesscripts' createPanopticImgs defines them
  gtFine/cityscapes_panoptic_SPLIT_trainId.json and a folder   the same with train ids as category ids
What was made from the labels as they are now is kept, and an interrupted run goes on where it stopped.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from runtime.command_line import add_derived_argument, add_switch, current_spelling, make_parser
from runtime.files import InputError, one_line_errors, remove_partial_files
from runtime.progress import track


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("prepare_cityscapes.py", __doc__, has_config=False)
    help_root = "folder with leftImg8bit/ and gtFine/; default: $CITYSCAPES_DATASET or $CITYSCAPES_DIR, else the embedded Streets"
    parser.add_argument("--data-root", type=str | None, default=None, metavar="DIR", help=help_root)
    add_derived_argument(parser)
    parser.add_argument(
        "--split", "--splits", nargs="+", metavar="SPLIT", help="splits to prepare; default: all that have labels"
    )
    add_switch(parser, "--resume", True, "keep what is finished; --no-resume writes all anew")
    parser.add_argument("--workers", type=PositiveInt, default=min(8, os.cpu_count() or 1), help="images at once")
    return parser


def splits_with_labels(root: Path) -> list[str]:
    """The splits that have labels.

    Raises:
        InputError: if there is none.
    """
    from data.layouts.cityscapes import find_images, find_splits

    found = []
    for split in find_splits(root):
        if any(image.label_path for image in find_images(root, split, need_labels=False)):
            found.append(split)
        else:
            print(f"{split}: no labels, left out")
    if not found:
        raise InputError(f"{root}: no split has images and labels; needed are leftImg8bit/SPLIT/CITY/ and gtFine/SPLIT/CITY/")
    return found


def outputs(root: Path, split: str, derived: Path) -> list[tuple[Path, Callable]]:
    """Each JSON of a split, in the folder `derived`, with what writes it."""
    from data.layouts.cityscapes import instances_json_path, panoptic_json_path, write_instances_json, write_panoptic

    panoptic = [
        (
            panoptic_json_path(derived, split, use_train_ids=use),
            partial(write_panoptic, root, split, use_train_ids=use, derived=derived),
        )
        for use in (False, True)
    ]
    instances = partial(write_instances_json, root, split, derived=derived)
    return [(instances_json_path(derived, split), instances), *panoptic]


def write_all(missing: list[tuple[Path, Callable]], workers: int) -> None:
    """Write them one by one, each with a bar; what a kill has left half-written goes first."""
    for path, write in missing:
        for folder in (path.parent, path.with_suffix("")):
            remove_partial_files(folder)
        write(track=lambda items, total, name=path.name: track(items, name, total), workers=workers)


def run(args: Namespace) -> None:
    """Everything that the command does."""
    from data.drawn.embedded import find_data_set
    from data.layouts import cityscapes

    root = find_data_set(args.data_root, cityscapes.NAME).root
    if args.data_root:
        print(f"preparing {root}", flush=True)
    kept, missing = [], []
    for split in args.split or splits_with_labels(root):
        images = cityscapes.find_images(root, split)
        labels = cityscapes.labels_digest(images)
        for path, write in outputs(root, split, args.derived or root):
            is_kept = args.resume and cityscapes.is_prepared(path, images, labels)
            (kept if is_kept else missing).append((path, write))
    write_all(missing, args.workers)
    for verb, paths in (("already finished", kept), ("wrote", missing)):
        for path, _ in paths:
            pngs = " and its folder of PNGs" if path.with_suffix("").is_dir() else ""
            print(f"{verb} {path}{pngs}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
