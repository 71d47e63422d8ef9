"""The Lovász hinge: known answers, its definition, its gradient."""

import pytest
import torch
from torch import Tensor

from pan_secb.lovasz import lovasz_extension, lovasz_hinge


def jaccard_loss(is_wrong: Tensor, is_foreground: Tensor) -> Tensor:
    """1 - IoU of the mask that is the truth but for the wrong pixels; 0 for two empty masks."""
    predicted = is_foreground ^ is_wrong
    union = (predicted | is_foreground).sum()
    return 1 - (predicted & is_foreground).sum() / union if union else torch.tensor(0.0)


def reference(logits: Tensor, is_foreground: Tensor) -> Tensor:
    """Berman et al., definition 1 and eq. 8, of one mask: pixel after pixel, each time counting the IoU anew."""
    errors = (1 - torch.where(is_foreground, logits, -logits)).relu()
    is_wrong, before, total = torch.zeros_like(is_foreground), torch.tensor(0.0), 0
    for pixel in errors.argsort(descending=True):
        is_wrong[pixel] = True
        now = jaccard_loss(is_wrong, is_foreground)
        total, before = total + errors[pixel] * (now - before), now
    return total


LOGITS, LABELS = torch.tensor([[2.0, -1.0], [0.5, 1.5]]), torch.tensor([[False, False], [True, True]])


def test_two_images_of_two_pixels_give_1_625_as_the_mean():
    # The first has errors 3 and 0 and no foreground: 3. The second has 0.5 and 0: 0.5 * (1 - 1/2).
    losses = lovasz_hinge(LOGITS, LABELS)
    assert losses.tolist() == [3.0, 0.25]
    assert losses.mean().item() == 1.625


def test_all_four_pixels_together_give_7_6():
    # 3 * (1 - 2/3) + 0.5 * (2/3 - 1/3)
    assert lovasz_hinge(LOGITS.view(1, 4), LABELS.view(1, 4)).item() == pytest.approx(7 / 6)


def test_two_of_four_pixels_wrong_give_1_25():
    # Errors 2 (foreground), 1.5 (background): 2 * 1/2 + 1.5 * (2/3 - 1/2).
    labels = torch.tensor([[True, True, False, False]])
    assert lovasz_hinge(torch.tensor([[2.0, -1.0, 0.5, -3.0]]), labels).item() == pytest.approx(1.25)


@pytest.mark.parametrize("foreground_share", [0, 0.1, 0.5, 1])
def test_it_is_the_sum_of_steps_of_the_jaccard_loss(foreground_share):
    torch.manual_seed(0)
    logits, labels = 2 * torch.randn(6, 40), torch.rand(6, 40) < foreground_share
    expected = torch.stack([reference(*mask) for mask in zip(logits, labels, strict=True)])
    torch.testing.assert_close(lovasz_hinge(logits, labels), expected)


def test_at_hard_masks_it_is_the_jaccard_loss():
    # Logits of +-1: errors are 0 or 2, so that only the last wrong pixel counts.
    torch.manual_seed(0)
    labels, predicted = torch.rand(5, 30) < 0.4, torch.rand(5, 30) < 0.4
    expected = torch.stack([2 * jaccard_loss(a ^ b, a) for a, b in zip(labels, predicted, strict=True)])
    torch.testing.assert_close(lovasz_hinge(torch.where(predicted, 1.0, -1.0), labels), expected)


def test_its_gradient_is_right_in_double_precision():
    torch.manual_seed(0)
    labels = torch.rand(3, 12) < 0.4
    # No two errors within 0.01, and none within 0.01 of 0: at ties and at the hinge there is no gradient.
    errors = (torch.randperm(36).view(3, 12) - 10.5).double() / 8
    logits = torch.where(labels, 1 - errors, errors - 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: lovasz_hinge(x, labels), logits, eps=1e-6)


def test_masks_of_any_sizes_stand_side_by_side():
    torch.manual_seed(0)
    sizes = torch.tensor([5, 0, 1, 30])
    groups = torch.arange(4).repeat_interleave(sizes)
    errors, labels = torch.rand(36), torch.rand(36) < 0.5
    shuffled = torch.randperm(36)
    losses = lovasz_extension(errors[shuffled], labels[shuffled], groups[shuffled], 4)
    for k, size in enumerate(sizes.tolist()):
        own = groups == k
        expected = reference(torch.where(labels[own], 1 - errors[own], errors[own] - 1), labels[own]) if size else 0.0
        assert losses[k].item() == pytest.approx(float(expected), rel=1e-5)


def test_background_with_less_error_than_all_foreground_may_stay_away():
    torch.manual_seed(0)
    labels = torch.arange(50) < 10
    errors = torch.where(labels, 0.5, 0.0) + torch.rand(50)
    groups = torch.zeros(50, dtype=torch.long)
    kept = labels | (errors > errors[labels].min())
    assert kept.sum() < 50
    fewer = lovasz_extension(errors[kept], labels[kept], groups[kept], 1)
    torch.testing.assert_close(fewer, lovasz_extension(errors, labels, groups, 1))


def test_a_million_pixels_keep_their_precision():
    # All foreground with error 1: the loss is 1, the sum of a million steps of a millionth.
    labels = torch.ones(1, 10**6, dtype=torch.bool)
    assert lovasz_hinge(torch.zeros(1, 10**6), labels).item() == pytest.approx(1, abs=1e-6)
