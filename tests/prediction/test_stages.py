"""What each stage of a fusion loses: the truth in place of a half gives back what that half lost."""

from dataclasses import replace

import numpy as np
import pytest

from data.layouts.cityscapes import CityscapesSplit
from prediction.fused import FusedPredictor, LogitRule
from prediction.predictor import Prediction
from prediction.run import predict_split
from prediction.score import score
from prediction.sources.truth import Truth
from prediction.stages import STAGES, find_stage_losses
from runtime.files import InputError


class Half:
    """The truth, less its instances or with semantics that name one class everywhere."""

    gives = ("instances", "semantic")
    min_score = None

    def __init__(self, split, *, has_instances=True, has_semantics=True):
        self.truth, self.taxonomy = Truth(split), split.taxonomy
        self.has_instances, self.has_semantics = has_instances, has_semantics

    def fingerprint(self, image_id):
        return f"half-{self.has_instances}-{self.has_semantics}"

    def predict(self, image_id, image):
        found = self.truth.predict(image_id, image)
        instances, semantic = found.instances, found.semantic
        if not self.has_instances:
            none = {name: getattr(instances, name)[:0] for name in ("train_ids", "scores", "boxes", "crop_boxes", "crops")}
            instances = replace(instances, **none)
        if not self.has_semantics:
            logits = np.full_like(semantic.logits, -10)
            logits[0] = 10
            semantic = replace(semantic, logits=logits)
        return Prediction(None, instances, semantic)


@pytest.fixture(scope="module")
def split(streets):
    return CityscapesSplit(streets, "val")


def losses_of(split, **has):
    half = Half(split, **has)
    return find_stage_losses(split, FusedPredictor(half, half, LogitRule()))


def test_with_both_halves_true_nothing_but_the_rule_loses(split):
    assert len(set(losses_of(split).pq.values())) == 1


def test_the_half_that_is_broken_is_the_one_that_the_truth_mends(split):
    now, instances, semantics, both = losses_of(split, has_instances=False).pq.values()
    assert now == semantics < instances == both
    now, instances, semantics, both = losses_of(split, has_semantics=False).pq.values()
    assert now == instances < semantics == both


def test_as_it_is_agrees_with_the_scores_of_the_run(split, tmp_path):
    half = Half(split, has_instances=False)
    predictor = FusedPredictor(half, half, LogitRule())
    run = predict_split(split, predictor, tmp_path / "run")
    losses = find_stage_losses(split, predictor)
    assert losses.to_json()["stages"][STAGES[0]]["scores"] == score(run, split).quality
    rows = {row[0]: row for row in losses.table().rows}
    assert tuple(rows) == STAGES
    assert rows[STAGES[0]][1] == f"{100 * losses.pq[STAGES[0]]:.1f}"


def test_without_instances_there_is_nothing_to_tell_apart(split):
    with pytest.raises(InputError, match="there is one only; give --instances"):
        find_stage_losses(split, FusedPredictor(None, Half(split), LogitRule()))
