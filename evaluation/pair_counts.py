"""How many pixels each pair of (truth id, predicted id) has: the one pass over the pixels that panoptic quality needs."""

import numpy as np

from runtime.compiled import kernel
from runtime.files import InputError

MANY, FEW = 64, 8
"""Pixels that are compared at once while a run goes on: first many, then few."""
FIRST_CAPACITY = 1024
"""Slots of the hash table; it is doubled until the pairs fill less than half of it."""


def count_pairs(truth_ids: np.ndarray, predicted_ids: np.ndarray) -> dict[tuple[int, int], int]:
    """Pixels of each pair (truth id, predicted id) that occurs, ascending by the two ids. Runs are counted, not pixels.

    Args:
        truth_ids, predicted_ids: (H, W) uint32.

    Raises:
        InputError: if the sizes differ.
    """
    if truth_ids.shape != predicted_ids.shape:
        sizes = " and ".join("x".join(str(n) for n in ids.shape) for ids in (truth_ids, predicted_ids))
        raise InputError(f"truth and prediction are {sizes} pixels; resize the prediction (nearest neighbour) to the truth")
    truth, predicted = (np.ascontiguousarray(ids, dtype=np.uint32).ravel() for ids in (truth_ids, predicted_ids))
    keys, counts = _count(truth, predicted)
    pairs = zip((keys >> np.uint64(32)).tolist(), (keys & np.uint64(0xFFFFFFFF)).tolist(), strict=True)
    return dict(zip(pairs, counts.tolist(), strict=True))


def _count(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(keys ascending: truth << 32 | predicted, pixels of each)."""
    capacity = FIRST_CAPACITY
    while True:
        keys, counts = np.zeros(capacity, dtype=np.uint64), np.zeros(capacity, dtype=np.int64)
        if _fill_table(truth, predicted, keys, counts):
            break
        capacity *= 2
    used = np.flatnonzero(counts)
    used = used[np.argsort(keys[used])]
    return keys[used], counts[used]


@kernel
def _fill_table(truth, predicted, keys, counts):
    """Add every run to its pair's slot; False if the table is too small."""
    size, mask = len(truth), np.uint64(len(keys) - 1)
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
        key = np.uint64(t) << np.uint64(32) | np.uint64(p)
        slot = (key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32) & mask
        while counts[slot] and keys[slot] != key:
            slot = slot + np.uint64(1) & mask
        if not counts[slot]:
            if not num_free:
                return False
            num_free -= 1
            keys[slot] = key
        counts[slot] += end - start
        start = end
    return True


@kernel
def _is_constant(truth, t, predicted, p, length):
    differs = np.uint32(0)  # kept at 32 bits, for numba would widen it and halve the speed
    for i in range(length):
        differs = np.uint32(differs | np.uint32(np.uint32(truth[i] ^ t) | np.uint32(predicted[i] ^ p)))
    return differs == 0
