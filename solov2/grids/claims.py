"""Which cells of SOLOv2's grids the objects of a data set claim, and where two claim the same one.

The rule is LocationHead's own (location_head.positive_cells); `tests/solov2/test_grids.py` compares the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from solov2.grids.objects import Objects
from solov2.location_head import positive_cells

COCO_GRIDS = ((40, 40), (36, 36), (24, 24), (16, 16), (12, 12))
COCO_CELLS = sum(rows * columns for rows, columns in COCO_GRIDS)  # 3872

Grid = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """What decides the cells of an object: grids (rows, columns) and ranges of sqrt(box area) a level, share that predicts.

    strides: of each level in pixels; the head drops masks of no more cells.
    """

    grids: tuple[Grid, ...]
    scale_ranges: tuple[tuple[float, float], ...]
    pos_scale: float
    strides: tuple[int, ...]

    @property
    def num_cells(self) -> int:
        """Cells of all levels."""
        return sum(rows * columns for rows, columns in self.grids)

    @property
    def cost(self) -> float:
        """Cells of all levels, in COCO's 3872; the kernel and class branches cost as much."""
        return self.num_cells / COCO_CELLS


@dataclass(frozen=True)
class Claims:
    """What happens to each of N objects on one level, or on all; (N,) bool each.

    is_in_range: it belongs to the level. collides: another object claims one of its cells, whose kernel then learns both masks.
    has_no_own_cell: so it is with all of its cells. loses_center: the cell of its centre has the label of a later object.
    is_lost: so have all of its cells.
    """

    is_in_range: np.ndarray
    collides: np.ndarray
    has_no_own_cell: np.ndarray
    loses_center: np.ndarray
    is_lost: np.ndarray

    @classmethod
    def of_all(cls, levels: Sequence["Claims"]) -> "Claims":
        """On all levels: what happens to an object on any of its levels, but it is lost only if it is on each."""
        names = ("is_in_range", "collides", "has_no_own_cell", "loses_center")
        on_any = [np.any([getattr(c, name) for c in levels], axis=0) for name in names]
        return cls(*on_any, is_lost=on_any[0] & np.all([c.is_lost | ~c.is_in_range for c in levels], axis=0))


def count_claims(objects: Objects, layout: Layout) -> list[Claims]:
    """What happens on each level."""
    pairs = zip(layout.grids, layout.scale_ranges, strict=True)
    return [level_claims(objects, grid, scale_range, layout.pos_scale) for grid, scale_range in pairs]


def level_claims(objects: Objects, grid: Grid, scale_range: tuple[float, float], pos_scale: float) -> Claims:
    """What happens on one level; mmdet gives a contested cell the label of the object that comes last in the file."""
    members = members_of_level(objects, scale_range)
    is_in_range = np.zeros(len(objects), dtype=bool)
    is_in_range[members] = True
    claiming, cells = claimed_cells(objects, members, grid, pos_scale)
    _, place, counts = np.unique(cells, return_inverse=True, return_counts=True)
    last = np.zeros(len(counts), dtype=np.int64)
    last[place] = claiming  # ascending, and of several values NumPy keeps the last
    is_contested, is_overwritten = counts[place] > 1, last[place] != claiming
    num_cells, num_contested, num_overwritten = (
        np.bincount(claiming[chosen], minlength=len(objects)) for chosen in (slice(None), is_contested, is_overwritten)
    )
    _, centers = claimed_cells(objects, members, grid, pos_scale=0)  # without reach there is only the cell of the centre
    loses_center = np.zeros(len(objects), dtype=bool)
    loses_center[members] = np.isin(_pairs(members, centers), _pairs(claiming[is_overwritten], cells[is_overwritten]))
    return Claims(
        is_in_range=is_in_range,
        collides=num_contested > 0,
        has_no_own_cell=is_in_range & (num_contested == num_cells),
        loses_center=loses_center,
        is_lost=is_in_range & (num_overwritten == num_cells),
    )


def _pairs(objects: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """One number for each (object, cell) of parallel arrays."""
    return objects * (1 << 40) + cells


def members_of_level(objects: Objects, scale_range: tuple[float, float]) -> np.ndarray:
    """Ascending indices of the objects whose sqrt(box area) lies in the range, ends included, and that have a pixel."""
    x1, y1, x2, y2 = objects.boxes.unbind(1)
    sizes = torch.sqrt((x2 - x1) * (y2 - y1)).numpy()
    return np.flatnonzero(objects.has_pixel & (sizes >= scale_range[0]) & (sizes <= scale_range[1]))


def claimed_cells(objects: Objects, members: np.ndarray, grid: Grid, pos_scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The claims of some objects on a grid, object by object and row by row.

    Returns:
        The claiming object of each claim, and the cell: image * rows * columns + row * columns + column.
    """
    chosen = torch.from_numpy(members)
    boxes = objects.boxes[chosen]
    reach = 0.5 * torch.stack([boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], 1) * pos_scale
    found = positive_cells(objects.centers[chosen], reach, objects.image_sizes[chosen], grid).numpy()
    rows, columns = (found[:, axis, None] + np.arange(3) for axis in (0, 1))  # never more than 3 x 3 cells
    is_claimed = (rows < found[:, 2, None])[:, :, None] & (columns < found[:, 3, None])[:, None, :]
    cells = (objects.images[members, None, None] * grid[0] + rows[:, :, None]) * grid[1] + columns[:, None, :]
    return np.repeat(members, is_claimed.sum(axis=(1, 2))), cells[is_claimed]
