"""Mean IoU on drawn maps, counted by eye."""

from dataclasses import replace

import numpy as np
import pytest

from data.panoptic_png import PanopticMap, describe_segments
from data.targets import panoptic_to_semantic
from evaluation.pair_counts import count_pairs
from evaluation.semantic_iou import SemanticIoU
from runtime.files import InputError

VOID = 255
LETTERS = {"r": 0, "s": 1, "p": 2, ".": VOID}


def draw_train_ids(*rows: str) -> np.ndarray:
    return np.array([[LETTERS[letter] for letter in row] for row in rows], dtype=np.uint8)


def score(taxonomy, *pairs):
    metric = SemanticIoU(taxonomy)
    for truth, prediction in pairs:
        metric.add(truth, prediction)
    return metric.scores()


def test_void_in_the_truth_is_ignored(toy):
    truth = draw_train_ids("rrs", "rr.")
    guess = draw_train_ids("rrs", "rsr")  # one road pixel is called sky; the pixel on void does not count
    scores = score(toy, (truth, guess))
    assert scores["per_class"] == {"road": 3 / 4, "sky": 1 / 2, "person": None, "car": None}
    assert scores["miou"] == (3 / 4 + 1 / 2) / 2
    assert scores["pixel_accuracy"] == 4 / 5


def test_void_in_the_prediction_is_a_miss_and_no_invention(toy):
    scores = score(toy, (draw_train_ids("rrss"), draw_train_ids("r.ss")))
    assert scores["per_class"] == {"road": 1 / 2, "sky": 1.0, "person": None, "car": None}


def test_pixels_are_pooled_over_images_not_averaged(toy):
    scores = score(toy, (draw_train_ids("rrrrr"), draw_train_ids("rrrrr")), (draw_train_ids("r"), draw_train_ids("s")))
    assert scores["per_class"]["road"] == 5 / 6


def test_nothing_to_score_is_not_available(toy):
    scores = score(toy, (draw_train_ids(".."), draw_train_ids("rs")))
    assert (scores["miou"], scores["fwiou"], scores["pixel_accuracy"]) == (None, None, None)


def test_the_frequency_weighted_iou_weighs_by_the_pixels_of_the_truth(toy):
    scores = score(toy, (draw_train_ids("rrrrss", "...ppp"), draw_train_ids("rrrsss", "rrrp.r")))
    # 9 pixels count. Road: 3 of 5 (4 of the truth, and one person), sky: 2 of 3, person: 1 of 3.
    assert scores["fwiou"] == pytest.approx((4 * 3 / 5 + 2 * 2 / 3 + 3 * 1 / 3) / 9, abs=1e-15)


def test_the_frequency_weighted_iou_of_many_pixels_does_not_overflow(toy):
    metric = SemanticIoU(toy)
    metric.confusion[0, 0] = 2**40  # squared it would not fit 64 bits
    assert metric.scores()["fwiou"] == 1.0


def random_map(rng, category_ids) -> PanopticMap:
    """Blocks of segments of any class, some of them void or crowds."""
    ids = np.repeat(np.repeat(rng.integers(0, 9, (5, 6)), 3, 0), 2, 1).astype(np.uint32)
    category_of = rng.choice(category_ids, 9).tolist()
    return PanopticMap(ids, describe_segments(ids, lambda k: category_of[k], lambda k: k % 4 == 0))


@pytest.mark.parametrize("seed", range(10))
def test_pairs_of_segments_give_the_confusion_of_the_pixels(toy, seed):
    rng = np.random.default_rng(seed)
    by_pixels, by_pairs = SemanticIoU(toy), SemanticIoU(toy)
    for _ in range(3):
        truth, guess = random_map(rng, toy.dataset_ids), random_map(rng, toy.dataset_ids)
        by_pixels.add(panoptic_to_semantic(truth, toy), panoptic_to_semantic(guess, toy))
        by_pairs.add_overlaps(truth, guess, count_pairs(truth.segment_ids, guess.segment_ids))
    np.testing.assert_array_equal(by_pairs.confusion, by_pixels.confusion)
    assert by_pairs.scores() == by_pixels.scores()


def test_a_prediction_that_numbers_its_segments_from_zero_counts(toy):
    truth_ids, predicted_ids = np.array([[1, 1, 2]], np.uint32), np.array([[0, 0, 1]], np.uint32)
    truth = PanopticMap(truth_ids, describe_segments(truth_ids, lambda k: {1: 7, 2: 23}[k]))
    first = replace(truth.segments[0], segment_id=0)
    guess = PanopticMap(predicted_ids, (first, *describe_segments(predicted_ids, lambda _: 23)))
    metric = SemanticIoU(toy)
    metric.add_overlaps(truth, guess, count_pairs(truth_ids, predicted_ids))
    assert metric.scores()["per_class"] == {"road": 1.0, "sky": 1.0, "person": None, "car": None}


def test_segments_that_do_not_fit_are_refused_and_not_counted(toy, draw):
    scene, metric = draw("rs"), SemanticIoU(toy)
    unlisted = replace(scene, segments=scene.segments[:1])
    overlaps = count_pairs(scene.segment_ids, scene.segment_ids)
    with pytest.raises(InputError, match="prediction: segments 23 are in the map, but not in its list"):
        metric.add_overlaps(scene, unlisted, overlaps)
    stranger = replace(scene, segments=(replace(scene.segments[0], category_id=99), scene.segments[1]))
    with pytest.raises(InputError, match=r"truth: segment 7 has category 99, but toy has \[7, 23, 24, 26\]"):
        metric.add_overlaps(stranger, scene, overlaps)
    assert metric.confusion.sum() == 0


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_the_integer_type_does_not_matter(toy, dtype):
    truth, guess = draw_train_ids("rrs", "rrp"), draw_train_ids("rrs", "rss")
    assert score(toy, (truth.astype(dtype), guess.astype(dtype))) == score(toy, (truth, guess))


def test_maps_that_do_not_fit_are_refused(toy):
    with pytest.raises(InputError, match="1x2 and 1x3 pixels; resize the prediction"):
        score(toy, (draw_train_ids("rr"), draw_train_ids("rrr")))
    with pytest.raises(InputError, match=r"prediction: train ids \[4\], but toy has 0..3 and 255 for void"):
        score(toy, (draw_train_ids("rr"), np.array([[0, 4]])))
    with pytest.raises(InputError, match=r"truth: train ids \[-1\]"):
        score(toy, (np.array([[0, -1]]), draw_train_ids("rr")))
