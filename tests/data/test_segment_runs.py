"""Runs down the columns, and the areas, boxes and run lengths that they tell, against the pixels one by one."""

from itertools import accumulate, chain, groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from data.segment_runs import encode_masks, find_runs, look_up

FIELDS = ("starts", "ends", "ids", "firsts")


def runs_pixel_by_pixel(ids: np.ndarray) -> dict[int, list[tuple[int, int]]]:
    """(start, end) of the runs of each id, ascending."""
    runs, position = {}, 0
    for value, pixels in groupby(ids.ravel("F").tolist()):
        start, position = position, position + len(list(pixels))
        runs.setdefault(value, []).append((start, position))
    return dict(sorted(runs.items()))


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


@settings(deadline=None, max_examples=100)
@given(ids=maps())
def test_runs_begin_and_end_where_the_pixels_change(ids):
    runs, expected = find_runs(ids), runs_pixel_by_pixel(ids)
    assert runs.ids.tolist() == list(expected)
    assert [*runs.firsts.tolist(), len(runs.starts)] == [0, *accumulate(map(len, expected.values()))]
    assert list(zip(runs.starts.tolist(), runs.ends.tolist(), strict=True)) == list(chain.from_iterable(expected.values()))


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
    assert encode_masks(ids, runs, range(len(runs.ids))) == expected


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
