"""Published post-processing in its plain form, written from the description: full frames, one instance after the other.

What the fast forms are compared with, in results and in time. Nothing here is meant to be used otherwise.
"""

import numpy as np
import torch
import torch.nn.functional as F

from data.instance_dump import InstanceLogits
from data.taxonomy import Taxonomy


def plain_heuristic_merge(
    mask_logits: np.ndarray,
    instances: InstanceLogits,
    semantic_train_ids: np.ndarray,
    taxonomy: Taxonomy,
    *,
    min_score: float = 0.5,
    max_overlap: float = 0.5,
    min_stuff_area: int = 4096,
) -> np.ndarray:
    """The merge of Panoptic FPN: paste instances by descending score, then one stuff class after the other.

    Args:
        mask_logits: (N, ceil(H / stride), ceil(W / stride)) float32, see full_frame_logits.
        instances: their classes, boxes and scores, descending; equal scores keep their order.
        semantic_train_ids: (H, W) uint8.
        min_stuff_area: in pixels of this image.

    Returns:
        (H, W) int32 segment ids, as fusion/heuristic_merge.py numbers them.
    """
    height, width = semantic_train_ids.shape
    masks = torch.zeros((len(instances), height, width), dtype=torch.bool)
    for k, logits in enumerate(torch.from_numpy(mask_logits)):
        enlarged = F.interpolate(logits[None, None], scale_factor=instances.stride, mode="bilinear")[0, 0]
        x1, y1, x2, y2 = instances.boxes[k].astype(int)
        masks[k, y1:y2, x1:x2] = enlarged[y1:y2, x1:x2] > 0

    segment_ids = torch.zeros((height, width), dtype=torch.int32)
    number = 0
    for k in range(len(instances)):
        if instances.scores[k] < min_score:
            break
        area = masks[k].sum().item()
        taken = (masks[k] & (segment_ids > 0)).sum().item()
        if area == 0 or taken / area > max_overlap:
            continue
        free = masks[k] & (segment_ids == 0)
        if free.any():
            number += 1
            segment_ids[free] = taxonomy.segment_id(int(instances.train_ids[k]), number)

    semantic = torch.from_numpy(semantic_train_ids)
    for train_id in torch.unique(semantic).tolist():
        if train_id in taxonomy.stuff_ids:
            left = (semantic == train_id) & (segment_ids == 0)
            if left.sum().item() >= min_stuff_area:
                segment_ids[left] = taxonomy.segment_id(train_id)
    return segment_ids.numpy()


def full_frame_logits(instances: InstanceLogits) -> np.ndarray:
    """Mask logits as a network gives them, (N, ceil(H / stride), ceil(W / stride)) float32; far below 0 outside of the crops."""
    grid = -(-instances.height // instances.stride), -(-instances.width // instances.stride)
    full = np.full((len(instances), *grid), -20, dtype=np.float32)
    for logits, (y1, x1, y2, x2), crop in zip(full, instances.crop_boxes, instances.crops, strict=True):
        logits[y1:y2, x1:x2] = crop
    return full
