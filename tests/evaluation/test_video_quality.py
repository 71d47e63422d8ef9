"""VPQ and STQ on drawn films, whose scores are derived by hand, and on random ones, against a slow reading of the papers."""

import math

import numpy as np
import pytest

from data.panoptic_png import PanopticMap, describe_segments
from data.taxonomy import Category, Taxonomy
from evaluation.video_quality import SegmentationTrackingQuality, VideoPanopticQuality, format_table, pair_frames, score_videos
from runtime.files import InputError

CLASSES = Taxonomy(
    "toy",
    (
        Category("road", 1, False, (1, 1, 1)),
        Category("sky", 2, False, (2, 2, 2)),
        Category("car", 3, True, (3, 3, 3)),
        Category("dog", 4, True, (4, 4, 4)),
    ),
)
LETTERS = {".": 0, "r": 1, "s": 2, "C": 3, "a": 3001, "b": 3002, "c": 3003, "d": 4001, "e": 4002}
"""`.` is void, r and s are stuff, C is a crowd of cars, a to c are cars, d and e dogs."""


def as_map(segment_ids: np.ndarray) -> PanopticMap:
    def category(k: int) -> int:
        return k // 1000 if k >= 1000 else k

    ids = np.asarray(segment_ids, dtype=np.uint32)
    return PanopticMap(ids, describe_segments(ids, category, lambda k: k == LETTERS["C"]))


def draw(*rows: str) -> PanopticMap:
    return as_map([[LETTERS[letter] for letter in row] for row in rows])


def score(truth: list[PanopticMap], prediction: list[PanopticMap], windows=(1, 2)) -> dict:
    return score_videos([("film", *pair) for pair in zip(truth, prediction, strict=True)], CLASSES, windows)


def car_quality(scores: dict, num_frames: int) -> float:
    return scores["vpq"]["windows"][num_frames]["per_class"]["car"]["pq"]


STILL = [draw("aarr", "bbrr")] * 4


def test_a_perfect_film_scores_one():
    scores = score(STILL, STILL, windows=(1, 2, 3, 4))
    assert scores["vpq"]["All"]["vpq"] == scores["stq"]["stq"] == scores["stq"]["miou"] == 1


def test_ids_may_have_other_names_as_long_as_they_stay():
    renamed = [draw("ccrr", "aarr")] * 4
    assert score(STILL, renamed)["stq"]["stq"] == score(STILL, renamed)["vpq"]["All"]["vpq"] == 1


def test_a_swap_of_two_ids_costs_association_and_the_windows_across_it():
    swapped = [*STILL[:2], draw("bbrr", "aarr"), draw("bbrr", "aarr")]
    scores = score(STILL, swapped)
    # Each car has 2 pixels in 4 frames, 4 of them under the one id and 4 under the other: both tubes have IoU 4 / (8 + 8 - 4).
    assert scores["stq"]["aq"] == pytest.approx((4 * (4 / 12) + 4 * (4 / 12)) / 8)
    assert scores["stq"]["sq"] == 1
    assert scores["stq"]["stq"] == pytest.approx(math.sqrt(1 / 3))
    # One frame sees no ids. Of three windows of two frames the middle one holds the swap: IoU 2 / (4 + 4 - 2) is no match.
    assert car_quality(scores, 1) == 1
    assert car_quality(scores, 2) == pytest.approx(4 / (4 + 0.5 * 2 + 0.5 * 2))
    assert scores["vpq"]["All"]["vpq"] == pytest.approx((1 + (1 + 4 / 6) / 2) / 2)


def test_an_id_that_starts_anew_costs_less_than_one_that_lies():
    restarted = [*STILL[:2], draw("ccrr", "bbrr"), draw("ccrr", "bbrr")]
    scores = score(STILL, restarted)
    # Car a: tubes of 4 pixels inside its 8, IoU 4 / 8 each; car b is perfect.
    assert scores["stq"]["aq"] == pytest.approx(((4 * 0.5 + 4 * 0.5) / 8 + 1) / 2)
    # The middle window: a has IoU 2 / 4 with each, which is not above one half, so that one is missed and two are invented.
    assert car_quality(scores, 2) == pytest.approx(5 / (5 + 0.5 * 2 + 0.5 * 1))


def test_a_missed_frame_costs_its_pixels():
    missed = [*STILL[:3], draw("rrrr", "bbrr")]
    scores = score(STILL, missed)
    # Car a is found in 6 of its 8 pixels: 6 * (6 / 8) / 8.
    assert scores["stq"]["aq"] == pytest.approx((6 * 0.75 / 8 + 1) / 2)
    # Of 16 pixels each, car and road: 14 cars are right, 2 are called road.
    assert scores["stq"]["sq"] == pytest.approx((14 / 16 + 16 / 18) / 2)
    assert car_quality(scores, 1) == pytest.approx(7 / (7 + 0.5))


def test_predicted_void_is_one_more_class_in_sq_and_none_in_miou():
    scores = score([draw("aarr")], [draw("aar.")])["stq"]
    assert scores["miou"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores["sq"] == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_void_of_the_truth_is_free_in_sq_and_vpq_and_enlarges_a_tube_in_aq():
    truth, guess = [draw("aa..")], [draw("aaar")]
    scores = score(truth, guess, windows=(1,))
    assert scores["stq"]["sq"] == 1
    assert car_quality(scores, 1) == 1
    assert scores["stq"]["aq"] == pytest.approx(2 * (2 / 3) / 2)


def test_a_crowd_is_no_track_and_counts_in_no_predicted_tube():
    scores = score([draw("aaCC")], [draw("aaaa")], windows=(1,))
    assert scores["stq"]["num_tracks"] == 1
    assert scores["stq"]["aq"] == scores["stq"]["sq"] == 1
    assert car_quality(scores, 1) == 0  # VPQ's union holds the crowd: 2 / 4 is no match, and half on a crowd is not forgiven
    assert scores["vpq"]["windows"][1]["per_class"]["car"]["fp"] == 1


def test_a_track_that_changes_its_class_is_another_tube_that_still_overlaps():
    scores = score([draw("aa")] * 2, [draw("aa"), draw("dd")])["stq"]
    assert scores["aq"] == pytest.approx((2 * (2 / 4) + 2 * (2 / 4)) / 4)


def test_windows_and_tubes_end_with_their_sequence():
    first, second = [draw("aarr")] * 2, [draw("bbrr")] * 2
    frames = [
        ("one", first[0], first[0]),
        ("one", first[1], first[1]),
        ("two", second[0], first[0]),
        ("two", second[1], first[1]),
    ]
    scores = score_videos(frames, CLASSES, (1, 2))
    assert scores["vpq"]["windows"][2]["per_class"]["car"]["tp"] == 2  # one window a sequence, none across
    assert scores["stq"]["aq"] == 1
    assert [(s.name, s.num_frames, s.num_tracks) for s in scores["stq"]["sequences"]] == [("one", 2, 1), ("two", 2, 1)]


def test_a_window_longer_than_every_sequence_enters_no_mean():
    scores = score(STILL[:1], STILL[:1], windows=(1, 2))["vpq"]
    assert scores["windows"][2]["All"]["pq"] is None
    assert scores["All"]["vpq"] == 1


def test_a_sequence_that_comes_back_is_refused():
    stq = SegmentationTrackingQuality(CLASSES)
    for name in ("one", "two"):
        stq.add(name, STILL[0], STILL[0])
    with pytest.raises(InputError, match="'one' comes a second time"):
        stq.add("one", STILL[0], STILL[0])


@pytest.mark.parametrize("windows", [(), (0,), (1, 1.5)])
def test_windows_that_are_no_numbers_of_frames_are_refused(windows):
    with pytest.raises(InputError, match="whole numbers from 1"):
        VideoPanopticQuality(CLASSES, windows)


def test_frames_are_paired_by_name_one_at_a_time():
    asked = []

    def prediction_of(name: str) -> PanopticMap:
        asked.append(name)
        return STILL[0]

    pairs = pair_frames([("film", iter([("film/0", STILL[0]), ("film/1", STILL[1])]))], prediction_of)
    assert next(pairs) == ("film", STILL[0], STILL[0])
    assert asked == ["film/0"]
    assert score_videos(pairs, CLASSES, (1,))["stq"]["stq"] == 1
    assert asked == ["film/0", "film/1"]


def test_no_frame_at_all_is_refused():
    with pytest.raises(InputError, match="no frame"):
        score_videos([], CLASSES)


def test_the_table_says_what_was_not_there_to_score():
    table = format_table(score([draw("rr")], [draw("rr")], windows=(1, 2)))
    assert "  1 frame        100.00    n/a 100.00" in table
    assert "All                 n/a    n/a 100.00" in table


def test_the_scores_are_those_of_the_definitions_read_pixel_by_pixel():
    rng = np.random.default_rng(3)
    for _ in range(4):
        films = {name: random_film(rng, num_frames) for name, num_frames in (("one", 3), ("two", 2))}
        frames = [(name, as_map(t), as_map(p)) for name, film in films.items() for t, p in film]
        scores = score_videos(frames, CLASSES, (1, 2, 3))
        for n in (1, 2, 3):
            assert scores["vpq"]["windows"][n]["All"]["pq"] == pytest.approx(slow_vpq(films, n))
        assert scores["stq"]["aq"] == pytest.approx(slow_aq(films))
        assert scores["stq"]["sq"] == pytest.approx(slow_sq(films))


def random_film(rng: np.random.Generator, num_frames: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Blocks of random ids; most predictions are the truth's."""
    values = np.array([LETTERS[letter] for letter in ".rsCabde"])
    blocks = values[rng.integers(len(values), size=(num_frames, 3, 4))]
    truth = blocks.repeat(3, axis=1).repeat(3, axis=2)
    noise = values[rng.integers(len(values), size=truth.shape)]
    prediction = np.where(rng.random(truth.shape) < 0.7, truth, noise)
    prediction[prediction == LETTERS["C"]] = LETTERS["c"]
    return list(zip(truth, prediction, strict=True))


def class_of(segment_id: int) -> int:
    return segment_id // 1000 if segment_id >= 1000 else segment_id


def slow_vpq(films: dict, num_frames: int) -> float:
    """PQ of the windows' frames laid side by side, by loops over all pairs of masks."""
    ious, errors = {}, {}
    for film in films.values():
        for start in range(len(film) - num_frames + 1):
            truth, guess = (np.concatenate([pair[k] for pair in film[start : start + num_frames]], 1) for k in (0, 1))
            void, crowd = truth == 0, truth == LETTERS["C"]
            found, used = set(), set()
            for t in set(truth.flat) - {0, LETTERS["C"]}:
                for p in set(guess.flat) - {0}:
                    both, either = (truth == t) & (guess == p), ((truth == t) | (guess == p)) & ~((guess == p) & void)
                    if class_of(t) == class_of(p) and both.sum() / either.sum() > 0.5:
                        ious.setdefault(class_of(t), []).append(both.sum() / either.sum())
                        found.add(t)
                        used.add(p)
            for t in set(truth.flat) - {0, LETTERS["C"]} - found:
                errors[class_of(t)] = errors.get(class_of(t), 0) + 0.5
            for p in set(guess.flat) - {0} - used:
                forgiven = (guess == p) & (void | (crowd if class_of(p) == 3 else False))
                if forgiven.sum() <= 0.5 * (guess == p).sum():
                    errors[class_of(p)] = errors.get(class_of(p), 0) + 0.5
    seen = ious.keys() | errors.keys()
    return sum(sum(ious.get(c, [])) / (len(ious.get(c, [])) + errors.get(c, 0)) for c in seen) / len(seen)


def slow_aq(films: dict) -> float:
    association = []
    for film in films.values():
        truth, guess = (np.concatenate([pair[k] for pair in film], 1) for k in (0, 1))
        guess = np.where(truth == LETTERS["C"], 0, guess)
        for t in sorted(set(truth[truth > 1000])):
            tubes = [(truth == t, guess == p) for p in set(guess[guess > 1000])]
            weighted = [(a & b).sum() ** 2 / (a | b).sum() for a, b in tubes]
            association.append(sum(weighted) / (truth == t).sum())
    return sum(association) / len(association)


def slow_sq(films: dict) -> float:
    pairs = [(class_of(t), class_of(p)) for film in films.values() for a, b in film for t, p in zip(a.flat, b.flat, strict=True)]
    pairs = [(t, p) for t, p in pairs if t]
    ious = [sum(t == p == c for t, p in pairs) / sum(c in (t, p) for t, p in pairs) for c in {c for pair in pairs for c in pair}]
    return sum(ious) / len(ious)


def test_association_does_not_depend_on_the_order_in_time():
    """AQ has no windows: a film read backwards has the same tubes."""
    film = random_film(np.random.default_rng(5), 4)
    forward, backward = (
        score_videos([("film", as_map(t), as_map(p)) for t, p in frames], CLASSES, (1,))["stq"]["aq"]
        for frames in (film, film[::-1])
    )
    assert forward == pytest.approx(backward)
