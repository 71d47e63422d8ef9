"""The bootstrap against PanopticQuality of the images drawn one by one, and against synthetic truths that are known."""

import numpy as np
import pytest

from data.taxonomy import Category, Taxonomy
from evaluation.bootstrap import (
    FEWEST_IMAGES,
    Difference,
    ImageCounts,
    Interval,
    draw_images,
    paired_difference,
    paired_differences,
    pq_intervals,
)
from evaluation.panoptic_quality import GROUPS, ImageMatches, PanopticQuality
from runtime.files import InputError

RARE = 23
"""A class of the toy taxonomy (sky) that only some images hold."""


def random_image(rng: np.random.Generator, skill: float = 0.7) -> ImageMatches:
    """A few segments of each class, found with the probability `skill`."""
    matches, missed, invented = [], [], []
    for category_id in (7, 24, 26, RARE):
        for _ in range(rng.integers(0, 4) if category_id != RARE else rng.random() < 0.04):
            if rng.random() < skill:
                matches.append((len(matches) + 1, len(matches) + 1, category_id, rng.uniform(0.51, 1)))
            else:
                missed.append(category_id)
        invented += [category_id] * (category_id != RARE and rng.random() < 0.2)
    return ImageMatches(tuple(matches), tuple(missed), tuple(invented))


def collect(taxonomy: Taxonomy, images: list[ImageMatches]) -> ImageCounts:
    counts = ImageCounts(taxonomy)
    for k, image in enumerate(images):
        counts.add(k, image)
    return counts


def drawn_pq(taxonomy: Taxonomy, images: list[ImageMatches], positions: np.ndarray) -> list[float]:
    """PQ of all, of things and of stuff; NaN without a class."""
    quality = PanopticQuality()
    for k in positions.tolist():
        quality.add_matches(images[k])
    scores = quality.scores(taxonomy)
    return [np.nan if scores[name]["pq"] is None else scores[name]["pq"] for name in GROUPS]


def all_draws(num_images: int, draws: int, seed: int) -> np.ndarray:
    return np.concatenate(list(draw_images(num_images, draws, seed)))


def test_intervals_are_the_quantiles_of_the_pq_of_drawn_images(toy):
    rng = np.random.default_rng(0)
    images = [random_image(rng) for _ in range(25)]
    expected = np.array([drawn_pq(toy, images, positions) for positions in all_draws(25, 300, seed=4)])
    assert any(RARE not in {m[2] for k in draw for m in images[k].matches} for draw in all_draws(25, 300, seed=4))
    for k, (name, interval) in enumerate(pq_intervals(collect(toy, images), draws=300, seed=4).items()):
        assert name == GROUPS[k]
        assert interval.pq == pytest.approx(drawn_pq(toy, images, np.arange(25))[k], abs=1e-12)
        assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(expected[:, k], [0.025, 0.975])), abs=1e-12)


def test_differences_compare_both_runs_on_the_same_drawn_images(toy):
    rng = np.random.default_rng(1)
    first, second = ([random_image(rng, skill) for _ in range(30)] for skill in (0.6, 0.7))
    gains = np.array(
        [
            np.subtract(drawn_pq(toy, second, positions), drawn_pq(toy, first, positions))
            for positions in all_draws(30, 200, seed=0)
        ]
    )
    found = paired_differences(collect(toy, first), collect(toy, second), draws=200)
    for k, name in enumerate(GROUPS):
        assert (found[name].low, found[name].high) == pytest.approx(tuple(np.quantile(gains[:, k], [0.025, 0.975])), abs=1e-12)
        assert found[name].probability == np.mean(gains[:, k] > 0)
    assert paired_difference(collect(toy, first), collect(toy, second), "Stuff", draws=200) == found["Stuff"]


def test_of_several_trainings_the_mean_pq_is_compared(toy):
    rng = np.random.default_rng(5)
    runs = [[random_image(rng, skill) for _ in range(25)] for skill in (0.5, 0.6, 0.7, 0.8)]
    gains = []
    for positions in all_draws(25, 100, seed=0):
        pq = [drawn_pq(toy, images, positions)[0] for images in runs]
        gains.append((pq[2] + pq[3]) / 2 - (pq[0] + pq[1]) / 2)
    a, b = ([collect(toy, images) for images in half] for half in (runs[:2], runs[2:]))
    found = paired_differences(a, b, draws=100)["All"]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(gains, [0.025, 0.975])), abs=1e-12)


def test_chunks_of_draws_do_not_change_the_result(toy, monkeypatch):
    images = [random_image(np.random.default_rng(k)) for k in range(21)]
    at_once = pq_intervals(collect(toy, images), draws=50)
    monkeypatch.setattr("evaluation.bootstrap.LARGEST_CHUNK", 21 * 8)
    assert pq_intervals(collect(toy, images), draws=50) == at_once


def test_swapping_the_runs_swaps_the_sign(toy):
    rng = np.random.default_rng(2)
    a, b = (collect(toy, [random_image(rng, skill) for _ in range(40)]) for skill in (0.6, 0.7))
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert (there.gain, there.low, there.high) == pytest.approx((-back.gain, -back.high, -back.low), abs=1e-12)
    assert there.probability == pytest.approx(1 - back.probability, abs=1e-12)


def test_a_run_gains_nothing_over_itself(toy):
    run = collect(toy, [random_image(np.random.default_rng(k)) for k in range(30)])
    assert paired_difference(run, run) == Difference(0.0, 0.0, 0.0, 30, 2000, 0.5)


def test_the_order_of_the_images_does_not_matter(toy):
    images = [random_image(np.random.default_rng(k)) for k in range(30)]
    backwards = ImageCounts(toy)
    for k in reversed(range(30)):
        backwards.add(k, images[k])
    assert paired_difference(collect(toy, images), backwards).high == 0.0


def test_an_interval_of_95_percent_holds_the_true_pq_about_as_often():
    """Of one class, whose expected counts an image are known; 400 data sets of 80 images. Two standard errors are 0.022.

    A percentile interval of a ratio is known to be a little too narrow in small samples, so that the lower bound is wider.
    """
    one_class = Taxonomy("one", (Category("car", 26, True, (0, 0, 142)),))
    rng = np.random.default_rng(0)
    skill, mean_iou, truths, inventions = 0.7, 0.8, 4, 0.8  # of an image: Poisson numbers
    true_pq = truths * skill * mean_iou / (truths * skill + 0.5 * inventions + 0.5 * truths * (1 - skill))
    num_inside = 0
    for _ in range(400):
        images = []
        for _ in range(80):
            num_found, num_missed = rng.poisson(truths * skill), rng.poisson(truths * (1 - skill))
            ious = rng.uniform(2 * mean_iou - 1, 1, num_found).tolist()
            matches = tuple((k, k, 26, iou) for k, iou in enumerate(ious))
            images.append(ImageMatches(matches, (26,) * num_missed, (26,) * rng.poisson(inventions)))
        interval = pq_intervals(collect(one_class, images), draws=400)["Things"]
        num_inside += interval.low <= true_pq <= interval.high
    assert 0.91 < num_inside / 400 < 0.972


def test_too_few_images_have_no_interval(toy):
    rng = np.random.default_rng(3)
    images = [random_image(rng) for _ in range(FEWEST_IMAGES)]
    few, enough = collect(toy, images[:-1]), collect(toy, images)
    assert pq_intervals(few)["All"].low is None
    assert pq_intervals(few)["All"].pq is not None
    assert (paired_difference(few, few).low, paired_difference(few, few).probability) == (None, None)
    assert pq_intervals(enough)["All"].low is not None


def test_a_group_without_classes_has_no_pq(toy):
    road = ImageMatches(((1, 1, 7, 0.9),), (), ())
    run = collect(toy, [road] * 20)
    assert pq_intervals(run)["Things"] == Interval(None, None, None, 20, 2000)
    difference = paired_difference(run, run, "Things")
    assert (difference.gain, difference.probability) == (None, None)
    assert difference.in_words() == "no difference in PQ, since a run has no class of the group"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Difference(0.004, -0.003, 0.011, 500, 2000, 0.9), "+0.4 PQ, 95 % from -0.3 to 1.1 (paired bootstrap over 500 images)"),
        (Difference(0.004, None, None, 12, 2000, None), "+0.4 PQ; no interval, since 12 images are too few (20 are needed)"),
        (Difference(-0.0001, None, None, 1, 2000, None), "+0.0 PQ; no interval, since 1 image is too few (20 are needed)"),
        (Interval(0.4412, 0.42, 0.462, 50, 2000), "44.1 PQ, 95 % from 42.0 to 46.2 (bootstrap over 50 images)"),
        (Interval(None, None, None, 50, 2000), "no PQ, since no class of the group occurs"),
    ],
)
def test_results_in_words(found, words):
    assert found.in_words() == words


def test_runs_that_cannot_be_compared_are_refused(toy):
    image = ImageMatches((), (), ())
    a, b = collect(toy, [image] * 3), collect(toy, [image] * 2)
    with pytest.raises(InputError, match="different images: 2 only in the first; compare runs on the same truth"):
        paired_difference(a, b)
    other = Taxonomy("other", toy.categories[:3])
    with pytest.raises(InputError, match="the two runs have different classes"):
        paired_difference(a, collect(other, [image] * 3))
    with pytest.raises(InputError, match="no image was counted"):
        paired_difference(ImageCounts(toy), ImageCounts(toy))
    with pytest.raises(InputError, match="0 draws of images"):
        pq_intervals(a, draws=0)


def test_images_that_do_not_fit_are_refused(toy):
    counts = ImageCounts(toy)
    counts.add("a", ImageMatches((), (7,), ()))
    with pytest.raises(InputError, match="image 'a' was counted before"):
        counts.add("a", ImageMatches((), (), ()))
    with pytest.raises(InputError, match=r"image 'b': category ids \[99\] were counted, but taxonomy toy has \[7, 23, 24, 26\]"):
        counts.add("b", ImageMatches((), (), (99,)))
