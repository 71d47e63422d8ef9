"""Each kind of error in a scene drawn for it; kinds add up on random scenes."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data.panoptic_png import PanopticMap, describe_segments
from data.taxonomy import Category, Taxonomy
from evaluation.error_kinds import KINDS, KINDS_OF_ERRORS, ErrorKinds, explain
from evaluation.pair_counts import count_pairs
from evaluation.panoptic_quality import match_segments

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"
CLASSES = Taxonomy(
    "drawn",
    (Category("sky", 1, False, (0, 0, 9)), Category("cat", 2, True, (9, 0, 0)), Category("dog", 3, True, (0, 9, 0))),
)


def draw(*rows: str, crowds: str = "") -> PanopticMap:
    """`.` is void, s the sky, a to e cats, v to z dogs."""
    letters = np.array([list(row) for row in rows])
    ids = np.where(letters == ".", 0, letters.view(np.int32)).astype(np.uint32)
    category = lambda k: 1 if chr(k) == "s" else 2 if chr(k) < "m" else 3  # noqa: E731
    return PanopticMap(ids, describe_segments(ids, category, lambda k: chr(k) in crowds))


def outcomes(truth: PanopticMap, prediction: PanopticMap):
    overlaps = count_pairs(truth.segment_ids, prediction.segment_ids)
    return explain(truth, prediction, overlaps, match_segments(truth, prediction))


def kinds(truth: PanopticMap, prediction: PanopticMap) -> tuple[dict, dict]:
    """{letter: kind} of both sides."""
    found = outcomes(truth, prediction)
    return tuple({chr(o.segment.segment_id): o.kind for o in found if o.side == side} for side in ("truth", "prediction"))


SCENES = {
    "found": (draw("aab", "aab"), draw("aab", "aab"), {"a": "found", "b": "found"}, {"a": "found", "b": "found"}),
    "missed and invented": (draw("aa...", "aa..."), draw("...bb", "...bb"), {"a": "missed"}, {"b": "in void"}),
    "invented beside sky": (
        draw("aassssss", "aassssss"),
        draw("ssssssbb", "ssssssbb"),
        {"a": "missed", "s": "loose"},
        {"s": "loose", "b": "invented"},
    ),
    "wrong class": (draw("aaaa"), draw("vvvv"), {"a": "wrong class"}, {"v": "wrong class"}),
    # b covers all of a and c: IoU is 4 / 8 with each.
    "merged": (draw("aaaacccc"), draw("bbbbbbbb"), {"a": "merged", "c": "merged"}, {"b": "merged"}),
    "split": (draw("aaaaaaaa"), draw("bbbbcccc"), {"a": "split"}, {"b": "split", "c": "split"}),
    # IoU is 2 / 6 each.
    "loose": (draw("aaaassss"), draw("ssbbbbss"), {"a": "loose", "s": "loose"}, {"b": "loose", "s": "loose"}),
    "in void": (draw("aa...."), draw("aa.bbb"), {"a": "found"}, {"a": "found", "b": "in void"}),
}


@pytest.mark.parametrize("name", SCENES)
def test_each_kind_is_what_is_drawn(name):
    truth, prediction, of_truth, of_prediction = SCENES[name]
    assert kinds(truth, prediction) == (of_truth, of_prediction)


def drawings() -> dict[str, list[str]]:
    """Kind -> truth, prediction and meaning, of the table in docs/evaluation.md."""
    table = re.findall(r"^\| ([a-z ]+) \| `([.a-z]+)` \| `([.a-z]+)` \| (.+) \|$", DOCS.read_text(), re.MULTILINE)
    return {kind: rest for kind, *rest in table}


def test_the_docs_draw_every_kind_in_the_order_in_which_they_are_tried():
    assert list(drawings()) == list(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_contract_a_kind_is_what_the_docs_draw_and_says_what_would_help(name):
    truth, prediction, _ = drawings()[name]
    assert name in {outcome.kind for outcome in outcomes(draw(truth), draw(prediction))}
    kind = KINDS_OF_ERRORS[name]
    assert kind.meaning
    assert bool(kind.advice) == bool(kind.words) == (name not in ("found", "in void"))


def test_a_prediction_on_a_crowd_of_its_class_is_forgiven_as_in_panoptic_quality():
    truth, prediction = draw("aaaass", crowds="a"), draw("bbbbss")
    assert kinds(truth, prediction) == ({"s": "found"}, {"b": "in void", "s": "found"})


def test_partners_say_which_segments_an_error_is_about():
    truth, prediction = draw("aaaaccccee"), draw("bbbbbbbbdd")
    about = {chr(o.segment.segment_id): "".join(map(chr, o.partners)) for o in outcomes(truth, prediction)}
    assert about == {"a": "b", "c": "b", "b": "ac", "e": "d", "d": "e"}


def random_map(numbers: np.random.Generator, crowds: bool) -> PanopticMap:
    """Boxes of random classes over each other on void or sky."""
    letters = np.full((24, 32), numbers.choice([".", "s"]))
    for letter in numbers.permutation(list("abcdevwxyz"))[: numbers.integers(1, 9)]:
        y, x = numbers.integers(0, 20), numbers.integers(0, 26)
        letters[y : y + numbers.integers(2, 12), x : x + numbers.integers(2, 14)] = letter
    chosen = "".join(numbers.choice(list("abvw"), numbers.integers(0, 3))) if crowds else ""
    return draw(*("".join(row) for row in letters), crowds=chosen)


def moved(panoptic: PanopticMap, numbers: np.random.Generator) -> PanopticMap:
    """The same, shifted, with some letters changed to others."""
    ids = np.roll(panoptic.segment_ids, tuple(numbers.integers(-3, 4, 2)), (0, 1))
    table = np.arange(256)
    for letter in numbers.permutation(list("abcdevwxyz"))[:2]:
        table[ord(letter)] = ord(numbers.choice(list("abcdevwxyz.s")))
    table[ord(".")] = 0
    text = np.where(ids == 0, ord("."), table[ids])
    text[text == 0] = ord(".")
    return draw(*("".join(map(chr, row)) for row in text))


def test_contract_kinds_add_up_on_random_scenes():
    numbers, seen = np.random.default_rng(0), Counter()
    total = ErrorKinds(CLASSES)
    for k in range(200):
        truth = random_map(numbers, crowds=True)
        prediction = moved(truth, numbers) if k % 2 else random_map(numbers, crowds=False)
        matches = match_segments(truth, prediction)
        found = explain(truth, prediction, count_pairs(truth.segment_ids, prediction.segment_ids), matches)
        total.add(found, matches, truth.segment_ids.size)
        seen.update(o.kind for o in found)
        for category in CLASSES.categories:
            of_truth = Counter(o.kind for o in found if o.side == "truth" and o.segment.category_id == category.dataset_id)
            of_prediction = Counter(
                o.kind for o in found if o.side == "prediction" and o.segment.category_id == category.dataset_id
            )
            tp = sum(m[2] == category.dataset_id for m in matches.matches)
            assert of_truth["found"] == of_prediction["found"] == tp
            assert of_truth.total() - tp == matches.missed.count(category.dataset_id)
            assert of_prediction.total() - tp - of_prediction["in void"] == matches.invented.count(category.dataset_id)
    assert seen.keys() == set(KINDS), "every kind occurs"
    scores = total.scores()
    now = total.quality.scores(CLASSES)["All"]["pq"]
    assert all(entry["gain"] >= 0 for entry in scores["kinds"].values())
    assert scores["kinds"]["in void"]["pq"] == now
    things = [c.name for c in CLASSES.categories if c.is_thing]
    for kind in KINDS:
        for side in ("truths", "predictions"):
            by_class = sum(scores["per_class"][name][kind][side] for name in things)
            assert sum(of_size[kind][side] for of_size in scores["things_by_size"].values()) == by_class
    assert sum(entry["truths"] for entry in scores["kinds"].values()) == sum(
        of_kind["truths"] for of_class in scores["per_class"].values() for of_kind in of_class.values()
    )


def test_pq_without_a_kind_is_that_of_a_prediction_where_it_is_right():
    """Two cats of four pixels; one is split. Right, all would be found."""
    truth, prediction = draw("aaaa", "cccc", "ssss"), draw("bbdd", "cccc", "ssss")
    kinds_of = ErrorKinds(CLASSES)
    kinds_of.add(outcomes(truth, prediction), match_segments(truth, prediction), 12)
    scores = kinds_of.scores()["kinds"]
    # Cats: TP 1, FP 2, FN 1, PQ 1 / 2.5; sky 1.
    assert kinds_of.quality.scores(CLASSES)["All"]["pq"] == pytest.approx((1 / 2.5 + 1) / 2)
    assert scores["split"] == {"truths": 1, "predictions": 2, "pq": 1.0, "gain": pytest.approx(0.3)}
    assert scores["merged"] == {"truths": 0, "predictions": 0, "pq": pytest.approx(0.7), "gain": 0.0}


def test_findings_name_what_costs_most_in_words():
    truth, prediction = draw("aasssssvvv", "aasssssvvv"), draw("ssssssswww", "ssssssswww")
    kinds_of = ErrorKinds(CLASSES)
    kinds_of.add(outcomes(truth, prediction), match_segments(truth, prediction), 1024 * 2048)
    text = "cat: 1 of 1 is missed, 1 of them below 32x32 pixels of a 1024x2048 image"
    gain = 100 / len(kinds_of.quality.counts)  # the cat's PQ goes from 0 to 1
    assert kinds_of.findings() == [f"{text} ({gain:+.1f} PQ if right); a larger input would help first"]
