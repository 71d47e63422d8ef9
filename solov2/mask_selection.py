"""Candidates with mask logits -> instances: maskness and matrix NMS (Wang et al., NeurIPS 2020, section 3.3).

Rules and results are those of mmdet's SOLOV2Head and mask_matrix_nms. Differs: a candidate costs one pass over its logits and
a packed bit a cell, and only masks of one class whose boxes overlap are compared. Equal scores keep their order. Kernels
measure and compare float32 masks on a CPU; a torch path does so for masks on a GPU or of another type.
"""

from functools import cache
from math import exp
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from runtime import compiled
from solov2.full_size_masks import mask_probabilities

CHUNK = 2**21
"""Cells that the torch path turns into probabilities at a time, 8 MiB of float32."""
WORD = 64
"""Cells of a row that one integer holds."""


class Selection(NamedTuple):
    """Instances of one image, best first.

    scores (N,), labels (N,). chosen (N,) int64: which candidates these are. boxes (N, 4) int64: y1, x1, y2, x2 of the binary
    mask, in cells of the logits, end exclusive.
    """

    scores: Tensor
    labels: Tensor
    chosen: Tensor
    boxes: Tensor


class _Masks(NamedTuple):
    """What is kept of N candidates: areas (N,) float32 in cells, maskness (N,), boxes (N, 4), and the packed cells
    (N, h, words of a row) uint64 of the compiled path, or the logits and the threshold of the torch path."""

    areas: Tensor
    maskness: Tensor
    boxes: Tensor
    packed: np.ndarray | None
    logits: Tensor
    mask_thr: float


def select_instances(
    logits: Tensor,
    class_scores: Tensor,
    labels: Tensor,
    smallest_areas: Tensor,
    *,
    mask_thr: float,
    nms_pre: int,
    max_per_img: int,
    kernel: str,
    sigma: float,
    filter_thr: float,
) -> Selection:
    """Drop small masks, weigh scores by maskness, let better masks of the same class decay the others, keep the best.

    Args:
        logits: (N, h, w), a mask is where their sigmoid exceeds `mask_thr`.
        class_scores: (N,) in 0..1.
        labels: (N,).
        smallest_areas: (N,) in cells; only a larger mask is kept.
        nms_pre, max_per_img, kernel ("gaussian" or "linear"), sigma, filter_thr: as mmdet's; numbers <= 0 set no limit.

    Raises:
        ValueError: if `kernel` is another, or `mask_thr` is not in [0, 1).
    """
    if kernel not in ("gaussian", "linear") or not 0 <= mask_thr < 1:
        raise ValueError(f"kernel is {kernel!r}, mask_thr {mask_thr}, but gaussian or linear and a value in [0, 1) are needed")
    masks = _measure(logits, mask_thr)
    large = (masks.areas > smallest_areas).nonzero().flatten()
    scores, chosen = _sorted((class_scores * masks.maskness)[large], large, nms_pre)
    if len(chosen):
        scores = scores * _decay(_class_ious(masks, chosen, labels[chosen]), kernel, sigma)
        if filter_thr > 0:
            is_kept = scores >= filter_thr
            scores, chosen = scores[is_kept], chosen[is_kept]
        scores, chosen = _sorted(scores, chosen, max_per_img)
    return Selection(scores, labels[chosen], chosen, masks.boxes[chosen])


def _sorted(scores: Tensor, indices: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Best first, at most `most` where that is positive."""
    scores, order = scores.sort(descending=True, stable=True)
    most = most if most > 0 else len(order)
    return scores[:most], indices[order[:most]]


def _decay(ious: Tensor, kernel: str, sigma: float) -> Tensor:
    """Matrix NMS: (N,) factors of the scores.

    Args:
        ious: (N, N), row i, column j: the overlap with a better mask i of the same class, else 0.
    """
    compensation = ious.amax(0)[:, None]  # of mask i with any better one: what is doubtful itself suppresses little
    if kernel == "gaussian":
        return (torch.exp(-sigma * ious**2) / torch.exp(-sigma * compensation**2)).amin(0)
    return ((1 - ious) / (1 - compensation)).amin(0)


def _measure(logits: Tensor, mask_thr: float) -> _Masks:
    num, rows, columns = logits.shape
    if logits.device.type != "cpu" or logits.dtype != torch.float32:
        return _Masks(*_measure_by_torch(logits, mask_thr), None, logits, mask_thr)
    packed = np.zeros((num, rows, -(-columns // WORD)), np.uint64)
    areas, sums, boxes = np.zeros(num, np.float32), np.zeros(num, np.float32), np.zeros((num, 4), np.int64)
    _scan(logits.detach().contiguous().numpy(), np.float32(logit_of(mask_thr)), packed, areas, sums, boxes)
    areas, sums, boxes = map(torch.from_numpy, (areas, sums, boxes))
    return _Masks(areas, sums / areas.clamp(min=1), boxes, packed, logits, mask_thr)


def _measure_by_torch(logits: Tensor, mask_thr: float) -> tuple[Tensor, Tensor, Tensor]:
    parts = []
    for chunk in logits.split(max(1, CHUNK // logits.shape[1:].numel())):
        probabilities = mask_probabilities(chunk)
        masks = probabilities > mask_thr
        areas = masks.sum((1, 2)).float()
        parts.append((areas, (probabilities * masks).sum((1, 2)) / areas.clamp(min=1), cell_boxes(masks)))
    return tuple(map(torch.cat, zip(*parts)))


def cell_boxes(masks: Tensor) -> Tensor:
    """(N, h, w) bool -> (N, 4) int64 y1, x1, y2, x2, end exclusive; an empty mask has zeros. Does not wait for the GPU."""
    sides = []
    for covered in (masks.any(2), masks.any(1)):  # (N, h), (N, w)
        positions = torch.arange(1, covered.shape[1] + 1, device=masks.device)
        ends = (covered * positions).amax(1)
        sides += [torch.where(ends > 0, covered.byte().argmax(1), 0), ends]
    return torch.stack(sides, 1)[:, [0, 2, 1, 3]]


def _class_ious(masks: _Masks, chosen: Tensor, labels: Tensor) -> Tensor:
    """(M, M) float32 of M chosen masks: IoU where the label is the same and column > row, else 0."""
    if masks.packed is not None:
        areas, boxes = masks.areas.numpy(), masks.boxes.numpy()
        return torch.from_numpy(_packed_ious(masks.packed, areas, boxes, chosen.numpy(), labels.numpy()))
    ious = masks.areas.new_zeros(len(chosen), len(chosen))
    members = {}  # of each class; on the host, so that the GPU is waited for once
    for k, label in enumerate(labels.tolist()):
        members.setdefault(label, []).append(k)
    for group in members.values():
        group = torch.tensor(group, device=labels.device)
        candidates = chosen[group]
        common = 0
        for rows in masks.logits.split(max(1, CHUNK // (len(group) * masks.logits.shape[2])), dim=1):
            part = (mask_probabilities(rows[candidates]) > masks.mask_thr).flatten(1).float()
            common = common + part @ part.T  # exact, as it counts to less than 2**24
        areas = masks.areas[candidates]
        ious[group[:, None], group] = (common / (areas[:, None] + areas - common)).triu(1)
    return ious


@cache
def logit_of(probability: float) -> float:
    """The largest float32 whose sigmoid, as torch's vectors round it, does not exceed a probability in [0, 1)."""
    low, high = -200.0, 200.0
    for _ in range(80):  # resolves float32 next to 0 too
        middle = (low + high) / 2
        exceeds = bool(torch.full((WORD,), middle, dtype=torch.float32).sigmoid()[0] > probability)
        low, high = (low, middle) if exceeds else (middle, high)
    return float(np.float32(low))


@compiled.kernel
def _scan(logits, threshold, packed, areas, sums, boxes):
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
def _packed_ious(packed, areas, boxes, chosen, labels):
    """As _class_ious."""
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
