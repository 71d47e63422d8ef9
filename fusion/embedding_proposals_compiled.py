"""The search for clusters of embeddings on a CPU, compiled: seeds are sorted once, and a proposal looks only at points nearby.

Gives what embedding_proposals_torch.py gives. Candidates keep the order of the image, where neighbours mostly point at the same
place: each short run of them has a box around its points, and a proposal passes over runs whose box it does not reach.
"""

import numpy as np

from data.taxonomy import MAX_INSTANCES_PER_IMAGE
from fusion.embedding_proposals import HALF, Proposals, check_candidates
from runtime.compiled import kernel

LIMIT = np.float32(HALF)
RUN = 64
"""Candidates in a row that share a box."""
BLOCK = 4096
"""Pixels whose seeds are compared at once, so that they stay in the processor's first cache."""
BITS_OF_ONE = np.float32(1).view(np.uint32)
"""Floats from 0 to 1 are ordered as their bits are, and the bits of everything else are larger."""
DIGIT = 11
"""Bits by which one pass sorts."""


def find_proposals(
    embeddings: np.ndarray,
    bandwidths: np.ndarray,
    seeds: np.ndarray,
    *,
    min_candidate_seed: float,
    min_seed: float,
    min_pixels: float,
) -> Proposals:
    """As embedding_proposals_torch.find_proposals, of NumPy arrays."""
    flat_seeds, points, scales = (np.ascontiguousarray(maps).reshape(len(maps), -1) for maps in (seeds, embeddings, bandwidths))
    places, values, are_valid = _candidates(flat_seeds, np.float32(min_candidate_seed))
    points, scales = np.take(points, places, axis=1), np.take(scales, places, axis=1)
    check_candidates(are_valid, points, scales)
    labels, label_map = np.full(len(places), -1, dtype=np.int16), np.full(seeds.shape[1:], -1, dtype=np.int16)
    found = np.empty(0, dtype=np.int64)
    if len(places):
        order = _by_seed(values, np.flatnonzero(values.astype(np.float64) >= min_seed).astype(np.int32))
        found = _search(*points, scales[0], scales[-1], order, float(min_pixels), labels)
    label_map.reshape(-1)[places] = labels
    return Proposals(label_map, places[found].astype(np.int64), values[found])


def _by_seed(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The chosen candidates, largest seed first; equal ones keep their order. Floats from 0 on are ordered as their bits are."""
    if not len(chosen):
        return chosen
    bits = values.view(np.int32)[chosen]
    keys = bits.max() - bits
    for shift in range(0, int(keys.max()).bit_length(), DIGIT):
        keys, chosen = _sort_by_digit(keys, chosen, shift)
    return chosen


def _candidates(seeds: np.ndarray, min_seed: np.float32) -> tuple[np.ndarray, np.ndarray, bool]:
    """(places, largest seeds) of the candidates, in order, and whether all (T, H * W) seeds are from 0 to 1."""
    places, bits = np.empty(seeds.shape[1], dtype=np.int32), np.empty(seeds.shape[1], dtype=np.uint32)
    num, largest = _find_candidates(seeds.view(np.uint32), min_seed.view(np.uint32), places, bits)
    if largest > BITS_OF_ONE:  # a negative number, NaN or one above 1; or -0, which is none of these
        are_valid = bool(((seeds >= 0) & (seeds <= 1)).all())
        return _candidates(np.abs(seeds), min_seed) if are_valid else (places[:0], places[:0].view(np.float32), False)
    return places[:num], bits[:num].view(np.float32), True


@kernel
def _find_candidates(seeds, min_seed, places, values):
    """Fill in pixels whose largest seed is above, in order, all as bits; returns how many, and the largest seed of all."""
    num, largest = 0, np.uint32(0)
    best = np.empty(BLOCK, dtype=np.uint32)
    for start in range(0, seeds.shape[1], BLOCK):
        size = min(BLOCK, seeds.shape[1] - start)
        best[:] = 0
        for t in range(len(seeds)):
            row = seeds[t, start : start + size]
            for i in range(size):
                best[i] = max(best[i], row[i])
        for i in range(size):
            largest = max(largest, best[i])
        for i in range(size):
            places[num], values[num] = start + i, best[i]
            num += best[i] > min_seed
    return num, largest


@kernel
def _sort_by_digit(keys, items, shift):
    """Stable; (keys, items) in ascending order of one digit of the keys."""
    starts = np.zeros((1 << DIGIT) + 1, dtype=np.int64)
    mask = (1 << DIGIT) - 1
    for key in keys:
        starts[((key >> shift) & mask) + 1] += 1
    starts = np.cumsum(starts)
    sorted_keys, sorted_items = np.empty_like(keys), np.empty_like(items)
    for i in range(len(keys)):
        digit = (keys[i] >> shift) & mask
        sorted_keys[starts[digit]], sorted_items[starts[digit]] = keys[i], items[i]
        starts[digit] += 1
    return sorted_keys, sorted_items


@kernel
def _bound(values):
    """(smallest, largest) of each run of RUN values."""
    num = -(-len(values) // RUN)
    lows, highs = np.empty(num, dtype=np.float32), np.empty(num, dtype=np.float32)
    for k in range(num):
        low = high = values[k * RUN]
        for i in range(k * RUN, min((k + 1) * RUN, len(values))):
            low, high = min(low, values[i]), max(high, values[i])
        lows[k], highs[k] = low, high
    return lows, highs


@kernel
def _find_near(bounds_y, bounds_x, y, x, scale_y, scale_x, near):
    """Fill in the runs whose box a proposal reaches; returns how many.

    Rounding never turns an order around, so that no point of a run has a smaller sum than the nearest place of its box.
    """
    lows_y, highs_y = bounds_y
    lows_x, highs_x = bounds_x
    num = 0
    for k in range(len(lows_y)):
        dy = max(max(lows_y[k] - y, y - highs_y[k]), np.float32(0))
        dx = max(max(lows_x[k] - x, x - highs_x[k]), np.float32(0))
        near[num] = k
        num += not (dy * dy) * scale_y + (dx * dx) * scale_x >= LIMIT
    return num


@kernel
def _search(ys, xs, scales_y, scales_x, order, min_pixels, labels):
    """Fill in the labels of the candidates; returns those that are seeds of accepted proposals."""
    bounds_y, bounds_x = _bound(ys), _bound(xs)
    near, is_free = np.empty(len(bounds_y[0]), dtype=np.int32), np.ones(len(ys), dtype=np.uint8)
    found = np.empty(MAX_INSTANCES_PER_IMAGE, dtype=np.int64)
    num_found, num_free = 0, len(ys)
    for i in order:
        if num_free <= min_pixels or num_found == MAX_INSTANCES_PER_IMAGE:
            break
        if not is_free[i]:
            continue
        y, x, scale_y, scale_x = ys[i], xs[i], scales_y[i], scales_x[i]
        num_near = _find_near(bounds_y, bounds_x, y, x, scale_y, scale_x, near)
        size, num_new = 0, 0
        for k in near[:num_near]:
            a, b = k * RUN, min((k + 1) * RUN, len(ys))
            inside, new = _take(ys[a:b], xs[a:b], y, x, scale_y, scale_x, is_free[a:b])
            size, num_new = size + inside, num_new + new
        num_free -= num_new
        if size > min_pixels and 2 * num_new > size:
            for k in near[:num_near]:
                a, b = k * RUN, min((k + 1) * RUN, len(ys))
                _paint(ys[a:b], xs[a:b], y, x, scale_y, scale_x, num_found, labels[a:b])
            found[num_found] = i
            num_found += 1
    return found[:num_found]


@kernel
def _take(ys, xs, y, x, scale_y, scale_x, is_free):
    """(candidates of this run in the proposal, those of them that were free); they are free no longer."""
    size, num_new = np.int32(0), np.int32(0)
    for i in range(len(ys)):
        dy, dx = ys[i] - y, xs[i] - x
        inside = np.uint8((dy * dy) * scale_y + (dx * dx) * scale_x < LIMIT)
        size += np.int32(inside)
        num_new += np.int32(inside & is_free[i])
        is_free[i] &= np.uint8(1) - inside
    return size, num_new


@kernel
def _paint(ys, xs, y, x, scale_y, scale_x, number, label_of):
    for i in range(len(ys)):
        dy, dx = ys[i] - y, xs[i] - x
        inside = (dy * dy) * scale_y + (dx * dx) * scale_x < LIMIT
        label_of[i] = np.int16(number) if inside else label_of[i]
