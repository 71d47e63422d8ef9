"""The pixel work of logit fusion in torch, on any device: which instance each pixel goes to, box by box.

pixel_claims_compiled.py does the same on a CPU several times faster, and without torch.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.instance_dump import InstanceLogits
from data.semantic_dump import SemanticLogits
from data.taxonomy import Taxonomy
from fusion.pixel_claims import Box, Claims

BAND = 64
"""Rows that are worked on at once on a CPU, so that they stay in its cache; a GPU takes all."""


def claim_pixels(
    instances: InstanceLogits,
    chosen: list[int],
    semantic: SemanticLogits,
    taxonomy: Taxonomy,
    *,
    max_overlap: float,
    is_official: bool,
    device: str | torch.device = "cpu",
) -> Claims:
    """Let the chosen instances, best first, compete with the stuff logits and with each other.

    Args:
        chosen: indices of the instances; their place in this list is their rank.
        max_overlap: an instance of which more than this share is covered by kept ones before it is dropped.
        is_official: mask logits times 4, support is the whole box, and instances score 0 outside of theirs.

    On a GPU nothing is read back before the end.
    """
    logits = torch.from_numpy(semantic.logits).to(device).float()
    best, train_ids = semantic_maps(logits, (semantic.height, semantic.width), semantic.stride, taxonomy.is_thing)
    winner = torch.full(best.shape, -1, dtype=torch.int16, device=best.device)
    covered = torch.zeros(best.shape, dtype=torch.bool, device=best.device)
    is_kept = torch.zeros(len(chosen), dtype=torch.bool, device=best.device)
    boxes = [Box.of(instances, k) for k in chosen]
    for rank, (k, box) in enumerate(zip(chosen, boxes, strict=True)):
        mask_logits = _enlarged_crop(instances, k, box, best.device)
        mask, covered_box = mask_logits > 0, covered[box.slices]
        is_kept[rank] = keep = _is_kept(mask, covered_box, max_overlap)
        if best.device.type == "cpu" and not keep:
            continue
        covered_box |= mask & keep
        class_logits = _enlarged_window(logits[instances.train_ids[k]], semantic.stride, box)
        fused = fuse_logits(4 * mask_logits if is_official else mask_logits, class_logits)
        best_box, winner_box = best[box.slices], winner[box.slices]
        # The equation lifts a sum far below 0 to just below 0, above any stuff logit that is negative: two clear denials would
        # win. So the support ends where the sum does, except in the official rule.
        wins = (fused > best_box) & keep if is_official else (fused > best_box) & (fused > 0) & keep
        torch.where(wins, fused, best_box, out=best_box)
        winner_box.masked_fill_(wins, rank)
    if is_official:
        _claim_as_absent(is_kept.nonzero().flatten().tolist(), boxes, best, winner)
    return Claims(winner.cpu().numpy(), train_ids.cpu().numpy())


def _is_kept(mask: Tensor, is_taken: Tensor, max_overlap: float) -> Tensor:
    """Whether a mask has pixels and not too many of them are taken; 0-dim bool. Of an empty mask the share is NaN."""
    return (mask & is_taken).sum().double() / mask.sum().double() <= max_overlap


def fuse_logits(instance: Tensor, semantic: Tensor) -> Tensor:
    """(sigmoid(a) + sigmoid(b)) * (a + b) of EfficientPS, eq. 8; logits of any equal shape."""
    return (instance.sigmoid() + semantic.sigmoid()) * (instance + semantic)


def semantic_argmax(semantic: SemanticLogits, taxonomy: Taxonomy, device: str | torch.device) -> np.ndarray:
    """(H, W) uint8 train ids of the largest logit at full resolution; ties go to the lower id."""
    logits = torch.from_numpy(semantic.logits).to(device).float()
    return semantic_maps(logits, (semantic.height, semantic.width), semantic.stride, taxonomy.is_thing)[1].cpu().numpy()


def semantic_maps(logits: Tensor, size: tuple[int, int], stride: int, is_thing: np.ndarray) -> tuple[Tensor, Tensor]:
    """(C, h, w) logits -> largest stuff logit of each pixel, (H, W) float32, and train id of the largest, (H, W) uint8."""
    height, width = size
    best_stuff, best_thing = (torch.full(size, -torch.inf, device=logits.device) for _ in range(2))
    stuff_ids, thing_ids = (torch.zeros(size, dtype=torch.uint8, device=logits.device) for _ in range(2))
    band = BAND if logits.device.type == "cpu" else height
    for y in range(0, height, band):
        rows = Box(y, 0, min(y + band, height), width)
        for train_id, is_of_things in enumerate(is_thing):
            best, ids = (best_thing, thing_ids) if is_of_things else (best_stuff, stuff_ids)
            best, ids = best[rows.slices], ids[rows.slices]
            values = _enlarged_window(logits[train_id], stride, rows)
            ids.masked_fill_(values > best, train_id)
            torch.maximum(best, values, out=best)
    is_stuff = (best_stuff > best_thing) | ((best_stuff == best_thing) & (stuff_ids < thing_ids))
    return best_stuff, torch.where(is_stuff, stuff_ids, thing_ids)


def _enlarged_crop(instances: InstanceLogits, k: int, box: Box, device: torch.device) -> Tensor:
    """Mask logits of instance k at full resolution, on its box."""
    crop = torch.from_numpy(instances.crops[k]).to(device, non_blocking=True).float()
    y1, x1 = (int(c) * instances.stride for c in instances.crop_boxes[k, :2])
    return _enlarge(crop, instances.stride)[box.y1 - y1 : box.y2 - y1, box.x1 - x1 : box.x2 - x1]


def _enlarged_window(logits: Tensor, stride: int, box: Box) -> Tensor:
    """One class's logits at full resolution, on a box; a halo of one cell makes it equal to enlarging the whole map."""
    row, column = max(box.y1 // stride - 1, 0), max(box.x1 // stride - 1, 0)
    window = logits[row : -(-box.y2 // stride) + 1, column : -(-box.x2 // stride) + 1]
    y, x = row * stride, column * stride
    return _enlarge(window, stride)[box.y1 - y : box.y2 - y, box.x1 - x : box.x2 - x]


def _enlarge(cells: Tensor, stride: int) -> Tensor:
    return F.interpolate(cells[None, None], scale_factor=stride, mode="bilinear", align_corners=False)[0, 0]


def _claim_as_absent(kept: list[int], boxes: list[Box], best: Tensor, winner: Tensor) -> None:
    """The official rule scores an instance 0 outside its box: pixels where all is below 0 go to the first that is absent."""
    region = Box(0, 0, *best.shape)  # beyond it an earlier one has taken them
    for rank in kept:
        best_here, winner_here = best[region.slices], winner[region.slices]
        takes = (best_here < 0) | ((best_here == 0) & (winner_here > rank))
        inside = region.intersection(boxes[rank])
        takes[inside.y1 - region.y1 : inside.y2 - region.y1, inside.x1 - region.x1 : inside.x2 - region.x1] = False
        best_here.masked_fill_(takes, 0)
        winner_here.masked_fill_(takes, rank)
        region = inside
