"""Matrix NMS over arrays chooses what the rule over tensors chooses."""

import numpy as np
import pytest
import torch

import solov2  # noqa: F401, before mmengine

# isort: split
from detection.matrix_nms import choose_masks, logit_of
from solov2 import mask_selection

SETTINGS = {"mask_thr": 0.5, "nms_pre": 20, "max_per_img": 8, "kernel": "gaussian", "sigma": 2.0, "filter_thr": 0.05}


def blobs(num: int) -> np.ndarray:
    """(N, 24, 70) logits of discs, many of which overlap."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:24, :70]
    centers, radii = rng.uniform((0, 0), (24, 70), (num, 2)), rng.uniform(1, 12, num)
    distances = [np.hypot(y - cy, x - cx) for cy, cx in centers]
    return np.stack([radius - distance for radius, distance in zip(radii, distances)]).astype(np.float32)


@pytest.mark.parametrize("change", [{}, {"kernel": "linear"}, {"filter_thr": 0.0, "nms_pre": 0, "max_per_img": 0}])
def test_scores_and_choice_are_those_of_the_torch_rule(change):
    rng, settings = np.random.default_rng(1), SETTINGS | change
    logits = blobs(40)
    scores, labels = rng.random(40, dtype=np.float32), rng.integers(0, 3, 40)
    areas = np.full(40, 8, np.float32)
    found = choose_masks(logits, scores, labels, areas, **settings)
    wanted = mask_selection.select_instances(*map(torch.from_numpy, (logits, scores, labels, areas)), **settings)
    assert len(found.places) > 4
    assert found.places.tolist() == wanted.chosen.tolist()
    np.testing.assert_allclose(found.scores, wanted.scores.numpy(), rtol=1e-5)


def test_no_candidates_give_no_instances():
    nothing = np.zeros(0, np.float32)
    found = choose_masks(np.zeros((0, 4, 4), np.float32), nothing, np.zeros(0, np.int64), nothing, **SETTINGS)
    assert len(found.scores) == len(found.places) == 0


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
def test_the_limit_of_a_mask_is_that_of_the_torch_rule_but_for_rounding(threshold):
    assert logit_of(threshold) == pytest.approx(mask_selection.logit_of(threshold), abs=1e-6, rel=1e-2)
