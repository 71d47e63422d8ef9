"""What Pan-SECB learns from: the class of each pixel, and of which object it is."""

from typing import NamedTuple

import torch
from torch import Tensor


class EmbeddingTargets(NamedTuple):
    """The truth of a batch.

    semantic: (B, H, W) int64 train ids with VOID_TRAIN_ID. instance_map: (B, H, W) int16, k for the pixels of an image's k-th
    object, from 1 on; 0 elsewhere. train_ids: for each image (N,) int64, of its objects.
    A thing pixel without an object is of a crowd, or of an object that is too small to learn.
    """

    semantic: Tensor
    instance_map: Tensor
    train_ids: list[Tensor]

    @classmethod
    def of_batch(cls, batch: dict) -> "EmbeddingTargets":
        """From a batch of the data module that has instances."""
        maps = [instance_map(instances["masks"]) for instances in batch["instances"]]
        train_ids = [instances["train_ids"] for instances in batch["instances"]]
        return cls(batch["semantic"], torch.stack(maps), train_ids)


def instance_map(masks: Tensor) -> Tensor:
    """(N, H, W) bool, no pixel in two -> (H, W) int16: k in the k-th mask, from 1 on, else 0."""
    merged = masks.new_zeros(masks.shape[1:], dtype=torch.int16)
    place, y, x = masks.nonzero(as_tuple=True)
    merged[y, x] = (place + 1).to(torch.int16)
    return merged
