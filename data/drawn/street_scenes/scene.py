"""One drawn street as a camera delivers it: city, weather, painting back to front, exposure."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from data.drawn.street_scenes import surroundings
from data.drawn.street_scenes.blocks import add_surroundings
from data.drawn.street_scenes.drawing import Canvas, Color, Light, paint_sky
from data.drawn.street_scenes.layout import SKYLINE_DEPTH, Item, Layout, keep_clear, plan_ground
from data.drawn.street_scenes.surroundings import Bend
from data.drawn.street_scenes.traffic import add_traffic


@dataclass(frozen=True)
class City:
    """What all images of one city share: the car and its camera."""

    focal: float
    """In image widths."""
    horizon: float
    """In image heights from the top."""
    mount: float
    """Height of the camera over the road, metres."""
    hood: float
    """How far the car's own hood reaches into the image, in image heights; 0 is not in sight."""
    border: float
    """Width of the rectification border, in image heights."""


def lay_out(rng: np.random.Generator, city: City, traffic: int = 1) -> Layout:
    """Invent a street, with `traffic` times the usual vehicles, riders and people."""
    bend = Bend(float(rng.uniform(-0.07, 0.07)), float(rng.uniform(-0.004, 0.004)) if rng.random() < 0.6 else 0.0)
    ground, lanes, sidewalks = plan_ground(rng)
    layout = Layout(rng, bend, ground, lanes, sidewalks, 0.5 / city.focal)
    keep_clear(layout)
    add_surroundings(layout)
    add_traffic(layout, traffic)
    return layout


def make_weather(rng: np.random.Generator) -> tuple[Light, Color, float]:
    """The light, the zenith's colour, the cloudiness: bright, overcast, hazy or evening."""
    kind = int(rng.choice(4, p=(0.5, 0.3, 0.08, 0.12)))
    haze = ((205, 218, 232), (190, 194, 200), (206, 208, 210), (232, 180, 140))[kind]
    zenith = ((84, 140, 214), (150, 160, 174), (176, 184, 192), (96, 110, 168))[kind]
    clearness = float(rng.uniform(*((250, 500), (160, 320), (55, 110), (160, 350))[kind]))
    sun = ((-0.8, -0.6), (0.8, -0.6), (-0.6, 0.8), (0.6, 0.8), (0.0, -1.0))[int(rng.integers(5))]
    ambient = float(rng.uniform(*((0.45, 0.65), (0.8, 0.92), (0.78, 0.9), (0.5, 0.7))[kind]))
    shift = rng.integers(-14, 15, 3)
    tinted = tuple(int(c) for c in np.clip(np.array(zenith) + shift, 0, 255))
    return Light(haze, clearness, sun, ambient), tinted, float(rng.uniform(*((0, 0.6), (0.5, 1), (0.3, 0.8), (0.1, 0.8))[kind]))


def paint_scene(canvas: Canvas, layout: Layout, rng: np.random.Generator, zenith: Color, cloudiness: float) -> None:
    """Paint sky, skyline, ground and all that stands on it, the farthest first."""
    paint_sky(canvas, rng, zenith, cloudiness)
    items = order_items(layout.items)
    for item in items:
        if item.depth >= SKYLINE_DEPTH:
            item.paint(canvas)
    surroundings.paint_ground(canvas, layout.ground, layout.bend)
    for item in items:
        if item.depth < SKYLINE_DEPTH:
            item.paint(canvas)


def order_items(items: list[Item]) -> list[Item]:
    """Back to front: by depth, then put right around each long vehicle.

    Beside a vehicle depth does not decide: what stands beyond it, as seen from the camera's line, goes before it, what stands
    on the camera's side of it goes after it.
    """
    ordered = sorted(items, key=lambda item: -item.depth)
    for vehicle in [item for item in ordered if item.reach]:
        nearest, farthest = vehicle.depth - vehicle.reach, vehicle.depth + vehicle.reach
        at = ordered.index(vehicle)
        side = 0.0 if abs(vehicle.offset) < 1.0 else math.copysign(1.0, vehicle.offset)

        def is_beyond(item: Item, vehicle=vehicle, side=side) -> bool:
            return not side or side * item.offset > side * vehicle.offset

        late = [item for item in ordered[:at] if item.depth < farthest and not is_beyond(item)]
        early = [item for item in ordered[at + 1 :] if item.depth > nearest and is_beyond(item)]
        moved = {id(item) for item in (*late, *early)}
        before, after = ([item for item in part if id(item) not in moved] for part in (ordered[:at], ordered[at + 1 :]))
        ordered = [*before, *early, vehicle, *late, *after]
    return ordered


def paint_own_car(canvas: Canvas, city: City, color: Color) -> None:
    """The hood at the bottom and the borders that rectification left, which no score counts."""
    height, width = canvas.coverage.shape
    if city.hood:
        top = height * (1 - city.hood)
        x = np.linspace(-0.02, 1.02, 21)
        y = top + height * city.hood * 3.2 * (x - 0.5) ** 2
        outline = np.vstack((np.stack((x * width, y), 1), ((width * 1.02, height + 9), (-width * 0.02, height + 9))))
        canvas.fill(outline, color)
        canvas.fill(outline + (0, height * city.hood * 0.3), tuple(c * 3 // 4 for c in color), False)
        canvas.label("ego vehicle")
    border = max(1, round(city.border * canvas.height)) * canvas.oversampling if city.border else 0
    if border:
        for label, left, right in (("rectification border", 0, border), ("rectification border", width - border, width)):
            canvas.paste(0, left, np.full((height, right - left, 3), 6, np.uint8), np.ones((height, right - left), bool))
            canvas.label(label)
        canvas.cover(height - border, 0, np.ones((border, width), bool))
        canvas.label("out of roi")


def develop(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """From the scene to what a camera delivers: focus, exposure, tint, contrast, sensor noise. (H, W, 3) uint8."""
    if rng.random() < 0.2:
        blurred = cv2.GaussianBlur(pixels, (3, 3), 0)
        pixels = ((pixels.astype(np.uint16) + blurred) >> 1).astype(np.uint8)
    gamma, gain = float(rng.uniform(0.8, 1.25)), float(rng.uniform(0.88, 1.08))
    lift = float(rng.uniform(0, 18))
    tint = rng.uniform(0.93, 1.07, 3).tolist()
    levels = [k / 255 for k in range(256)]
    curves = [[min(255, int(lift + (255 - lift) * min(1.0, gain * t * level**gamma))) for level in levels] for t in tint]
    table = np.array(curves, np.uint8)
    exposed = np.stack([table[k][pixels[..., k]] for k in range(3)], 2)
    strength = int(rng.integers(1, 5))
    noise = rng.integers(-strength, strength + 1, exposed.shape, dtype=np.int8)
    noise += rng.integers(-strength, strength + 1, exposed.shape, dtype=np.int8)
    return np.clip(exposed.astype(np.int16) + noise, 0, 255).astype(np.uint8)
