"""Detections of Mask R-CNN -> the exchange format: each mask at the resolution of the image, where its box is."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.roi_heads import expand_boxes, expand_masks

from data.instance_dump import InstanceLogits
from data.mask_pasting import cut_out_masks
from data.taxonomy import Taxonomy
from detection.instance_head import Detections

CERTAIN = 1e-6
"""Probabilities end this far from 0 and 1, so that a logit ends at 13.8."""


def to_instance_logits(
    detections: Detections, *, image_id: str, size: tuple[int, int], taxonomy: Taxonomy, producer: str
) -> InstanceLogits:
    """Detections of an image of `size` (height, width) -> masks at stride 1; one without a pixel in its mask is left out."""
    bring = paste_masks if detections.convention == "torchvision" else sample_masks
    masks = bring(detections.mask_logits, detections.boxes, size)
    train_ids, scores = detections.train_ids.cpu().numpy(), detections.scores.cpu().numpy()
    return cut_out_masks(masks, train_ids, scores, image_id=image_id, size=size, taxonomy=taxonomy, producer=producer)


def paste_masks(mask_logits: Tensor, boxes: Tensor, size: tuple[int, int]) -> Iterator[tuple[int, int, np.ndarray]]:
    """Bring each mask to the resolution of the image, one at a time, where its box is.

    The probabilities are enlarged and turned back into logits, so that a mask ends where torchvision's does, by its
    paste_masks_in_image. (The official code enlarges the logits.)

    Args:
        mask_logits: (N, 28, 28).
        boxes: (N, 4), (x1, y1, x2, y2) in pixels.
        size: (height, width) of the image.

    Yields:
        top and left in pixels, and (h, w) float32 logits, cut at the image's edges.
    """
    padded, scale = expand_masks(mask_logits.float().sigmoid()[:, None].cpu(), padding=1)
    whole = expand_boxes(boxes.float().cpu(), scale).to(torch.int64).tolist()
    for probability, (x1, y1, x2, y2) in zip(padded, whole, strict=True):
        sides = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        enlarged = F.interpolate(probability[None], sides, mode="bilinear", align_corners=False)[0, 0]
        top, left = max(y1, 0), max(x1, 0)
        inside = enlarged[top - y1 : max(size[0] - y1, 0), left - x1 : max(size[1] - x1, 0)]
        yield top, left, inside.logit(CERTAIN).numpy()


def sample_masks(mask_logits: Tensor, boxes: Tensor, size: tuple[int, int]) -> Iterator[tuple[int, int, np.ndarray]]:
    """The same as detectron2 and mmdet do: probabilities are read where the centre of each pixel falls into the box.

    Args, yields: as paste_masks.
    """
    for logits, (x1, y1, x2, y2) in zip(mask_logits.float().cpu(), boxes.float().cpu(), strict=True):
        left, top = max(int(x1.floor()), 0), max(int(y1.floor()), 0)
        right, bottom = min(int(x2.ceil()), size[1]), min(int(y2.ceil()), size[0])
        # A box without a pixel gives an empty crop.
        x = (torch.arange(left, max(right, left)) + 0.5 - x1) / (x2 - x1) * 2 - 1
        y = (torch.arange(top, max(bottom, top)) + 0.5 - y1) / (y2 - y1) * 2 - 1
        places = torch.stack(torch.broadcast_tensors(x[None], y[:, None]), dim=-1)[None]  # (1, h, w, 2)
        inside = F.grid_sample(logits.sigmoid()[None, None], places, mode="bilinear", align_corners=False)[0, 0]
        yield top, left, inside.logit(CERTAIN).numpy()
