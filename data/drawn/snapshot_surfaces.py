"""What the scenes of Snapshots lie on and stand before: grass, sand, sea, paving, planks, rugs, walls, windows, tables."""

import cv2
import numpy as np

from data.drawn.snapshot_place import Place, Rng
from data.drawn.street_scenes.drawing import random_color, rectangle


def streaks(rng: Rng, size: tuple[int, int], cell: tuple[int, int], strength: float) -> np.ndarray:
    """(h, w) float32 around 1: noise of blobs `cell` = (height, width) pixels large."""
    coarse = rng.uniform(1 - strength, 1 + strength, (size[0] // cell[0] + 2, size[1] // cell[1] + 2)).astype(np.float32)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)


def in_tiles(rng: Rng, tile: np.ndarray, strength: float) -> np.ndarray:
    """A brightness around 1 for each tile, by its number, an array of whole numbers of any sign."""
    table = rng.uniform(1 - strength, 1 + strength, 512).astype(np.float32)
    return table[tile.astype(np.int64) % 512]


def paint_grass(place: Place, top: float) -> None:
    """Grass below a row, given as a share of the height."""
    x, _, rows = place.ground(top)
    gain = streaks(place.rng, x.shape, (5, 2), 0.3) * streaks(place.rng, x.shape, (26, 60), 0.18)
    place.paint_ground("grass-merged", random_color(place.rng, (0.17, 0.34), (0.35, 0.7), (0.35, 0.7)), gain, rows)


def paint_sand(place: Place, top: float) -> None:
    """Sand with ripples below a row, given as a share of the height."""
    x, z, rows = place.ground(top)
    ripples = np.where(np.floor(z * 9 + 2 * np.abs(x - np.floor(x) - 0.5)) % 2 > 0, 1.0, 0.95).astype(np.float32)
    gain = ripples * streaks(place.rng, x.shape, (16, 50), 0.14)
    place.paint_ground("sand", random_color(place.rng, (0.07, 0.13), (0.2, 0.5), (0.6, 0.92)), gain, rows)


def paint_sea(place: Place, bottom: float) -> None:
    """From the horizon to a row, and a margin that the beach covers."""
    canvas = place.canvas
    top = place.horizon
    size = int(bottom * len(canvas.coverage)) + 12 - top, canvas.coverage.shape[1]
    gain = streaks(place.rng, size, (2, 34), 0.22) * streaks(place.rng, size, (5, 14), 0.1)
    gain[place.rng.random(size[0]) < 0.08] *= 1.25
    color = random_color(place.rng, (0.45, 0.65), (0.2, 0.75), (0.35, 0.75))
    place.paint_ground("sea", color, gain, slice(top, top + size[0]))


def paint_pavement(place: Place, top: float) -> None:
    """Slabs with joints below a row, given as a share of the height."""
    x, z, rows = place.ground(top)
    side = float(place.rng.uniform(0.5, 0.9))
    column, row = np.floor(x / side), np.floor(z / side)
    joint = (x / side - column < 0.06) | (z / side - row < 0.06)
    gain = in_tiles(place.rng, column * 7 + row * 31, 0.1) * np.where(joint, np.float32(0.72), np.float32(1))
    place.paint_ground("pavement-merged", random_color(place.rng, (0, 1), (0, 0.15), (0.35, 0.75)), gain, rows)


def paint_floor(place: Place, top: float) -> None:
    """Planks that run ahead, with joints."""
    x, z, rows = place.ground(top)
    wide = float(place.rng.uniform(0.1, 0.18))
    plank = np.floor(x / wide)
    along = (z + plank * 0.61) / 1.7
    joint = (x / wide - plank < 0.08) | (along - np.floor(along) < 0.02)
    gain = in_tiles(place.rng, plank * 13 + np.floor(along) * 5, 0.16) * np.where(joint, np.float32(0.6), np.float32(1))
    color = random_color(place.rng, (0.04, 0.12), (0.15, 0.65), (0.35, 0.8))
    place.paint_ground("floor-wood", color, gain * streaks(place.rng, x.shape, (40, 3), 0.08), rows)


def paint_rug(place: Place, near: float, far: float) -> None:
    """Lies on the ground, round or with four corners, striped or chequered."""
    rng, canvas = place.rng, place.canvas
    x, z, rows = place.ground(0.0)
    middle_x, middle_z = place.draw_place(near, far)
    half_x, half_z = float(rng.uniform(0.7, 1.3)), float(rng.uniform(0.5, 0.9))
    u, v = (x - np.float32(middle_x)) / np.float32(half_x), (z - np.float32(middle_z)) / np.float32(half_z)
    where = u * u + v * v < 1 if rng.random() < 0.3 else (np.abs(u + 0.2 * v) < 1) & (np.abs(v) < 1)
    number = np.floor(v * 5) if rng.random() < 0.5 else np.floor(u * 4) + np.floor(v * 4)
    colors = [random_color(rng, (0, 1), (0.2, 0.85), (0.3, 0.9)) for _ in range(2)]
    shaded = np.where((number % 2 > 0)[..., None], *(np.array(c, np.uint8) for c in colors))
    canvas.paste(rows.start, 0, shaded, where)
    canvas.label("rug-merged")


def paint_wall(place: Place, bottom: float) -> None:
    """Of bricks, papered or plain, down to a row; often with a window."""
    rng, canvas = place.rng, place.canvas
    size = int(bottom * len(canvas.coverage)), canvas.coverage.shape[1]
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    gain = streaks(rng, size, (60, 90), 0.07)
    if rng.random() < 0.35:
        high = float(rng.uniform(9, 15))
        row = np.floor(y / high)
        column = np.floor(x / (2.4 * high) + 0.5 * (row % 2))
        joint = (y / high - row < 0.16) | (x / (2.4 * high) + 0.5 * (row % 2) - column < 0.07)
        gain *= in_tiles(rng, row * 17 + column * 3, 0.2) * np.where(joint, np.float32(1.45), np.float32(1))
        label, color = "wall-brick", random_color(rng, (-0.02, 0.09), (0.1, 0.6), (0.3, 0.65))
    else:
        if rng.random() < 0.4:
            gain *= np.where(np.floor(x / float(rng.uniform(12, 30))) % 2 > 0, np.float32(0.92), np.float32(1))
        label, color = "wall-other-merged", random_color(rng, (0, 1), (0.0, 0.4), (0.45, 0.92))
    place.paint_ground(label, color, gain, slice(0, size[0]))
    if rng.random() < 0.5:
        paint_window(place, size)


def paint_window(place: Place, wall: tuple[int, int]) -> None:
    """Glass in a frame with bars, in a wall of (height, width) canvas pixels."""
    rng, canvas = place.rng, place.canvas
    height, width = float(rng.uniform(0.4, 0.75)) * wall[0], float(rng.uniform(0.25, 0.45)) * wall[1]
    left, top = float(rng.uniform(0.05, 0.95)) * (wall[1] - width), float(rng.uniform(0.02, 0.2)) * wall[0]
    bar = 0.04 * width
    frame = random_color(rng, (0.05, 0.12), (0, 0.5), (0.4, 0.95))
    canvas.fill(rectangle(left - bar, top - bar, left + width + bar, top + height + bar), frame)
    sky = random_color(rng, (0.52, 0.62), (0.05, 0.5), (0.6, 0.95))
    canvas.fill(rectangle(left, top, left + width, top + height), sky)
    canvas.fill(np.array(((0.1, 1), (0.35, 0.1), (0.5, 0.1), (0.25, 1))) * (width, height) + (left, top), (235, 240, 245))
    canvas.fill(rectangle(left + width / 2 - bar / 2, top, left + width / 2 + bar / 2, top + height), frame)
    canvas.fill(rectangle(left, top + height / 2 - bar / 2, left + width, top + height / 2 + bar / 2), frame)
    canvas.label("window-other")


def paint_table(place: Place, top: float) -> None:
    """The plane of a table, from its far edge on, with the grain of wood or a cloth's checks."""
    rng = place.rng
    x, z, rows = place.ground(top)
    gain = streaks(rng, x.shape, (3, 70), 0.12) * streaks(rng, x.shape, (30, 200), 0.1)
    if rng.random() < 0.3:
        gain = np.where((np.floor(x / 0.06) + np.floor(z / 0.06)) % 2 > 0, np.float32(0.75), np.float32(1.05))
    gain[:5] = 0.6  # the edge
    hues = (0, 1) if rng.random() < 0.3 else (0.04, 0.12)
    place.paint_ground("table-merged", random_color(rng, hues, (0.1, 0.65), (0.3, 0.85)), gain, rows)
