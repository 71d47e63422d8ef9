"""Sizes of images before a network, and the way back: from the grid of its outputs to that of the image.

The way back is compiled for NumPy arrays; tensors of a live network stay on its device, in data/resizing_torch.py.
"""

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from data.dump_file import grid_size
from runtime.compiled import kernel

if TYPE_CHECKING:
    from torch import Tensor

MASK_INTERPOLATION = cv2.INTER_NEAREST_EXACT
"""INTER_NEAREST takes a cell's corner, so that targets would shift against the image by up to half a pixel."""
ONE, HALF = np.float32(1), np.float32(0.5)


class Axis(NamedTuple):
    """Where each point of one axis lies between cells: the cells before and after it, (N,) int64, and the weight of the latter,
    (N,) float32."""

    before: np.ndarray
    after: np.ndarray
    weight: np.ndarray

    @classmethod
    def at(cls, places: np.ndarray, num_cells: int) -> "Axis":
        """Of float32 places in units of cells, the middle of the first being 0; beyond the ends the end's value stays."""
        places = np.clip(places, np.float32(0), np.float32(num_cells - 1))
        before = places.astype(np.int64)
        return cls(before, np.minimum(before + 1, num_cells - 1), places - before.astype(np.float32))

    @classmethod
    def in_shares(cls, shares: np.ndarray, num_cells: int) -> "Axis":
        """Of float32 places in shares of the length of all cells, from -1 to 1: torch's grid_sample, rounded as it rounds."""
        return cls.at((shares + ONE) * np.float32(num_cells / 2) - HALF, num_cells)

    @classmethod
    def enlarged(cls, num_cells: int, num_points: int, scale: float | None = None) -> "Axis":
        """Of points that divide the length of all cells evenly: torch's interpolate, align_corners=False, bilinear.

        Args:
            scale: cells a point; default: num_cells / num_points.
        """
        scale = np.float32(num_cells) / np.float32(num_points) if scale is None else np.float32(scale)
        places = np.float64(scale) * (np.arange(num_points) + 0.5) - 0.5  # torch rounds once, in a fused operation
        return cls.at(places.astype(np.float32), num_cells)


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
    logits: "np.ndarray | Tensor",
    net_size: tuple[int, int],
    size: tuple[int, int],
    net_stride: int,
    stride: int,
    is_flipped: bool = False,
) -> "np.ndarray | Tensor":
    """Move logits from the grid of a network's input to a grid of the original image.

    Args:
        logits: (N, h, w), of the padded network input at `net_stride`.
        net_size: (height, width) of the network input without padding at the bottom and on the right.
        size: (height, width) of the original image.
        stride: of the wanted grid, in pixels of the image.
        is_flipped: whether the network's input was flipped left to right, before padding; the result is not.

    Returns:
        (N, ceil(H / stride), ceil(W / stride)); a cell is the logit at its middle, bilinear between the network's cells. Of an
        array float32, of a tensor one of its type on its device.
    """
    if not isinstance(logits, np.ndarray):
        from data import resizing_torch

        return resizing_torch.logits_on_image(logits, net_size, size, net_stride, stride, is_flipped)
    rows, columns = grid_size(*size, stride)
    logits = logits.astype(np.float32, copy=False)
    if net_stride == stride and tuple(net_size) == tuple(size) and not (is_flipped and size[1] % stride):
        cells = logits[:, :rows, :columns]
        return np.ascontiguousarray(cells[..., ::-1] if is_flipped else cells)
    y, x = ((np.arange(cells, dtype=np.float32) + HALF) * np.float32(stride) for cells in (rows, columns))
    if is_flipped:
        x = np.float32(size[1]) - x
    axes = []
    for middles, net_side, side, cells in zip((y, x), net_size, size, logits.shape[-2:], strict=True):
        shares = middles * np.float32(net_side) / np.float32(side) / np.float32(net_stride) / np.float32(cells)
        axes.append(Axis.in_shares(shares * 2 - ONE, cells))
    return sample(logits, *axes)


def argmax_on_image(
    logits: "np.ndarray | Tensor", net_size: tuple[int, int], size: tuple[int, int], net_stride: int
) -> "np.ndarray | Tensor":
    """(C, h, w) logits of a padded network input -> (H, W) index of the largest one, at the resolution of the image.

    Args:
        net_size, size, net_stride: as logits_on_image's.

    Returns:
        Of an array uint8, of at most 256 classes; of a tensor int64 on its device.
    """
    if not isinstance(logits, np.ndarray):
        from data import resizing_torch

        return resizing_torch.argmax_on_image(logits, net_size, size, net_stride)
    assert len(logits) <= 256, len(logits)
    rows, columns = grid_size(*net_size, net_stride)
    # The grid covers whole cells, of which the last may reach beyond the image.
    grid = np.ascontiguousarray(logits[:, :rows, :columns], dtype=np.float32)  # the kernel is compiled for one layout alone
    axes = []
    for side, net_side, cells in zip(size, net_size, grid.shape[1:], strict=True):
        step = np.float32(net_side / side * 2 / (cells * net_stride))
        axes.append(Axis.in_shares((np.arange(side, dtype=np.float32) + HALF) * step - ONE, cells))
    indices = np.empty(size, dtype=np.uint8)
    _fill_argmax(grid, *axes, indices)
    return indices


def sample(cells: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """(N, h, w) float32 -> (N, H, W), bilinear at each point of the two axes."""
    out = np.empty((len(cells), len(rows.before), len(columns.before)), dtype=np.float32)
    _fill_sampled(np.ascontiguousarray(cells), _contiguous(rows), _contiguous(columns), out)
    return out


def _contiguous(axis: Axis) -> Axis:
    return Axis(*(np.ascontiguousarray(values) for values in axis))


@kernel
def _stretch(cells, columns, out):
    """One row of cells at the points of the columns."""
    before, after, weight = columns
    for x in range(len(out)):
        out[x] = (ONE - weight[x]) * cells[before[x]] + weight[x] * cells[after[x]]


@kernel
def _fill_sampled(cells, rows, columns, out):
    before, after, weight = rows
    wide = np.empty((2, out.shape[2]), dtype=np.float32)  # row i of the cells stands at place i % 2
    for n in range(len(cells)):
        held = np.full(2, -1, dtype=np.int64)
        for y in range(out.shape[1]):
            for row in (before[y], after[y]):
                if held[row % 2] != row:
                    _stretch(cells[n, row], columns, wide[row % 2])
                    held[row % 2] = row
            upper, lower = wide[before[y] % 2], wide[after[y] % 2]
            for x in range(out.shape[2]):
                out[n, y, x] = (ONE - weight[y]) * upper[x] + weight[y] * lower[x]


@kernel
def _fill_argmax(cells, rows, columns, indices):
    before, after, weight = rows
    width = indices.shape[1]
    wide = np.empty((len(cells), 2, width), dtype=np.float32)
    best, found = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.int32)
    held = np.full(2, -1, dtype=np.int64)
    for y in range(indices.shape[0]):
        for row in (before[y], after[y]):
            if held[row % 2] != row:
                for n in range(len(cells)):
                    _stretch(cells[n, row], columns, wide[n, row % 2])
                held[row % 2] = row
        best[:] = -np.inf
        found[:] = 0
        for n in range(len(cells)):
            upper, lower = wide[n, before[y] % 2], wide[n, after[y] % 2]
            for x in range(width):
                value = (ONE - weight[y]) * upper[x] + weight[y] * lower[x]
                is_larger = value > best[x]
                best[x] = value if is_larger else best[x]
                found[x] = n if is_larger else found[x]
        for x in range(width):
            indices[y, x] = found[x]
