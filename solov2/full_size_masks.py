"""Binary masks at the size of the image, one by one and only near their box: never N x H x W, and the same to the last pixel."""

from collections.abc import Iterator
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

SMALL_OUTPUT = 128
"""Up to this height + width of the output, F.interpolate runs another kernel on the CPU, which rounds differently:
https://github.com/pytorch/pytorch/blob/v2.5.1/aten/src/ATen/native/cpu/UpSampleKernel.cpp#L1539-L1574"""


class MaskCrop(NamedTuple):
    """The part (h, w) bool of a mask that begins at pixel (y, x) of the image; all else is background."""

    y: int
    x: int
    mask: Tensor


def full_size_masks(
    logits: Tensor, boxes: Tensor, *, mask_stride: int, net_size: tuple[int, int], size: tuple[int, int], mask_thr: float
) -> Iterator[MaskCrop]:
    """The binary masks on the original image, one by one.

    As in mmdet, probabilities are enlarged bilinearly to the network's input, cropped to what is not padding, enlarged again to
    the image and compared to `mask_thr`. One float crop is held at a time, or where the input was resized one float image.

    Args:
        logits: (N, h, w) at `mask_stride` of the padded network input; an iterator of maps will do.
        boxes: (N, 4) y1, x1, y2, x2 in cells, of the masks.
        net_size: (height, width) of the network input without padding.
        size: (height, width) of the image.
    """
    is_resized = tuple(net_size) != tuple(size)
    for cells, box in zip(logits, boxes.tolist(), strict=True):
        # A pixel more than a cell away lies between background cells; resizing reads the next pixel too.
        y, x, probabilities = _enlarged(cells, box, mask_stride, margin=2 if is_resized else 1)
        y, x = min(y, net_size[0]), min(x, net_size[1])  # a mask may lie in the padding
        probabilities = probabilities[: net_size[0] - y, : net_size[1] - x]
        if is_resized:
            canvas = probabilities.new_zeros(1, 1, *net_size)
            bottom, right = y + probabilities.shape[0], x + probabilities.shape[1]
            canvas[..., y:bottom, x:right] = probabilities
            y, bottom = _resized_range(y, bottom, net_size[0], size[0])
            x, right = _resized_range(x, right, net_size[1], size[1])
            probabilities = F.interpolate(canvas, size, mode="bilinear")[0, 0, y:bottom, x:right]
        yield MaskCrop(y, x, probabilities > mask_thr)


def _enlarged(logits: Tensor, box: list[int], stride: int, margin: int) -> tuple[int, int, Tensor]:
    """(y, x, crop from there), in pixels: the probabilities of a map around a box, bit for bit as in the whole enlarged map.

    Args:
        margin: cells around the box; the outermost pixels of the last one are wrong.
    """
    rows, columns = logits.shape
    least = SMALL_OUTPUT // stride + 1
    top, bottom = _at_least(max(box[0] - margin, 0), min(box[2] + margin, rows), least - columns, rows)
    x1, x2 = max(box[1] - margin, 0), min(box[3] + margin, columns)
    left, right = _at_least(x1, x2, least, columns)
    # The sigmoid of whole rows, as torch's vectors round otherwise than what is left over beside them.
    probabilities = mask_probabilities(logits[top:bottom])[None, None, :, left:right]
    sides = ((bottom - top) * stride, (right - left) * stride)
    enlarged = F.interpolate(probabilities, sides, mode="bilinear")[0, 0]
    return top * stride, x1 * stride, enlarged[:, (x1 - left) * stride : (x2 - left) * stride]


def mask_probabilities(logits: Tensor) -> Tensor:
    """float32 also of half precision, which cannot hold the sum over a mask."""
    return logits.float().sigmoid()


def _at_least(start: int, end: int, least: int, side: int) -> tuple[int, int]:
    """A range of `least` or more inside 0..side that holds start..end; 0..side where that is shorter."""
    start = max(0, min(start, side - least))
    return start, min(side, max(end, start + least))


def _resized_range(start: int, end: int, side: int, new_side: int) -> tuple[int, int]:
    """Where pixels that depend on start..end of `side` lie after bilinear resizing to `new_side`, or a little more."""
    scale = new_side / side
    return max(0, int((start - 0.5) * scale - 1)), min(new_side, int((end + 0.5) * scale + 2))
