"""A panoptic map in memory and its RGB PNG: pixel value = r + 256 g + 65536 b = segment id, 0 is void (COCO panoptic format)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from data.files import InputError, atomic_path, open_picture, write_picture

MAX_SEGMENT_ID = 256**3 - 1
PRODUCER_CHUNK = "producer"
SEGMENTS_CHUNK = "segments_info"


@dataclass(frozen=True)
class Segment:
    """One segment of one image; `bbox` is (x, y, width, height) in pixels, `category_id` a dataset id."""

    segment_id: int
    category_id: int
    area: int
    bbox: tuple[int, int, int, int]
    is_crowd: bool = False
    score: float | None = None

    def to_json(self) -> dict:
        """An entry of `segments_info`; `score` only where there is one."""
        entry = {
            "id": self.segment_id,
            "category_id": self.category_id,
            "area": self.area,
            "bbox": list(self.bbox),
            "iscrowd": int(self.is_crowd),
        }
        return entry if self.score is None else entry | {"score": self.score}

    @classmethod
    def from_json(cls, entry: dict) -> "Segment":
        """The reverse of to_json; entries of other tools may lack `area`, `bbox` and `iscrowd`."""
        bbox = tuple(entry.get("bbox", (0, 0, 0, 0)))
        is_crowd = bool(entry.get("iscrowd", 0))
        return cls(entry["id"], entry["category_id"], entry.get("area", 0), bbox, is_crowd, entry.get("score"))


@dataclass(frozen=True)
class PanopticMap:
    """segment_ids: (H, W) uint32, 0 is void; segments: one entry for each other id that occurs, ascending by id."""

    segment_ids: np.ndarray
    segments: tuple[Segment, ...]


def ids_to_rgb(segment_ids: np.ndarray) -> np.ndarray:
    """(H, W) segment ids -> (H, W, 3) uint8.

    Raises:
        InputError: if an id is negative or needs more than 24 bits.
    """
    if segment_ids.size and (int(segment_ids.min()) < 0 or int(segment_ids.max()) > MAX_SEGMENT_ID):
        raise InputError(f"segment ids {segment_ids.min()}..{segment_ids.max()}, but a panoptic PNG holds 0..{MAX_SEGMENT_ID}")
    little_endian = np.ascontiguousarray(segment_ids.astype("<u4"))
    return little_endian.view(np.uint8).reshape(*segment_ids.shape, 4)[..., :3].copy()


def rgb_to_ids(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) uint32 segment ids."""
    r, g, b = (rgb[..., k].astype(np.uint32) for k in range(3))
    return r + (g << 8) + (b << 16)


def read_segment_ids(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a panoptic PNG as (H, W) uint32.

    Args:
        size: (height, width) that it must have.

    Raises:
        InputError: if the file is missing, broken, not RGB, or of another size.
    """
    with open_picture(path) as image:
        if image.mode not in ("RGB", "RGBA"):
            needed = "a panoptic PNG is 8-bit RGB"
            raise InputError(f"{path}: PNG mode {image.mode}, but {needed}; write it with id = r + 256 g + 65536 b")
        if size is not None and (image.height, image.width) != tuple(size):
            found, needed = f"{image.height}x{image.width}", f"{size[0]}x{size[1]}"
            raise InputError(f"{path}: {found} pixels, but {needed} were needed; use the PNG of the same image")
        return rgb_to_ids(np.asarray(image))


def write_segment_ids(path: Path, segment_ids: np.ndarray) -> None:
    """Write a panoptic PNG atomically."""
    write_picture(path, ids_to_rgb(segment_ids))


def write_panoptic_png(path: Path, panoptic: PanopticMap, producer: str) -> None:
    """Write a panoptic PNG atomically, with its segments and what made it in text chunks, which other readers skip."""
    text = PngInfo()
    text.add_text(PRODUCER_CHUNK, producer)
    text.add_text(SEGMENTS_CHUNK, json.dumps([segment.to_json() for segment in panoptic.segments]))
    with atomic_path(path) as partial:
        Image.fromarray(ids_to_rgb(panoptic.segment_ids)).save(partial, pnginfo=text)


def read_panoptic_png(path: Path, producer: str) -> PanopticMap | None:
    """Read back what write_panoptic_png wrote; None if there is no whole file of this producer."""
    try:
        with open_picture(path) as image:
            text = getattr(image, "text", {})
            if text.get(PRODUCER_CHUNK) != producer or SEGMENTS_CHUNK not in text:
                return None
            segments = tuple(Segment.from_json(entry) for entry in json.loads(text[SEGMENTS_CHUNK]))
            return PanopticMap(rgb_to_ids(np.asarray(image)), segments)
    except InputError:
        return None


def describe_segments(
    segment_ids: np.ndarray, category_of: Callable[[int], int], is_crowd: Callable[[int], bool] = lambda _: False
) -> tuple[Segment, ...]:
    """List the segments of a map: areas and boxes are counted from the pixels.

    Args:
        segment_ids: (H, W), 0 is void.
        category_of: segment id -> dataset id of its class.
        is_crowd: segment id -> whether it is a group that nobody told apart.
    """
    height, width = segment_ids.shape
    # Counted by runs along rows: there are a hundred times fewer of them than pixels.
    is_start = np.ones(segment_ids.shape, dtype=bool)
    np.not_equal(segment_ids[:, 1:], segment_ids[:, :-1], out=is_start[:, 1:])
    starts = np.flatnonzero(is_start)
    lengths = np.diff(starts, append=segment_ids.size)
    values, run_values = np.unique(segment_ids.ravel()[starts], return_inverse=True)
    y, x = np.divmod(starts, max(width, 1))
    y1, x1 = np.full(len(values), height), np.full(len(values), width)
    areas, y2, x2 = (np.zeros(len(values), dtype=np.int64) for _ in range(3))
    np.add.at(areas, run_values, lengths)
    for first, last, start, end in ((y1, y2, y, y + 1), (x1, x2, x, x + lengths)):
        np.minimum.at(first, run_values, start)
        np.maximum.at(last, run_values, end)
    segments = []
    for k, value in enumerate(values.tolist()):
        if value != 0:
            bbox = (int(x1[k]), int(y1[k]), int(x2[k] - x1[k]), int(y2[k] - y1[k]))
            segments.append(Segment(value, category_of(value), int(areas[k]), bbox, is_crowd(value)))
    return tuple(segments)
