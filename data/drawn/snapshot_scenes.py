"""Everyday scenes for Snapshots: a meadow, a beach, a street corner, a room, a table."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from data.drawn.snapshot_place import CROWD, VOID, Place, Rng, SnapshotCanvas
from data.drawn.snapshot_surfaces import (
    paint_floor,
    paint_grass,
    paint_pavement,
    paint_rug,
    paint_sand,
    paint_sea,
    paint_table,
    paint_wall,
)
from data.drawn.street_scenes.drawing import Camera, Light, paint_sky, random_color, smooth_noise
from data.drawn.street_scenes.scene import develop, make_weather
from data.drawn.street_scenes.surroundings import add_grain, paint_tree

OVERSAMPLING = 2
MIN_VISIBLE = 24
"""Pixels of a thing in sight, below which nobody would have annotated it: they become void."""
ROUGHNESS = {
    "sky-other-merged": (2, 0), "grass-merged": (60, 60), "tree-merged": (70, 90), "sand": (44, 20), "sea": (16, 30),
    "pavement-merged": (24, 20), "wall-other-merged": (8, 8), "wall-brick": (26, 26), "floor-wood": (10, 14),
    "rug-merged": (44, 16), "table-merged": (8, 22), "window-other": (2, 4), "dirt-merged": (50, 70),
}  # fmt: skip
"""Strength of the (fine, blobby) grain of each stuff; things have (10, 8)."""


@dataclass(frozen=True)
class Snapshot:
    """image: (H, W, 3) uint8; segment_ids: (H, W) uint32, 0 is void; classes: segment id -> (COCO name, whether a crowd)."""

    image: np.ndarray
    segment_ids: np.ndarray
    classes: dict[int, tuple[str, bool]]
    is_grey: bool


def add_trees(place: Place, near: float, far: float, count: int) -> None:
    """`count` trees between two depths."""
    rng = place.rng
    for _ in range(count):
        x, z = place.draw_place(near, far)
        crown = float(rng.uniform(1.6, 2.6))
        blobs = np.column_stack(
            (rng.uniform(-1.3, 1.3, 18), rng.uniform(1.2, 2 * crown, 18), rng.uniform(0.5, 1.0, 18), rng.uniform(0.6, 1.25, 18))
        )
        blobs = blobs[np.argsort(blobs[:, 3])]
        color, trunk = random_color(rng, (0.16, 0.38), (0.3, 0.7), (0.25, 0.6)), float(rng.uniform(0.2, 0.4))
        place.items.append((z, partial(paint_tree, place.canvas, (x, z), blobs, color, trunk)))


def add_some(place: Place, kinds: dict[str, float], near: float, far: float, count: int) -> None:
    """Things of the kinds, by their weights."""
    names, weights = list(kinds), np.array(list(kinds.values()))
    for k in place.rng.choice(len(names), count, p=weights / weights.sum()).tolist():
        place.add(names[k], near, far)


def draw_meadow(place: Place) -> None:
    """Grass to the horizon, trees behind."""
    rng = place.rng
    far = place.horizon / len(place.canvas.coverage)
    near = place.depth_at(0.97)
    paint_grass(place, far)
    add_trees(place, 14, 45, int(rng.integers(0, 9)))
    if rng.random() < 0.25:
        place.add_crowd("person", 2.5 * near, 14)
    for _ in range(int(rng.integers(0, 2))):
        paint_rug(place, near * 1.1, near * 2)
    kinds = {"person": 3.0, "dog": 2.5, "cat": 1.0, "sports ball": 1.5, "chair": 1.0, "umbrella": 0.8, VOID: 0.7}
    add_some(place, kinds, near, 11, int(rng.integers(3, 8)))
    add_some(place, {"bottle": 1, "book": 1, "cup": 1, "sports ball": 1}, near, near * 1.6, int(rng.integers(0, 3)))


def draw_beach(place: Place) -> None:
    """Sand, the sea behind it."""
    rng = place.rng
    far = place.horizon / len(place.canvas.coverage)
    shore = far + float(rng.uniform(0.08, 0.22))
    paint_sea(place, shore)
    for _ in range(int(rng.integers(0, 4))):
        place.add("boat", 22, 90)
    place.paint_items()
    paint_sand(place, shore)
    near = place.depth_at(0.97)
    beyond = max(near * 1.3, place.depth_at(shore + 0.05))
    if rng.random() < 0.3:
        place.add_crowd(*(("person", near * 1.6, beyond) if rng.random() < 0.6 else ("umbrella", near * 1.6, beyond)))
    if rng.random() < 0.5:
        paint_rug(place, near * 1.1, near * 1.8)
    kinds = {"person": 3.0, "umbrella": 2.0, "dog": 1.0, "sports ball": 1.5, "chair": 1.5, VOID: 0.8}
    add_some(place, kinds, near, beyond, int(rng.integers(3, 8)))
    add_some(place, {"bottle": 2, "book": 1, "sports ball": 1}, near, near * 1.5, int(rng.integers(0, 3)))


def draw_corner(place: Place) -> None:
    """A paved place with parked cars before a brick wall or trees."""
    rng = place.rng
    far = place.horizon / len(place.canvas.coverage)
    if rng.random() < 0.5:
        paint_wall(place, far + 0.06)
        paint_pavement(place, far + 0.06)
    else:
        paint_grass(place, far)
        add_trees(place, 16, 40, int(rng.integers(3, 9)))
        place.paint_items()
        paint_pavement(place, far + float(rng.uniform(0.03, 0.1)))
    near = place.depth_at(0.97)
    for _ in range(int(rng.integers(1, 5))):
        place.add("car", max(6.5, near * 1.7), 19)
    add_some(
        place, {"person": 3, "dog": 1, "cat": 1, "potted plant": 1, "chair": 1, VOID: 0.5}, near, 12, int(rng.integers(2, 6))
    )


def draw_room(place: Place) -> None:
    """A floor and a wall, furniture between."""
    rng = place.rng
    far = place.horizon / len(place.canvas.coverage) + float(rng.uniform(0.12, 0.24))
    paint_wall(place, far)
    paint_floor(place, far)
    near, wall = place.depth_at(0.97), place.depth_at(far) * 0.96
    if rng.random() < 0.6:
        paint_rug(place, near * 1.2, wall * 0.8)
    kinds = {"chair": 3.0, "potted plant": 2.0, "cat": 1.5, "dog": 1.0, "person": 1.5, "sports ball": 0.8, VOID: 0.5}
    add_some(place, kinds, near, wall, int(rng.integers(3, 8)))
    add_some(place, {"book": 2, "cup": 1, "bottle": 1}, near, near * 1.5, int(rng.integers(0, 4)))


def draw_table(place: Place) -> None:
    """A table top from near by, things on it."""
    rng = place.rng
    edge = place.horizon / len(place.canvas.coverage) + float(rng.uniform(0.14, 0.24))
    paint_wall(place, 1.0)
    near, far = place.depth_at(0.96), place.depth_at(edge) * 0.97
    for _ in range(int(rng.integers(0, 3))):
        place.add(str(rng.choice(("person", "chair"))), far * 1.3, far * 2.2, lift=-0.75)
    place.paint_items()
    paint_table(place, edge)
    if rng.random() < 0.25:
        place.add_crowd(str(rng.choice(("book", "cup", "bottle"))), near * 1.2, far)
    kinds = {"bottle": 3.0, "cup": 3.0, "book": 2.0, "potted plant": 0.7, "sports ball": 0.5, "cat": 0.4, VOID: 0.3}
    add_some(place, kinds, near, far, int(rng.integers(3, 9)))


@dataclass(frozen=True)
class Kind:
    """How a scene is seen: ranges of the horizon (part of the height), of the mount in metres, of the focal length in sides."""

    draw: Callable[[Place], None]
    horizon: tuple[float, float]
    mount: tuple[float, float]
    focal: tuple[float, float]
    is_outdoors: bool


KINDS = (
    Kind(draw_meadow, (0.25, 0.5), (1.1, 1.8), (0.95, 1.5), True),
    Kind(draw_beach, (0.2, 0.42), (1.2, 2.0), (0.95, 1.5), True),
    Kind(draw_corner, (0.3, 0.48), (1.2, 1.7), (0.9, 1.3), True),
    Kind(draw_room, (0.2, 0.4), (1.1, 1.6), (0.9, 1.3), False),
    Kind(draw_table, (0.02, 0.3), (0.4, 0.6), (1.1, 1.6), False),
)


def draw_snapshot(rng: Rng, kind: Kind, size: tuple[int, int]) -> Snapshot:
    """Draw one scene of (height, width) pixels with its truth."""
    high, wide = (side * OVERSAMPLING for side in size)
    light, zenith, cloudiness = make_weather(rng)
    if not kind.is_outdoors:
        light = Light((200, 196, 188), 60.0, light.sun, max(light.ambient, 0.6))
    focal = float(rng.uniform(*kind.focal)) * math.sqrt(high * wide)
    center = wide * (0.5 + float(rng.uniform(-0.05, 0.05)))
    camera = Camera(focal, high * float(rng.uniform(*kind.horizon)), center, float(rng.uniform(*kind.mount)))
    canvas = SnapshotCanvas(*size, OVERSAMPLING, camera, light)
    if kind.is_outdoors:
        paint_sky(canvas, rng, zenith, cloudiness)
    place = Place(rng, canvas)
    kind.draw(place)
    place.paint_items()
    pixels = add_grain(_light_up(canvas.pixels, rng), _roughness(canvas), rng)
    pixels = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
    image = develop(pixels, rng)
    is_grey = bool(rng.random() < 0.07)
    segment_ids, classes = _number_segments(canvas, rng)
    return Snapshot(image, segment_ids, classes, is_grey)


def _light_up(pixels: np.ndarray, rng: Rng) -> np.ndarray:
    """Brighter here than there, as under a lamp or a cloud."""
    height, width = pixels.shape[:2]
    gain = 212 + (smooth_noise(rng, height, width, width // 2).astype(np.uint16) * 44 >> 8)
    return (pixels * gain[..., None] >> 8).astype(np.uint8)


def _roughness(canvas: SnapshotCanvas) -> np.ndarray:
    table = np.array([ROUGHNESS.get(name, (10, 8)) for name in canvas.names], np.uint8)
    numbers = np.repeat(np.repeat(canvas.numbers, OVERSAMPLING, 0), OVERSAMPLING, 1)
    return np.ascontiguousarray(table[numbers].transpose(2, 0, 1))


def _number_segments(canvas: SnapshotCanvas, rng: Rng) -> tuple[np.ndarray, dict[int, tuple[str, bool]]]:
    """Ids anywhere in 24 bits, as COCO has them."""
    areas = np.bincount(canvas.numbers.ravel(), minlength=len(canvas.names)).tolist()
    kept = [k for k, name in enumerate(canvas.names) if name != VOID and areas[k] >= MIN_VISIBLE]
    ids = np.zeros(len(canvas.names), np.uint32)
    ids[kept] = 1 + rng.choice(2**24 - 1, len(kept), replace=False)
    classes = {int(ids[k]): (canvas.names[k].removesuffix(CROWD), canvas.names[k].endswith(CROWD)) for k in kept}
    return ids[canvas.numbers], classes
