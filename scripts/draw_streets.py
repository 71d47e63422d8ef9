"""Draw Streets, the embedded data set, in the Cityscapes layout.

    $ python scripts/draw_streets.py
    $ python scripts/draw_streets.py --data-root datasets/streets-256 --height 256 --width 512
    $ python scripts/draw_streets.py --data-root datasets/drive --sequence 30

Procedural street scenes: the same settings give the same images; killed and started again, the command goes on where it
stopped. What is not given is as in the embedded data set, which commands use where no other is named.
"""

import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from runtime.command_line import REPOSITORY, current_spelling, make_parser
from runtime.files import InputError, one_line_errors

ROOT = REPOSITORY / "datasets" / "streets"


def build_parser() -> ArgumentParser:
    """The command's arguments; None: as StreetsSettings has it."""
    parser = make_parser("draw_streets.py", __doc__, has_config=False)
    parser.add_argument(
        "--data-root", "--root", default=str(ROOT), metavar="DIR", help="folder that gets leftImg8bit/ and gtFine/"
    )
    for flag, words in (
        ("--height", "of an image, in pixels, 128 to 1024"),
        ("--width", "of an image, in pixels, twice the height"),
        ("--num-train", "images in the train split"),
        ("--num-val", "images in the val split"),
        ("--seed", "another seed draws other streets"),
        ("--traffic", "times as many vehicles, riders and people, 1 to 5"),
    ):
        parser.add_argument(flag, type=int | None, default=None, metavar="N", help=f"{words}; default: as Streets has it")
    help_sequence = "instead: one drive of so many frames, whose objects keep their ids, in gtFine/tracks_val.json"
    parser.add_argument("--sequence", type=PositiveInt | None, default=None, metavar="N", help=help_sequence)
    return parser


def run(args: Namespace) -> None:
    """Draw what is missing and say where it is.

    Raises:
        InputError: if a drive is to take the place of the embedded data set.
    """
    from data.drawn.streets import StreetsSettings, ensure_streets

    given = {name: value for name, value in vars(args).items() if value is not None}
    root = Path(given.pop("data_root")).expanduser()
    num_frames = given.pop("sequence", None)
    settings = StreetsSettings(**given)
    if num_frames is not None:
        from data.drawn.drives import write_drive

        if root == ROOT:
            raise InputError(f"--sequence would write into the embedded data set, {root}; give another --data-root")
        tracks = write_drive(root, settings, settings.seed, num_frames)
        print(f"{num_frames} frames of {settings.height}x{settings.width} are in {root / 'leftImg8bit'}\ntracks: {tracks}")
        return
    ensure_streets(root, settings)
    size = f"{settings.height}x{settings.width}"
    print(f"{settings.num_train} train and {settings.num_val} val images of {size} are in {root}")
    print(f"images: {root / 'leftImg8bit'}\ntruth:  {root / 'gtFine'}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
