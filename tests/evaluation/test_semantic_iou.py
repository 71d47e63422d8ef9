"""Mean IoU on drawn maps, counted by eye."""

import numpy as np
import pytest

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
    assert (scores["miou"], scores["pixel_accuracy"]) == (None, None)


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
