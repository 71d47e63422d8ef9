"""Draw Snapshots, the embedded data set, in the COCO panoptic layout.

    $ python scripts/draw_snapshots.py
    $ python scripts/draw_snapshots.py --data-root datasets/snapshots-own --categories drawn --num-train 60 --num-val 10

Procedural everyday scenes: the same settings give the same images; killed and started again, the command goes on where it
stopped. What is not given is as in the embedded data set, which commands use where no other is named.
"""

import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from runtime.command_line import REPOSITORY, current_spelling, make_parser
from runtime.files import one_line_errors


def build_parser() -> ArgumentParser:
    """The command's arguments; None: as SnapshotsSettings has it."""
    parser = make_parser("draw_snapshots.py", __doc__, has_config=False)
    help_root = "folder that gets annotations/, train2017/ and val2017/"
    root = str(REPOSITORY / "datasets" / "snapshots")
    parser.add_argument("--data-root", "--root", default=root, metavar="DIR", help=help_root)
    parser.add_argument(
        "--num-train", type=int | None, default=None, metavar="N", help="images in train2017; default: as Snapshots has it"
    )
    parser.add_argument(
        "--num-val", type=int | None, default=None, metavar="N", help="images in val2017; default: as Snapshots has it"
    )
    parser.add_argument(
        "--seed", type=int | None, default=None, metavar="N", help="another seed draws other images; default: as Snapshots has it"
    )
    classes = "classes in the JSON: all of COCO, or only those that are drawn"
    parser.add_argument("--categories", choices=("all", "drawn"), default="all", help=classes)
    return parser


def run(args: Namespace) -> None:
    """Draw what is missing and say where it is."""
    from data.drawn.snapshots import TRAIN_SPLIT, VAL_SPLIT, SnapshotsSettings, ensure_snapshots

    given = {name: value for name, value in vars(args).items() if value is not None}
    root = Path(given.pop("data_root")).expanduser()
    settings = SnapshotsSettings(**given)
    ensure_snapshots(root, settings)
    print(f"{settings.num_train} train and {settings.num_val} val images are in {root}")
    print(f"images: {root / TRAIN_SPLIT}, {root / VAL_SPLIT}\ntruth:  {root / 'annotations'}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
