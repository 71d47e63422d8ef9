"""What a street is made of besides things: ground, buildings, walls, fences, trees, poles, signs, skyline."""

import math
from dataclasses import dataclass

import numpy as np

from data.drawn.street_scenes.drawing import CIRCLE, SEE_THROUGH, Canvas, Color, paint_wall, random_color, smooth_noise

FARTHEST = 220.0
"""Metres; the ground ends here, hidden by the skyline."""


@dataclass(frozen=True)
class Bend:
    """The road's course; an `offset` is metres to the right of the camera's line, measured across the road."""

    heading: float
    curvature: float

    def at(self, offset: float, z: float) -> tuple[float, float]:
        """(x, z) of a place on the street."""
        return offset + self.heading * z + self.curvature * z * z / 2, z

    def yaw(self, z: float) -> float:
        """Direction of the road, radians to the right (small)."""
        return self.heading + self.curvature * z


@dataclass(frozen=True)
class Strip:
    """A band along the road: its label, its right edge (an offset), its colour, and the pattern laid on it."""

    label: str
    right: float
    color: Color
    pattern: str = ""


@dataclass(frozen=True)
class Ground:
    """All strips from left to right, the marks on the road, and side streets that cut through the strips."""

    strips: tuple[Strip, ...]
    road: tuple[float, float]
    dashed: tuple[float, ...]
    solid: tuple[float, ...]
    side_streets: tuple[tuple[int, float, float], ...]
    """(side -1 or 1, from z, to z)."""
    zebra: float | None
    shadow: tuple[int, float] | None
    """(side, how far the houses' shadow reaches over the road's edge in metres)."""


def paint_ground(canvas: Canvas, ground: Ground, bend: Bend) -> None:
    """Paint everything flat and label it, wide strips first."""
    camera = canvas.camera
    top = int(camera.horizon) + 1
    rows = np.arange(top, canvas.coverage.shape[0]) + 0.5
    z = np.minimum(camera.focal * camera.mount / (rows - camera.horizon), FARTHEST).astype(np.float32)[:, None]
    columns = (np.arange(canvas.coverage.shape[1], dtype=np.float32) + 0.5 - np.float32(camera.center))[None]
    middle = np.float32(bend.heading) * z + np.float32(bend.curvature / 2) * z * z
    offset = columns * (z / np.float32(camera.focal)) - middle
    strip = np.zeros(offset.shape, np.uint8)
    for edge in ground.strips[:-1]:
        strip += (offset > np.float32(edge.right)).view(np.uint8)
    road = next(k for k, s in enumerate(ground.strips) if s.label == "road")
    for side, start, end in ground.side_streets:
        beyond = offset < ground.road[0] if side < 0 else offset > ground.road[1]
        strip[beyond & (z > start) & (z < end)] = road
    colors = np.array([s.color for s in ground.strips], np.uint8)[strip]
    _paint_marks(colors, ground, offset, z, strip)
    colors = _shade_ground(colors, canvas, ground, offset, z)
    canvas.pixels[top:] = colors
    for label in ("ground", "terrain", "sidewalk", "road", "parking", "rail track"):
        members = [k for k, s in enumerate(ground.strips) if s.label == label]
        if members:
            canvas.cover(top, 0, np.isin(np.arange(len(ground.strips)), members)[strip])
            canvas.label(label)


def _paint_marks(colors: np.ndarray, ground: Ground, offset: np.ndarray, z: np.ndarray, strip: np.ndarray) -> None:
    """Lane marks, rails, zebra crossing and paving joints, in place."""
    near = int(np.count_nonzero(z > 45))  # patterns farther than this are finer than a pixel
    part, offset, z, strip = colors[near:], offset[near:], z[near:], strip[near:]
    phase = z - np.floor(z / 7) * 7
    for mark in ground.dashed:
        part[(np.abs(offset - np.float32(mark)) < 0.08) & (phase < 3.2)] = (215, 215, 210)
    for mark in ground.solid:
        part[np.abs(offset - np.float32(mark)) < 0.07] = (205, 205, 200)
    across = offset - np.floor(offset)
    if ground.zebra is not None:
        inside = (offset > ground.road[0] + 0.4) & (offset < ground.road[1] - 0.4)
        part[inside & (z > ground.zebra) & (z < ground.zebra + 3) & (across < 0.5)] = (210, 210, 205)
    for k, each in enumerate(ground.strips):
        if each.pattern == "paved":
            joints = (strip == k) & (z < 28) & ((across < 0.09) | (z - np.floor(z) < 0.1))
            part[joints] -= part[joints] >> 3
        elif each.pattern == "rails":
            center = np.float32(each.right - 1.2)
            part[np.abs(np.abs(offset - center) - 0.72) < 0.09] = (62, 58, 58)


def _shade_ground(colors: np.ndarray, canvas: Canvas, ground: Ground, offset: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Worn wheel tracks, the houses' shadow, and haze."""
    light = np.full(offset.shape, 256, np.uint16)
    light -= (np.abs(np.abs(offset) - np.float32(0.8)) < 0.3).view(np.uint8) * np.uint16(16)
    if ground.shadow is not None:
        side, reach = ground.shadow
        shaded = offset > ground.road[1] - reach if side > 0 else offset < ground.road[0] + reach
        light -= shaded.view(np.uint8) * np.uint16(80)
    veil = (256 * z / (z + np.float32(canvas.light.clearness))).astype(np.uint16)
    light = (light * (256 - veil)) >> 8
    haze = veil[..., None] * np.array(canvas.light.haze, np.uint16)
    return ((colors * light[..., None] + haze) >> 8).astype(np.uint8)


@dataclass(frozen=True)
class Facade:
    """A house front: a grid of windows over a ground floor, under a roof. Colours in the order of FACADE_PARTS."""

    num_floors: int
    num_columns: int
    floor_height: float
    column_width: float
    roof_height: float
    window: tuple[float, float, float, float]
    """(bottom, top, left, right) as parts of a floor's height and a column's width."""
    colors: tuple[Color, ...]
    lit: np.ndarray
    """(num_floors, num_columns) uint8: level of brightness of each window."""
    has_shops: bool


FACADE_PARTS = ("wall", "glass", "frame", "shop", "sign", "roof")
WINDOW_LEVELS = 6
JAGGED = CIRCLE * (1 + 0.09 * np.array((1, -1, 0, 1, -1) * 4))[:, None]
"""(20, 2) outline of a clump of leaves, about a unit circle."""


def make_facade(rng: np.random.Generator, length: float, num_floors: int) -> Facade:
    """A random house front of about `length` metres."""
    column_width = float(rng.uniform(1.9, 3.6))
    num_columns = max(1, round(length / column_width))
    kind = int(rng.integers(4))
    hue, saturation, value = (
        ((0.05, 0.14), (0.15, 0.45), (0.5, 0.85)),
        ((-0.02, 0.05), (0.35, 0.65), (0.3, 0.6)),
        ((0, 1), (0, 0.08), (0.35, 0.75)),
        ((0.5, 1), (0.1, 0.3), (0.45, 0.8)),
    )[kind]
    wall = random_color(rng, hue, saturation, value)
    frame = tuple(min(255, c + 35) for c in wall) if rng.random() < 0.6 else (225, 222, 215)
    roof = random_color(rng, (-0.02, 0.08), (0.1, 0.6), (0.2, 0.5))
    colors = (wall, (58, 68, 82), frame, (44, 46, 52), random_color(rng, (0, 1), (0.2, 0.9), (0.3, 0.9)), roof)
    window = (float(rng.uniform(0.15, 0.3)), float(rng.uniform(0.72, 0.9)), *(0.5 + rng.uniform(0.2, 0.42) * np.array((-1, 1))))
    return Facade(
        num_floors=num_floors,
        num_columns=num_columns,
        floor_height=float(rng.uniform(2.9, 3.6)),
        column_width=length / num_columns,
        roof_height=float(rng.choice((0.0, 0.5, 1.8, 3.0))),
        window=window,
        colors=colors,
        lit=rng.integers(0, WINDOW_LEVELS, (num_floors, num_columns), dtype=np.uint8),
        has_shops=bool(rng.random() < 0.5),
    )


def facade_texture(facade: Facade, texels_per_metre: float) -> tuple[np.ndarray, tuple[float, float]]:
    """The front as (h, w) indices into facade_palette, row 0 at the ground, and its (vertical, horizontal) texels a metre."""
    floor = int(min(max(texels_per_metre * facade.floor_height, 4), 48))
    column = int(min(max(texels_per_metre * facade.column_width, 4), 48))
    wall, glass, frame, shop, sign, roof = range(len(FACADE_PARTS))
    upper = np.full((floor, column), wall, np.uint8)
    bottom, top, left, right = (int(part * size) for part, size in zip(facade.window, (floor, floor, column, column)))
    edge = max(1, column // 16)
    if column >= 10:
        upper[bottom - edge : top + edge, max(0, left - edge) : right + edge] = frame
    upper[bottom:top, left:right] = glass
    ground = upper.copy()
    if facade.has_shops:
        ground[:] = wall
        ground[floor // 8 : int(floor * 0.7), edge : column - edge] = shop
        ground[int(floor * 0.76) : int(floor * 0.95)] = sign
    above = np.tile(upper, (facade.num_floors - 1, facade.num_columns))
    parts = np.vstack((np.tile(ground, (1, facade.num_columns)), above))
    panes = np.repeat(np.repeat(facade.lit + np.uint8(len(FACADE_PARTS)), floor, 0), column, 1)
    np.copyto(parts, panes, where=parts == glass)
    roofing = np.full((int(floor * facade.roof_height / facade.floor_height), parts.shape[1]), roof, np.uint8)
    return np.vstack((parts, roofing)), (floor / facade.floor_height, column / facade.column_width)


def facade_palette(facade: Facade, brightness: float) -> np.ndarray:
    """(K, 3) uint8: FACADE_PARTS, then WINDOW_LEVELS of glass."""
    glass = [[c * (0.55 + 0.18 * level) for c in facade.colors[1]] for level in range(WINDOW_LEVELS)]
    return np.minimum(np.array((*facade.colors, *glass)) * brightness, 255).astype(np.uint8)


def paint_house(canvas: Canvas, facade: Facade, near: tuple[float, float], far: tuple[float, float], side: int) -> None:
    """A house along the street: the wall towards the camera first, then the front towards the road.

    Args:
        near, far: (x, z) of the front's ends. side: -1 left of the road, 1 right.
    """
    camera = canvas.camera
    nearest_in_view = max(near[1], abs(near[0]) * camera.focal / camera.center)
    texture, texels = facade_texture(facade, min(16.0, camera.focal / nearest_in_view))
    height = facade.num_floors * facade.floor_height + facade.roof_height
    gable = facade_palette(facade, canvas.light.on_face(0.0, -1.0))
    depth = min(14.0, facade.num_columns * facade.column_width)
    paint_wall(canvas, (near, (near[0] + side * depth, near[1])), (0.0, height), texture, texels, gable)
    front = facade_palette(facade, canvas.light.on_face(-float(side), 0.0))
    paint_wall(canvas, (near, far), (0.0, height), texture, texels, front)
    canvas.label("building")


def paint_barrier(
    canvas: Canvas, kind: str, color: Color, top: float, near: tuple[float, float], far: tuple[float, float]
) -> None:
    """A wall of courses of stone, a fence of bars, or a hedge, along the street."""
    brightness = canvas.light.on_face(-1.0 if near[0] > 0 else 1.0, 0.0)
    texture = np.zeros((32, 48), np.uint8)
    if kind == "wall":
        texture[::8] = 1
        texture[:8, ::12] = texture[16:24, ::12] = texture[8:16, 6::12] = texture[24:, 6::12] = 1
        texture[-3:] = 2
    elif kind == "fence":
        texture[:, np.arange(48) % 6 >= 4] = SEE_THROUGH
        texture[[2, 3, 28, 29]] = 1
    else:
        texture[-5:] = 2
    palette = np.minimum(np.outer((1.0, 0.75, 1.2), color) * brightness, 255).astype(np.uint8)
    length = math.sqrt((far[0] - near[0]) ** 2 + (far[1] - near[1]) ** 2)
    repeats = max(1, int(length / 3))
    paint_wall(canvas, (near, far), (0.0, top), np.tile(texture, (1, repeats)), (32 / top, 48 * repeats / length), palette)
    canvas.label("vegetation" if kind == "hedge" else kind)


def paint_tree(canvas: Canvas, place: tuple[float, float], blobs: np.ndarray, color: Color, trunk: float) -> None:
    """Leaves over a trunk, both vegetation.

    Args:
        blobs: (N, 4) of (right, up, radius, brightness) in metres, back to front.
        trunk: its width in metres; 0 for a bush.
    """
    if not canvas.is_in_sight(*place, 4.5):
        return
    foot, scale = canvas.stand(place)
    if trunk:
        top = float(blobs[:, 1].mean())
        bark = np.array(((-trunk, 0), (trunk, 0), (trunk * 0.7, -top), (-trunk * 0.7, -top))) / 2
        canvas.fill(foot + scale * bark, canvas.light.shade((74, 60, 50), place[1]))
    if scale < 12:  # too small for its every clump to show
        blobs = blobs[::2] * (1, 1, 1.15, 1)
    rings = blobs[:, None, :2] * (1, -1) + blobs[:, None, 2:3] * JAGGED  # (N, 20, 2)
    shades = [canvas.light.shade(color, place[1], brightness) for brightness in blobs[:, 3].tolist()]
    canvas.fill_all((foot + scale * rings).reshape(-1, 2), [(len(JAGGED), shade, True) for shade in shades])
    canvas.label("vegetation")


def paint_pole(
    canvas: Canvas, place: tuple[float, float], height: float, width: float, color: Color, arm: float = 0.0, label: str = "pole"
) -> None:
    """An upright pole; `arm` is the signed length of a lamp's arm at its top, in metres."""
    foot, scale = canvas.stand(place)
    half = max(width * scale, 2.2 * canvas.oversampling) / scale / 2
    color = canvas.light.shade(color, place[1])
    canvas.fill(foot + scale * np.array(((-half, 0), (half, 0), (half, -height), (-half, -height))), color)
    if arm:
        bar = ((0, -height), (arm, -height - 0.5), (arm, -height - 0.5 + 2 * half), (0, -height + 2.5 * half))
        canvas.fill(foot + scale * np.array(bar), color)
    canvas.label(label)


def paint_plate(
    canvas: Canvas, place: tuple[float, float], center: tuple[float, float], shape: np.ndarray, layers: list, label: str
) -> None:
    """A sign, a traffic light or a box facing the camera: the same shape, smaller and in another colour for each layer.

    Args:
        center: (right, up) in metres from the foot. shape: (N, 2) in metres, y up.
        layers: (size, colour) from the outermost, or (polygon, colour) for details.
    """
    foot, scale = canvas.stand(place)
    middle = foot + scale * np.array((center[0], -center[1]))
    for k, (part, color) in enumerate(layers):
        points = part if isinstance(part, np.ndarray) else shape * part
        canvas.fill(middle + scale * points * (1, -1), canvas.light.shade(color, place[1]), k == 0)
    canvas.label(label)


def paint_skyline(canvas: Canvas, tops: np.ndarray, color: Color, label: str) -> None:
    """Far roofs or trees all along the horizon.

    Args:
        tops: (N,) heights over the horizon as parts of the image's width, left to right.
    """
    width = canvas.coverage.shape[1]
    horizon = canvas.camera.horizon
    x = np.linspace(0, width, len(tops) + 1)
    y = horizon - tops * width
    if label == "building":
        steps = np.stack((np.repeat(x, 2)[1:-1], np.repeat(y, 2)), 1)
    else:
        steps = np.stack((x, np.append(y, y[-1])), 1)
    base = horizon + canvas.camera.focal * canvas.camera.mount / FARTHEST + canvas.oversampling
    canvas.fill(np.vstack((steps, ((width, base), (0, base)))), canvas.light.shade(color, FARTHEST / 2))
    canvas.label(label)


def add_grain(pixels: np.ndarray, roughness: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Roughen surfaces, (H, W, 3) uint8.

    Args:
        roughness: (2, H, W) uint8, amplitudes of the fine and the blobby grain; their sum stays below 256.
    """
    height, width = roughness.shape[1:]
    fine = rng.integers(-64, 64, (height, width), dtype=np.int8)
    blobby = smooth_noise(rng, height, width, max(2, width // 110)) ^ np.uint8(128)  # as int8, around 0
    grain = (fine * roughness[0].astype(np.int16) + blobby.view(np.int8) * roughness[1].astype(np.int16)) >> 7
    gain = (grain + 256).astype(np.uint16)
    brightened = (pixels * gain[..., None]) >> 8
    return np.minimum(brightened, 255).astype(np.uint8)
