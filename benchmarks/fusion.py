"""Logit fusion, official variant: the released rule on full frames in torch against ours, compiled and in torch.

Both start from the exchange formats in memory and end with the map of segment ids.
"""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.scenes import predictions
from benchmarks.side_by_side import Contest
from data.instance_dump import InstanceLogits
from data.semantic_dump import SemanticLogits
from data.taxonomy import CITYSCAPES, Taxonomy
from fusion.logit_fusion import fuse
from fusion.settings import FusionSettings

SETTINGS = FusionSettings(variant="official", min_score=0.0)


def plain_official_fusion(
    instances: InstanceLogits, semantic: SemanticLogits, taxonomy: Taxonomy, settings: FusionSettings
) -> np.ndarray:
    """The rule of EfficientPS's released code, from its description: every step on (N, H, W) full frames.

    Mask logits are pasted into zeros, thresholded for the overlap test, multiplied by 4 and fused with the class's logits, which
    count inside the box; stuff and instances compete in one softmax; stuff fills what is left.

    Returns:
        (H, W) int64 segment ids: Taxonomy.segment_id, things that have a pixel numbered from the best score on.
    """
    size = semantic.height, semantic.width
    logits = F.interpolate(torch.from_numpy(semantic.logits)[None].float(), scale_factor=semantic.stride, mode="bilinear")[0]
    logits = logits[:, : size[0], : size[1]]
    chosen = [k for k in np.argsort(-instances.scores, kind="stable").tolist() if instances.scores[k] >= settings.min_score]
    pasted = torch.zeros(len(chosen), *size)
    for frame, k in zip(pasted, chosen):
        box = _box(instances, k)
        y1, x1 = (int(c) * instances.stride for c in instances.crop_boxes[k, :2])
        crop = torch.from_numpy(instances.crops[k])[None, None].float()
        enlarged = F.interpolate(crop, scale_factor=instances.stride, mode="bilinear")[0, 0]
        frame[box] = enlarged[box[0].start - y1 : box[0].stop - y1, box[1].start - x1 : box[1].stop - x1]

    masks = pasted.sigmoid() > 0.5
    occupied = torch.zeros(size, dtype=torch.bool)
    kept = []
    for rank, mask in enumerate(masks):
        area, taken = mask.sum().item(), (mask & occupied).sum().item()
        if area and taken <= settings.max_overlap * area:
            kept.append(rank)
            occupied |= mask

    mask_logits = 4 * pasted[kept]
    class_logits = torch.zeros_like(mask_logits)
    for frame, rank in zip(class_logits, kept):
        box = _box(instances, chosen[rank])
        frame[box] = logits[int(instances.train_ids[chosen[rank]])][box]
    fused = (mask_logits.sigmoid() + class_logits.sigmoid()) * (mask_logits + class_logits)
    stuff_ids = list(taxonomy.stuff_ids)
    winner = torch.cat([logits[stuff_ids], fused]).softmax(0).argmax(0)

    segment_ids = torch.zeros(size, dtype=torch.int64)
    number = 0
    for place, rank in enumerate(kept):
        mask = winner == len(stuff_ids) + place
        if mask.any():
            number += 1
            segment_ids[mask] = taxonomy.segment_id(int(instances.train_ids[chosen[rank]]), number)
    semantic_train_ids = logits.softmax(0).argmax(0)
    for train_id in stuff_ids:
        left = (semantic_train_ids == train_id) & (segment_ids == 0)
        if left.any() and left.sum().item() >= settings.min_stuff_area * segment_ids.numel() / (1024 * 2048):
            segment_ids[left] = taxonomy.segment_id(train_id)
    return segment_ids.numpy()


def _box(instances: InstanceLogits, k: int) -> tuple[slice, slice]:
    x1, y1, x2, y2 = instances.boxes[k].astype(int).tolist()
    return slice(y1, y2), slice(x1, x2)


def _contest(num: int, at_least: float, engine: str, memory_at_most: float | None = None) -> Contest:
    instances, semantic = predictions(num)
    return Contest(
        f"fusion, {num} instances, {engine}",
        at_least,
        ours=lambda: fuse(instances, semantic, CITYSCAPES, SETTINGS, engine=engine).segment_ids,
        theirs=lambda: plain_official_fusion(instances, semantic, CITYSCAPES, SETTINGS),
        same=np.array_equal,
        memory_at_most=memory_at_most,
    )


ROWS = {
    f"fusion, {num} instances, {engine}": partial(_contest, num, at_least, engine, memory_at_most)
    for engine, memory_at_most, ratios in (("compiled", 0.1, (60, 75, 110)), ("torch", None, (9, 14, 24)))
    for num, at_least in zip((10, 30, 100), ratios)
}
