"""Grids in which few objects of a data set claim the same cells, with as few cells as that takes."""

from dataclasses import dataclass

import numpy as np

from data.files import InputError
from solov2.grid_claims import COCO_CELLS, COCO_GRIDS, Layout, level_claims
from solov2.grid_objects import Objects, Track

COCO_SMALLEST_RANGE, COCO_SHORT_SIDE = 96, 800
"""The largest object of the first level, and the shorter side of the images, in mmdet's solov2_r50_fpn_1x_coco.py."""
MAX_ROWS, ROW_STEP = 128, 4
"""Grids that are tried: rows up to MAX_ROWS (cells as small as the mask features of a 512-pixel image), in steps."""
CRITERIA = {"collide": "collides", "no own cell": "has_no_own_cell", "centre lost": "loses_center"}
"""What a proposal may keep rare, and its field of Claims."""


def adapted_ranges(size: tuple[int, int], num_levels: int) -> tuple[tuple[int, int], ...]:
    """COCO's scale ranges for images of another (height, width).

    SOLOv2 scales them with the shorter side: (1, 96) for 800 pixels, (1, 56) for 448, (1, 64) for 512 in mmdet's configs.
    """
    first = max(8, 8 * round(COCO_SMALLEST_RANGE * min(size) / COCO_SHORT_SIDE / 8))
    ranges = [(first * 2**k // 4, first * 2**k) for k in range(num_levels)]
    starts = [1, *(smallest for smallest, _ in ranges[1:])]
    ends = [*(largest for _, largest in ranges[:-1]), max(2048, *size, ranges[-1][1])]
    return tuple(zip(starts, ends))


@dataclass(frozen=True)
class Proposal:
    """A layout, the share of all objects that still meet the criterion on any level, and whether it is at most the target."""

    layout: Layout
    share: float
    is_met: bool


class Proposer:
    """Finds grids of the images' aspect ratio in which at most a share of the objects meets a criterion.

    Every density of every level is tried once; then cells go, from COCO's coarsest density on, where they free most objects
    for their number, and in the end those go that turn out not to be needed.
    """

    def __init__(self, objects: Objects, scale_ranges: tuple, pos_scale: float, criterion: str, track: Track):
        height, width = objects.usual_size
        fewest = max(1, round((COCO_GRIDS[-1][0] * COCO_GRIDS[-1][1] * height / width) ** 0.5))
        row_counts = range(-(-fewest // ROW_STEP) * ROW_STEP, MAX_ROWS + 1, ROW_STEP)
        self.scale_ranges, self.pos_scale = tuple(scale_ranges), pos_scale
        self.candidates = [(rows, max(1, round(rows * width / height))) for rows in row_counts]
        self.cells = [rows * columns for rows, columns in self.candidates]
        tried = track([(r, c) for r in scale_ranges for c in self.candidates], description="trying grids")
        found = [getattr(level_claims(objects, grid, r, pos_scale), CRITERIA[criterion]) for r, grid in tried]
        self.is_bad = np.array(found).reshape(len(scale_ranges), len(self.candidates), len(objects))

    def propose(self, target: float, max_cells: float = np.inf) -> Proposal:
        """The least costly grids found for a target share of objects, within a number of cells.

        Raises:
            InputError: if the coarsest grids have more cells.
        """
        chosen = [0] * len(self.scale_ranges)
        if (fewest := self.cells[0] * len(chosen)) > max_cells:
            found, needed = f"{max_cells / COCO_CELLS:.2f}", f"{fewest / COCO_CELLS:.2f}"
            raise InputError(f"cost limit {found}, but the coarsest grids that are tried cost {needed}; give {needed} or more")
        while self._share(chosen) > target and (step := self._best_step(chosen, max_cells)):
            chosen[step[0]] = step[1]
        reached = max(target, self._share(chosen))
        for level in reversed(range(len(chosen))):
            options = ([*chosen[:level], k, *chosen[level + 1 :]] for k in range(chosen[level] + 1))
            chosen = next(option for option in options if self._share(option) <= reached)
        layout = Layout(tuple(self.candidates[k] for k in chosen), self.scale_ranges, self.pos_scale)
        return Proposal(layout, self._share(chosen), self._share(chosen) <= target)

    def _share(self, chosen: list[int]) -> float:
        return float(np.any([level[k] for level, k in zip(self.is_bad, chosen)], axis=0).mean())

    def _best_step(self, chosen: list[int], max_cells: float) -> tuple[int, int] | None:
        """The level and its new density that free most objects a cell; None where none frees any."""
        best, best_gain = None, 0.0
        free = max_cells - sum(self.cells[k] for k in chosen)
        num_bad_levels = np.sum([level[k] for level, k in zip(self.is_bad, chosen)], axis=0, dtype=np.int8)
        before = np.count_nonzero(num_bad_levels)
        for level, k in enumerate(chosen):
            is_bad_elsewhere = num_bad_levels > self.is_bad[level][k]
            for denser in range(k + 1, len(self.cells)):
                extra = self.cells[denser] - self.cells[k]
                gain = (before - np.count_nonzero(is_bad_elsewhere | self.is_bad[level][denser])) / extra
                if extra <= free and gain > best_gain:
                    best, best_gain = (level, denser), gain
        return best
