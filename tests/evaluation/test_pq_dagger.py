"""PQ-dagger on drawn scenes, and beside torchmetrics' on random ones."""

import numpy as np
import pytest

from data.panoptic_png import PanopticMap, describe_segments
from evaluation.pair_counts import count_pairs
from evaluation.panoptic_quality import PanopticQuality, match_segments
from evaluation.pq_dagger import PQDagger, compare_stuff
from runtime.files import InputError


def score(taxonomy, *pairs):
    dagger = PQDagger(taxonomy)
    for truth, prediction in pairs:
        overlaps = count_pairs(truth.segment_ids, prediction.segment_ids)
        dagger.add(match_segments(truth, prediction), compare_stuff(truth, prediction, overlaps, taxonomy))
    return dagger.scores()


def test_stuff_below_one_half_still_counts(toy, draw):
    truth, guess = draw("rrrrss"), draw("rsssss")
    scores = score(toy, (truth, guess))
    assert scores["per_class"] == {"road": 1 / 4, "sky": 2 / 5, "person": None, "car": None}
    assert scores["Stuff"] == {"pq": (1 / 4 + 2 / 5) / 2, "n": 2}
    assert scores["Things"] == {"pq": None, "n": 0}


def test_things_keep_their_pq(toy, draw):
    pairs = [(draw("aabb", "rrpp"), draw("aaba", "rrpp")), (draw("aarr"), draw("arrr"))]
    quality = PanopticQuality()
    for pair in pairs:
        quality.add(*pair)
    plain, scores = quality.scores(toy), score(toy, *pairs)
    for name in ("person", "car"):
        assert scores["per_class"][name] == plain["per_class"][name]["pq"]
    assert scores["Things"] == {"pq": plain["Things"]["pq"], "n": 2}


def test_the_mean_is_over_the_images_that_show_the_class(toy, draw):
    shown, missed, invented = (draw("rrrr"), draw("rrr.")), (draw("rrss"), draw("ssss")), (draw("ssss"), draw("rrss"))
    scores = score(toy, shown, missed, invented)
    assert scores["per_class"]["road"] == (3 / 4 + 0) / 2  # the third image does not show it, and its prediction costs no road
    assert scores["per_class"]["sky"] == (2 / 4 + 2 / 4) / 2


def test_a_class_that_only_predictions_hold_enters_no_mean(toy, draw):
    pair = draw("rr"), draw("rs")
    assert score(toy, pair)["Stuff"] == {"pq": 1 / 2, "n": 1}
    quality = PanopticQuality()
    quality.add(*pair)
    assert quality.scores(toy)["Stuff"]["n"] == 2


def test_void_of_the_truth_leaves_the_union_and_void_of_the_prediction_does_not(toy, draw):
    assert score(toy, (draw("rr.."), draw("rrrr")))["per_class"]["road"] == 1.0
    assert score(toy, (draw("rrrr"), draw("r...")))["per_class"]["road"] == 1 / 4


def test_every_pair_of_a_class_adds_its_iou(toy):
    """Of a map that splits a stuff class into two segments."""
    truth_ids, predicted_ids = np.array([[1, 1, 1, 1]], np.uint32), np.array([[1, 1, 1, 2]], np.uint32)
    truth, guess = (PanopticMap(ids, describe_segments(ids, lambda _: 7)) for ids in (truth_ids, predicted_ids))
    assert score(toy, (truth, guess))["per_class"]["road"] == 3 / 4 + 1 / 4


def test_a_crowd_of_stuff_is_not_counted(toy):
    ids = np.array([[1, 1, 2, 2]], np.uint32)
    truth = PanopticMap(ids, describe_segments(ids, lambda _: 7, lambda k: k == 2))
    guess = PanopticMap(ids, describe_segments(ids, lambda k: {1: 7, 2: 23}[k]))
    assert score(toy, (truth, guess))["per_class"] == {"road": 1.0, "sky": None, "person": None, "car": None}


def test_a_category_that_the_taxonomy_lacks_is_refused(toy):
    ids = np.array([[1]], np.uint32)
    stranger = PanopticMap(ids, describe_segments(ids, lambda _: 99))
    with pytest.raises(InputError, match="segment 1: category 99 is not in toy"):
        score(toy, (stranger, stranger))


@pytest.mark.parity
def test_maps_without_void_in_the_prediction_score_as_torchmetrics_does(toy):
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchmetrics.detection")
    theirs = detection.ModifiedPanopticQuality(things={24, 26}, stuffs={7, 23}, allow_unknown_preds_category=True)
    rng, pairs = np.random.default_rng(0), []
    category_of = {0: 0, 7: 7, 23: 23, 24001: 24, 24002: 24, 26001: 26}  # 0 is void
    for _ in range(8):
        truth = rng.choice(list(category_of), size=(6, 7))
        truth = np.repeat(np.repeat(truth, 4, 0), 4, 1)
        guess = np.where(rng.random(truth.shape) < 0.3, 7, truth)
        guess[guess == 0] = 23
        pairs.append((truth, guess))
    truths, guesses = (torch.tensor([_as_colors(side, category_of) for side in sides]) for sides in zip(*pairs, strict=True))
    maps = [tuple(PanopticMap(i.astype(np.uint32), describe_segments(i, category_of.get)) for i in pair) for pair in pairs]
    # torchmetrics divides in float32.
    assert score(toy, *maps)["All"]["pq"] == pytest.approx(float(theirs(guesses, truths)), abs=1e-7)


def _as_colors(ids: np.ndarray, category_of: dict[int, int]) -> list:
    """(H, W, 2): category and segment id of each pixel."""
    return np.stack([np.vectorize(category_of.get)(ids), ids], axis=-1).tolist()
