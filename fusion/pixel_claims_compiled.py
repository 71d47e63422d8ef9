"""The pixel work of logit fusion and heuristic merge on a CPU, compiled: every map is passed over once, row by row.

For logit fusion, pixel_claims_torch.py does the same in torch. No class and no instance is ever enlarged as a whole: two source
rows, enlarged horizontally, serve the rows between them. The inner loops have no branches, so that they become vector
instructions.
"""

import numpy as np

from data.instance_dump import InstanceLogits
from data.semantic_dump import SemanticLogits
from data.taxonomy import Taxonomy
from fusion.pixel_claims import Box, Claims
from runtime.compiled import kernel

ONE = np.float32(1)
BLOCK = 4096
"""Values that are converted at once."""
BIAS = np.float32(2.0**112)
"""float32's exponent of a number less float16's, as a factor."""
INFINITE = np.uint32(143 << 23)
"""float16's infinity, and above it NaN, as the bits of the float32 that the factor gives: 2^16."""


def claim_pixels(
    instances: InstanceLogits,
    chosen: list[int],
    semantic: SemanticLogits,
    taxonomy: Taxonomy,
    *,
    max_overlap: float,
    is_official: bool,
) -> Claims:
    """As pixel_claims_torch.claim_pixels, on NumPy arrays."""
    size = semantic.height, semantic.width
    logits = to_float32(semantic.logits)
    best, train_ids = semantic_maps(logits, size, semantic.stride, taxonomy.is_thing)
    winner, covered = np.full(size, -1, dtype=np.int16), np.zeros(size, dtype=bool)
    is_kept = np.zeros(len(chosen), dtype=bool)
    boxes = np.array([Box.of(instances, k).corners for k in chosen], dtype=np.int64).reshape(-1, 4)
    crop_weights, semantic_weights = weights_between_cells(instances.stride), weights_between_cells(semantic.stride)
    for rank, k in enumerate(chosen):
        box, corner = boxes[rank], instances.stride * instances.crop_boxes[k, :2].astype(np.int64)
        mask_logits = np.empty((box[2] - box[0], box[3] - box[1]), dtype=np.float32)
        area, taken = _enlarge_crop(to_float32(instances.crops[k]), corner, box, crop_weights, covered, mask_logits)
        if area == 0 or taken / area > max_overlap:
            continue
        is_kept[rank] = True
        class_logits = logits[instances.train_ids[k]]
        _claim(rank, mask_logits, class_logits, box, semantic_weights, is_official, best, winner, covered)
    if is_official:
        _claim_as_absent(np.flatnonzero(is_kept), boxes, best, winner)
    return Claims(winner, train_ids)


def paste_pixels(instances: InstanceLogits, chosen: list[int], *, max_overlap: float) -> np.ndarray:
    """Let the chosen instances, best first, take the pixels of their masks that are still free.

    Args:
        chosen: indices of the instances; their place in this list is their rank.
        max_overlap: an instance of which more than this share is taken by others before it is dropped.

    Returns:
        (H, W) int16, rank of the instance that a pixel goes to, -1 where none.
    """
    size = instances.height, instances.width
    winner, covered = np.full(size, -1, dtype=np.int16), np.zeros(size, dtype=bool)
    weights = weights_between_cells(instances.stride)
    for rank, k in enumerate(chosen):
        box = np.array(Box.of(instances, k).corners, dtype=np.int64)
        corner = instances.stride * instances.crop_boxes[k, :2].astype(np.int64)
        mask_logits = np.empty((box[2] - box[0], box[3] - box[1]), dtype=np.float32)
        area, taken = _enlarge_crop(to_float32(instances.crops[k]), corner, box, weights, covered, mask_logits)
        if area and taken / area <= max_overlap:
            _paste(rank, mask_logits, box, winner, covered)
    return winner


def semantic_maps(logits: np.ndarray, size: tuple[int, int], stride: int, is_thing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As pixel_claims_torch.semantic_maps, on NumPy arrays; the logits are float32."""
    best_stuff, train_ids = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.uint8)
    _fill_semantic_maps(logits, weights_between_cells(stride), np.asarray(is_thing), best_stuff, train_ids)
    return best_stuff, train_ids


def semantic_argmax(semantic: SemanticLogits, taxonomy: Taxonomy) -> np.ndarray:
    """As pixel_claims_torch.semantic_argmax, on NumPy arrays."""
    size = semantic.height, semantic.width
    return semantic_maps(to_float32(semantic.logits), size, semantic.stride, taxonomy.is_thing)[1]


def to_float32(logits: np.ndarray) -> np.ndarray:
    """float16 or float32, of any shape -> float32, every value kept; NumPy's own conversion takes nine times as long."""
    if logits.dtype != np.float16:
        return logits.astype(np.float32, copy=False)
    values = np.empty(logits.shape, dtype=np.float32)
    halves, flat = np.ascontiguousarray(logits).reshape(-1).view(np.uint16), values.reshape(-1)
    _widen(halves, flat.view(np.uint32), flat)
    return values


def weights_between_cells(stride: int) -> np.ndarray:
    """(stride,) float32: weight of the next cell at each pixel from the middle of a cell on, in bilinear upsampling."""
    return (stride // 2 + np.arange(stride, dtype=np.float32) + np.float32(0.5)) / np.float32(stride) - np.float32(0.5)


@kernel
def _widen(halves, bits, values):
    """float16 by its bits to float32; `bits` are those of `values`, block by block in the processor's first cache."""
    for start in range(0, len(halves), BLOCK):
        end = min(start + BLOCK, len(halves))
        half, bit, value = halves[start:end], bits[start:end], values[start:end]
        for i in range(len(half)):
            bit[i] = (np.uint32(half[i]) & np.uint32(0x7FFF)) << np.uint32(13)
        for i in range(len(half)):
            value[i] *= BIAS  # the exponents count from another number
        for i in range(len(half)):
            is_infinite = bit[i] >= INFINITE
            bit[i] |= np.uint32(0x7F800000) if is_infinite else np.uint32(0)
            bit[i] |= (np.uint32(half[i]) & np.uint32(0x8000)) << np.uint32(16)


@kernel
def _enlarge_row(cells, weights, out):
    """Bilinear along one row: (w,) -> (w * stride,); before the first and after the last middle the value stays."""
    stride, last = len(weights), len(cells) - 1
    start = stride // 2
    out[:start] = cells[0]
    if stride == 4:  # written out, it takes a sixteenth of the general loop's time
        w0, w1, w2, w3 = weights
        for j in range(last):
            cell, following = cells[j], cells[j + 1]
            out[2 + 4 * j] = (ONE - w0) * cell + w0 * following
            out[3 + 4 * j] = (ONE - w1) * cell + w1 * following
            out[4 + 4 * j] = (ONE - w2) * cell + w2 * following
            out[5 + 4 * j] = (ONE - w3) * cell + w3 * following
    else:
        for j in range(last):
            for t in range(stride):
                out[start + stride * j + t] = (ONE - weights[t]) * cells[j] + weights[t] * cells[j + 1]
    out[start + stride * last :] = cells[last]


@kernel
def _rows_around(y, weights, num_rows):
    """Source rows above and below pixel row y of an enlarged map, and the weight of the one below."""
    stride = len(weights)
    place = y - stride // 2
    if place < 0:
        return 0, 0, np.float32(0)
    upper = place // stride
    return upper, min(upper + 1, num_rows - 1), weights[place % stride]


@kernel
def _fill_semantic_maps(logits, weights, is_thing, best_stuff, train_ids):
    num_classes, num_rows, num_columns = logits.shape
    height, width = best_stuff.shape
    wide = np.empty((num_classes, 2, num_columns * len(weights)), dtype=np.float32)  # source row i stands at place i % 2
    best_thing, thing, stuff = np.empty(width, np.float32), np.empty(width, np.int32), np.empty(width, np.int32)
    filled = -1
    for y in range(height):
        upper, lower, weight = _rows_around(y, weights, num_rows)
        while filled < lower:
            filled += 1
            for c in range(num_classes):
                _enlarge_row(logits[c, filled], weights, wide[c, filled % 2])
        best = best_stuff[y]
        best[:] = -np.inf
        best_thing[:] = -np.inf
        for c in range(num_classes):
            row, next_row = wide[c, upper % 2], wide[c, lower % 2]
            if is_thing[c]:
                _keep_largest(row, next_row, weight, c, best_thing, thing)
            else:
                _keep_largest(row, next_row, weight, c, best, stuff)
        for x in range(width):
            is_stuff = (best[x] > best_thing[x]) | ((best[x] == best_thing[x]) & (stuff[x] < thing[x]))
            train_ids[y, x] = stuff[x] if is_stuff else thing[x]


@kernel
def _keep_largest(row, next_row, weight, c, best, index):
    for x in range(len(best)):
        value = (ONE - weight) * row[x] + weight * next_row[x]
        is_larger = value > best[x]
        best[x] = value if is_larger else best[x]
        index[x] = c if is_larger else index[x]


@kernel
def _enlarge_crop(crop, corner, box, weights, covered, out):
    """Mask logits on the box; returns the mask's area and how much of it is covered. `corner`: y and x of the crop's start."""
    height, width = out.shape
    wide = np.empty((2, crop.shape[1] * len(weights)), dtype=np.float32)
    filled = _rows_around(box[0] - corner[0], weights, len(crop))[0] - 1
    area, taken = 0, 0
    for y in range(height):
        upper, lower, weight = _rows_around(box[0] - corner[0] + y, weights, len(crop))
        while filled < lower:
            filled += 1
            _enlarge_row(crop[filled], weights, wide[filled % 2])
        row, next_row = wide[upper % 2, box[1] - corner[1] :], wide[lower % 2, box[1] - corner[1] :]
        covered_row = covered[box[0] + y, box[1] : box[3]]
        for x in range(width):
            value = (ONE - weight) * row[x] + weight * next_row[x]
            out[y, x] = value
            area += value > 0
            taken += (value > 0) & covered_row[x]
    return area, taken


@kernel
def _paste(rank, mask_logits, box, winner, covered):
    """Give an instance the free pixels of its mask and mark them."""
    for y in range(mask_logits.shape[0]):
        covered_row, winner_row = covered[box[0] + y, box[1] : box[3]], winner[box[0] + y, box[1] : box[3]]
        for x in range(mask_logits.shape[1]):
            is_taken = (mask_logits[y, x] > 0) & ~covered_row[x]
            winner_row[x] = rank if is_taken else winner_row[x]
            covered_row[x] |= mask_logits[y, x] > 0


@kernel
def _claim(rank, mask_logits, class_logits, box, weights, is_official, best, winner, covered):
    """Give an instance the pixels of its support where it beats all before it; mark what its mask covers."""
    height, width = mask_logits.shape
    num_rows, num_columns = class_logits.shape
    stride = len(weights)
    # A halo of one cell makes the window equal to enlarging the whole map.
    first, end = max(box[1] // stride - 1, 0), min(-(-box[3] // stride) + 1, num_columns)
    wide = np.empty((2, (end - first) * stride), dtype=np.float32)
    offset = box[1] - first * stride
    scaled, mask_sigmoid = np.empty(width, np.float32), np.empty(width, np.float32)
    other, other_sigmoid = np.empty(width, np.float32), np.empty(width, np.float32)
    scale = np.float32(4) if is_official else ONE
    filled = _rows_around(box[0], weights, num_rows)[0] - 1
    for y in range(height):
        upper, lower, weight = _rows_around(box[0] + y, weights, num_rows)
        while filled < lower:
            filled += 1
            _enlarge_row(class_logits[filled, first:end], weights, wide[filled % 2])
        row, next_row = wide[upper % 2, offset:], wide[lower % 2, offset:]
        mask, covered_row = mask_logits[y], covered[box[0] + y, box[1] : box[3]]
        for x in range(width):
            other[x] = (ONE - weight) * row[x] + weight * next_row[x]
            covered_row[x] |= mask[x] > 0
            scaled[x] = mask[x] * scale
        _sigmoid(scaled, mask_sigmoid)
        _sigmoid(other, other_sigmoid)
        best_row, winner_row = best[box[0] + y, box[1] : box[3]], winner[box[0] + y, box[1] : box[3]]
        for x in range(width):
            fused = (mask_sigmoid[x] + other_sigmoid[x]) * (scaled[x] + other[x])
            # The equation lifts a sum far below 0 to just below 0, above any stuff logit that is negative: two clear denials
            # would win. So the support ends where the sum does, except in the official rule.
            wins = (fused > best_row[x]) & (is_official | (fused > 0))
            best_row[x] = fused if wins else best_row[x]
            winner_row[x] = rank if wins else winner_row[x]


@kernel
def _sigmoid(values, out):
    """Of a row. exp is 2^n times Cephes' polynomial (expf, S. Moshier), within 2 units of the last place: a library's function
    would be called value by value."""
    exponents = np.empty(len(values), dtype=np.int32)
    powers = exponents.view(np.float32)
    for i in range(len(values)):
        value = min(max(-values[i], np.float32(-87)), np.float32(88))
        n = np.floor(value * np.float32(1.44269504088896341) + np.float32(0.5))
        exponents[i] = (np.int32(n) + np.int32(127)) << np.int32(23)
        rest = value - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)  # minus n ln 2, in two parts
        p = np.float32(1.9875691500e-4)
        p = p * rest + np.float32(1.3981999507e-3)
        p = p * rest + np.float32(8.3334519073e-3)
        p = p * rest + np.float32(4.1665795894e-2)
        p = p * rest + np.float32(1.6666665459e-1)
        p = p * rest + np.float32(5.0000001201e-1)
        out[i] = p * rest * rest + rest + ONE
    for i in range(len(values)):
        out[i] = ONE / (ONE + out[i] * powers[i])


@kernel
def _claim_as_absent(kept, boxes, best, winner):
    """The official rule scores an instance 0 outside its box: pixels where all is below 0 go to the first that is absent."""
    y1, x1, y2, x2 = 0, 0, best.shape[0], best.shape[1]  # beyond these rows and columns an earlier one has taken them
    for rank in kept:
        box = boxes[rank]
        for y in range(y1, y2):
            is_in_rows = box[0] <= y < box[2]
            for x in range(x1, x2):
                if is_in_rows and box[1] <= x < box[3]:
                    continue
                if best[y, x] < 0 or (best[y, x] == 0 and winner[y, x] > rank):
                    best[y, x] = 0
                    winner[y, x] = rank
        y1, x1, y2, x2 = max(y1, box[0]), max(x1, box[1]), min(y2, box[2]), min(x2, box[3])
