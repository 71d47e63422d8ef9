"""Detections of several views of an image: back on the image, and together."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torchvision.ops import batched_nms

from detection.instance_head import NMS_THRESHOLD, Detections


def detections_on_image(
    detections: Detections, seen: tuple[int, int], size: tuple[int, int], is_flipped: bool = False
) -> Detections:
    """Detections of a view on the image as it was.

    Args:
        seen: (height, width) at which the network saw the image, without padding.
        size: (height, width) of the image.
        is_flipped: whether the network saw it flipped left to right.
    """
    boxes, masks = detections.boxes, detections.mask_logits
    if is_flipped:
        boxes = torch.stack([seen[1] - boxes[:, 2], boxes[:, 1], seen[1] - boxes[:, 0], boxes[:, 3]], 1)
        masks = masks.flip(-1)
    scale = boxes.new_tensor([size[1] / seen[1], size[0] / seen[0]] * 2)
    return replace(detections, boxes=boxes * scale, mask_logits=masks)


def merge_views(found: Sequence[Detections], max_detections: int) -> Detections:
    """The detections of all views after one more suppression by boxes within each class, as one view alone has had it.

    Each object keeps the box and mask of the view that was surest of it.
    """
    if len(found) == 1:
        return found[0]
    fields = ("boxes", "train_ids", "scores", "mask_logits")
    together = {name: torch.cat([getattr(detections, name) for detections in found]) for name in fields}
    kept = batched_nms(together["boxes"], together["scores"], together["train_ids"], NMS_THRESHOLD)[:max_detections]
    return replace(found[0], **{name: values[kept] for name, values in together.items()})
