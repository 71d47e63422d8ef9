"""People, bicycles and motorcycles of a street: flat figures that face the camera."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from data.drawn.street_scenes.drawing import CIRCLE, Canvas, Color, disc, random_color, rectangle
from data.drawn.street_scenes.vehicles import CHROME, DARK, HEADLIGHT, RED_LIGHT, TYRE

SKINS = ((236, 196, 170), (222, 172, 138), (176, 122, 86), (120, 80, 56), (84, 56, 42))


@dataclass
class Figure:
    """A flat figure in metres: parts back to front, (N, 2) with x to the right and y up from its foot."""

    parts: list[tuple[np.ndarray, Color, bool]] = field(default_factory=list)

    def add(self, points: np.ndarray, color: Color, is_outline: bool = True) -> None:
        """One more polygon (N, 2), in front of those before."""
        self.parts.append((np.asarray(points, float), color, is_outline))

    def limb(self, start: Sequence[float], end: Sequence[float], thickness: tuple[float, float], color: Color) -> None:
        """A tapering bar between two joints."""
        (xa, ya), (xb, yb) = start, end
        length = max(math.sqrt((xb - xa) ** 2 + (yb - ya) ** 2), 1e-6)
        dx, dy = (ya - yb) / length / 2, (xb - xa) / length / 2
        s, e = thickness
        one_side = ((xa + dx * s, ya + dy * s), (xb + dx * e, yb + dy * e))
        other_side = ((xb - dx * e, yb - dy * e), (xa - dx * s, ya - dy * s))
        self.add((*one_side, *other_side), color)


def paint_figure(
    canvas: Canvas, place: tuple[float, float], figure: Figure, label: str, has_shadow: bool = True, closes: bool = True
) -> None:
    """Paint a figure that stands at (x, z); with `closes` False the next one joins its outline, as in a group."""
    if canvas.is_in_sight(*place, 1.2):
        foot, scale = canvas.stand(place)
        points = np.concatenate([points for points, *_ in figure.parts])
        if has_shadow:
            canvas.darken(foot + scale * CIRCLE * (float(np.abs(points[:, 0]).max()) * 1.1, 0.12), 0.45)
        shades = [(len(part), canvas.light.shade(color, place[1]), is_outline) for part, color, is_outline in figure.parts]
        canvas.fill_all(foot + scale * points * (1, -1), shades)
    if closes:
        canvas.label(label, is_instance=not label.endswith("group"))


def _clothes(rng: np.random.Generator) -> tuple[Color, Color, Color, Color]:
    """Skin, hair, top and trousers."""
    skin = SKINS[int(rng.integers(len(SKINS)))]
    hair = random_color(rng, (0.02, 0.12), (0.1, 0.7), (0.08, 0.6))
    top = random_color(rng, (0, 1), (0, 0.9), (0.12, 0.92))
    trousers = random_color(rng, (0.5, 0.72), (0, 0.6), (0.1, 0.55))
    return skin, hair, top, trousers


def make_person(rng: np.random.Generator) -> Figure:
    """Someone who stands or walks, of any size, sometimes in a skirt or with a bag."""
    skin, hair, top, trousers = _clothes(rng)
    size = float(rng.uniform(0.88, 1.08)) if rng.random() > 0.15 else float(rng.uniform(0.55, 0.75))
    stride, swing = float(rng.uniform(0.04, 0.32)), float(rng.uniform(0.05, 0.3))
    broad = float(rng.uniform(0.3, 0.46))
    figure = Figure()
    for side in (-1, 1):
        figure.limb((side * 0.07, 0.88), (side * (0.07 + stride), 0.06), (0.2, 0.12), trousers)
        figure.add(rectangle(side * (0.07 + stride) - 0.08, 0.0, side * (0.07 + stride) + 0.12, 0.09), DARK)
    if rng.random() < 0.2:
        figure.add(((-0.2, 0.95), (0.2, 0.95), (0.3, 0.45), (-0.3, 0.45)), trousers)
    figure.limb((-broad / 2, 1.42), (-broad / 2 - swing / 2, 0.88), (0.12, 0.09), tuple(int(c * 0.8) for c in top))
    figure.add(((-broad / 2, 1.46), (broad / 2, 1.46), (broad / 2 - 0.03, 0.84), (-broad / 2 + 0.03, 0.84)), top)
    figure.limb((broad / 2, 1.42), (broad / 2 + swing / 2, 0.88), (0.12, 0.09), tuple(int(c * 0.85) for c in top))
    figure.limb((0, 1.42), (0, 1.56), (0.12, 0.12), skin)
    figure.add(disc(0, 1.63, 0.13) * (0.9, 1), skin)
    figure.add(CIRCLE[:11] * (0.13, 0.13) + (0, 1.65), hair)
    if rng.random() < 0.3:
        hand = -(broad + swing) / 2
        figure.add(rectangle(hand - 0.16, 0.55, hand + 0.14, 0.88), random_color(rng, (0, 1), (0, 0.8), (0.1, 0.9)))
    mirror = 1 if rng.random() < 0.5 else -1
    figure.parts = [(points * (mirror * size, size), color, outline) for points, color, outline in figure.parts]
    return figure


def _wheel(figure: Figure, x: float, radius: float, rim: float, narrow: float) -> None:
    """A wheel as seen from beside (narrow 1) or nearly from behind (narrow near 0); one sees through a bicycle's."""
    ring = CIRCLE * (max(radius * narrow, rim / 2), radius)
    inner = ring * (max(0.0, 1 - rim / max(radius * narrow, rim)), 1 - rim / radius)
    figure.add(np.vstack((ring, ring[:1], inner[:1], inner[::-1])) + (x * narrow, radius), TYRE)


def make_bicycle(rng: np.random.Generator, narrow: float) -> Figure:
    """Two thin wheels and a frame; `narrow` 1 is the side view, 0 the view from behind."""
    color = random_color(rng, (0, 1), (0.1, 0.95), (0.15, 0.85))
    figure = Figure()
    for x in (-0.52, 0.52):
        _wheel(figure, x, 0.34, 0.075, narrow)
    joints = {"rear": (-0.52, 0.34), "pedal": (-0.05, 0.3), "seat": (-0.2, 0.86), "head": (0.36, 0.84), "front": (0.52, 0.34)}
    for a, b in (("rear", "pedal"), ("rear", "seat"), ("pedal", "seat"), ("pedal", "head"), ("seat", "head"), ("head", "front")):
        (xa, ya), (xb, yb) = joints[a], joints[b]
        figure.limb((xa * narrow, ya), (xb * narrow, yb), (0.06, 0.06), color)
    figure.limb((-0.34 * narrow, 0.92), (-0.06 * narrow - 0.04, 0.92), (0.09, 0.06), DARK)
    wide = 0.28 * (1 - narrow)
    figure.limb((0.36 * narrow - wide, 1.02), (0.36 * narrow + wide + 0.1, 1.02), (0.06, 0.06), DARK)
    figure.limb((0.36 * narrow, 0.84), (0.38 * narrow, 1.02), (0.05, 0.05), CHROME)
    return figure


def make_motorcycle(rng: np.random.Generator, narrow: float) -> Figure:
    """Two fat wheels under a solid body with a tank, a seat and a lamp."""
    color = random_color(rng, (0, 1), (0.2, 0.95), (0.15, 0.85))
    n = max(narrow, 0.3)
    figure = Figure()
    for x in (-0.68, 0.7):
        figure.add(disc(0, 0.32, 0.32) * (max(n, 0.35), 1) + (x * n, 0), TYRE)
        figure.add(disc(0, 0.32, 0.15) * (max(n, 0.35), 1) + (x * n, 0), CHROME, False)
    squeeze = np.array((n, 1.0))
    figure.add(np.array(((-0.5, 0.25), (0.45, 0.25), (0.55, 0.62), (-0.62, 0.66))) * squeeze, (48, 48, 52))
    figure.add(np.array(((-0.15, 0.62), (-0.1, 0.92), (0.42, 0.98), (0.52, 0.66))) * squeeze, color)
    figure.add(np.array(((-0.95, 0.72), (-0.9, 0.88), (-0.1, 0.8), (-0.1, 0.64), (-0.6, 0.6))) * squeeze, DARK)
    figure.limb((-0.85 * n, 0.34), (0.1 * n, 0.3), (0.12, 0.1), CHROME)
    figure.limb((0.7 * n, 0.32), (0.42 * n, 1.0), (0.1, 0.08), CHROME)
    figure.add(np.array(((0.4, 0.75), (0.4, 1.15), (0.62, 1.02), (0.66, 0.78))) * squeeze, color)
    wide = 0.36 * (1 - narrow) + 0.1
    figure.limb((0.4 * n - wide, 1.12), (0.4 * n + wide, 1.12), (0.07, 0.07), DARK)
    figure.add(disc(0.6 * n if narrow > 0.5 else 0.0, 0.9, 0.1), RED_LIGHT if rng.random() < 0.5 else HEADLIGHT, False)
    return figure


def make_rider(rng: np.random.Generator, narrow: float, on_motorcycle: bool) -> Figure:
    """Someone in the saddle, feet on the pedals, hands on the bar, mostly with a helmet."""
    skin, hair, top, trousers = _clothes(rng)
    helmet = hair if not on_motorcycle and rng.random() < 0.4 else random_color(rng, (0, 1), (0, 0.9), (0.15, 0.95))
    seat_x, seat_y = (-0.3, 0.85) if on_motorcycle else (-0.2, 0.94)
    bar_x, bar_y = (0.4, 1.1) if on_motorcycle else (0.36, 1.04)
    lean = 0.22
    n, wide = narrow, 0.17 * (1 - narrow)
    figure = Figure()
    shoulder, hip = ((seat_x + lean) * n, seat_y + 0.55), (seat_x * n, seat_y)
    for side, foot_y in ((-1, 0.2), (1, 0.42)):
        knee = ((seat_x + 0.42) * n + side * (wide + 0.05 * (1 - n)), seat_y - 0.28 + 0.12 * side)
        foot = (-0.02 * n + side * wide, foot_y + (0.1 if on_motorcycle else 0))
        figure.limb((hip[0] + side * wide * 0.7, hip[1]), knee, (0.19, 0.14), trousers)
        figure.limb(knee, foot, (0.14, 0.1), trousers)
        figure.limb(foot, (foot[0] + 0.16 * max(n, 0.3), foot[1] - 0.04), (0.1, 0.08), DARK)
    breadth = (0.26 + 0.18 * (1 - n), 0.34 + 0.12 * (1 - n))
    figure.limb(hip, shoulder, breadth, top)
    for side in (-1, 1):
        elbow = ((shoulder[0] + bar_x * n) / 2 + side * (wide + 0.08 * (1 - n)), (shoulder[1] + bar_y) / 2 - 0.06)
        figure.limb((shoulder[0] + side * wide, shoulder[1] - 0.05), elbow, (0.13, 0.1), tuple(int(c * 0.82) for c in top))
        figure.limb(elbow, (bar_x * n + side * wide * 1.4, bar_y), (0.1, 0.08), skin)
    head = (shoulder[0] + 0.08 * n, shoulder[1] + 0.22)
    figure.limb(shoulder, head, (0.12, 0.12), skin)
    figure.add(disc(*head, 0.15 if on_motorcycle else 0.13), helmet if on_motorcycle else skin)
    if not on_motorcycle:
        figure.add(CIRCLE[:11] * (0.145, 0.145) + (head[0], head[1] + 0.01), helmet)
    return figure


def mirrored(figure: Figure) -> Figure:
    """The same figure, facing the other way."""
    return Figure([(points * (-1, 1), color, outline) for points, color, outline in figure.parts])
