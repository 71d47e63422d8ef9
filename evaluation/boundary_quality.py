"""Boundary PQ (Cheng et al., "Boundary IoU", CVPR 2021): PQ whose IoU is the smaller of mask IoU and boundary IoU.

As the authors' evaluators (bowenc0221/boundary-iou-api, coco_panoptic_api/evaluation.py and utils/boundary_utils.py at 37d2558):
a segment's boundary is what `boundary_width` erosions with a 3x3 square take from it, beyond the image counts as another segment,
and a prediction's boundary pixels on void of the truth leave the union. What is forgiven is decided by the masks, as in PQ.

Differs: areas are counted from the pixels (see panoptic_quality), and the interiors have an id that no segment can have. The
authors mark them by the largest category id + 1, so that a segment with this id mixes with the interiors of the others.
"""

import math

import numpy as np

from data.panoptic_png import PanopticMap
from evaluation.pair_counts import count_pairs
from evaluation.panoptic_quality import VOID_SEGMENT_ID, ImageMatches, find_forgiven, match_overlaps, sum_over
from runtime.compiled import kernel
from runtime.files import InputError

DILATION_RATIO = 0.02
"""Width of a boundary as a share of the image's diagonal: the authors' default for panoptic segmentation."""
INTERIOR_ID = 2**32 - 1
"""Stands for all pixels of segments away from their boundaries; a panoptic PNG holds ids below 2**24."""


def boundary_width(size: tuple[int, int], ratio: float = DILATION_RATIO) -> int:
    """How many pixels deep the boundaries of an image of this (height, width) are; at least 1.

    Raises:
        InputError: if the ratio is not a positive number.
    """
    if not (math.isfinite(ratio) and ratio > 0):
        raise InputError(f"boundary ratio {ratio}, but a share of the image's diagonal above 0 is needed; give 0.02 as the paper")
    height, width = size
    return max(1, round(ratio * math.sqrt(height**2 + width**2)))


def keep_boundaries(segment_ids: np.ndarray, depth: int, *, has_void: bool = True) -> np.ndarray:
    """The same map with INTERIOR_ID where all pixels within `depth`, along rows, columns and diagonals, are of one segment.

    Void stays whole. Beyond the image nothing belongs to a segment.

    Args:
        segment_ids: (H, W) uint32.
        depth: in pixels, at least 1.
        has_void: whether 0 is void; some predictions number their segments from 0.

    Returns:
        (H, W) uint32.
    """
    assert depth >= 1
    kept = np.array(segment_ids, dtype=np.uint32, order="C")  # a copy
    _fill_interiors(np.ascontiguousarray(segment_ids, dtype=np.uint32), depth, np.uint32(INTERIOR_ID), has_void, kept)
    return kept


@kernel
def _fill_interiors(ids, depth, interior_id, has_void, kept):
    """Fill the middle of each square of 2 depth + 1 pixels with one id: by rows, with the height of one id above each pixel.

    heights[x] counts the rows up to this one where the pixels within `depth` to the left and right of x have one and the same id.
    """
    height, width = ids.shape
    side = 2 * depth + 1
    heights = np.zeros(width, np.int64)
    for y in range(height):
        start = 0
        while start < width:
            segment_id = ids[y, start]
            end = start + 1
            while end < width and ids[y, end] == segment_id:
                end += 1
            first, last = start + depth, end - depth  # of the run's pixels, those away from its ends
            for x in range(start, min(first, end)):
                heights[x] = 0
            for x in range(first, last):
                if y > 0 and ids[y - 1, x] == segment_id:
                    heights[x] += 1
                else:
                    heights[x] = 1
                if heights[x] >= side and not (has_void and segment_id == VOID_SEGMENT_ID):
                    kept[y - depth, x] = interior_id
            for x in range(max(last, start), end):
                heights[x] = 0
            start = end


def match_boundaries(
    truth: PanopticMap,
    prediction: PanopticMap,
    ratio: float = DILATION_RATIO,
    overlaps: dict[tuple[int, int], int] | None = None,
    names: tuple[str, str] = ("truth", "prediction"),
) -> ImageMatches:
    """As match_segments, with min(mask IoU, boundary IoU) for the IoU; PanopticQuality.add_matches of these gives Boundary PQ.

    Args:
        ratio: of the image's diagonal, see boundary_width.
        overlaps: of the two maps, if they were counted already.
        names: of the two maps, for the message.

    Raises:
        InputError: as match_segments and boundary_width.
    """
    if overlaps is None:
        overlaps = count_pairs(truth.segment_ids, prediction.segment_ids)
    matches = match_overlaps(truth, prediction, overlaps, names)
    depth = boundary_width(truth.segment_ids.shape, ratio)
    has_void = all(segment.segment_id != VOID_SEGMENT_ID for segment in prediction.segments)
    on_boundaries = count_pairs(
        keep_boundaries(truth.segment_ids, depth), keep_boundaries(prediction.segment_ids, depth, has_void=has_void)
    )
    truth_lengths, predicted_lengths = sum_over(on_boundaries, 0), sum_over(on_boundaries, 1)
    kept, missed, unmatched = [], [], []
    for truth_id, predicted_id, category_id, mask_iou in matches.matches:
        overlap = on_boundaries.get((truth_id, predicted_id), 0)
        on_void = on_boundaries.get((VOID_SEGMENT_ID, predicted_id), 0)
        iou = min(mask_iou, overlap / (predicted_lengths[predicted_id] + truth_lengths[truth_id] - overlap - on_void))
        if iou > 0.5:
            kept.append((truth_id, predicted_id, category_id, iou))
        else:
            missed.append(category_id)
            unmatched.append((predicted_id, category_id))
    forgiven = find_forgiven(truth, prediction.segments, overlaps, sum_over(overlaps, 1))
    invented = [category_id for predicted_id, category_id in unmatched if predicted_id not in forgiven]
    return ImageMatches(tuple(kept), (*matches.missed, *missed), (*matches.invented, *invented))
