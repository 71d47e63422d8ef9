"""Grids in which few objects of a data set claim the same cells, with as few cells as that takes."""

from dataclasses import dataclass, replace

import numpy as np

from runtime.files import InputError
from solov2.grids.claims import COCO_CELLS, COCO_GRIDS, Layout, level_claims
from solov2.grids.objects import Objects, Track
from solov2.grids.recall_bound import large_enough, recall_weights

COCO_SMALLEST_RANGE, COCO_SHORT_SIDE = 96, 800
"""The largest object of the first level, and the shorter side of the images, in mmdet's solov2_r50_fpn_1x_coco.py."""
MAX_ROWS, ROW_STEP = 128, 4
"""Grids that are tried: rows up to MAX_ROWS (cells as small as the mask features of a 512-pixel image), in steps."""
FATES = {"collide": "collides", "no own cell": "has_no_own_cell", "centre lost": "loses_center"}
"""What a proposal may keep rare on any level, and its field of Claims."""
RECALL = "AR"
"""Or it keeps small what collisions take from the mask AR of a network that reproduces its training targets exactly."""
CRITERIA = (*FATES, RECALL)
ROUNDING = 1e-12
"""Shares that differ by less are the same: they are sums of floats."""


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
    """A layout, the share of all objects, or of 1 in AR, that it still loses, and whether that is at most the target."""

    layout: Layout
    share: float
    is_met: bool


class Proposer:
    """Finds grids of the images' aspect ratio in which little is lost by one of CRITERIA.

    Every density of every level is tried once; then cells go, from COCO's coarsest density on, where they free most
    for their number, and in the end those go that turn out not to be needed.
    """

    def __init__(self, objects: Objects, template: Layout, criterion: str, track: Track):
        """The template gives all but the grids."""
        height, width = objects.usual_size
        fewest = max(1, round((COCO_GRIDS[-1][0] * COCO_GRIDS[-1][1] * height / width) ** 0.5))
        row_counts = range(-(-fewest // ROW_STEP) * ROW_STEP, MAX_ROWS + 1, ROW_STEP)
        self.template = template
        self.candidates = [(rows, max(1, round(rows * width / height))) for rows in row_counts]
        self.cells = [rows * columns for rows, columns in self.candidates]
        tried = track([(r, c) for r in template.scale_ranges for c in self.candidates], description="trying grids")
        claims = [level_claims(objects, grid, r, template.pos_scale) for r, grid in tried]
        num_levels = len(template.scale_ranges)
        shape = num_levels, len(self.candidates), len(objects)
        if criterion == RECALL:  # lost is what no level detects, of what is large enough to be detected
            is_large = large_enough(objects, template)
            is_kept = np.array([c.is_in_range for c in claims]).reshape(shape) & is_large[:, None]
            self.is_bad = ~is_kept | np.array([c.has_no_own_cell for c in claims]).reshape(shape)
            self.num_bad_needed = num_levels
            self.weights, self.whole = np.where(is_kept.any((0, 1)), recall_weights(objects), 0), 1
        else:
            self.is_bad = np.array([getattr(c, FATES[criterion]) for c in claims]).reshape(shape)
            self.num_bad_needed = 1
            self.weights, self.whole = np.ones(len(objects)), len(objects)

    def propose(self, target: float, max_cells: float = np.inf) -> Proposal:
        """The least costly grids found for a target share, within a number of cells.

        Raises:
            InputError: if the coarsest grids have more cells.
        """
        chosen = [0] * len(self.template.scale_ranges)
        if (fewest := self.cells[0] * len(chosen)) > max_cells:
            found, needed = f"{max_cells / COCO_CELLS:.2f}", f"{fewest / COCO_CELLS:.2f}"
            raise InputError(f"cost limit {found}, but the coarsest grids that are tried cost {needed}; give {needed} or more")
        while self._share(chosen) > target and (step := self._best_step(chosen, max_cells)):
            chosen[step[0]] = step[1]
        reached = max(target, self._share(chosen) + ROUNDING)
        for level in reversed(range(len(chosen))):
            options = ([*chosen[:level], k, *chosen[level + 1 :]] for k in range(chosen[level] + 1))
            chosen = next(option for option in options if self._share(option) <= reached)
        layout = replace(self.template, grids=tuple(self.candidates[k] for k in chosen))
        return Proposal(layout, self._share(chosen), self._share(chosen) <= target)

    def _num_bad(self, chosen: list[int]) -> np.ndarray:
        return np.sum([level[k] for level, k in zip(self.is_bad, chosen)], axis=0, dtype=np.int8)

    def _share(self, chosen: list[int]) -> float:
        return self._lost(self._num_bad(chosen))

    def _lost(self, num_bad: np.ndarray) -> float:
        return float(self.weights[num_bad >= self.num_bad_needed].sum()) / self.whole

    def _best_step(self, chosen: list[int], max_cells: float) -> tuple[int, int] | None:
        """The level and its new density that free most a cell; None where none frees any."""
        best, best_gain = None, ROUNDING / self.cells[-1]
        free = max_cells - sum(self.cells[k] for k in chosen)
        num_bad = self._num_bad(chosen)
        before = self._lost(num_bad)
        for level, k in enumerate(chosen):
            num_bad_elsewhere = num_bad - self.is_bad[level][k]
            for denser in range(k + 1, len(self.cells)):
                extra = self.cells[denser] - self.cells[k]
                gain = (before - self._lost(num_bad_elsewhere + self.is_bad[level][denser])) / extra
                if extra <= free and gain > best_gain:
                    best, best_gain = (level, denser), gain
        return best
