"""Which cells of SOLOv2's grids the objects of a data set claim, where two claim the same one, and grids where few do.

The rule is LocationHead's own (location_head.positive_cells); `tests/solov2/test_grid_doctor.py` compares the two.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from data.files import InputError, read_json
from solov2.location_head import positive_cells

COCO_GRIDS = ((40, 40), (36, 36), (24, 24), (16, 16), (12, 12))
COCO_CELLS = sum(rows * columns for rows, columns in COCO_GRIDS)  # 3872
COCO_SMALLEST_RANGE, COCO_SHORT_SIDE = 96, 800
"""The largest object of the first level, and the shorter side of the images, in mmdet's solov2_r50_fpn_1x_coco.py."""
PAD_DIVISOR = 32
MAX_ROWS, ROW_STEP = 128, 4
"""Grids that are tried: rows up to MAX_ROWS (cells as small as the mask features of a 512-pixel image), in steps."""

Grid = tuple[int, int]
Track = Callable[..., Iterable]
"""Wraps an iterable, with a `description`, for a progress bar."""


@dataclass(frozen=True)
class Layout:
    """What decides the cells of an object: grids (rows, columns) and ranges of sqrt(box area) a level, share that predicts."""

    grids: tuple[Grid, ...]
    scale_ranges: tuple[tuple[float, float], ...]
    pos_scale: float

    @property
    def num_cells(self) -> int:
        return sum(rows * columns for rows, columns in self.grids)

    @property
    def cost(self) -> float:
        """Cells of all levels, in COCO's 3872; the kernel and class branches cost as much."""
        return self.num_cells / COCO_CELLS


@dataclass(frozen=True)
class Resize:
    """The training's resize: scale (width, height) as mmdet's; None leaves images as they are."""

    scale: tuple[int, int] | None = None
    keep_ratio: bool = True

    def of(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of an image -> of the network's input, without padding."""
        if self.scale is None:
            return size
        width, height = mmcv.rescale_size(size[::-1], self.scale) if self.keep_ratio else self.scale
        return height, width


@dataclass(frozen=True)
class Objects:
    """The N objects of a data set as the training sees them: those of an image together, in the order of the file.

    images: (N,) int64, counted from 0. image_sizes: (N, 2) float32 height, width of the network's input with padding.
    boxes: (N, 4) float32 x1, y1, x2, y2 and centers: (N, 2) float32 y, x of mass, in pixels of the network's input.
    areas: (N,) pixels of the original image. classes: (N,) int64, index into class_names.
    has_pixel: (N,) bool, at the network's size; has_small_pixel: at the stride of the mask features, where masks are learned.
    """

    images: np.ndarray
    image_sizes: Tensor
    boxes: Tensor
    centers: Tensor
    areas: np.ndarray
    classes: np.ndarray
    has_pixel: np.ndarray
    has_small_pixel: np.ndarray
    class_names: tuple[str, ...]
    num_images: int

    def __len__(self) -> int:
        return len(self.images)

    @property
    def usual_size(self) -> tuple[int, int]:
        """The (height, width) with padding that most objects lie in."""
        sizes, counts = self.image_sizes.unique(dim=0, return_counts=True)
        return tuple(int(side) for side in sizes[counts.argmax()])


def read_objects(path: Path, resize: Resize, mask_stride: int, track: Track) -> Objects:
    """Read a COCO instances JSON; crowds and what mmdet's CocoDataset skips are left out.

    Raises:
        InputError: if it is missing, no such JSON, or without an object to learn from.
    """
    content = read_json(path)
    needed = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in needed):
        raise InputError(f"{path}: needs `images`, `annotations` and `categories`; give a COCO instances JSON")
    try:
        sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
        names = {category["id"]: category["name"] for category in content["categories"]}
        order = {image_id: k for k, image_id in enumerate(sizes)}
        kept = [a for a in content["annotations"] if _is_learned(a, names)]
        kept.sort(key=lambda a: order[a["image_id"]])  # stable: within an image the order of the file
        rows = [_measure(a, sizes[a["image_id"]], resize, mask_stride) for a in track(kept, description="reading masks")]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: no COCO instances JSON ({error!r}); write it with scripts/prepare_cityscapes.py") from None
    if not rows:
        raise InputError(f"{path}: {len(content['annotations'])} annotations, none of them an object to learn from; give others")
    boxes, sums, counts, small_counts, padded = (np.array(column) for column in zip(*rows))
    counts = torch.from_numpy(counts)
    index_of = {category_id: k for k, category_id in enumerate(names)}
    return Objects(
        images=np.array([order[a["image_id"]] for a in kept]),
        image_sizes=torch.tensor(padded, dtype=torch.float32),
        boxes=torch.tensor(boxes, dtype=torch.float32),
        # Sums of whole numbers over a float32 count, as mmdet's center_of_mass divides them.
        centers=torch.from_numpy(sums) / counts.float().clamp(min=1e-6)[:, None],
        areas=np.array([a["area"] for a in kept], dtype=float),
        classes=np.array([index_of[a["category_id"]] for a in kept]),
        has_pixel=counts.numpy() > 0,
        has_small_pixel=small_counts > 0,
        class_names=tuple(names.values()),
        num_images=len(sizes),
    )


def _is_learned(annotation: dict, names: dict) -> bool:
    """As mmdet's CocoDataset.parse_data_info decides, and no crowd."""
    is_left_out = annotation.get("iscrowd") or annotation.get("ignore") or annotation["category_id"] not in names
    return not is_left_out and annotation["area"] > 0 and min(annotation["bbox"][2:]) >= 1


def _measure(annotation: dict, size: tuple[int, int], resize: Resize, mask_stride: int) -> tuple:
    """Box, sums of y and x over the pixels, pixels, pixels at the mask stride, padded size; all of the network's input."""
    code = annotation["segmentation"]
    if isinstance(code, list):
        code = coco_mask.merge(coco_mask.frPyObjects(code, *size))
    elif isinstance(code["counts"], list):
        code = coco_mask.frPyObjects(code, *code["size"])
    if tuple(code["size"]) != tuple(size):
        raise ValueError(f"a mask is {code['size']}, its image {list(size)}")
    (height, width), network = size, resize.of(size)
    mask = coco_mask.decode(code).T  # (W, H), which lies in memory row by row
    if network != tuple(size):
        mask = cv2.resize(mask, network, interpolation=cv2.INTER_NEAREST)  # as BitmapMasks.rescale
    top, left, high, wide = cv2.boundingRect(mask)  # its x is our y, as the mask is transposed
    crop = mask[left : left + wide, top : top + high]
    num_in_rows, num_in_columns = (crop.sum(axis, dtype=np.int64) for axis in (0, 1))
    sums = num_in_rows @ np.arange(top, top + high), num_in_columns @ np.arange(left, left + wide)
    small = mmcv.imrescale(mask, scale=1 / mask_stride)
    x, y, w, h = annotation["bbox"]
    scale = np.float32([network[1] / width, network[0] / height] * 2)
    box = (np.float32([x, y, x + w, y + h]) * scale).clip(0, np.float32([network[1], network[0]] * 2))
    padded = [-(-side // PAD_DIVISOR) * PAD_DIVISOR for side in network]
    return box, sums, num_in_rows.sum(), np.count_nonzero(small), padded


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


def adapted_ranges(size: tuple[int, int], num_levels: int) -> tuple[tuple[int, int], ...]:
    """COCO's scale ranges for images of another (height, width).

    SOLOv2 scales them with the shorter side: (1, 96) for 800 pixels, (1, 56) for 448, (1, 64) for 512 in mmdet's configs.
    """
    first = max(8, 8 * round(COCO_SMALLEST_RANGE * min(size) / COCO_SHORT_SIDE / 8))
    ranges = [(first * 2**k // 4, first * 2**k) for k in range(num_levels)]
    starts = [1, *(smallest for smallest, _ in ranges[1:])]
    ends = [*(largest for _, largest in ranges[:-1]), max(2048, *size, ranges[-1][1])]
    return tuple(zip(starts, ends))


CRITERIA = {"collide": "collides", "no own cell": "has_no_own_cell", "centre lost": "loses_center"}
"""What a proposal may keep rare, and its field of Claims."""


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
