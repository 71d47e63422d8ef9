"""Masks of what tools draw: polygons as pycocotools fills them, boxes, circles, and bitmaps that are stored in text."""

import base64
import binascii
import io
import math
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from data.images import open_image
from data.png_file import SIGNATURE
from data.run_lengths import decode_mask
from runtime.files import InputError, shorten

Mask = Callable[[], np.ndarray]
"""Gives an (H, W) bool mask."""
FEWEST_POINTS = 3


def flat_polygon(points: object, scale: tuple[float, float] = (1.0, 1.0)) -> list[float]:
    """[[x, y], ...] -> [x1, y1, x2, y2, ...], in pixels.

    Args:
        scale: pixels an x and a y unit.

    Raises:
        InputError: if these are no points, or fewer than three, of which pycocotools would make a box.
    """
    if not isinstance(points, list) or not all(
        isinstance(p, list) and len(p) == 2 and all(type(v) in (int, float) and math.isfinite(v) for v in p) for p in points
    ):
        raise InputError(f"points {shorten(points, 60)}, but a list of [x, y] in finite numbers was needed; export it again")
    if len(points) < FEWEST_POINTS:
        raise InputError(f"polygon of {len(points)} points, but {FEWEST_POINTS} or more enclose pixels; mend it in the tool")
    return [v * s for p in points for v, s in zip(p, scale, strict=True)]


def fill_polygons(polygons: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the union, as pycocotools fills it.

    Args:
        polygons: [x1, y1, x2, y2, ...] each, in pixels.

    Raises:
        InputError: as decode_mask; also if one has fewer than three points.
    """
    short = [polygon for polygon in polygons if isinstance(polygon, list) and len(polygon) < 2 * FEWEST_POINTS]
    if short:
        found = f"polygon of {len(short[0]) // 2} points"
        raise InputError(f"{found}, but {FEWEST_POINTS} or more enclose pixels; mend it in the tool")
    return decode_mask(polygons, size)


def box_polygon(left: float, top: float, right: float, bottom: float, degrees: float = 0.0) -> list[float]:
    """The corners of a box, turned clockwise around its left top corner."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    width, height = right - left, bottom - top
    corners = ((0, 0), (width, 0), (width, height), (0, height))
    return [v for x, y in corners for v in (left + x * cos - y * sin, top + x * sin + y * cos)]


def fill_circle(center: Sequence[float], edge: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the pixels whose centre lies in a circle; both points are (x, y) in pixels.

    Raises:
        InputError: if they lie more than an image's side outside.
    """
    reach = max(size)
    if not all(-reach <= v <= 2 * reach for v in (*center, *edge)):
        raise InputError(f"circle {shorten([center, edge], 60)} lies outside of its {size[0]}x{size[1]} image; export it again")
    y, x = np.ogrid[: size[0], : size[1]]
    return (x + 0.5 - center[0]) ** 2 + (y + 0.5 - center[1]) ** 2 <= math.dist(center, edge) ** 2


def decode_base64(text: object) -> bytes:
    """The bytes of a text.

    Raises:
        InputError: if it is no base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise InputError(f"bitmap {shorten(repr(text), 40)} is no base64 text; export it again") from None


def inflate(data: bytes, size: tuple[int, int]) -> bytes:
    """Undo zlib, up to what a bitmap of an image of this size can need.

    Raises:
        InputError: if it is no zlib, cut off, or becomes larger.
    """
    limit = 5 * size[0] * (size[1] + 1) + 2**16  # a PNG of RGBA that did not get smaller
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(data, limit)
    except zlib.error as error:
        raise InputError(f"bitmap does not inflate ({shorten(error)}); export it again") from None
    if not inflater.eof:
        what = f"inflates to more than {limit} bytes" if len(found) >= limit else "is cut off"
        raise InputError(f"bitmap {what}, and no mask of its {size[0]}x{size[1]} image does; export it again")
    return found


def read_bitmap(png: bytes, size: tuple[int, int]) -> np.ndarray:
    """(h, w) bool of a PNG that is stored in a JSON: where it is not 0; with an alpha, where that is not 0.

    Args:
        size: (height, width) of the image, which it may not exceed.

    Raises:
        InputError: if it is no PNG, broken or larger.
    """
    if not png.startswith(SIGNATURE) or len(png) < len(SIGNATURE) + 16:
        raise InputError("bitmap is no PNG; export it again")
    width, height = struct.unpack_from(">II", png, len(SIGNATURE) + 8)
    if height > size[0] or width > size[1]:
        raise InputError(f"bitmap has {height}x{width} pixels, more than its {size[0]}x{size[1]} image; export it again")
    try:
        with open_image(io.BytesIO(png)) as image:
            has_alpha = "A" in image.mode or "transparency" in image.info
            values = np.array(image.convert("RGBA"))[..., 3] if has_alpha else np.array(image)
    except InputError:
        raise InputError("bitmap cannot be decoded; it is damaged, export it again") from None
    return (values != 0) if values.ndim == 2 else (values != 0).any(axis=-1)


def place_bitmap(bitmap: np.ndarray, left: int, top: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: a bitmap with its left top pixel at (left, top); what lies outside is cut.

    Raises:
        InputError: if all of it lies outside.
    """
    mask = np.zeros(size, dtype=bool)
    (height, width), (y, x) = bitmap.shape, (max(top, 0), max(left, 0))
    part = bitmap[y - top : size[0] - top, x - left : size[1] - left] if top < size[0] and left < size[1] else bitmap[:0]
    if top + height <= 0 or left + width <= 0 or part.size == 0:
        raise InputError(f"bitmap at x {left}, y {top} lies outside of its {size[0]}x{size[1]} image; export it again")
    mask[y : y + part.shape[0], x : x + part.shape[1]] = part
    return mask
