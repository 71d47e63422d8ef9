"""Data sets of four kinds, images and a video without truth, and predictors of all systems."""

import numpy as np
import pytest

from data.drawn.snapshots import SnapshotsSettings, ensure_snapshots
from data.drawn.streets import StreetsSettings, ensure_streets
from data.images import write_image
from data.panoptic_file import write_panoptic_json
from data.panoptic_png import PanopticMap, describe_segments, write_panoptic_png
from data.taxonomy import Category, Taxonomy
from data.videos import video_writer
from tests.systems import build_system

ONE_AND_ONE = Taxonomy(
    "one thing, one stuff", (Category("floor", 70000, False, (90, 90, 90)), Category("box", 5, True, (9, 9, 200)))
)


@pytest.fixture(scope="session")
def data_sets(tmp_path_factory):
    """Name -> root of a small data set of that kind."""
    folder = tmp_path_factory.mktemp("data_sets")
    return {
        "streets": ensure_streets(folder / "streets", StreetsSettings(128, 256, num_train=2, num_val=3)),
        "snapshots": ensure_snapshots(folder / "snapshots", SnapshotsSettings(num_train=3, num_val=3, categories="drawn")),
        "boxes": draw_boxes(folder / "boxes"),
    }


def draw_boxes(root, num_images: int = 3):
    """A set of one thing and one stuff class in the COCO layout, with ids that fit no scheme."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        entries = []
        for k in range(num_images):
            ids, image = np.full((96, 128), 3, np.uint32), np.full((96, 128, 3), 100, np.uint8)
            for number in range(2):
                y, x = rng.integers(0, 60), rng.integers(0, 90)
                ids[y : y + 30, x : x + 30] = 100 + number
                image[y : y + 30, x : x + 30] = (200, 40, 40 + 100 * number)
            segments = describe_segments(ids, lambda segment_id: 70000 if segment_id == 3 else 5)
            write_image(root / split / f"{split}_{k}.png", image)
            write_panoptic_png(root / f"annotations/panoptic_{split}/{split}_{k}.png", PanopticMap(ids, segments), "test")
            entries.append((k, f"{split}_{k}.png", f"{split}_{k}.png", (96, 128), segments))
        write_panoptic_json(root / f"annotations/panoptic_{split}.json", ONE_AND_ONE, entries)
    return root


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A folder with an image of an odd size, a grey one in a folder of its own, and a video of three frames."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(1)
    write_image(folder / "odd.png", rng.integers(0, 255, (67, 131, 3), dtype=np.uint8))
    write_image(folder / "deeper/grey.png", rng.integers(0, 255, (90, 64), dtype=np.uint8))
    with video_writer(folder / "drive.mp4", 5.0) as write:
        for _ in range(3):
            write(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="session")
def build(data_sets, tmp_path_factory):
    """(system, data set, views) -> predictor."""

    def make(system: str, data_set: str, **options):
        return build_system(system, data_sets[data_set], tmp_path_factory.mktemp("checkpoints"), **options)

    return make
