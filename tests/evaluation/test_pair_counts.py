"""Counting pairs of ids by runs, against counting pixel by pixel."""

from collections import Counter

import numpy as np
import pytest

from data.row_runs import RowRuns
from evaluation.pair_counts import FEW, FIRST_CAPACITY, MANY, count_pairs
from runtime.files import InputError


def pixel_by_pixel(truth: np.ndarray, predicted: np.ndarray) -> dict:
    return dict(sorted(Counter(zip(truth.ravel().tolist(), predicted.ravel().tolist())).items()))


@pytest.mark.parametrize("longest_run", [1, FEW - 1, FEW + 1, MANY, 3 * MANY])
def test_runs_of_any_length_are_counted(longest_run):
    rng = np.random.default_rng(longest_run)
    maps = []
    for _ in range(2):
        values = np.repeat(rng.integers(0, 2**24, 400), rng.integers(1, longest_run + 1, 400))
        maps.append(np.resize(values, (37, 41)).astype(np.uint32))
    found = count_pairs(*maps)
    assert found == pixel_by_pixel(*maps)
    assert list(found) == sorted(found)


def to_runs(ids: np.ndarray) -> RowRuns:
    """As data.row_runs describes it, pixel by pixel."""
    firsts, starts, values = [], [], []
    for y, row in enumerate(ids.tolist()):
        if y and row == ids[y - 1].tolist():
            firsts.append(firsts[-1])
            continue
        firsts.append(len(starts))
        begins = [x for x in range(len(row)) if x == 0 or row[x] != row[x - 1]]
        starts += [*begins, len(row)]
        values += [*(row[x] for x in begins), 0]
    return RowRuns(ids.shape, *(np.array(part, dtype) for part, dtype in ((firsts, "i4"), (starts, "i4"), (values, "u4"))))


@pytest.mark.parametrize("longest_run", [1, 5, 40])
def test_pairs_of_runs_are_those_of_the_pixels(longest_run):
    rng = np.random.default_rng(longest_run)
    maps = []
    for repeats in (2, 3):
        values = np.repeat(rng.integers(0, 2**24, 300), rng.integers(1, longest_run + 1, 300))
        maps.append(np.repeat(np.resize(values, (12, 41)).astype(np.uint32), repeats, axis=0)[:20])
    truth, predicted = (to_runs(ids) for ids in maps)
    assert np.array_equal(truth.to_ids(), maps[0])
    expected = pixel_by_pixel(*maps)
    for sides in ((truth, predicted), (truth, maps[1]), (maps[0], predicted)):
        found = count_pairs(*sides)
        assert found == expected
        assert list(found) == sorted(found)


def test_more_pairs_of_runs_than_the_table_first_holds():
    truth = np.arange(5 * FIRST_CAPACITY, dtype=np.uint32).reshape(-1, 64)
    assert count_pairs(to_runs(truth), to_runs(truth[::-1])) == pixel_by_pixel(truth, truth[::-1])


def test_more_pairs_than_the_table_first_holds():
    truth = np.arange(5 * FIRST_CAPACITY, dtype=np.uint32).reshape(-1, 64)
    assert count_pairs(truth, truth[::-1]) == pixel_by_pixel(truth, truth[::-1])


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (1, MANY), (3, 0)])
def test_tiny_and_empty_maps(shape):
    truth, predicted = np.full(shape, 7, np.uint32), np.full(shape, 9, np.uint32)
    assert count_pairs(truth, predicted) == pixel_by_pixel(truth, predicted)


def test_maps_of_different_sizes_are_refused():
    with pytest.raises(InputError, match="2x3 and 3x2 pixels"):
        count_pairs(np.zeros((2, 3), np.uint32), np.zeros((3, 2), np.uint32))
    with pytest.raises(InputError, match="2x3 and 3x2 pixels"):
        count_pairs(to_runs(np.zeros((2, 3), np.uint32)), to_runs(np.zeros((3, 2), np.uint32)))
