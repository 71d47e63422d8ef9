"""Semantic loss of EfficientPS (Mohan & Valada, IJCV 2021, eq. 3): cross-entropy of the hardest quarter of the pixels."""

import math

import torch.nn.functional as F
from torch import Tensor

from data.taxonomy import VOID_TRAIN_ID


def hardest_pixels_loss(logits: Tensor, target: Tensor, fraction: float = 0.25) -> Tensor:
    """Mean cross-entropy over the hardest `fraction` of each image's labelled pixels, then over images.

    Void pixels neither have a loss nor count in the fraction; an image without a labelled pixel is left out, and a batch
    of such images has loss 0. (The official code takes the fraction over the whole batch and counts void pixels in it.)

    Args:
        logits: (B, C, h, w); enlarged bilinearly to the target's size where it is smaller.
        target: (B, H, W) train ids, 255 is void.
        fraction: in (0, 1]; 1 is plain cross-entropy.
    """
    if logits.shape[-2:] != target.shape[-2:]:
        logits = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
    losses = F.cross_entropy(logits.float(), target, ignore_index=VOID_TRAIN_ID, reduction="none")  # (B, H, W)
    hardest = []
    for loss, is_labelled in zip(losses, target != VOID_TRAIN_ID, strict=True):
        labelled = loss[is_labelled]
        if len(labelled):
            hardest.append(labelled.topk(math.ceil(fraction * len(labelled)), sorted=False).values.mean())
    return sum(hardest) / len(hardest) if hardest else logits.sum() * 0
