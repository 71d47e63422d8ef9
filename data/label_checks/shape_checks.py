"""Segments whose form is seldom that of an object: slivers, holes, pieces far apart, crowds that look like one object."""

import cv2
import numpy as np

from data.label_checks.findings import Box, Finding, count_of, name_segment
from data.panoptic_png import PanopticMap, Segment

AREA_REFERENCE = 1024 * 2048
"""Pixels of the image that areas below are of; they scale with the image."""
SMALLEST_CROWD, LARGEST_CROWD = 50, 48**2
"""Pixels of a crowd that may be one object: no fewer, and fewer than these of a 1024x2048 image."""
SLIVER_PIXELS, THIN_PIXELS = 4, 25
"""A thing of at most so many pixels, and a segment without 2x2 pixels of at least so many."""
SHARE_OF_HOLES, SMALLEST_HOLE = 0.05, 100
SHARE_OF_PIECE, TIMES_LENGTH, FEWEST_PIXELS = 0.15, 1.5, 30
SHARE_OF_BOX = 0.75
SHARE_OF_IMAGE = 0.98


def check_shapes(
    image_id: object, panoptic: PanopticMap, things: frozenset[int], names: dict[int, str], is_void: np.ndarray
) -> list[Finding]:
    """What is suspicious about the forms of a truth's segments, whose areas and boxes are right.

    Args:
        things: category ids of things.
        names: class name by category id.
        is_void: (H, W) bool.
    """
    found: list[Finding] = []
    num_pixels = panoptic.segment_ids.size
    thing_ids = {s.segment_id for s in panoptic.segments if s.category_id in things}
    for segment in panoptic.segments:
        name = name_segment(segment.segment_id, names.get(segment.category_id))
        is_thing = segment.category_id in things

        def report(kind: str, text: str, weight: float, segment: Segment = segment, name: str = name, **numbers: float) -> None:
            ids, box = (segment.segment_id,), segment.bbox
            found.append(Finding(kind, image_id, "truth", ids, box, f"{name}: {text}", weight, numbers))

        if segment.area > SHARE_OF_IMAGE * num_pixels:
            share = segment.area / num_pixels
            report("covers-image", f"covers {100 * share:.1f} % of the image", share, share=share)
        if is_thing and segment.area <= SLIVER_PIXELS:
            report("sliver", count_of(segment.area, "pixel"), 1 / segment.area, area=segment.area)
            continue
        mask = _crop(panoptic.segment_ids, segment.bbox) == segment.segment_id
        if segment.area >= THIN_PIXELS and not _has_square(mask):
            report("sliver", f"{segment.area} pixels, nowhere two pixels thick", segment.area, area=segment.area)
        if not is_thing:
            continue
        if segment.is_crowd:
            _check_crowd(segment, mask, num_pixels, report)
            continue
        _check_holes(segment, mask, _crop(is_void, segment.bbox), num_pixels, report)
        _check_pieces(segment, mask, _crop(panoptic.segment_ids, segment.bbox), thing_ids, report)
    return found


def _crop(pixels: np.ndarray, box: Box) -> np.ndarray:
    x, y, width, height = box
    return pixels[y : y + height, x : x + width]


def _has_square(mask: np.ndarray) -> bool:
    """Whether 2x2 pixels fit somewhere."""
    return bool((mask[:-1, :-1] & mask[1:, :-1] & mask[:-1, 1:] & mask[1:, 1:]).any())


def _check_crowd(segment: Segment, mask: np.ndarray, num_pixels: int, report: object) -> None:
    if (
        not SMALLEST_CROWD <= segment.area < LARGEST_CROWD * num_pixels / AREA_REFERENCE
        or segment.area < SHARE_OF_BOX * mask.size
    ):
        return
    if cv2.connectedComponents(mask.astype(np.uint8))[0] == 2:  # the outside, and one piece
        report("compact-crowd", f"a crowd of {segment.area} pixels in one piece", segment.area / mask.size, area=segment.area)


def _check_holes(segment: Segment, mask: np.ndarray, is_void: np.ndarray, num_pixels: int, report: object) -> None:
    least = max(SHARE_OF_HOLES * segment.area, SMALLEST_HOLE * num_pixels / AREA_REFERENCE)
    if not least < mask.size - segment.area:
        return
    rest = np.pad(~mask, 1, constant_values=True).astype(np.uint8)  # the outside is one piece all round
    _, pieces = cv2.connectedComponents(rest, connectivity=4)
    enclosed = pieces[1:-1, 1:-1]
    area = int((is_void & (enclosed != 0) & (enclosed != pieces[0, 0])).sum())
    if area > least:
        share = area / segment.area
        report("holes", f"encloses {area} pixels of void, {100 * share:.0f} % of its area", share, area=area, share=share)


def _check_pieces(segment: Segment, mask: np.ndarray, ids: np.ndarray, thing_ids: set[int], report: object) -> None:
    num, _, table, centers = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if num <= 2 or segment.area < FEWEST_PIXELS:
        return
    boxes, areas, centers = table[1:, :4], table[1:, 4], centers[1:]
    largest = int(areas.argmax())
    reach, far = int(boxes[largest, 2:].max()), []
    for k in np.flatnonzero(areas >= SHARE_OF_PIECE * segment.area).tolist():
        gap = _gap(boxes[largest], boxes[k])
        if gap > TIMES_LENGTH * reach and not _is_hidden_between(
            ids, centers[largest], centers[k], segment.segment_id, thing_ids
        ):
            far.append(gap)
    if far:
        text = f"{len(far) + 1} pieces, {max(far):.0f} pixels apart, the largest {reach} pixels long, and no thing between them"
        report("far-pieces", text, max(far) / reach, pieces=num - 1, gap=max(far), length=reach)


def _is_hidden_between(ids: np.ndarray, start: np.ndarray, end: np.ndarray, own: int, thing_ids: set[int]) -> bool:
    """Whether most of the line between two points (x, y), without what is the segment itself, lies on other things or void."""
    x, y = np.linspace(start, end, 2 + int(np.hypot(*(end - start)))).round().astype(int).T
    between = [k for k in ids[y, x].tolist() if k != own]
    return 2 * sum(k == 0 or k in thing_ids for k in between) > len(between)


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    """Between two boxes, in pixels; 0 where they touch."""
    gaps = [max(0, int(max(a[k], b[k]) - min(a[k] + a[k + 2], b[k] + b[k + 2]))) for k in (0, 1)]
    return float(np.hypot(*gaps))
