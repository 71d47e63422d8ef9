"""Write a panoptic PNG of 1024x2048 pixels, against panopticapi's way: ids to RGB in numpy (its id2rgb), then Pillow."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.scenes import REPOSITORY, street_images
from benchmarks.side_by_side import Contest
from data.layouts.cityscapes import read_truth
from data.panoptic_png import write_segment_ids

FOLDER = REPOSITORY / "outputs" / "benchmark" / "write"


def write_plainly(path: Path, segment_ids: np.ndarray) -> None:
    """id2rgb of panopticapi, and Pillow's own settings."""
    rest = segment_ids.copy()
    rgb = np.zeros((*segment_ids.shape, 3), dtype=np.uint8)
    for channel in range(3):
        rgb[..., channel] = rest % 256
        rest //= 256
    Image.fromarray(rgb).save(path)


def are_equal(ours: Path, theirs: Path) -> bool:
    """Whether Pillow reads the same pixels from both, and our file is at most twice as large."""
    with Image.open(ours) as found, Image.open(theirs) as expected:
        return np.array_equal(np.asarray(found), np.asarray(expected)) and ours.stat().st_size <= 2 * theirs.stat().st_size


def panoptic_png() -> Contest:
    """Ours also waits until the file is on the disk."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    segment_ids = read_truth(street_images()[0]).segment_ids
    paths = {name: FOLDER / f"{name}.png" for name in ("ours", "theirs")}

    def ours() -> Path:
        write_segment_ids(paths["ours"], segment_ids)
        return paths["ours"]

    def theirs() -> Path:
        write_plainly(paths["theirs"], segment_ids)
        return paths["theirs"]

    return Contest("panoptic PNG from an id map", 12, ours, theirs, are_equal)


ROWS: dict[str, Callable[[], Contest]] = {"panoptic PNG from an id map": panoptic_png}
