"""The things of Snapshots as flat figures that face the camera: furniture, pets, dishes, what lies on a beach."""

import math
from collections.abc import Callable

import numpy as np

from data.drawn.street_scenes.drawing import CIRCLE, Color, disc, random_color, rectangle
from data.drawn.street_scenes.figures import Figure, make_person, mirrored
from data.drawn.street_scenes.surroundings import JAGGED

Rng = np.random.Generator


def tone(color: Color, factor: float) -> Color:
    """The colour in more or less light."""
    return tuple(min(255, int(c * factor)) for c in color)


def any_color(rng: Rng) -> Color:
    """Of paint, cloth or plastic."""
    return random_color(rng, (0, 1), (0.05, 0.85), (0.2, 0.92))


def fur(rng: Rng) -> Color:
    """From black over red and brown to white."""
    return random_color(rng, (0.04, 0.12), (0.0, 0.65), (0.15, 0.9))


def make_cat(rng: Rng) -> Figure:
    """Sits, seen from the front or a side: a drop-shaped body, a round head, two pointed ears, a long tail."""
    figure, color = Figure(), fur(rng)
    dark, light = tone(color, 0.75), tone(color, 1.2)
    x, y = 0.1, 0.05
    for k in range(6):  # the tail curls up behind
        end = (x + 0.055 * math.cos(0.5 * k), y + 0.055 * math.sin(0.5 * k))
        figure.limb((x, y), end, (0.045, 0.04), dark)
        x, y = end
    figure.add(CIRCLE * (0.13, 0.16) + (0, 0.15), color)
    figure.limb((0, 0.2), (-0.03, 0.33), (0.17, 0.12), color)
    for side in (-1, 1):
        figure.limb((side * 0.05, 0.18), (side * 0.045, 0.01), (0.06, 0.05), light)
    head = (-0.03, 0.37)
    for side in (-1, 1):
        ear = np.array(((side * 0.02, 0.06), (side * 0.085, 0.045), (side * 0.075, 0.135)))
        figure.add(ear + head, color)
        figure.add(ear * 0.6 + head + (side * 0.02, 0.03), (190, 130, 120), False)
    figure.add(CIRCLE * (0.095, 0.08) + head, color)
    for stripe in range(int(rng.integers(4))):
        figure.add(rectangle(-0.09, 0.1 + 0.06 * stripe, 0.09, 0.12 + 0.06 * stripe), dark, False)
    for side in (-1, 1):
        figure.add(CIRCLE * 0.014 + (head[0] + side * 0.035, head[1] + 0.015), (40, 60, 30), False)
    figure.add(CIRCLE * 0.012 + (head[0], head[1] - 0.02), (60, 40, 40), False)
    return figure


def make_dog(rng: Rng) -> Figure:
    """Stands, seen from its side: four legs, a long body, a muzzle, a hanging ear, a raised tail."""
    figure, color = Figure(), fur(rng)
    dark, spot = tone(color, 0.72), fur(rng)
    leg = float(rng.uniform(0.2, 0.34))
    for x in (-0.24, 0.2):
        figure.limb((x + 0.06, leg + 0.05), (x + 0.08, 0.0), (0.1, 0.06), dark)
    figure.limb((-0.3, leg + 0.16), (-0.5, leg + 0.34), (0.06, 0.03), color)
    figure.add(CIRCLE * (0.34, 0.13) + (0, leg + 0.1), color)
    figure.add(CIRCLE * (0.14, 0.09) + (-0.08, leg + 0.13), spot, False)
    for x in (-0.26, 0.22):
        figure.limb((x, leg + 0.08), (x - 0.01, 0.0), (0.12, 0.07), color)
    head = (0.38, leg + 0.32)
    figure.limb((0.24, leg + 0.14), head, (0.18, 0.14), color)
    figure.add(CIRCLE * (0.12, 0.1) + head, color)
    figure.limb((head[0] + 0.06, head[1] - 0.02), (head[0] + 0.21, head[1] - 0.05), (0.12, 0.08), color)
    figure.add(CIRCLE * 0.025 + (head[0] + 0.22, head[1] - 0.035), (25, 22, 22))
    figure.limb((head[0] - 0.05, head[1] + 0.07), (head[0] - 0.08, head[1] - 0.11), (0.07, 0.1), dark)
    figure.add(CIRCLE * 0.015 + (head[0] + 0.05, head[1] + 0.03), (20, 20, 20), False)
    return figure


def make_bottle(rng: Rng) -> Figure:
    """A body with shoulders, a neck, a cap, mostly a paper label; sometimes it lies."""
    figure = Figure()
    glass = random_color(rng, (0, 1), (0.1, 0.7), (0.25, 0.85))
    half, body, neck = float(rng.uniform(0.032, 0.045)), float(rng.uniform(0.14, 0.2)), float(rng.uniform(0.012, 0.018))
    top = body + 0.13
    outline = ((-half, 0), (half, 0), (half, body), (neck, body + 0.055), (neck, top), (-neck, top), (-neck, body + 0.055))
    figure.add((*outline, (-half, body)), glass)
    figure.add(((-half, 0), (-half * 0.45, 0), (-half * 0.45, body), (-half, body)), tone(glass, 0.7), False)
    figure.add(((half * 0.3, 0.01), (half * 0.55, 0.01), (half * 0.55, body), (half * 0.3, body)), tone(glass, 1.45), False)
    figure.add(rectangle(-neck * 1.3, top - 0.02, neck * 1.3, top + 0.01), any_color(rng))
    if rng.random() < 0.7:
        paper = random_color(rng, (0, 1), (0, 0.6), (0.6, 0.95))
        figure.add(rectangle(-half, body * 0.25, half, body * 0.75), paper, False)
        figure.add(rectangle(-half * 0.7, body * 0.45, half * 0.7, body * 0.58), tone(paper, 0.5), False)
    if rng.random() < 0.12:
        figure.parts = [(p[:, ::-1] * (1, 1) + (-0.15, half), color, outline) for p, color, outline in figure.parts]
    return figure


def make_cup(rng: Rng) -> Figure:
    """A mug with a handle or a beaker, its dark inside seen from above."""
    figure, color = Figure(), any_color(rng)
    low, high, tall = (float(rng.uniform(*limits)) for limits in ((0.028, 0.042), (0.04, 0.05), (0.075, 0.12)))
    if rng.random() < 0.75:
        ring = CIRCLE * (0.03, 0.036) + (high, tall * 0.52)
        inner = CIRCLE * (0.017, 0.022) + (high, tall * 0.52)
        figure.add(np.vstack((ring, ring[:1], inner[:1], inner[::-1])), tone(color, 0.85))
    figure.add(((-low, 0), (low, 0), (high, tall), (-high, tall)), color)
    figure.add(((-low, 0), (-low * 0.4, 0), (-high * 0.4, tall), (-high, tall)), tone(color, 0.75), False)
    if rng.random() < 0.5:
        figure.add(rectangle(-high * 0.93, tall * 0.5, high * 0.93, tall * 0.68), any_color(rng), False)
    figure.add(CIRCLE * (high, 0.016) + (0, tall), tone(color, 1.15))
    figure.add(CIRCLE * (high * 0.85, 0.012) + (0, tall), (60, 38, 26) if rng.random() < 0.6 else tone(color, 0.5), False)
    return figure


def make_chair(rng: Rng) -> Figure:
    """Four legs, a seat, a back of slats or of one piece; one sees through between them."""
    figure, color = Figure(), random_color(rng, (0, 1) if rng.random() < 0.5 else (0.05, 0.1), (0.1, 0.7), (0.2, 0.85))
    dark = tone(color, 0.7)
    half, skew = float(rng.uniform(0.2, 0.26)), float(rng.uniform(-0.1, 0.1))
    for side in (-1, 1):
        figure.limb((side * half * 0.85 + skew, 0.46), (side * half * 0.85 + skew, 0.07), (0.045, 0.035), dark)
        figure.limb((side * half * 0.95 + skew, 0.46), (side * half * 0.95 + 1.3 * skew, 0.95), (0.05, 0.04), dark)
    if rng.random() < 0.5:
        for k in range(3):
            figure.add(rectangle(-half + skew * 1.2, 0.58 + 0.13 * k, half + skew * 1.2, 0.65 + 0.13 * k), color)
    else:
        figure.add(rectangle(-half * 0.9 + skew * 1.2, 0.6, half * 0.9 + skew * 1.2, 0.97), color)
    figure.add(((-half, 0.42), (half, 0.42), (half * 0.92 + skew, 0.52), (-half * 0.92 + skew, 0.52)), tone(color, 1.1))
    figure.add(rectangle(-half, 0.38, half, 0.43), dark)
    for side in (-1, 1):
        figure.limb((side * half * 0.92, 0.42), (side * half * 0.92, 0.0), (0.05, 0.04), color)
    return figure


def make_plant(rng: Rng) -> Figure:
    """A pot, narrow at its foot, with long leaves or a bush."""
    figure, pot = Figure(), random_color(rng, (0, 1) if rng.random() < 0.4 else (0.03, 0.07), (0.2, 0.7), (0.35, 0.85))
    leaf = random_color(rng, (0.22, 0.4), (0.3, 0.8), (0.25, 0.65))
    if rng.random() < 0.5:
        for angle in rng.permutation(np.linspace(0.25, math.pi - 0.25, 9)).tolist():
            length = float(rng.uniform(0.25, 0.42))
            tip = (length * math.cos(angle), 0.2 + length * math.sin(angle))
            figure.limb((0, 0.16), tip, (0.035, 0.075), tone(leaf, float(rng.uniform(0.7, 1.25))))
            figure.add(disc(*tip, 0.045), tone(leaf, float(rng.uniform(0.8, 1.2))))
    else:
        for _ in range(12):
            x, y, radius = (float(rng.uniform(*limits)) for limits in ((-0.14, 0.14), (0.24, 0.5), (0.06, 0.1)))
            figure.add(JAGGED * radius + (x, y), tone(leaf, float(rng.uniform(0.65, 1.3))))
    figure.add(((-0.085, 0), (0.085, 0), (0.12, 0.17), (-0.12, 0.17)), pot)
    figure.add(((-0.085, 0), (-0.03, 0), (-0.04, 0.17), (-0.12, 0.17)), tone(pot, 0.75), False)
    figure.add(rectangle(-0.135, 0.16, 0.135, 0.21), tone(pot, 1.12))
    return figure


def make_ball(rng: Rng) -> Figure:
    """Of panels, of one stripe, or plain; its lower side lies in shade."""
    figure, color = Figure(), any_color(rng)
    radius, other = float(rng.uniform(0.1, 0.15)), any_color(rng)
    figure.add(disc(0, radius, radius), color)
    kind = int(rng.integers(3))
    if kind == 0:
        for angle in range(5):
            center = 0.62 * radius * CIRCLE[4 * angle + 1]
            figure.add(CIRCLE[::4] * radius * 0.26 + center + (0, radius), other, False)
        figure.add(CIRCLE[::4] * radius * 0.24 + (0, radius), other, False)
    elif kind == 1:
        figure.add(CIRCLE * (radius * 0.3, radius) + (0, radius), other, False)
        figure.add(rectangle(-radius * 0.97, radius * 0.9, radius * 0.97, radius * 1.1), other, False)
    figure.add(np.vstack((CIRCLE[10:] * radius, CIRCLE[:1] * radius, CIRCLE[10:][::-1] * (radius, radius * 0.6))) + (0, radius),
               tone(color, 0.6), False)  # fmt: skip
    figure.add(disc(-0.35 * radius, 1.45 * radius, 0.16 * radius), tone(color, 1.5), False)
    return figure


def make_book(rng: Rng) -> Figure:
    """Lies with its pages to us, stands, or is open."""
    figure, color = Figure(), any_color(rng)
    wide, thick = float(rng.uniform(0.16, 0.24)), float(rng.uniform(0.025, 0.05))
    paper, kind = (232, 226, 208), int(rng.integers(3))
    if kind == 0:
        skew, back = float(rng.uniform(-0.08, 0.08)), float(rng.uniform(0.05, 0.09))
        figure.add(rectangle(-wide / 2, 0, wide / 2, thick), paper)
        for line in range(3):
            at = thick * (0.25 + 0.25 * line)
            figure.add(rectangle(-wide / 2, at, wide / 2, at + 0.002), tone(paper, 0.7), False)
        figure.add(rectangle(-wide / 2, 0, wide / 2, thick * 0.16), tone(color, 0.7))
        top = ((-wide / 2, thick), (wide / 2, thick), (wide / 2 + skew, thick + back), (-wide / 2 + skew, thick + back))
        figure.add(top, color)
        title = np.array(top) * (0.5, 1) + (skew * 0.25, 0)
        figure.add(title * (1, 0.3) + (0, (thick + back / 2) * 0.7), tone(color, 1.5), False)
    elif kind == 1:
        high = wide * 1.35
        figure.add(rectangle(-wide / 2, 0, wide / 2, high), color)
        figure.add(rectangle(-wide / 2, 0, -wide / 2 + 0.02, high), tone(color, 0.6), False)
        figure.add(rectangle(wide / 2, 0.004, wide / 2 + thick * 0.6, high - 0.004), paper)
        figure.add(rectangle(-wide * 0.3, high * 0.62, wide * 0.35, high * 0.78), tone(color, 1.6), False)
        figure.add(rectangle(-wide * 0.2, high * 0.2, wide * 0.25, high * 0.45), any_color(rng), False)
    else:
        for side in (-1, 1):
            page = np.array(((0, 0.0), (side * wide, 0.015), (side * wide * 0.9, 0.1), (0, 0.085)))
            figure.add(page * (1.04, 1.04), color)
            figure.add(page, tone(paper, 1.0 if side < 0 else 0.88))
            for line in range(4):
                at = 0.02 + 0.018 * line
                text = np.array(((0.15, at), (0.8, at), (0.8, at + 0.005), (0.15, at + 0.005)))
                figure.add(text * (side * wide, 1), (120, 116, 110), False)
    return figure


def make_umbrella(rng: Rng) -> Figure:
    """A pole and a canopy of panels."""
    figure, color, other = Figure(), any_color(rng), any_color(rng)
    high, half = float(rng.uniform(1.6, 2.1)), float(rng.uniform(0.8, 1.1))
    figure.limb((0, 0), (0, high), (0.05, 0.05), (150, 140, 130))
    arc = CIRCLE[:11] * (half, 0.5) + (0, high - 0.1)
    for k in range(10):
        figure.add((arc[k], arc[k + 1], (0, high - 0.16)), tone(color if k // 2 % 2 else other, 0.8 + 0.04 * k))
    figure.add(np.vstack((arc, ((-half * 0.5, high - 0.18), (half * 0.5, high - 0.18)))), color)
    for k in range(0, 10, 4):
        figure.add((arc[k], arc[k + 1], arc[min(k + 2, 10)], (0, high - 0.16)), other, False)
    return figure


def make_boat(rng: Rng) -> Figure:
    """A hull, mostly under sail, else with a cabin."""
    figure, hull = Figure(), any_color(rng)
    half = float(rng.uniform(1.8, 3.0))
    figure.add(((-half * 0.8, 0), (half * 0.7, 0), (half, 0.8), (-half, 0.7)), hull)
    figure.add(((-half * 0.93, 0.4), (half * 0.9, 0.45), (half, 0.8), (-half, 0.7)), tone(hull, 1.3), False)
    if rng.random() < 0.7:
        mast, sail = float(rng.uniform(3.5, 5.0)), random_color(rng, (0, 1), (0, 0.5), (0.75, 0.98))
        figure.add(rectangle(-0.06, 0.7, 0.06, mast), (90, 80, 70))
        figure.add(((0.1, 1.0), (half * 0.8, 1.0), (0.1, mast)), sail)
        figure.add(((-0.1, 1.0), (-half * 0.6, 1.0), (-0.1, mast * 0.85)), tone(sail, 0.85))
    else:
        figure.add(rectangle(-half * 0.4, 0.7, half * 0.2, 1.6), (225, 225, 220))
        figure.add(rectangle(-half * 0.3, 1.0, half * 0.1, 1.4), (60, 80, 100), False)
    return figure


FIGURES: dict[str, Callable[[Rng], Figure]] = {
    "person": make_person,
    "boat": make_boat,
    "cat": make_cat,
    "dog": make_dog,
    "umbrella": make_umbrella,
    "sports ball": make_ball,
    "bottle": make_bottle,
    "cup": make_cup,
    "chair": make_chair,
    "potted plant": make_plant,
    "book": make_book,
}
"""What draws a thing, by its COCO name; cars are solid and come from the streets."""


def make_figure(rng: Rng, name: str) -> Figure:
    """A thing of any kind, some a little larger or smaller, half of them facing the other way."""
    figure, size = FIGURES[name](rng), float(rng.uniform(0.88, 1.14))
    figure.parts = [(points * size, color, is_outline) for points, color, is_outline in figure.parts]
    return mirrored(figure) if rng.random() < 0.5 else figure


def make_clutter(rng: Rng) -> Figure:
    """A box or a stone, which has no class."""
    figure, color = Figure(), random_color(rng, (0.05, 0.12), (0.05, 0.45), (0.3, 0.75))
    half, high = float(rng.uniform(0.1, 0.2)), float(rng.uniform(0.12, 0.25))
    if rng.random() < 0.5:
        figure.add(rectangle(-half, 0, half, high), color)
        figure.add(((-half, high), (half, high), (half * 0.8, high * 1.3), (-half * 1.1, high * 1.3)), tone(color, 1.2))
    else:
        figure.add(JAGGED * (half, high / 2) + (0, high / 2), color)
    return figure
