"""Views of a picture for test-time augmentation, scaled and flipped, and how predictions on one come back to the picture."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.dump_file import grid_size
from data.files import InputError

LARGEST_SCALE = 8.0


class View(NamedTuple):
    """One way to look at a picture: its size times `scale`, then flipped left to right or not."""

    scale: float
    is_flipped: bool


@dataclass(frozen=True)
class ViewSettings:
    """Test-time augmentation: a picture is predicted once for each scale, and once more flipped; the default is one plain look.

    Raises:
        InputError: if there is no scale, or one is not above 0 and up to 8.
    """

    scales: tuple[float, ...] = (1.0,)
    """Factors of the picture's size; order and repetitions do not matter."""
    flip: bool = False
    """Whether each scale is also seen flipped left to right."""

    def __post_init__(self):
        if not self.scales or not all(0 < scale <= LARGEST_SCALE for scale in self.scales):  # NaN is refused too
            needed = f"one or more factors above 0 and up to {LARGEST_SCALE:g} are needed, such as 0.75 1 1.25"
            raise InputError(f"test-time scales are {list(self.scales)}, but {needed}")
        object.__setattr__(self, "scales", tuple(sorted({float(scale) for scale in self.scales})))

    def views(self) -> list[View]:
        """All of them, in an order that the settings' order does not change."""
        return [View(scale, is_flipped) for scale in self.scales for is_flipped in ((False, True) if self.flip else (False,))]

    @property
    def is_plain(self) -> bool:
        """Whether the only view is the picture itself."""
        return self == PLAIN

    @property
    def suffix(self) -> str:
        """Goes behind a producer's name, so that nothing made with other views is taken for the same: `-tta-0.75-1-flip`."""
        return "" if self.is_plain else "-".join(["-tta", *(f"{scale:.12g}" for scale in self.scales)]) + "-flip" * self.flip


PLAIN = ViewSettings()


def look(picture: np.ndarray, view: View) -> np.ndarray:
    """(H, W, 3) uint8 -> the view's picture; scaled as in training, averaging where it shrinks."""
    if view.scale != 1:
        height, width = (max(1, math.floor(side * view.scale + 0.5)) for side in picture.shape[:2])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if view.scale < 1 else cv2.INTER_LINEAR)
    return np.ascontiguousarray(picture[:, ::-1]) if view.is_flipped else picture


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
