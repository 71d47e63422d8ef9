"""Segment ids survive their PNG; areas and boxes are those of the pixels."""

import numpy as np
import pytest
from PIL import Image

from data.panoptic_png import (
    MAX_SEGMENT_ID,
    Segment,
    describe_segments,
    ids_to_rgb,
    read_segment_ids,
    rgb_to_ids,
    write_segment_ids,
)
from runtime.files import InputError


def test_ids_of_24_bits_survive_the_png(tmp_path):
    ids = np.random.default_rng(0).integers(0, MAX_SEGMENT_ID + 1, (16, 16), dtype=np.uint32)
    ids[0, :4] = 0, 255, 256, MAX_SEGMENT_ID
    write_segment_ids(tmp_path / "a.png", ids)
    assert np.array_equal(read_segment_ids(tmp_path / "a.png", (16, 16)), ids)


def test_the_code_is_r_plus_256_g_plus_65536_b():
    assert ids_to_rgb(np.array([[3 + 256 * 5 + 65536 * 7]])).tolist() == [[[3, 5, 7]]]
    assert rgb_to_ids(np.array([[[3, 5, 7]]], dtype=np.uint8)).tolist() == [[3 + 256 * 5 + 65536 * 7]]


@pytest.mark.parametrize("stranger", [-1, MAX_SEGMENT_ID + 1])
def test_an_id_that_does_not_fit_is_refused(stranger):
    with pytest.raises(InputError, match=f"but a panoptic PNG holds 0..{MAX_SEGMENT_ID}"):
        ids_to_rgb(np.array([[0, stranger]]))


@pytest.mark.parametrize(("dtype", "mode"), [(np.uint16, "I;16"), (np.uint8, "L"), (bool, "1")])
def test_a_grey_png_is_refused(tmp_path, dtype, mode):
    Image.fromarray(np.zeros((2, 2), dtype)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=rf"a\.png: PNG mode {mode}, .* bits, but a panoptic PNG is 8-bit RGB"):
        read_segment_ids(tmp_path / "a.png")


def test_a_palette_png_is_refused(tmp_path):
    Image.new("P", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="PNG mode P"):
        read_segment_ids(tmp_path / "a.png")


def test_alpha_is_ignored(tmp_path):
    Image.new("RGBA", (1, 1), (3, 5, 0, 128)).save(tmp_path / "a.png")
    assert read_segment_ids(tmp_path / "a.png").tolist() == [[3 + 256 * 5]]


def test_a_png_of_another_size_is_refused(tmp_path):
    write_segment_ids(tmp_path / "a.png", np.zeros((2, 3), np.uint32))
    with pytest.raises(InputError, match="2x3 pixels, but 3x2 were needed"):
        read_segment_ids(tmp_path / "a.png", (3, 2))


def test_segments_are_described_by_their_pixels():
    ids = np.array([[9, 9, 0, 5], [0, 9, 0, 0], [0, 0, 0, 5]])
    found = describe_segments(ids, category_of=lambda value: 10 * value, is_crowd=lambda value: value == 5)
    assert found == (Segment(5, 50, 2, (3, 0, 1, 3), is_crowd=True), Segment(9, 90, 3, (0, 0, 2, 2)))


def test_areas_and_boxes_equal_those_counted_mask_by_mask():
    ids = np.random.default_rng(0).choice([0, 1, 2, 70000], size=(5, 9), p=[0.7, 0.1, 0.1, 0.1])
    for segment in describe_segments(ids, category_of=lambda value: value):
        ys, xs = np.nonzero(ids == segment.segment_id)
        box = (xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1)
        assert (segment.area, segment.bbox) == (len(ys), box)


def test_a_map_of_void_has_no_segments():
    assert describe_segments(np.zeros((2, 2), np.uint32), category_of=lambda value: value) == ()


def test_json_names_a_score_only_where_there_is_one():
    plain, scored = Segment(1, 2, 3, (4, 5, 6, 7)), Segment(1, 2, 3, (4, 5, 6, 7), score=0.5)
    expected = {"id": 1, "category_id": 2, "area": 3, "bbox": [4, 5, 6, 7], "iscrowd": 0}
    assert plain.to_json() == expected
    assert scored.to_json() == expected | {"score": 0.5}
