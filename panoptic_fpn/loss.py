"""Losses of Panoptic FPN (Kirillov et al., CVPR 2019, section 3.2): instance terms as they are, semantics with a weight."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from data.taxonomy import VOID_TRAIN_ID
from runtime.files import InputError


@dataclass(frozen=True)
class LossWeights:
    """Factors of the two branches' losses."""

    instance: float = 1.0
    """lambda_i, of all terms of Mask R-CNN."""
    semantic: float = 0.5
    """lambda_s; 0.5 on COCO (detectron2 and mmdet). The paper's value for Cityscapes is not known for certain."""

    def __post_init__(self):
        if not self.instance >= 0 or not self.semantic >= 0 or self.instance + self.semantic == 0:
            raise InputError(f"loss weights {self.instance} and {self.semantic}: from 0 on, and one above it, are needed")


def to_output_index(semantic: Tensor, train_id_of_output: Tensor) -> Tensor:
    """Which output of the semantic branch is right at each pixel.

    Args:
        semantic: train ids, any shape, int64; VOID_TRAIN_ID stays.
        train_id_of_output: (outputs,); VOID_TRAIN_ID stands for "other", which is right for all classes that have no output.
    """
    table = torch.full((VOID_TRAIN_ID + 1,), VOID_TRAIN_ID, device=semantic.device)
    other = (train_id_of_output == VOID_TRAIN_ID).nonzero().flatten()
    if len(other):
        table[:] = other[0]
    table[train_id_of_output] = torch.arange(len(train_id_of_output), device=semantic.device)
    table[VOID_TRAIN_ID] = VOID_TRAIN_ID
    return table[semantic]


def semantic_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of the pixels that have a class; 0 where none has.

    Args:
        logits: (B, outputs, h, w), enlarged to the target's size, as in detectron2; mmdet shrinks the target instead.
        target: (B, H, W) int64, as to_output_index gives it.
    """
    enlarged = F.interpolate(logits.float(), target.shape[-2:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(enlarged, target, ignore_index=VOID_TRAIN_ID, reduction="sum")
    return total / (target != VOID_TRAIN_ID).sum().clamp(min=1)
