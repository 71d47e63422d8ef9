"""Paints a street: pinhole camera, light, and a canvas that turns what was painted into labelled polygons.

Arithmetic is integer or plain IEEE (+ - * / and floor) wherever a pixel depends on it, so that machines agree bit for bit.
"""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

Color = tuple[int, int, int]
SUBPIXEL_BITS = 4
SEE_THROUGH = 255
CIRCLE = np.array([[round(math.cos(math.tau * k / 20), 6), round(math.sin(math.tau * k / 20), 6)] for k in range(20)])
"""(20, 2) points (x, y) of the unit circle; rounded, as the last bits of cos differ between C libraries."""


def random_color(rng: np.random.Generator, hue: tuple[float, float], saturation: tuple, value: tuple) -> Color:
    """A colour from ranges of hue, saturation and value, each in 0..1."""
    drawn = [float(rng.uniform(*limits)) for limits in (hue, saturation, value)]
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(drawn[0] % 1.0, *drawn[1:]))


def rectangle(left: float, bottom: float, right: float, top: float) -> np.ndarray:
    """(4, 2) clockwise from the bottom left, y up."""
    return np.array(((left, bottom), (left, top), (right, top), (right, bottom)), float)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    """(20, 2) points of a circle."""
    return CIRCLE * radius + (x, y)


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera; lengths in canvas pixels, `mount` in metres above the road."""

    focal: float
    horizon: float
    center: float
    mount: float

    def project(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(N,) metres right, up from the road, and ahead -> (N, 2) canvas pixels (x, y)."""
        scale = self.focal / np.maximum(z, 1.0)
        pixels = np.empty((len(scale), 2))
        pixels[:, 0], pixels[:, 1] = self.center + x * scale, self.horizon + (self.mount - y) * scale
        return pixels


@dataclass(frozen=True)
class Light:
    """The weather of one image."""

    haze: Color
    clearness: float
    """Metres at which haze has taken half of a colour."""
    sun: tuple[float, float]
    """(x, z): towards the sun, length 1; faces turned to it are bright."""
    ambient: float
    """Brightness of faces turned away from the sun, 0..1; near 1 is overcast."""

    def shade(self, color: Sequence[float], depth: float, brightness: float = 1.0) -> Color:
        """The colour as seen at a distance."""
        veil = depth / (depth + self.clearness)
        gain, (r, g, b), (haze_r, haze_g, haze_b) = brightness * (1 - veil), color, self.haze
        shaded = int(r * gain + haze_r * veil), int(g * gain + haze_g * veil), int(b * gain + haze_b * veil)
        return shaded if max(shaded) < 256 else tuple(min(255, c) for c in shaded)

    def on_face(self, normal_x: float, normal_z: float) -> float:
        """Brightness of an upright face by its outward normal."""
        return self.ambient + (1 - self.ambient) * max(0.0, normal_x * self.sun[0] + normal_z * self.sun[1])


@dataclass
class Canvas:
    """The image under way and the polygons labelled so far, back to front.

    pixels: (H * oversampling, W * oversampling, 3) uint8; objects: (label, [[x, y], ...]) in label pixels.
    Painting adds to an open outline; `label` closes it.
    """

    height: int
    width: int
    oversampling: int
    camera: Camera
    light: Light
    objects: list[tuple[str, list[list[int]]]] = field(default_factory=list)

    def __post_init__(self):
        size = (self.height * self.oversampling, self.width * self.oversampling)
        self.pixels = np.zeros((*size, 3), np.uint8)
        self.coverage = np.zeros(size, np.uint8)
        self._box = None

    def fill(self, points: np.ndarray, color: Color, is_outline: bool = True) -> None:
        """Paint one polygon, (N, 2) canvas pixels (x, y); a detail inside the object need not join its outline."""
        self.fill_all(points, ((len(points), color, is_outline),))

    def fill_all(self, points: np.ndarray, parts: Sequence[tuple[int, Color, bool]]) -> None:
        """Paint many polygons: (number of points, colour, is_outline) of each, all points one after the other, (N, 2)."""
        fixed = self._to_fixed(points)
        start = 0
        for count, color, is_outline in parts:
            polygon = [fixed[start : start + count]]
            cv2.fillPoly(self.pixels, polygon, color, cv2.LINE_AA, SUBPIXEL_BITS)
            if is_outline:
                cv2.fillPoly(self.coverage, polygon, 255, cv2.LINE_AA, SUBPIXEL_BITS)
            start += count
        (left, top), (right, bottom) = (fixed.min(0) >> SUBPIXEL_BITS).tolist(), (fixed.max(0) >> SUBPIXEL_BITS).tolist()
        self._grow(top - 1, bottom + 3, left - 1, right + 3)

    def _to_fixed(self, points: np.ndarray) -> np.ndarray:
        """Canvas pixels -> OpenCV's fixed point, whose whole numbers are pixel centres."""
        return np.rint((np.minimum(np.maximum(points, -9999), 9999) - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)

    def stand(self, place: tuple[float, float]) -> tuple[np.ndarray, float]:
        """Where a thing at (x, z) touches the road, (2,) canvas pixels (x, y), and pixels a metre there."""
        x, z = place
        scale = self.camera.focal / z
        return np.array((self.camera.center + x * scale, self.camera.horizon + self.camera.mount * scale)), scale

    def is_in_sight(self, x: float, z: float, radius: float) -> bool:
        """Whether something of this radius (metres) at (x, z) can touch the image's columns."""
        scale = self.camera.focal / z
        return -radius * scale < self.camera.center + x * scale < self.coverage.shape[1] + radius * scale

    def paste(self, top: int, left: int, colors: np.ndarray, painted: np.ndarray, covered: np.ndarray | None = None) -> None:
        """Paint (h, w, 3) colours where `painted`, (h, w) bool; `covered` is the outline where that is larger."""
        bottom, right = top + painted.shape[0], left + painted.shape[1]
        np.copyto(self.pixels[top:bottom, left:right], colors, where=painted[..., None])
        self.cover(top, left, painted if covered is None else covered)

    def cover(self, top: int, left: int, covered: np.ndarray) -> None:
        """Add (h, w) bool to the open outline and paint nothing."""
        bottom, right = top + covered.shape[0], left + covered.shape[1]
        self.coverage[top:bottom, left:right] |= covered.view(np.uint8) * np.uint8(255)
        self._grow(top, bottom, left, right)

    def darken(self, points: np.ndarray, strength: float) -> None:
        """Cast a shadow: take `strength` (0..1) of the light inside a polygon, (N, 2) canvas pixels."""
        height, width = self.coverage.shape
        left, top = np.clip(np.floor(points.min(0)), 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(points.max(0)), 0, (width, height)).astype(int)
        if left >= right or top >= bottom:
            return
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(mask, [self._to_fixed(points - (left, top))], int(strength * 255), cv2.LINE_AA, SUBPIXEL_BITS)
        part = self.pixels[top:bottom, left:right]
        part[:] = (part.astype(np.uint16) * (255 - mask.astype(np.uint16))[..., None]) >> 8

    def label(self, label: str, is_instance: bool = False) -> None:
        """Close the open outline: what was painted since the last call becomes polygons of this label.

        An instance gets one polygon, its largest piece, as the official tools count each polygon as one object.
        """
        mask, (left, top) = self.close_outline()
        if not mask.size:
            return
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))
        if is_instance and contours:
            contours = [max(contours, key=cv2.contourArea)]
        for contour in contours:
            polygon = cv2.approxPolyDP(contour, 0.5, True)[:, 0].tolist()
            if len(polygon) == 2:  # one pixel wide; a polygon needs three points
                polygon.append(polygon[0])
            if len(polygon) >= 3:
                self.objects.append((label, polygon))

    def close_outline(self) -> tuple[np.ndarray, tuple[int, int]]:
        """What was painted since the last call: (h, w) uint8 mask of 0 and 1, which may be empty, and its (left, top)."""
        nothing = np.zeros((0, 0), np.uint8), (0, 0)
        if self._box is None:
            return nothing
        s = self.oversampling
        top, bottom, left, right = self._box[0] // s, -(-self._box[1] // s), self._box[2] // s, -(-self._box[3] // s)
        self._box = None
        if top >= bottom or left >= right:
            return nothing
        coverage = self.coverage[top * s : bottom * s, left * s : right * s]
        mask = cv2.resize(coverage, (right - left, bottom - top), interpolation=cv2.INTER_AREA) if s > 1 else coverage
        mask = (mask >= 120).view(np.uint8)
        coverage[:] = 0
        return mask, (left, top)

    def _grow(self, top: int, bottom: int, left: int, right: int) -> None:
        height, width = self.coverage.shape
        top, bottom, left, right = max(top, 0), min(bottom, height), max(left, 0), min(right, width)
        if self._box is not None:
            top, bottom = min(top, self._box[0]), max(bottom, self._box[1])
            left, right = min(left, self._box[2]), max(right, self._box[3])
        self._box = (top, bottom, left, right)


def paint_wall(
    canvas: Canvas,
    ends: tuple[tuple[float, float], tuple[float, float]],
    heights: tuple[float, float],
    texture: np.ndarray,
    texels: tuple[float, float],
    palette: np.ndarray,
) -> None:
    """Paint an upright plane with a texture.

    Args:
        ends: (x, z) of both ends in metres; texture column 0 is at the first.
        heights: (bottom, top) in metres above the road.
        texture: (h, w) uint8, indices into the palette; row 0 is at the bottom. Where it is SEE_THROUGH nothing is painted,
            but the outline covers it, as labels cover the gaps of a fence.
        texels: (vertical, horizontal) texels a metre.
        palette: (K, 3) uint8.
    """
    camera = canvas.camera
    (xa, za), (xb, zb) = ends
    bounds = [camera.center + camera.focal * x / z for x, z in ends]
    left, right = max(0, math.floor(min(bounds))), min(canvas.coverage.shape[1], math.ceil(max(bounds)))
    if left >= right:
        return
    slope = (np.arange(left, right) + 0.5 - camera.center) / camera.focal
    denominator = (xb - xa) - slope * (zb - za)
    denominator[np.abs(denominator) < 1e-6] = 1e-6
    along = np.clip((slope * za - xa) / denominator, 0, 1)
    depth = za + along * (zb - za)
    low, high = (camera.horizon + (camera.mount - height) * camera.focal / depth for height in heights)
    top, bottom = max(0, math.floor(float(high.min()))), min(canvas.coverage.shape[0], math.ceil(float(low.max())))
    if top >= bottom:
        return
    rows = (np.arange(top, bottom, dtype=np.float32) + 0.5)[:, None]
    inside = (rows >= high.astype(np.float32)) & (rows <= low.astype(np.float32))
    per_row = (-texels[0] * depth / camera.focal).astype(np.float32)
    first = (texels[0] * (camera.mount - heights[0] + camera.horizon * depth / camera.focal)).astype(np.float32)
    row = np.minimum(np.maximum((rows * per_row + first).astype(np.int32), 0), texture.shape[0] - 1)
    length = math.sqrt((xb - xa) ** 2 + (zb - za) ** 2)
    column = np.minimum((along * (length * texels[1])).astype(np.int32), texture.shape[1] - 1)
    index = texture.ravel()[row * texture.shape[1] + column]
    painted = inside & (index != SEE_THROUGH)
    index[~painted] = 0
    colors = _palette_in_haze(palette, depth, canvas.light)[index, np.arange(right - left)]
    canvas.paste(top, left, colors, painted, inside)


def _palette_in_haze(palette: np.ndarray, depth: np.ndarray, light: Light) -> np.ndarray:
    """(K, 3) colours at (N,) depths -> (K, N, 3) uint8."""
    veil = (256 * depth / (depth + light.clearness)).astype(np.uint16)[:, None]
    return ((palette[:, None].astype(np.uint16) * (256 - veil) + veil * np.array(light.haze, np.uint16)) >> 8).astype(np.uint8)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    """(height, width) uint8 blobs about `cell` pixels wide, around 128."""
    coarse = rng.integers(0, 256, (height // cell + 2, width // cell + 2), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)


def paint_sky(canvas: Canvas, rng: np.random.Generator, zenith: Color, cloudiness: float) -> None:
    """A gradient from the zenith's colour to the haze's, with clouds, down to the horizon."""
    height, width = int(canvas.camera.horizon) + 1, canvas.coverage.shape[1]
    down = (np.arange(height) * 256 // height).astype(np.int32)[:, None, None]
    sky = (np.array(zenith, np.int32) * (256 - down) + np.array(canvas.light.haze, np.int32) * down) >> 8
    unit = max(4, width // 24)
    clouds = smooth_noise(rng, height, width, unit).astype(np.int32) * 2 + smooth_noise(rng, height, width, unit // 3)
    weight = np.clip((clouds // 3 - int(190 - 110 * cloudiness)) * 3, 0, 200)[..., None]
    white = min(250, max(canvas.light.haze) + 25)
    colors = ((sky * (256 - weight) + white * weight) >> 8).astype(np.uint8)
    canvas.paste(0, 0, colors, np.ones((height, width), bool))
    canvas.label("sky")
