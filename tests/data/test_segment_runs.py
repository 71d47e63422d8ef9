"""Runs down the columns tell areas, boxes and run lengths as the pixels do; compiled and plain paths agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from data import segment_runs
from data.segment_runs import encode_masks, find_runs, look_up
from runtime.compiled import has_compiler

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="numba is absent")
FIELDS = ("starts", "ends", "ids", "firsts")


def without_compiler(function, *args):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_runs, "has_compiler", lambda: False)
        return function(*args)


@st.composite
def maps(draw, max_side: int = 40) -> np.ndarray:
    """Few values or many, in stretches or not, some of more than 16 bits."""
    height, width, num = draw(st.integers(1, max_side)), draw(st.integers(1, 3 * max_side)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = rng.choice([0, 7, 26001, 65535, 65536, 2**24 - 1], num)[rng.integers(0, num, (height, width))]
    step = draw(st.integers(1, 20))
    stretched = ids[np.ix_(np.arange(height) // step, np.arange(width) // step)]
    return stretched.astype(draw(st.sampled_from((np.uint32, np.int32, np.int64))))


def test_a_run_goes_on_at_the_head_of_the_next_column():
    runs = find_runs(np.array([[5, 7], [7, 5]]))  # 5 7 | 7 5 down the columns
    assert runs.ids.tolist() == [5, 7]
    assert list(zip(runs.starts.tolist(), runs.ends.tolist(), strict=True)) == [(0, 1), (3, 4), (1, 3)]
    assert runs.areas().tolist() == [2, 2]
    assert runs.boxes().tolist() == [[0, 0, 2, 2], [0, 0, 2, 2]]


@settings(deadline=None, max_examples=100)
@given(ids=maps())
def test_areas_and_boxes_are_those_of_the_pixels(ids):
    runs = find_runs(ids)
    assert runs.ids.tolist() == np.unique(ids).tolist()
    for value, area, box in zip(runs.ids, runs.areas().tolist(), runs.boxes().tolist(), strict=True):
        ys, xs = np.nonzero(ids == value)
        assert area == len(ys)
        assert box == [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]


@needs_compiler
@settings(deadline=None, max_examples=100)
@given(ids=maps())
def test_compiled_and_plain_runs_are_equal(ids):
    compiled, plain = find_runs(ids), without_compiler(find_runs, ids)
    for name in FIELDS:
        assert np.array_equal(getattr(compiled, name), getattr(plain, name))


@pytest.mark.parametrize("size", [(0, 4), (4, 0)])
def test_a_map_without_pixels_has_no_runs(size):
    runs = find_runs(np.zeros(size, np.uint32))
    assert all(len(getattr(runs, name)) == 0 for name in FIELDS)
    assert len(runs.areas()) == len(runs.boxes()) == 0


@settings(deadline=None, max_examples=100)
@given(ids=maps())
def test_masks_are_encoded_as_pycocotools_encodes_them(ids):
    runs = find_runs(ids)
    expected = [coco_mask.encode(np.asfortranarray(ids == value).view(np.uint8))["counts"].decode() for value in runs.ids]
    wanted = range(len(runs.ids))
    assert encode_masks(ids, runs, wanted) == expected
    assert without_compiler(encode_masks, ids, runs, wanted) == expected


def test_run_lengths_of_many_digits_are_encoded_as_pycocotools_encodes_them():
    ids = np.zeros((700, 900), np.int32)  # lengths around 2**19, and large steps down from one length to the next
    ids[650:, 800], ids[0, 0], ids[3, 5], ids[-1, -1] = 1, 1, 1, 1
    runs = find_runs(ids)
    expected = [coco_mask.encode(np.asfortranarray(ids == value).view(np.uint8))["counts"].decode() for value in (0, 1)]
    assert encode_masks(ids, runs, (0, 1)) == expected


@settings(deadline=None, max_examples=50)
@given(ids=maps())
def test_looking_up_equals_indexing(ids):
    table = np.random.default_rng(0).integers(0, 256, 65536, dtype=np.uint8)
    if ids.max() < len(table):
        assert np.array_equal(look_up(table, ids), table[ids])
    else:
        with pytest.raises(IndexError):
            look_up(table, ids)
