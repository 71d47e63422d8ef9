"""Candidates with mask logits -> instances: maskness and matrix NMS (Wang et al., NeurIPS 2020, section 3.3).

Rules and results are those of mmdet's SOLOV2Head and mask_matrix_nms. Differs: a candidate costs one pass over its logits and
a packed bit a cell, and only masks of one class whose boxes overlap are compared. Equal scores keep their order. Kernels
measure and compare float32 masks on a CPU; a torch path does so for masks on a GPU or of another type.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from detection.matrix_nms import WORD, packed_ious, scan_masks
from solov2.full_size_masks import mask_probabilities

CHUNK = 2**21
"""Cells that the torch path turns into probabilities at a time, 8 MiB of float32."""


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
    scan_masks(logits.detach().contiguous().numpy(), np.float32(logit_of(mask_thr)), packed, areas, sums, boxes)
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
        return torch.from_numpy(packed_ious(masks.packed, areas, boxes, chosen.numpy(), labels.numpy()))
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
