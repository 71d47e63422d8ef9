"""A map of ids as runs down its columns, of which there are a hundred times fewer than pixels: areas, boxes, COCO's RLE.

Columns follow each other, and a run may go on from the foot of one to the head of the next, as in COCO's run lengths
(pycocotools, common/maskApi.c, whose compressed text is written here).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from runtime.compiled import kernel

BLOCK = 16
"""Values that are compared at once."""


@dataclass(frozen=True)
class Runs:
    """The runs of an (H, W) map, those of one id together: of ids[k] from firsts[k] on, ascending.

    starts, ends: (R,) int64 positions x * H + y, end exclusive. ids: (S,) those that occur, ascending. firsts: (S,) int64.
    """

    size: tuple[int, int]
    starts: np.ndarray
    ends: np.ndarray
    ids: np.ndarray
    firsts: np.ndarray

    def areas(self) -> np.ndarray:
        """(S,) int64, in pixels."""
        return np.add.reduceat(self.ends - self.starts, self.firsts)

    def boxes(self) -> np.ndarray:
        """(S, 4) int64, (x, y, width, height) in pixels."""
        height = self.size[0]
        (x1, y1), (x2, y2) = np.divmod(self.starts, height), np.divmod(self.ends - 1, height)
        goes_on = x2 > x1  # past the foot of its column
        y1, y2 = np.where(goes_on, 0, y1), np.where(goes_on, height - 1, y2)
        x1, y1 = (np.minimum.reduceat(p, self.firsts) for p in (x1, y1))
        x2, y2 = (np.maximum.reduceat(p, self.firsts) for p in (x2, y2))
        return np.stack((x1, y1, x2 - x1 + 1, y2 - y1 + 1), axis=1)


def find_runs(ids: np.ndarray) -> Runs:
    """The runs of an (H, W) map of integers."""
    starts = _find_starts(np.ascontiguousarray(ids)) if ids.size else np.empty(0, np.int64)
    values = ids[starts % len(ids), starts // len(ids)]
    ends = np.append(starts[1:], ids.size)[: len(starts)]
    # Numbers of 16 bits, as most ids are, sort five times as fast.
    is_short = len(values) and values.min() >= 0 and values.max() < 2**16
    order = np.argsort(values.astype(np.uint16) if is_short else values, kind="stable")
    values = values[order]
    firsts = _find_changes(values)
    return Runs(ids.shape, starts[order], ends[order], values[firsts], firsts)


def _find_changes(values: np.ndarray) -> np.ndarray:
    """Where a (N,) array begins or differs from the entry before."""
    return np.append(np.zeros(min(len(values), 1), np.int64), np.flatnonzero(values[1:] != values[:-1]) + 1)


@kernel
def _find_starts(ids):
    """The positions where a pixel differs from the one above, or at the head of a column from the foot of the one before."""
    height, width = ids.shape
    found = np.empty(height * width, np.int64)  # by rows; costs only the memory that is written
    num_in_column = np.zeros(width + 1, np.int64)  # of the column before
    num = 0
    for x in range(width):
        if x == 0 or ids[0, x] != ids[height - 1, x - 1]:
            found[num] = x * height
            num += 1
            num_in_column[x + 1] += 1
    for y in range(1, height):
        row, above = ids[y], ids[y - 1]
        x = 0
        while x < width:
            x = equal_until(row, above, x)
            end = min(x + BLOCK, width)
            for k in range(x, end):
                if row[k] != above[k]:
                    found[num] = k * height + y
                    num += 1
                    num_in_column[k + 1] += 1
            x = end
    free = np.cumsum(num_in_column)  # where the next start of each column goes
    starts = np.empty(num, np.int64)
    for k in range(num):
        x = found[k] // height
        starts[free[x]] = found[k]
        free[x] += 1
    return starts


def look_up(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """table[ids] of an (H, W) map."""
    ids = np.ascontiguousarray(ids)
    found = np.empty(ids.shape, table.dtype)
    return found if _look_up(table, ids, found) else table[ids]  # NumPy counts negative ids from the end and refuses the others


@kernel
def _look_up(table, ids, found):
    """Where the row above has the same ids its results are copied; False if an id is outside the table."""
    height, width = ids.shape
    for y in range(height):
        row, out = ids[y], found[y]
        above, out_above = ids[max(y - 1, 0)], found[max(y - 1, 0)]
        x = 0
        while x < width:
            if y > 0:
                same = equal_until(row, above, x)
                out[x:same] = out_above[x:same]
                x = same
            end = min(x + BLOCK, width)
            for k in range(x, end):
                if row[k] < 0 or row[k] >= len(table):
                    return False
                out[k] = table[row[k]]
            x = end
    return True


@kernel
def equal_until(a, b, start):
    """The first index from `start` on where two rows may differ: the exact one lies at most a BLOCK later."""
    end = len(a)
    while start + 4 * BLOCK <= end and _are_equal(a, b, start, 4 * BLOCK):
        start += 4 * BLOCK
    while start + BLOCK <= end and _are_equal(a, b, start, BLOCK):
        start += BLOCK
    return start


@kernel
def _are_equal(a, b, start, length):
    # A length that is known when compiled, without an early end: a few vector instructions.
    a, b = a[start : start + length], b[start : start + length]
    difference = a[0] ^ b[0]
    for k in range(length):
        difference |= a[k] ^ b[k]
    return difference == 0


def encode_masks(ids: np.ndarray, runs: Runs, wanted: Iterable[int]) -> list[str]:
    """The compressed COCO run lengths of the masks ids == runs.ids[k], for each k of `wanted`."""
    bounds = np.append(runs.firsts, len(runs.starts))
    parts = (slice(bounds[k], bounds[k + 1]) for k in wanted)
    return [_compress(runs.starts[part], runs.ends[part], ids.size).tobytes().decode() for part in parts]


@kernel
def _compress(starts, ends, total):
    """maskApi's rleToString: the lengths of alternating gaps and runs, each less the second last, in digits of 5 bits."""
    num = 2 * len(starts)
    lengths = np.empty(num + 1, np.int64)
    position = 0
    for k in range(len(starts)):
        lengths[2 * k] = starts[k] - position
        lengths[2 * k + 1] = ends[k] - starts[k]
        position = ends[k]
    if position < total:
        lengths[num] = total - position
        num += 1
    text = np.empty(7 * num, np.uint8)
    size = 0
    for k in range(num):
        rest = lengths[k] - lengths[k - 2] if k > 2 else lengths[k]
        more = True
        while more:
            digit = rest & 31
            rest >>= 5
            more = rest != -1 if digit & 16 else rest != 0
            text[size] = digit + 48 + (32 if more else 0)
            size += 1
    return text[:size]
