"""Maskness and matrix NMS of SOLOv2 (Wang et al., NeurIPS 2020, section 3.3) over NumPy masks, compiled; needs no torch.

solov2/mask_selection.py has the rule, and the same over tensors; it takes its kernels from here.
"""

from functools import cache
from math import exp
from typing import NamedTuple

import numpy as np

from runtime import compiled

WORD = 64
"""Cells of a row that one integer holds."""


class Chosen(NamedTuple):
    """Instances of one image, best first: scores (N,) float32, and which candidates they are, (N,) int64."""

    scores: np.ndarray
    places: np.ndarray


def choose_masks(
    logits: np.ndarray,
    class_scores: np.ndarray,
    labels: np.ndarray,
    smallest_areas: np.ndarray,
    *,
    mask_thr: float,
    nms_pre: int,
    max_per_img: int,
    kernel: str,
    sigma: float,
    filter_thr: float,
) -> Chosen:
    """Drop small masks, weigh scores by maskness, let better masks of the same class decay the others, keep the best.

    Args:
        logits: (N, h, w) float32. class_scores: (N,) float32. labels: (N,) int64. smallest_areas: (N,) float32 in cells.
        mask_thr, nms_pre, max_per_img, kernel, sigma, filter_thr: as solov2.mask_selection.select_instances takes them.
    """
    num, rows, columns = logits.shape
    packed = np.zeros((num, rows, -(-columns // WORD)), np.uint64)
    areas, sums, boxes = np.zeros(num, np.float32), np.zeros(num, np.float32), np.zeros((num, 4), np.int64)
    scan_masks(np.ascontiguousarray(logits), logit_of(mask_thr), packed, areas, sums, boxes)
    large = np.flatnonzero(areas > smallest_areas)
    maskness = sums / np.maximum(areas, np.float32(1))
    scores, places = _best(class_scores[large] * maskness[large], large, nms_pre)
    if len(places):
        scores = scores * _decay(packed_ious(packed, areas, boxes, places, labels[places]), kernel, sigma)
        if filter_thr > 0:
            is_kept = scores >= filter_thr
            scores, places = scores[is_kept], places[is_kept]
        scores, places = _best(scores, places, max_per_img)
    return Chosen(scores, places)


def _best(scores: np.ndarray, places: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Best first, equal ones in their order, at most `most` where that is positive."""
    order = np.argsort(-scores, kind="stable")[: most if most > 0 else None]
    return scores[order], places[order]


def _decay(ious: np.ndarray, kernel: str, sigma: float) -> np.ndarray:
    """(N,) factors of the scores, of (N, N) overlaps with better masks of the same class."""
    compensation = ious.max(0)[:, None]
    if kernel == "gaussian":
        sigma = np.float32(sigma)
        return (np.exp(-sigma * ious**2) / np.exp(-sigma * compensation**2)).min(0)
    return ((1 - ious) / (1 - compensation)).min(0)


@cache
def logit_of(probability: float) -> np.float32:
    """The largest float32 whose sigmoid, in 32 bits, does not exceed a probability in [0, 1)."""
    low, high = -200.0, 200.0
    for _ in range(80):  # resolves float32 next to 0 too
        middle = (low + high) / 2
        with np.errstate(over="ignore"):
            exceeds = np.float32(1) / (np.float32(1) + np.exp(-np.float32(middle))) > probability
        low, high = (low, middle) if exceeds else (middle, high)
    return np.float32(low)


@compiled.kernel
def scan_masks(logits, threshold, packed, areas, sums, boxes):
    """Fill in what is known of each mask of (N, h, w) logits above a threshold; all begins as 0, sums are of probabilities."""
    for n in range(logits.shape[0]):
        y1, x1, y2, x2 = logits.shape[1], logits.shape[2], 0, 0
        total = 0.0
        for y in range(logits.shape[1]):
            row = logits[n, y]
            num_inside = 0
            for logit in row:  # counted first: this loop is vector code, and most rows are empty
                num_inside += logit > threshold
            if num_inside == 0:
                continue
            areas[n] += num_inside
            y1, y2 = min(y1, y), y + 1
            for x in range(len(row)):
                if row[x] > threshold:
                    packed[n, y, x // WORD] |= np.uint64(1) << np.uint64(x % WORD)
                    total += 1 / (1 + exp(-row[x]))
                    x1, x2 = min(x1, x), max(x2, x + 1)
        sums[n] = total
        if areas[n] > 0:
            boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3] = y1, x1, y2, x2


@compiled.kernel
def packed_ious(packed, areas, boxes, chosen, labels):
    """(M, M) float32 of M chosen masks: IoU where the label is the same and column > row, else 0."""
    ious = np.zeros((len(chosen), len(chosen)), np.float32)
    for j in range(len(chosen)):
        for i in range(j):
            a, b = chosen[i], chosen[j]
            y1, x1 = max(boxes[a, 0], boxes[b, 0]), max(boxes[a, 1], boxes[b, 1])
            y2, x2 = min(boxes[a, 2], boxes[b, 2]), min(boxes[a, 3], boxes[b, 3])
            if labels[i] == labels[j] and y1 < y2 and x1 < x2:
                common = 0
                for y in range(y1, y2):
                    for w in range(x1 // WORD, (x2 - 1) // WORD + 1):
                        common += _num_bits(packed[a, y, w] & packed[b, y, w])
                ious[i, j] = common / (areas[a] + areas[b] - common)
    return ious


@compiled.kernel
def _num_bits(word):
    """Ones of a uint64: neighbouring sums of 1, 2, 4 bits, then all bytes added by one product; LLVM makes it one instruction."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))
