"""Images of panoptic maps: the right colours at the right pixels, at any size."""

import numpy as np
import pytest

from data.panoptic_png import PanopticMap, describe_segments
from data.taxonomy import CITYSCAPES
from evaluation.render import ERROR_COLORS, color_panoptic, draw_instances, draw_key, error_map, overlay, side_by_side
from runtime.files import InputError

SIZES = [(800, 800), (375, 1242), (128, 256), (6, 8), (1, 1)]


def scene_of(height, width):
    ids = np.full((height, width), 7, dtype=np.uint32)
    ids[: height // 2] = 23
    ids[height // 3 : height // 2, : width // 2] = 26000
    ids[height // 3 : height // 2, width // 2 :] = 26001
    return PanopticMap(ids, describe_segments(ids, lambda i: i if i < 1000 else i // 1000))


def test_stuff_has_its_colour_and_every_object_its_own(draw, toy):
    image = color_panoptic(draw("rsab.", "rsab."), toy, borders=False)
    road, sky, first, second, void = (tuple(int(v) for v in image[0, x]) for x in range(5))
    assert (road, sky, void) == ((128, 64, 128), (70, 130, 180), (0, 0, 0))
    assert len({road, sky, first, second, void}) == 5
    np.testing.assert_array_equal(image[0], image[1])


def test_a_hundred_objects_of_a_class_have_a_hundred_colours(toy):
    ids = 26000 + np.arange(100, dtype=np.uint32).reshape(10, 10)
    image = color_panoptic(PanopticMap(ids, describe_segments(ids, lambda _: 26)), toy, borders=False)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) == 100


def test_colours_do_not_depend_on_the_order_of_segments(draw, toy):
    scene = draw("rsab", "rsab")
    turned = PanopticMap(scene.segment_ids, scene.segments[::-1])
    np.testing.assert_array_equal(color_panoptic(scene, toy), color_panoptic(turned, toy))


def test_segments_are_outlined(draw, toy):
    image = color_panoptic(draw("aaabbb", "aaabbb"), toy)
    is_white = (image == 255).all(-1)
    np.testing.assert_array_equal(is_white[0], [False, False, False, True, False, False])


@pytest.mark.parametrize("size", SIZES)
def test_an_overlay_has_the_images_shape_and_a_legend_below(toy, size):
    image = np.full((*size, 3), 128, dtype=np.uint8)
    plain = overlay(image, scene_of(*size), toy, legend=False)
    factor = plain.shape[1] // size[1]
    assert plain.shape == (size[0] * factor, size[1] * factor, 3)
    with_legend = overlay(image, scene_of(*size), toy)
    np.testing.assert_array_equal(with_legend[: plain.shape[0]], plain)
    assert with_legend.shape[0] > plain.shape[0]
    assert with_legend.dtype == np.uint8


def test_the_legend_shows_the_classes_that_occur(draw, toy):
    image = np.zeros((2, 4, 3), dtype=np.uint8)
    strip = overlay(image, draw("rraa", "rrab"), toy)[16:]
    shown = {tuple(color) for color in strip.reshape(-1, 3).tolist()}
    colors = {category.name: category.color for category in toy.categories}
    assert {colors["road"], colors["car"]} <= shown
    assert not {colors["sky"], colors["person"]} & shown


def test_a_long_legend_takes_more_lines():
    entries = [(f"class {k}", (k, k, k)) for k in range(40)]
    assert draw_key(entries, 640).shape[0] > 3 * draw_key(entries[:3], 640).shape[0]


def test_each_kind_of_error_has_its_colour(draw, toy):
    truth = draw("rrrrrraabb.CCC".ljust(24, "s"))
    guess = draw("rrrrr.pab..aas".ljust(24, "s"))
    # road 5 of 6; car a: 1 of 2 is no match; car b: predicted at the wrong place; the crowd: car is right, sky is not
    image = error_map(truth, guess, toy)[0]
    found = {x: name for name, color in ERROR_COLORS.items() for x in range(24) if tuple(image[x].tolist()) == color}
    assert found[0] == "right"
    assert found[7] == "right class, wrong segment"
    assert found[9] == "nothing predicted"
    assert found[12] == "right"
    assert found[13] == "wrong class"
    assert 6 not in found  # the first pixel of a truth segment is its outline
    assert error_map(draw("..r"), draw("sss"), toy)[0, 0].tolist() == list(ERROR_COLORS["not counted (void, crowd)"])


def test_an_error_map_of_the_truth_is_all_right(draw, toy):
    truth = draw("rrraabb", "rrraabb")
    inner = error_map(truth, truth, toy)[1, [1, 2, 4, 6]]
    assert (inner == ERROR_COLORS["right"]).all()
    with pytest.raises(InputError, match="2x7 and 1x2 pixels"):
        error_map(truth, draw("rr"), toy)


@pytest.mark.parametrize("size", SIZES)
def test_pictures_of_any_size_stand_side_by_side(toy, size):
    image = color_panoptic(scene_of(*size), toy)
    sheet = side_by_side([image] * 4, ["Image", "Truth", "Prediction", "Errors"])
    assert sheet.dtype == np.uint8
    assert 900 < sheet.shape[1] < 2700
    wide = size[1] >= 1.5 * size[0]
    num_columns = 2 if wide else 4
    cell = sheet.shape[1] // num_columns
    assert sheet.shape[0] > (4 // num_columns) * 0.9 * cell * size[0] / size[1]


def draw_two(names, width=960):
    """Two objects side by side on black: masks of 100x100 pixels in boxes of the same size."""
    image = np.zeros((400, width, 3), dtype=np.uint8)
    boxes = np.array([[100, 200, 200, 300], [400, 200, 500, 300]], dtype=np.float32)
    masks = []
    for x1, y1, x2, y2 in boxes.astype(int).tolist():
        masks.append(np.zeros((400, width), dtype=bool))
        masks[-1][y1:y2, x1:x2] = True
    return draw_instances(image, masks, boxes, names)


def test_instances_have_masks_boxes_and_names_in_their_own_colours():
    drawn = draw_two(["car 0.90", "car 0.80"])
    first, second = drawn[250, 150], drawn[250, 450]
    assert (first > 0).any()
    assert np.abs(first.astype(int) - second).max() > 60
    assert (drawn[350] == 0).all()  # below both
    edge = drawn[250, 100]
    np.testing.assert_allclose(edge / 2, first, atol=1)  # the box is the colour that the mask has by half
    label = drawn[180:200, 100:180]
    assert (label == edge).all(-1).mean() > 0.5  # the name stands on it


def test_names_do_not_cover_each_other():
    """Five objects in one place, as a network often says: each colour of a name is there, each name as large as if alone."""
    image = np.zeros((400, 960, 3), dtype=np.uint8)
    masks, boxes = [np.zeros((400, 960), dtype=bool)] * 5, np.tile(np.array([[300, 100, 301, 101]], np.float32), (5, 1))
    drawn = draw_instances(image, masks, boxes, ["person"] * 5)
    colors, counts = np.unique(drawn[(drawn != 0).any(-1)], axis=0, return_counts=True)
    backgrounds = sorted(counts.tolist())[-5:]
    assert len(colors) >= 5
    assert backgrounds[0] > 0.9 * backgrounds[-1]


@pytest.mark.parametrize("size", SIZES)
def test_instances_are_drawn_on_any_size(size):
    image = np.full((*size, 3), 90, dtype=np.uint8)
    whole = np.ones(size, dtype=bool)
    drawn = draw_instances(image, [whole], np.array([[0, 0, size[1], size[0]]], np.float32), ["traffic light 0.99"])
    factor = drawn.shape[1] // size[1]
    assert drawn.shape == (factor * size[0], factor * size[1], 3)
    none = draw_instances(image, [], np.zeros((0, 4), np.float32), [])
    assert (none == 90).all()


@pytest.mark.parametrize("size", [(16000, 1), (1, 16000), (1, 1)])
def test_strips_are_shown_side_by_side_on_a_sheet_of_usual_size(size):
    sheet = side_by_side([np.zeros((*size, 3), np.uint8)] * 3, ["a", "b", "c"])
    assert max(sheet.shape) < 3000
    assert (sheet == 0).all(-1).any()


def test_errors_of_thousands_of_segments_are_drawn():
    ids = np.arange(1, 80 * 80 + 1, dtype=np.uint32).reshape(80, 80)
    panoptic = PanopticMap(ids, describe_segments(ids, lambda _: 26))
    assert error_map(panoptic, panoptic, CITYSCAPES).shape == (80, 80, 3)
