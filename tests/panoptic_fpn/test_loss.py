"""The losses: what "other" is right for, the mean over pixels that have a class, and factors that can be."""

import pytest
import torch
import torch.nn.functional as F

from data.taxonomy import VOID_TRAIN_ID
from panoptic_fpn.loss import LossWeights, semantic_loss, to_output_index
from runtime.files import InputError

V = VOID_TRAIN_ID


def test_things_are_other_and_void_stays_void():
    outputs = torch.tensor([1, 3, V])  # stuff 1 and 3, then "other"; classes 0, 2 and 4 are things
    semantic = torch.tensor([[0, 1, 2], [3, 4, V]])
    assert to_output_index(semantic, outputs).tolist() == [[2, 0, 2], [1, 2, V]]


def test_all_classes_are_their_own_outputs():
    semantic = torch.tensor([0, 1, 2, V])
    assert to_output_index(semantic, torch.arange(3)).tolist() == [0, 1, 2, V]


def test_the_semantic_loss_is_torchs_on_enlarged_logits():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 16, 20))
    target[0, :3] = V
    enlarged = F.interpolate(logits, (16, 20), mode="bilinear", align_corners=False)
    torch.testing.assert_close(semantic_loss(logits, target), F.cross_entropy(enlarged, target, ignore_index=V))


def test_an_image_without_any_class_teaches_nothing():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = semantic_loss(logits, torch.full((1, 16, 16), V))
    loss.backward()
    assert loss.item() == 0  # torch's own mean would be NaN
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("weights", [(-1.0, 1.0), (1.0, -0.1), (0.0, 0.0), (float("nan"), 1.0)])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(InputError, match="from 0 on, and one above it, are needed"):
        LossWeights(*weights)
