"""What the seeds of several targets are made of."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np


def draw_ids(seed: int, size: tuple[int, int], largest: int) -> np.ndarray:
    """(H, W) uint32: rectangles over each other; of an odd seed some noise, too."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(size, np.uint32)
    for _ in range(5):
        y, x = rng.integers(size[0]), rng.integers(size[1])
        ids[y : y + rng.integers(1, size[0] + 1), x : x + rng.integers(1, size[1] + 1)] = rng.integers(largest + 1)
    is_noise = rng.random(size) < (0.3 if seed % 2 else 0)
    return np.where(is_noise, rng.integers(0, largest + 1, size), ids).astype(np.uint32)


def to_rgb(ids: np.ndarray) -> np.ndarray:
    """(H, W) ids -> (H, W, 3) uint8."""
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], -1).astype(np.uint8)


def written(write: Callable[[Path], object]) -> bytes:
    """The bytes of the one file that a writer leaves in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        (path,) = (found for found in Path(folder).rglob("*") if found.is_file())
        return path.read_bytes()


def are_equal(found: object, expected: object, names: tuple[str, ...]) -> bool:
    """Whether two objects have equal arrays or values under these names."""
    return all(np.array_equal(getattr(found, name), getattr(expected, name)) for name in names)
