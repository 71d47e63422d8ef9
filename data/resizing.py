"""Sizes of images before a network, and the way back: from the grid of its outputs to that of the image."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.dump_file import grid_size

MASK_INTERPOLATION = cv2.INTER_NEAREST_EXACT
"""INTER_NEAREST takes a cell's corner, so that targets would shift against the image by up to half a pixel."""
ROWS_AT_ONCE = 64
"""Rows of a full-size map that are made at once: 54 classes of a whole 1024x2048 image would take 450 MB."""


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 -> (h, w, 3): means of areas where it shrinks, else bilinear. Training and use alike."""
    if image.shape[:2] == tuple(size):
        return image
    kind = cv2.INTER_AREA if size[0] < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=kind)


def resize_segment_ids(segment_ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) segment ids of at most 24 bits -> (h, w), each the id at the middle of its place; as resize_image moves pixels."""
    if segment_ids.shape == tuple(size):
        return segment_ids
    return cv2.resize(segment_ids.astype(np.int32), size[::-1], interpolation=MASK_INTERPOLATION).astype(np.uint32)


def logits_on_image(
    logits: Tensor, net_size: tuple[int, int], size: tuple[int, int], net_stride: int, stride: int, is_flipped: bool = False
) -> Tensor:
    """Move logits from the grid of a network's input to a grid of the original image.

    Args:
        logits: (N, h, w), of the padded network input at `net_stride`.
        net_size: (height, width) of the network input without padding at the bottom and on the right.
        size: (height, width) of the original image.
        stride: of the wanted grid, in pixels of the image.
        is_flipped: whether the network's input was flipped left to right, before padding; the result is not.

    Returns:
        (N, ceil(H / stride), ceil(W / stride)); a cell is the logit at its middle, bilinear between the network's cells.
    """
    rows, columns = grid_size(*size, stride)
    if net_stride == stride and tuple(net_size) == tuple(size) and not (is_flipped and size[1] % stride):
        cells = logits[:, :rows, :columns]
        return (cells.flip(-1) if is_flipped else cells).contiguous()
    if len(logits) == 0:
        return logits.new_zeros(0, rows, columns)
    y, x = ((torch.arange(cells, device=logits.device) + 0.5) * stride for cells in (rows, columns))  # in pixels of the image
    if is_flipped:
        x = size[1] - x
    # -1..1 over the padded features
    axes = [
        middles * net_side / side / net_stride / cells * 2 - 1
        for middles, net_side, side, cells in zip((y, x), net_size, size, logits.shape[-2:])
    ]
    y, x = torch.meshgrid(*axes, indexing="ij")
    points = torch.stack([x, y], -1)[None].to(logits.dtype)
    return F.grid_sample(logits[None], points, mode="bilinear", padding_mode="border", align_corners=False)[0]


def argmax_on_image(logits: Tensor, net_size: tuple[int, int], size: tuple[int, int], net_stride: int) -> Tensor:
    """(C, h, w) logits of a padded network input -> (H, W) int64 index of the largest one, at the resolution of the image.

    Args:
        net_size, size, net_stride: as logits_on_image's.
    """
    rows, columns = grid_size(*net_size, net_stride)
    # The grid covers whole cells, of which the last may reach beyond the image.
    y = (torch.arange(size[0], device=logits.device) + 0.5) * (net_size[0] / size[0] * 2 / (rows * net_stride)) - 1
    x = (torch.arange(size[1], device=logits.device) + 0.5) * (net_size[1] / size[1] * 2 / (columns * net_stride)) - 1
    grid = logits[None, :, :rows, :columns].float()
    indices = []
    for part in y.split(ROWS_AT_ONCE):
        places = torch.stack(torch.broadcast_tensors(x[None, :], part[:, None]), dim=-1)[None]  # (1, rows, W, 2)
        sampled = F.grid_sample(grid, places, mode="bilinear", padding_mode="border", align_corners=False)
        indices.append(sampled[0].argmax(0))
    return torch.cat(indices)
