"""How many pixels each pair of (truth id, predicted id) has: the one pass over the pixels that panoptic quality needs."""

from collections.abc import Callable

import numpy as np

from data.row_runs import RowRuns
from runtime.compiled import kernel
from runtime.files import InputError

MANY, FEW = 64, 8
"""Pixels that are compared at once while a run goes on: first many, then few."""
FIRST_CAPACITY = 1024
"""Slots of the hash table; it is doubled until the pairs fill less than half of it."""


def count_pairs(truth_ids: np.ndarray | RowRuns, predicted_ids: np.ndarray | RowRuns) -> dict[tuple[int, int], int]:
    """Pixels of each pair (truth id, predicted id) that occurs, ascending by the two ids. Runs are counted, not pixels.

    Args:
        truth_ids, predicted_ids: (H, W) uint32, or the runs of such maps; two maps that are both runs take the least time.

    Raises:
        InputError: if the sizes differ.
    """
    if truth_ids.shape != predicted_ids.shape:
        sizes = " and ".join("x".join(str(n) for n in ids.shape) for ids in (truth_ids, predicted_ids))
        raise InputError(f"truth and prediction are {sizes} pixels; resize the prediction (nearest neighbour) to the truth")
    if isinstance(truth_ids, RowRuns) and isinstance(predicted_ids, RowRuns):
        sides = (truth_ids.firsts, truth_ids.starts, truth_ids.ids, predicted_ids.firsts, predicted_ids.starts, predicted_ids.ids)
        keys, counts = _fill(_fill_from_runs, truth_ids.shape[1], *sides)
    else:
        truth, predicted = (
            np.ascontiguousarray(ids.to_ids() if isinstance(ids, RowRuns) else ids, dtype=np.uint32).ravel()
            for ids in (truth_ids, predicted_ids)
        )
        keys, counts = _fill(_fill_from_pixels, truth, predicted)
    pairs = zip((keys >> np.uint64(32)).tolist(), (keys & np.uint64(0xFFFFFFFF)).tolist(), strict=True)
    return dict(zip(pairs, counts.tolist(), strict=True))


def _fill(fill_table: Callable[..., bool], *maps: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """(keys ascending: truth << 32 | predicted, pixels of each)."""
    capacity = FIRST_CAPACITY
    while True:
        keys, counts = np.zeros(capacity, dtype=np.uint64), np.zeros(capacity, dtype=np.int64)
        if fill_table(*maps, keys, counts):
            break
        capacity *= 2
    used = np.flatnonzero(counts)
    used = used[np.argsort(keys[used])]
    return keys[used], counts[used]


@kernel
def _fill_from_runs(
    width, truth_firsts, truth_starts, truth_ids, predicted_firsts, predicted_starts, predicted_ids, keys, counts
):
    """As _fill_from_pixels; rows that repeat in both maps are counted once, with their number."""
    height, num_free = len(truth_firsts), len(keys) // 2
    y = 0
    while y < height:
        t, p = np.int64(truth_firsts[y]), np.int64(predicted_firsts[y])
        end = y + 1
        while end < height and truth_firsts[end] == t and predicted_firsts[end] == p:
            end += 1
        x = 0
        while x < width:
            truth_end, predicted_end = np.int64(truth_starts[t + 1]), np.int64(predicted_starts[p + 1])
            stop = min(truth_end, predicted_end)
            num_free = _add(keys, counts, num_free, truth_ids[t], predicted_ids[p], (end - y) * (stop - x))
            if num_free < 0:
                return False
            t += truth_end == stop
            p += predicted_end == stop
            x = stop
        y = end
    return True


@kernel
def _fill_from_pixels(truth, predicted, keys, counts):
    """Add every run to its pair's slot; False if the table is too small."""
    size = len(truth)
    num_free = len(keys) // 2
    start = 0
    while start < size:
        t, p = truth[start], predicted[start]
        end = start + 1
        while end + MANY <= size and _is_constant(truth[end : end + MANY], t, predicted[end : end + MANY], p, MANY):
            end += MANY
        while end + FEW <= size and _is_constant(truth[end : end + FEW], t, predicted[end : end + FEW], p, FEW):
            end += FEW
        while end < size and truth[end] == t and predicted[end] == p:
            end += 1
        num_free = _add(keys, counts, num_free, t, p, end - start)
        if num_free < 0:
            return False
        start = end
    return True


@kernel
def _add(keys, counts, num_free, t, p, num_pixels):
    """Add to a pair's slot; the number of free slots then, -1 if there was none."""
    mask = np.uint64(len(keys) - 1)
    key = np.uint64(t) << np.uint64(32) | np.uint64(p)
    slot = (key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32) & mask
    while counts[slot] and keys[slot] != key:
        slot = slot + np.uint64(1) & mask
    if not counts[slot]:
        num_free -= 1
        if num_free < 0:
            return num_free
        keys[slot] = key
    counts[slot] += num_pixels
    return num_free


@kernel
def _is_constant(truth, t, predicted, p, length):
    differs = np.uint32(0)  # kept at 32 bits, for numba would widen it and halve the speed
    for i in range(length):
        differs = np.uint32(differs | np.uint32(np.uint32(truth[i] ^ t) | np.uint32(predicted[i] ^ p)))
    return differs == 0
