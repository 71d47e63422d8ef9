"""Where the tiles of a large image lie, and how much each of them counts at each place; light, so that a parser can use it."""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data.dump_file import grid_size
from runtime.files import InputError

ALIGNMENT = 32
"""Tiles begin at multiples of this many pixels, the coarsest stride of the networks here: their cells and those of the logits
then lie where they would lie without tiles."""


@dataclass(frozen=True)
class TileSettings:
    """The size of the tiles and of what neighbours share, in pixels of the image.

    Raises:
        InputError: if a side is no multiple of ALIGNMENT, or the overlap is below that or above half of the shorter side.
    """

    height: int = 1024
    width: int = 2048
    overlap: int = 128
    """What neighbours share at least: an object is recognised across a seam by its part there."""

    def __post_init__(self):
        sides = (self.height, self.width)
        if not all(side >= 2 * ALIGNMENT and side % ALIGNMENT == 0 for side in sides):
            nearest = "x".join(str(max(2, round(side / ALIGNMENT)) * ALIGNMENT) for side in sides)
            needed = f"both sides must be multiples of {ALIGNMENT} from {2 * ALIGNMENT} on"
            raise InputError(f"tiles are {self.height}x{self.width}, but {needed}; take {nearest}")
        if not ALIGNMENT <= self.overlap <= min(sides) // 2:
            needed = f"{ALIGNMENT} to {min(sides) // 2} pixels, half of the shorter side, are needed"
            raise InputError(f"the overlap of tiles is {self.overlap}, but {needed}; change --overlap or --tile")

    @classmethod
    def parse(cls, text: str, overlap: int = 128) -> "TileSettings":
        """The settings that `HEIGHTxWIDTH` and an overlap name.

        Raises:
            InputError: if the text is of another form, or as the class.
        """
        found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.strip().lower())
        if found is None:
            raise InputError(f"--tile {text}: height and width in pixels are needed, such as 1024x2048")
        return cls(int(found[1]), int(found[2]), overlap)

    @property
    def suffix(self) -> str:
        """Goes behind a producer's name: `-tiles-1024x2048-128`."""
        return f"-tiles-{self.height}x{self.width}-{self.overlap}"


@dataclass(frozen=True)
class Axis:
    """The tiles along one side of an image.

    starts: their first pixels, ascending. length: of each, in pixels. side: of the image; the last tile may go beyond.
    """

    side: int
    length: int
    starts: tuple[int, ...]

    def cells(self, k: int, stride: int) -> slice:
        """The cells of a map of the whole image that tile k covers."""
        return slice(self.starts[k] // stride, -(-min(self.starts[k] + self.length, self.side) // stride))

    def weights(self, stride: int) -> np.ndarray:
        """(tiles, ceil(side / stride)) float32: linear ramps where neighbours overlap, 0 outside of a tile; columns sum to 1."""
        num_cells = -(-self.side // stride)
        middles = (np.arange(num_cells) + 0.5) * stride
        weights = np.zeros((len(self.starts), num_cells))
        for k, start in enumerate(self.starts):
            inside = self.cells(k, stride)
            weight = np.ones(inside.stop - inside.start)
            if k > 0:
                weight *= ((middles[inside] - start) / (self.starts[k - 1] + self.length - start)).clip(0, 1)
            if k + 1 < len(self.starts):
                end = start + self.length
                weight *= ((end - middles[inside]) / (end - self.starts[k + 1])).clip(0, 1)
            weights[k, inside] = weight
        return (weights / weights.sum(0)).astype(np.float32)

    def core(self, k: int) -> slice:
        """The pixels to whose middles tile k's middle is nearest; of all tiles together they are the side."""
        ends = [(a + b + self.length) // 2 for a, b in zip(self.starts, self.starts[1:], strict=False)]
        return slice(([0, *ends])[k], ([*ends, self.side])[k])


@dataclass(frozen=True)
class Tile:
    """One tile: its place in the plan, and the pixels that it covers, of which the last may lie beyond the image."""

    row: int
    column: int
    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class TilePlan:
    """The tiles of one image: all that `rows` and `columns` cross to, of one size."""

    rows: Axis
    columns: Axis

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.rows.side, self.columns.side

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """Row by row."""
        sides = self.rows.length, self.columns.length
        return tuple(Tile(i, j, y, x, *sides) for i, y in enumerate(self.rows.starts) for j, x in enumerate(self.columns.starts))

    def cut(self, image: np.ndarray, tile: Tile) -> np.ndarray:
        """(H, W, 3) -> the tile's pixels; beyond the image its last row and column go on."""
        found = image[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
        missing = tile.height - found.shape[0], tile.width - found.shape[1]
        if any(missing):
            return np.pad(found, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        return np.ascontiguousarray(found)

    def cells(self, tile: Tile, stride: int) -> tuple[slice, slice]:
        """Rows and columns that a tile covers of the whole image's grid.

        Raises:
            InputError: if the tiles do not begin at whole cells.
        """
        if ALIGNMENT % stride and len(self.tiles) > 1:
            known = ", ".join(str(s) for s in range(1, ALIGNMENT + 1) if ALIGNMENT % s == 0)
            raise InputError(f"logits at stride {stride} do not fit tiles, which need one of {known}; leave --tile out")
        return self.rows.cells(tile.row, stride), self.columns.cells(tile.column, stride)

    def core(self, tile: Tile) -> tuple[slice, slice]:
        """Rows and columns of the pixels of which no other tile's middle is nearer."""
        return self.rows.core(tile.row), self.columns.core(tile.column)

    def grid(self, stride: int) -> tuple[int, int]:
        """Rows and columns of the whole image's grid."""
        return grid_size(*self.size, stride)


def plan_tiles(size: tuple[int, int], settings: TileSettings) -> TilePlan:
    """Cover an image with tiles of one size that overlap by what is asked or more, as few as possible, evenly spread.

    A side that one tile covers has one, of the side's own length; an image that fits has one tile, which is the image. Else all
    begin at multiples of ALIGNMENT, so that the last may go beyond the image, by less than that.

    Args:
        size: (height, width) in pixels.
    """
    sides, lengths = size, (settings.height, settings.width)
    return TilePlan(*(_plan_axis(side, length, settings.overlap) for side, length in zip(sides, lengths, strict=True)))


def _plan_axis(side: int, length: int, overlap: int) -> Axis:
    if side <= length:
        return Axis(side, side, (0,))
    distance, step = -(-(side - length) // ALIGNMENT), (length - overlap) // ALIGNMENT  # of the last tile, and the largest one
    num_steps = -(-distance // step)
    return Axis(side, length, tuple(k * distance // num_steps * ALIGNMENT for k in range(num_steps + 1)))
