"""A map of ids as runs along its rows, taken from the few bytes of a PNG's filtered rows that are not 0, never from pixels.

A row that repeats the one above, as many rows of a map do, is not stored again.
"""

import threading
from dataclasses import dataclass

import numpy as np

from data.sparse_inflate import Room, inflate_sparse
from runtime.compiled import kernel

NONE, SUB, UP, AVERAGE, PAETH = range(5)
"""The filters of PNG, section 9.2 of its specification."""
SPARSE = 16
"""A map is sparse that was compressed to less than this part of its bytes, and of which no larger part is not 0 when filtered."""
LARGEST_KEPT = 2**24
"""Pixels; memory for larger maps is given back at once."""


@dataclass(frozen=True)
class RowRuns:
    """Runs of equal ids along the rows of an (H, W) map.

    Row y has the runs from firsts[y] on: run k goes from starts[k] to starts[k + 1], exclusive, and is of ids[k]; the last run of
    a row ends at W. A row that repeats the one above has the same runs.

    shape: (H, W). firsts: (H,) int32. starts: (R,) int32. ids: (R,) uint32; that of an entry at W means nothing.
    """

    shape: tuple[int, int]
    firsts: np.ndarray
    starts: np.ndarray
    ids: np.ndarray

    @property
    def size(self) -> int:
        """Pixels."""
        return self.shape[0] * self.shape[1]

    def to_ids(self, dtype: type = np.uint32) -> np.ndarray:
        """The (H, W) map."""
        pixels = np.empty(self.shape, dtype)
        _draw(self.firsts, self.starts, self.ids, pixels)
        return pixels


@kernel
def _draw(firsts, starts, ids, pixels):
    height, width = pixels.shape
    for y in range(height):
        row = pixels[y]
        if y > 0 and firsts[y] == firsts[y - 1]:
            row[:] = pixels[y - 1]
            continue
        k = firsts[y]
        while starts[k] < width:
            row[starts[k] : starts[k + 1]] = ids[k]
            k += 1


@dataclass(frozen=True)
class _Memory:
    """What decoding writes to before the result is cut out, for maps of one size."""

    room: Room
    starts: np.ndarray
    ids: np.ndarray

    @classmethod
    def of_maps(cls, shape: tuple[int, int], bytes_per_pixel: int) -> "_Memory":
        size = filtered_size(shape, bytes_per_pixel)
        most = size // SPARSE
        starts, ids = (np.empty(most + 2 * shape[1] + 3, dtype) for dtype in (np.int32, np.uint32))
        return cls(Room.for_streams(size, most), starts, ids)


_of_thread = threading.local()


def _find_memory(shape: tuple[int, int], bytes_per_pixel: int) -> _Memory:
    """Kept by each thread for the next map of the same size; of large ones it is not kept."""
    if shape[0] * shape[1] > LARGEST_KEPT:
        return _Memory.of_maps(shape, bytes_per_pixel)
    if getattr(_of_thread, "key", None) != (shape, bytes_per_pixel):
        _of_thread.memory, _of_thread.key = _Memory.of_maps(shape, bytes_per_pixel), (shape, bytes_per_pixel)
    return _of_thread.memory


def filtered_size(shape: tuple[int, int], bytes_per_pixel: int) -> int:
    """Bytes of a PNG's rows (H, W), each after the number of its filter."""
    return shape[0] * (1 + bytes_per_pixel * shape[1])


def decode_runs(compressed: bytes, shape: tuple[int, int], bytes_per_pixel: int) -> RowRuns | None:
    """The runs of a PNG's pixels.

    Args:
        compressed: the contents of its IDAT chunks.
        shape: (H, W).
        bytes_per_pixel: 3 (RGB, id = r + 256 g + 65536 b) or 2 (grey, the high byte first).

    Returns:
        None where the map is not sparse (see SPARSE), or the stream is not right or of an unusual form.
    """
    size = filtered_size(shape, bytes_per_pixel)
    if len(compressed) * SPARSE > size:
        return None
    memory = _find_memory(shape, bytes_per_pixel)
    found = inflate_sparse(np.frombuffer(compressed, np.uint8), size, memory.room)
    if found is None:
        return None
    firsts = np.empty(shape[0], np.int32)
    num = _find_runs(*found, shape[1], bytes_per_pixel, firsts, memory.starts, memory.ids)
    return None if num == 0 else RowRuns(shape, firsts, memory.starts[:num].copy(), memory.ids[:num].copy())


@kernel
def _find_runs(positions, values, width, size, firsts, starts, ids):
    """Undo the filters of rows of `width` pixels of `size` bytes; the number of entries, 0 where it is refused."""
    height, most = len(firsts), len(starts) - 2 * width - 3
    starts[0], ids[0], starts[1] = 0, 0, width  # above the first row all is 0
    num, above = 2, 0
    k, total = 0, len(positions)
    begin = 0
    for y in range(height):
        end = begin + 1 + size * width
        method = 0
        if k < total and positions[k] == begin:
            method = np.int64(values[k])
            k += 1
        if method > PAETH:
            return 0
        if method == UP and (k == total or positions[k] >= end):
            firsts[y] = above
            begin = end
            continue
        if num > most:
            return 0
        first, j, x = num, above, 0
        left = corner = np.int64(0)  # the pixels to the left, in this row and in the one above
        while x < width:
            stop = width
            if k < total and positions[k] < end:
                offset = np.int64(positions[k]) - begin - 1
                stop = offset // 3 if size == 3 else offset >> 1
            if x < stop and method <= SUB:
                left = left if method == SUB else 0
                num = _add_run(starts, ids, first, num, x, left)
                x = stop
            if x < stop and method == UP:
                while starts[j + 1] <= x:
                    j += 1
                num = _add_run(starts, ids, first, num, x, np.int64(ids[j]))
                while starts[j + 1] < stop:
                    j += 1
                    starts[num] = starts[j]
                    ids[num] = ids[j]
                    num += 1
                x = stop
            while x < stop:  # once for each run of the row above
                while starts[j + 1] <= x:
                    j += 1
                piece, up = min(stop, np.int64(starts[j + 1])), np.int64(ids[j])
                left = restore(method, 0, left, up, corner)
                num = _add_run(starts, ids, first, num, x, left)
                corner = up
                x += 1
                while method == AVERAGE and x < piece:  # nears the row above, then stays
                    value = restore(AVERAGE, 0, left, up, up)
                    if value == left:
                        break
                    left = value
                    num = _add_run(starts, ids, first, num, x, left)
                    x += 1
                x = piece
            if x < width:
                while starts[j + 1] <= x:
                    j += 1
                pixel = begin + 1 + size * x
                stored = 0
                while k < total and positions[k] < pixel + size:
                    place = np.int64(positions[k]) - pixel
                    stored |= np.int64(values[k]) << 8 * (place if size == 3 else 1 - place)
                    k += 1
                up = np.int64(ids[j])
                left = restore(method, stored, left, up, corner)
                num = _add_run(starts, ids, first, num, x, left)
                corner = up
                x += 1
        starts[num] = width
        num += 1
        firsts[y] = above = first
        begin = end
    return num


@kernel
def _add_run(starts, ids, first, num, x, value):
    """Begin a run unless the one before is of the same id; the number of entries then."""
    if num == first or ids[num - 1] != value:
        starts[num] = x
        ids[num] = value
        num += 1
    return num


@kernel
def restore(method, stored, left, up, corner):
    """A pixel from what its filter stored: one number whose bytes are computed side by side."""
    if method == NONE:
        return stored
    if method == SUB:
        return add_bytes(stored, left)
    if method == UP:
        return add_bytes(stored, up)
    if method == AVERAGE:
        return add_bytes(stored, (left & up) + (((left ^ up) & 0xFEFEFE) >> 1))
    if left == corner:  # what Paeth predicts then; the common cases
        return add_bytes(stored, up)
    if up == corner:
        return add_bytes(stored, left)
    nearest = 0
    for shift in range(0, 24, 8):
        a, b, c = (left >> shift) & 255, (up >> shift) & 255, (corner >> shift) & 255
        to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
        best = a if to_a <= to_b and to_a <= to_c else (b if to_b <= to_c else c)
        nearest |= best << shift
    return add_bytes(stored, nearest)


@kernel
def add_bytes(a, b):
    """Byte by byte, without carry into the next."""
    return ((a & 0x7F7F7F) + (b & 0x7F7F7F)) ^ ((a ^ b) & 0x808080)
