"""Masks of COCO's JSON files: equal to pycocotools where they are whole, refused where they are not."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from data.run_lengths import decode_mask
from runtime.files import InputError


def compress(mask: np.ndarray) -> dict:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def count_runs(mask: np.ndarray) -> dict:
    counts, value, length = [], False, 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(length)
            value, length = pixel, 0
        length += 1
    return {"size": list(mask.shape), "counts": [*counts, length]}


@pytest.mark.parametrize("form", [compress, count_runs])
def test_whole_run_lengths_give_the_mask_that_was_encoded(form):
    rng = np.random.default_rng(0)
    for _ in range(100):
        size = tuple(int(side) for side in rng.integers(1, 60, 2))
        mask = rng.random(size) < rng.choice([0.0, 0.01, 0.5, 0.99, 1.0])
        np.testing.assert_array_equal(decode_mask(form(mask), size), mask)


def test_long_runs_of_a_large_image_are_read():
    mask = np.zeros((2048, 4096), bool)
    mask[3:2000, 5:4000:700] = True
    np.testing.assert_array_equal(decode_mask(compress(mask), mask.shape), mask)


def test_polygons_are_filled_as_pycocotools_fills_them():
    polygons = [[1, 1, 8.5, 1, 8.5, 6, 1, 6], [10, 2, 15, 2, 12, 9]]
    wanted = coco_mask.decode(coco_mask.frPyObjects(polygons, 12, 20)).any(-1)
    np.testing.assert_array_equal(decode_mask(polygons, (12, 20)), wanted)


def test_polygons_of_fewer_than_three_points_are_none():
    assert not decode_mask([[1, 1, 6, 4], [], [2, 2]], (12, 20)).any()


whole = compress(np.eye(4, 6) > 0)
BROKEN = {
    "lengths that end before the image": whole | {"counts": [3, 4]},
    "lengths that go on behind the image": whole | {"counts": [20, 5]},
    "no lengths": whole | {"counts": []},
    "empty text": whole | {"counts": ""},
    "text that ends inside a number": whole | {"counts": whole["counts"][:-1] + "P"},
    "text that ends before the image": whole | {"counts": whole["counts"][:-1]},
    "a character that is no digit": whole | {"counts": whole["counts"] + "~"},
    "a character beyond Latin": whole | {"counts": "\ud800é"},
    "a number of many digits": whole | {"counts": "o" * 40 + "0"},
    "a length below 0": whole | {"counts": [30, -6]},
    "a fraction": whole | {"counts": [23.5, 0.5]},
    "a flag as a length": whole | {"counts": [True, 23]},
    "a length of more than 32 bits": whole | {"counts": [2**64]},
    "no counts": {"size": [4, 6]},
    "no size": {"counts": whole["counts"]},
    "size null": whole | {"size": None},
    "a size of fractions": whole | {"size": [4.0, 6.0]},
    "another size": whole | {"size": [6, 4]},
    "nothing": None,
    "a polygon with a lone coordinate": [[1, 1, 2, 2, 3, 3, 4]],
    "a polygon far outside": [[1, 1, 1e9, 1, 1, 2]],
    "a polygon of NaN": [[1, 1, float("nan"), 1, 1, 2]],
    "a polygon of text": [["1"] * 6],
    "points instead of polygons": [1, 1, 5, 1, 5, 5],
}


@pytest.mark.parametrize("segmentation", BROKEN.values(), ids=BROKEN)
def test_a_broken_mask_is_refused_in_one_line(segmentation):
    with pytest.raises(InputError, match=r"mask|RLE|polygon") as caught:
        decode_mask(segmentation, (4, 6))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250
