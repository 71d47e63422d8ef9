"""What a prediction contradicts in the truth: drawn pairs, whose kinds and confidence are derived in the test."""

from dataclasses import replace

import pytest

from data.label_checks.json_checks import classes_of
from data.panoptic_png import PanopticMap
from evaluation.label_disagreements import LabelDisagreements

SCENE = ("ssssssss", "ssaaaass", "ssaaaass", "rrrrrrrr")
AS_PERSON = ("ssssssss", "ssppppss", "ssppppss", "rrrrrrrr")


@pytest.fixture
def disputed(draw, toy):
    """Compare pairs of (truth, prediction, score of the prediction's things or None); return (kind, image, side, ids, text)."""

    def score(panoptic: PanopticMap, value: float | None) -> PanopticMap:
        return PanopticMap(panoptic.segment_ids, tuple(replace(s, score=value) for s in panoptic.segments))

    def compare(*pairs):
        judge = LabelDisagreements()
        for k, (truth, prediction, value) in enumerate(pairs):
            judge.add(judge.compare(k, draw(*truth), score(draw(*prediction), value)))
        return [(f.kind, f.image_id, f.side, f.segment_ids) for f in judge.findings(classes_of(toy))]

    return compare


def test_a_prediction_of_the_truth_disputes_nothing(disputed):
    assert disputed((SCENE, SCENE, None)) == []


def test_another_class_is_disputed(disputed):
    """The car is a person, with IoU 1; the person is of the kind `wrong class`, too, and not named once more."""
    assert disputed((SCENE, AS_PERSON, None)) == [("class-disputed", 0, "truth", (26000,))]


def test_another_class_of_little_overlap_is_not_the_same_object(disputed):
    small = ("ssssssss", "ssppssss", "ssssssss", "rrrrrrrr")
    assert "class-disputed" not in [kind for kind, *_ in disputed((SCENE, small, None))]


@pytest.mark.parametrize(("value", "is_found"), [(0.79, False), (0.8, True)])
def test_a_doubt_counts_from_the_mean_score_of_what_is_found_on(value, is_found, disputed):
    """Persons are found with scores 0.7 and 0.9."""
    people = (AS_PERSON, AS_PERSON, 0.7), (AS_PERSON, AS_PERSON, 0.9)
    found = disputed(*people, (SCENE, AS_PERSON, value))
    assert found == ([("class-disputed", 2, "truth", (26000,))] if is_found else [])


def test_the_surest_doubt_comes_first(disputed):
    people = [(AS_PERSON, AS_PERSON, 0.5)]
    found = disputed(*people, (SCENE, AS_PERSON, 0.6), (SCENE, AS_PERSON, 0.9), (SCENE, AS_PERSON, 0.7))
    assert [image for _, image, *_ in found] == [2, 3, 1]


def test_one_car_that_is_predicted_as_two_is_disputed(disputed):
    halves = ("ssssssss", "ssaabbss", "ssaabbss", "rrrrrrrr")
    assert ("number-disputed", 0, "truth", (26000,)) in disputed((SCENE, halves, None))


def test_two_cars_that_are_predicted_as_one_are_disputed(disputed):
    halves = ("ssssssss", "ssaabbss", "ssaabbss", "rrrrrrrr")
    (found,) = disputed((halves, SCENE, None))
    assert (found[0], found[2], set(found[3])) == ("number-disputed", "truth", {26000, 26001})


def test_a_thing_on_stuff_is_perhaps_a_forgotten_object(disputed):
    """Half of the sky's pixels remain its own, so that the sky is found."""
    without = ("ssssssss", "ssssssss", "ssssssss", "rrrrrrrr")
    assert disputed((without, SCENE, None)) == [("object-disputed", 0, "prediction", (26000,))]


def test_a_thing_on_void_is_perhaps_a_forgotten_object(disputed):
    void = ("ssssssss", "ss....ss", "ss....ss", "rrrrrrrr")
    assert disputed((void, SCENE, None)) == [("void-disputed", 0, "prediction", (26000,))]


def test_a_thing_on_a_crowd_of_its_class_is_no_doubt(disputed):
    crowd = ("ssssssss", "ssCCCCss", "ssCCCCss", "rrrrrrrr")
    assert disputed((crowd, SCENE, None)) == []


@pytest.mark.parametrize(("num_found", "is_found"), [(1, False), (2, True)])
def test_a_large_truth_is_doubted_if_most_of_its_class_are_found(num_found, is_found, disputed):
    """The car covers 8 of 32 pixels, far more than 96x96 of 1024x2048; what is predicted there is sky. 1 of 2 is not most."""
    without = ("ssssssss", "ssssssss", "ssssssss", "rrrrrrrr")
    found = disputed(*[(SCENE, SCENE, None)] * num_found, (SCENE, without, None))
    assert found == ([("object-unseen", num_found, "truth", (26000,))] if is_found else [])
