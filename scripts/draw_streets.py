"""Draw Streets, the embedded data set, in the Cityscapes layout.

python scripts/draw_streets.py
python scripts/draw_streets.py --root datasets/streets-256 --height 256 --width 512
"""

import argparse
from pathlib import Path

from data.drawn.streets import DEFAULT_ROOT, StreetsSettings, ensure_streets
from runtime.files import one_line_errors


def parse_arguments() -> argparse.Namespace:
    """The command line, parsed."""
    defaults = StreetsSettings()
    parser = argparse.ArgumentParser(
        description="Draw Streets: procedural street scenes in the Cityscapes layout. The same settings give the same images; "
        "killed and started again, the command goes on where it stopped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT, help="folder that gets leftImg8bit/ and gtFine/")
    parser.add_argument("--height", type=int, default=defaults.height, help="of an image, in pixels, 128 to 1024")
    parser.add_argument("--width", type=int, default=defaults.width, help="of an image, in pixels, twice the height")
    parser.add_argument("--num-train", type=int, default=defaults.num_train, help="images in the train split")
    parser.add_argument("--num-val", type=int, default=defaults.num_val, help="images in the val split")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="another seed draws other streets")
    parser.add_argument("--traffic", type=int, default=defaults.traffic, help="times as many vehicles, riders and people, 1 to 5")
    return parser.parse_args()


def main() -> None:
    """The command; see parse_arguments."""
    given = vars(parse_arguments())
    root = given.pop("root")
    with one_line_errors():
        settings = StreetsSettings(**given)
        ensure_streets(root, settings)
    size = f"{settings.height}x{settings.width}"
    print(f"{settings.num_train} train and {settings.num_val} val images of {size} are in {root}")
    print(f"images: {root / 'leftImg8bit'}\ntruth:  {root / 'gtFine'}")


if __name__ == "__main__":
    main()
