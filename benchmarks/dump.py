"""Dump the masks of 30 instances of a 1024x2048 image, against the original fusion's way: np.save of full-size float64 masks."""

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.scenes import predictions
from benchmarks.side_by_side import Contest
from data.instance_dump import InstanceLogits, read_instances, write_instances
from data.taxonomy import CITYSCAPES

NUM_INSTANCES = 30
SHARED_MEMORY = Path("/dev/shm")


def temporary_folder() -> TemporaryDirectory:
    """A folder that goes with the returned object; in memory where a GB of it is free."""
    is_free = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > 2**30
    return TemporaryDirectory(prefix="benchmark-dump-", dir=SHARED_MEMORY if is_free else None)


def instance_dump() -> Contest:
    """Both start from what the network's post-processing gives: ours from crops of logits, theirs from masks of the image's size.

    The files go to memory where there is enough, so that no disk is timed: ours waits for it, theirs does not.
    """
    kept = temporary_folder()
    folder = Path(kept.name)
    instances, _ = predictions(NUM_INSTANCES)
    masks = np.full((NUM_INSTANCES, instances.height, instances.width), 0.0)  # np.zeros would be no memory of its own
    for mask, (x1, y1, x2, y2) in zip(masks, instances.boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = 1
    path = folder / "theirs.npy"

    def ours() -> Path:
        return write_instances(Path(kept.name), instances)

    def theirs() -> Path:
        np.save(path, masks)
        return path

    def same(ours: Path, theirs: Path) -> bool:
        read = read_instances(folder, instances.image_id, CITYSCAPES)
        is_small = 1000 * ours.stat().st_size <= theirs.stat().st_size
        return is_small and have_equal_crops(read, instances)

    return Contest("instance dump, 30 instances", 100, ours, theirs, same)


def have_equal_crops(found: InstanceLogits, expected: InstanceLogits) -> bool:
    """Whether scores, classes, boxes and logits are the same; logits are float16 on both sides."""
    arrays = ("train_ids", "scores", "boxes", "crop_boxes")
    return all(np.array_equal(getattr(found, name), getattr(expected, name)) for name in arrays) and all(
        np.array_equal(a, b) for a, b in zip(found.crops, expected.crops, strict=True)
    )


ROWS: dict[str, Callable[[], Contest]] = {"instance dump, 30 instances": instance_dump}
