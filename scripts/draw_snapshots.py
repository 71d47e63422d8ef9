"""Draw Snapshots, the embedded data set, in the COCO panoptic layout.

python scripts/draw_snapshots.py
python scripts/draw_snapshots.py --root datasets/snapshots-own --categories drawn --num-train 60 --num-val 10
"""

import argparse
from pathlib import Path

from data.drawn.snapshots import CATEGORIES, DEFAULT_ROOT, SnapshotsSettings, ensure_snapshots
from data.layouts.coco import TRAIN_SPLIT, VAL_SPLIT
from runtime.files import one_line_errors


def parse_arguments() -> argparse.Namespace:
    """Flags of the command line; the defaults are those of the embedded data set."""
    defaults = SnapshotsSettings()
    parser = argparse.ArgumentParser(
        description="Draw Snapshots: procedural everyday scenes in the COCO panoptic layout. The same settings give the same "
        "images; killed and started again, the command goes on where it stopped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT, help=f"folder that gets annotations/, {TRAIN_SPLIT}/ and more")
    parser.add_argument("--num-train", type=int, default=defaults.num_train, help=f"pictures in {TRAIN_SPLIT}")
    parser.add_argument("--num-val", type=int, default=defaults.num_val, help=f"pictures in {VAL_SPLIT}")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="another seed draws other pictures")
    classes = "classes in the JSON: all of COCO, or only those that are drawn"
    parser.add_argument("--categories", choices=CATEGORIES, default=defaults.categories, help=classes)
    return parser.parse_args()


def main() -> None:
    """Draw what is missing and say where it is."""
    given = vars(parse_arguments())
    root = given.pop("root")
    with one_line_errors():
        settings = SnapshotsSettings(**given)
        ensure_snapshots(root, settings)
    print(f"{settings.num_train} train and {settings.num_val} val pictures are in {root}")
    print(f"pictures: {root / TRAIN_SPLIT}, {root / VAL_SPLIT}\ntruth:    {root / 'annotations'}")


if __name__ == "__main__":
    main()
