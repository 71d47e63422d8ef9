"""Sizes of images before a network, and the way back: from the grid of its outputs to that of the image."""

import torch
import torch.nn.functional as F
from torch import Tensor

from data.dump_file import grid_size


def resized(size: tuple[int, int], shorter_side: int, longer_side: int | None) -> tuple[int, int]:
    """(height, width) with the shorter side as given, or less where the longer one would exceed its limit."""
    scale = shorter_side / min(size)
    if longer_side is not None:
        scale = min(scale, longer_side / max(size))
    height, width = (max(1, int(side * scale + 0.5)) for side in size)
    return height, width


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
