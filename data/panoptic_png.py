"""A panoptic map in memory and its RGB PNG: pixel value = r + 256 g + 65536 b = segment id, 0 is void (COCO panoptic format)."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.coco_json import is_whole, read_flag
from data.images import open_image, read_png_text, upright
from data.png_file import MAX_SEGMENT_ID as MAX_SEGMENT_ID
from data.png_file import RGB8, check_segment_ids, has_end, read_depths, read_plain_png, read_plain_runs, write_id_png
from data.row_runs import RowRuns
from data.segment_runs import Runs, find_runs
from runtime.files import InputError, first_few, parse_json, shorten

PIXELS_AT_ONCE = 2**20
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
    def from_json(cls, entry: dict, *, may_be_zero: bool = False) -> "Segment":
        """The reverse of to_json; entries of other tools may lack `area`, `bbox`, `iscrowd` and `score`.

        Args:
            may_be_zero: whether 0, which is void in every truth, may be a segment's id.

        Raises:
            InputError: if it is no segment: ids must be whole numbers, flags and numbers what their name says.
        """
        if not isinstance(entry, dict) or not is_whole(entry.get("id")) or not is_whole(entry.get("category_id")):
            raise InputError(f"segment {shorten(entry, 80)} needs whole numbers `id` and `category_id`; write the JSON again")
        if entry["id"] == 0 and not may_be_zero:
            raise InputError("a segment has id 0, which in the PNG is void; number the segments from 1, and write both again")
        if not 0 <= entry["id"] <= MAX_SEGMENT_ID:
            found = f"segment id {entry['id']}, but a panoptic PNG holds 0..{MAX_SEGMENT_ID}"
            raise InputError(f"{found}; write the JSON again")
        try:
            is_crowd = read_flag(entry, "iscrowd", default=False)
        except InputError as error:
            raise InputError(f"segment {error}") from None
        try:
            x, y, width, height = (int(v) for v in entry.get("bbox") or (0, 0, 0, 0))
            score = None if entry.get("score") is None else float(entry["score"])
            if score is not None and not math.isfinite(score):
                raise ValueError("score")
            area = int(entry.get("area") or 0)
        except (TypeError, ValueError, OverflowError):
            wrong = f"segment {entry['id']} has an `area`, `bbox` or `score` that is no number"
            raise InputError(f"{wrong}; write the JSON again") from None
        return cls(entry["id"], entry["category_id"], area, (x, y, width, height), is_crowd, score)


@dataclass(frozen=True)
class PanopticMap:
    """segment_ids: (H, W) uint32, 0 is void; segments: one entry for each other id that occurs, ascending by id."""

    segment_ids: np.ndarray
    segments: tuple[Segment, ...]

    def to_map(self) -> "PanopticMap":
        """Itself; see PanopticRuns."""
        return self


@dataclass(frozen=True)
class PanopticRuns:
    """A PanopticMap whose ids are runs along its rows, in a hundredth of the memory."""

    segment_ids: RowRuns
    segments: tuple[Segment, ...]

    def to_map(self) -> PanopticMap:
        """The same in pixels."""
        return PanopticMap(self.segment_ids.to_ids(), self.segments)


def ids_to_rgb(segment_ids: np.ndarray) -> np.ndarray:
    """(H, W) segment ids -> (H, W, 3) uint8.

    Raises:
        InputError: if an id is negative or needs more than 24 bits.
    """
    check_segment_ids(segment_ids)
    little_endian = np.ascontiguousarray(segment_ids.astype("<u4"))
    return little_endian.view(np.uint8).reshape(*segment_ids.shape, 4)[..., :3].copy()


def rgb_to_ids(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) uint32 segment ids."""
    r, g, b = (rgb[..., k].astype(np.uint32) for k in range(3))
    return r + (g << 8) + (b << 16)


def check_listed(drawn: Iterable[int], listed: Iterable[int], place: str) -> None:
    """Refuse a map whose pixels and whose list of segments do not name the same ids; a 0 that is not listed is void.

    Args:
        place: names both, for the message.

    Raises:
        InputError: if they differ; it says so where red and blue seem to be swapped.
    """
    listed = set(listed)
    drawn = set(drawn) - ({0} - listed)
    if drawn == listed:
        return
    if {_swap_red_and_blue(k) for k in drawn} == listed:
        raise InputError(f"{place}: red and blue are swapped; write the PNG as RGB (OpenCV writes BGR): id = r + 256 g + 65536 b")
    only_drawn, only_listed = sorted(drawn - listed), sorted(listed - drawn)
    found = f"{first_few(only_drawn)} are in the PNG, but not in the list" if only_drawn else ""
    if only_listed:
        found += f"{' and ' if found else ''}{first_few(only_listed)} are in the list, but not in the PNG"
    raise InputError(f"{place}: segment ids {found}; write both again")


def _swap_red_and_blue(segment_id: int) -> int:
    return segment_id >> 16 | segment_id & 0xFF00 | (segment_id & 0xFF) << 16


def read_segment_ids(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a panoptic PNG as (H, W) uint32.

    Args:
        size: (height, width) that it must have.

    Raises:
        InputError: if the file is missing, broken, not RGB, or of another size.
    """
    segment_ids = _read_rgb(path)[0]
    if size is not None and segment_ids.shape != tuple(size):
        found, needed = (f"{h}x{w}" for h, w in (segment_ids.shape, size))
        raise InputError(f"{path}: {found} pixels, but {needed} were needed; use the PNG of the same image")
    return segment_ids


def read_segment_runs(path: Path) -> RowRuns | np.ndarray:
    """Read a panoptic PNG as the runs along its rows; as (H, W) uint32 where these are many, or the file is of no plain form.

    Raises:
        InputError: as read_segment_ids.
    """
    runs = read_plain_runs(path, RGB8)
    return read_segment_ids(path) if runs is None else runs


def _read_rgb(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    """(H, W) ids and the texts by keyword."""
    if plain := read_plain_png(path, RGB8):
        return plain
    with open_image(path) as image:
        if image.format != "PNG":
            raise InputError(f"{path}: is a {image.format}, which can change ids when it is written; write them as PNG")
        depths = read_depths(path)
        if image.mode not in ("RGB", "RGBA") or depths != [8]:
            found = f"PNG mode {image.mode}, {' and '.join(map(str, depths))} bits"
            raise InputError(f"{path}: {found}, but a panoptic PNG is 8-bit RGB; write it with id = r + 256 g + 65536 b")
        image, text = upright(image), getattr(image, "text", {})
        segment_ids = np.empty((image.height, image.width), dtype=np.uint32)
        step = max(1, PIXELS_AT_ONCE // image.width)
        for top in range(0, image.height, step):  # a large image is kept once as pixels and once as ids, no third time
            part = image.crop((0, top, image.width, min(top + step, image.height)))
            segment_ids[top : top + step] = rgb_to_ids(np.asarray(part))
        return segment_ids, text


def write_segment_ids(path: Path, segment_ids: np.ndarray) -> None:
    """Write a panoptic PNG atomically.

    Raises:
        InputError: if an id is negative or needs more than 24 bits.
    """
    write_id_png(path, segment_ids)


def write_panoptic_png(path: Path, panoptic: PanopticMap, producer: str) -> None:
    """Write a panoptic PNG atomically, with its segments and what made it in text chunks, which other readers skip."""
    segments = json.dumps([segment.to_json() for segment in panoptic.segments])
    write_id_png(path, panoptic.segment_ids, {PRODUCER_CHUNK: producer, SEGMENTS_CHUNK: segments})


def read_panoptic_png(path: Path, producer: str | None = None) -> PanopticMap | None:
    """Read back what write_panoptic_png wrote; None if there is no whole file of this producer (None: of any)."""
    try:
        segment_ids, text = _read_rgb(path)
    except InputError:
        return None
    is_other = producer is not None and text.get(PRODUCER_CHUNK) != producer
    if is_other or SEGMENTS_CHUNK not in text or not has_end(path):
        return None
    try:
        return PanopticMap(segment_ids, tuple(Segment.from_json(entry) for entry in parse_json(text[SEGMENTS_CHUNK])))
    except (ValueError, TypeError):  # somebody else's chunk of this name
        return None


def read_segments(path: Path) -> tuple[Segment, ...] | None:
    """The segments that a PNG of write_panoptic_png lists, without its pixels; None of a PNG of anybody else.

    Raises:
        InputError: if the file does not read, or what it lists are no segments.
    """
    listed = read_png_text(path).get(SEGMENTS_CHUNK)
    if listed is None:
        return None
    try:
        return tuple(Segment.from_json(entry) for entry in parse_json(listed))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: the segments in its header do not read ({shorten(error)}); write it again") from None


def describe_segments(
    segment_ids: np.ndarray, category_of: Callable[[int], int], is_crowd: Callable[[int], bool] = lambda _: False
) -> tuple[Segment, ...]:
    """List the segments of a map: areas and boxes are counted from the pixels.

    Args:
        segment_ids: (H, W), 0 is void.
        category_of: segment id -> dataset id of its class.
        is_crowd: segment id -> whether it is a group that nobody told apart.
    """
    return describe_runs(find_runs(segment_ids), category_of, is_crowd)


def describe_runs(
    runs: Runs, category_of: Callable[[int], int], is_crowd: Callable[[int], bool] = lambda _: False
) -> tuple[Segment, ...]:
    """As describe_segments, where the map's runs are known; an id that became 0 is void."""
    found = zip(runs.ids.tolist(), runs.areas().tolist(), runs.boxes().tolist(), strict=True)
    return tuple(Segment(k, category_of(k), area, tuple(box), is_crowd(k)) for k, area, box in found if k != 0)
