"""Snapshots, the embedded data set in the COCO panoptic layout: drawn everyday scenes with COCO's own classes and ids.

See snapshot_scenes.py for the scenes, snapshot_surfaces.py and snapshot_objects.py for what is in them. As in COCO, images
are JPEGs of many sizes, some of them grey, ids are any 24 bits, groups are crowds, and what has no class is void.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from data.drawn.drawn_set import DrawnSet
from data.drawn.snapshot_scenes import KINDS, Snapshot, draw_snapshot
from data.layouts.coco import panoptic_json_path
from data.panoptic_file import write_panoptic_json
from data.panoptic_png import PanopticMap, describe_segments, read_panoptic_png, write_panoptic_png
from data.taxonomy import COCO_PANOPTIC, Taxonomy
from runtime.files import InputError, atomic_path

DEFAULT_ROOT = Path(__file__).resolve().parents[2] / "datasets" / "snapshots"
GENERATOR_VERSION = 1
"""Raise it whenever the same settings draw other pixels."""
SIZES = ((192, 256), (256, 192), (176, 240), (240, 176), (168, 256), (200, 200), (256, 168), (160, 224))
"""(height, width) of images, in pixels: about 0.4 of COCO's."""
JPEG_QUALITY = 95
MAX_IMAGES = 100_000
DRAWN_CLASSES = (
    "person", "car", "boat", "cat", "dog", "umbrella", "sports ball", "bottle", "cup", "chair", "potted plant", "book",
    "floor-wood", "sand", "sea", "wall-brick", "window-other", "tree-merged", "sky-other-merged", "table-merged",
    "pavement-merged", "grass-merged", "wall-other-merged", "rug-merged",
)  # fmt: skip
CATEGORIES = ("all", "drawn")
TRAIN_SPLIT, VAL_SPLIT = "train2017", "val2017"
SPLITS = (TRAIN_SPLIT, VAL_SPLIT)
PRODUCER = f"snapshots {GENERATOR_VERSION}"


@dataclass(frozen=True)
class SnapshotsSettings:
    """What is drawn; the same settings give the same pixels on every run.

    Raises:
        InputError: if a value is out of range.
    """

    num_train: int = 240
    """Images in train2017."""
    num_val: int = 40
    """Images in val2017."""
    seed: int = 0
    """Another seed draws other images."""
    categories: str = "all"
    """What the JSON lists: all 133 of COCO, as its configurations expect, or only the 24 that are drawn."""

    def __post_init__(self):
        for name in ("num_train", "num_val", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"Snapshots: {name} is {value!r}, but a whole number from 0 on was needed; give one")
        if max(self.num_train, self.num_val) > MAX_IMAGES:
            asked = f"{self.num_train} train and {self.num_val} val images"
            raise InputError(f"Snapshots: {asked}, but at most {MAX_IMAGES} each can be drawn; ask for fewer")
        if self.categories not in CATEGORIES:
            raise InputError(f"Snapshots: categories {self.categories!r} is unknown; choose {' or '.join(CATEGORIES)}")

    def count(self, split: str) -> int:
        """Number of images of a split."""
        return {TRAIN_SPLIT: self.num_train, VAL_SPLIT: self.num_val}[split]

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes that the JSON lists."""
        if self.categories == "all":
            return COCO_PANOPTIC
        return Taxonomy("snapshots", tuple(c for c in COCO_PANOPTIC.categories if c.name in DRAWN_CLASSES))


def snapshot(settings: SnapshotsSettings, split: str, index: int) -> Snapshot:
    """Draw one image and its truth; kinds and sizes take turns, so that each split has them all."""
    rng = np.random.default_rng((settings.seed, SPLITS.index(split), index))
    return draw_snapshot(rng, KINDS[index % len(KINDS)], SIZES[int(rng.integers(len(SIZES)))])


def image_key(settings: SnapshotsSettings, split: str, index: int) -> int:
    """The image's id in the JSON: sparse numbers that ascend, none of them in both splits."""
    gap = np.random.default_rng((settings.seed, SPLITS.index(split), index, 1)).integers(0, 700)
    return 2 * (139 + 700 * index + int(gap)) + (split == VAL_SPLIT)


def snapshot_paths(root: Path, settings: SnapshotsSettings, split: str, index: int) -> tuple[Path, Path]:
    """The JPEG and the panoptic PNG of one image."""
    name = f"{image_key(settings, split, index):012d}"
    return Path(root) / split / f"{name}.jpg", panoptic_json_path(root, split).with_suffix("") / f"{name}.png"


def write_snapshot(paths: tuple[Path, Path], drawn: Snapshot, taxonomy: Taxonomy) -> None:
    """Write one image and its truth; the PNG also holds its segments, until the JSON is written."""
    picture_path, png_path = paths
    category_ids = {c.name: c.dataset_id for c in taxonomy.categories}
    segments = describe_segments(drawn.segment_ids, lambda k: category_ids[drawn.classes[k][0]], lambda k: drawn.classes[k][1])
    write_panoptic_png(png_path, PanopticMap(drawn.segment_ids, segments), PRODUCER)
    image = Image.fromarray(drawn.image)
    with atomic_path(picture_path) as partial_path:
        (image.convert("L") if drawn.is_grey else image).save(partial_path, quality=JPEG_QUALITY)


def ensure_snapshots(root: Path = DEFAULT_ROOT, settings: SnapshotsSettings = SnapshotsSettings()) -> Path:
    """Draw the data set if it is absent or unfinished, with a progress bar; return its root.

    Killed at any moment, the next call goes on where it stopped.

    Raises:
        InputError: if the folder holds Snapshots of other settings, or other files.
    """
    root = Path(root)
    marker = {"dataset": "snapshots", "generator_version": GENERATOR_VERSION, **asdict(settings)}
    images = [(split, index) for split in SPLITS for index in range(settings.count(split))]
    draw_each = [partial(_draw_one, root, settings, split, index) for split, index in images]
    return DrawnSet(root, "Snapshots", marker).ensure(draw_each, partial(_write_json, root, settings))


def _draw_one(root: Path, settings: SnapshotsSettings, split: str, index: int) -> None:
    paths = snapshot_paths(root, settings, split, index)
    if not paths[0].exists() or read_panoptic_png(paths[1], PRODUCER) is None:
        write_snapshot(paths, snapshot(settings, split, index), settings.taxonomy)


def _write_json(root: Path, settings: SnapshotsSettings) -> None:
    for split in SPLITS:
        entries = []
        for index in range(settings.count(split)):
            picture_path, png_path = snapshot_paths(root, settings, split, index)
            drawn = read_panoptic_png(png_path, PRODUCER)
            key = image_key(settings, split, index)
            entries.append((key, picture_path.name, png_path.name, drawn.segment_ids.shape, drawn.segments))
        write_panoptic_json(panoptic_json_path(root, split), settings.taxonomy, entries)
