"""The way back from the grid of a network's outputs to that of the image, of tensors on any device: see data/resizing.py."""

import torch
import torch.nn.functional as F
from torch import Tensor

from data.dump_file import grid_size

ROWS_AT_ONCE = 64
"""Rows of a full-size map that are made at once: 54 classes of a whole 1024x2048 image would take 450 MB."""


def logits_on_image(
    logits: Tensor, net_size: tuple[int, int], size: tuple[int, int], net_stride: int, stride: int, is_flipped: bool = False
) -> Tensor:
    """As data.resizing.logits_on_image."""
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
    """As data.resizing.argmax_on_image, int64."""
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
