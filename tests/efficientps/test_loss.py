import math

import pytest
import torch
import torch.nn.functional as F

from efficientps.loss import hardest_pixels_loss


def logits_with_losses(losses: list[float]) -> torch.Tensor:
    """(1, 2, 1, N) logits whose cross-entropy with class 0 is `losses`."""
    # cross-entropy = log(1 + exp(b - a)); with a = 0: b = log(exp(loss) - 1)
    second = torch.tensor([math.log(math.expm1(loss)) for loss in losses])
    return torch.stack([torch.zeros_like(second), second])[None, :, None]


def test_only_the_hardest_quarter_counts():
    logits = logits_with_losses([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 2.0, 4.0])
    loss = hardest_pixels_loss(logits, torch.zeros(1, 1, 8, dtype=torch.long))
    torch.testing.assert_close(loss.item(), (2.0 + 4.0) / 2)


def test_void_neither_has_a_loss_nor_counts_in_the_fraction():
    logits = logits_with_losses([9.0, 9.0, 9.0, 9.0, 0.1, 0.2, 0.3, 0.4])
    target = torch.tensor([[[255] * 4 + [0] * 4]])
    torch.testing.assert_close(hardest_pixels_loss(logits, target).item(), 0.4)  # a quarter of the 4 labelled pixels


def test_the_quarter_is_taken_in_each_image():
    easy, hard = logits_with_losses([0.1, 0.2, 0.3, 0.4]), logits_with_losses([1.0, 2.0, 3.0, 4.0])
    loss = hardest_pixels_loss(torch.cat([easy, hard]), torch.zeros(2, 1, 4, dtype=torch.long))
    torch.testing.assert_close(loss.item(), (0.4 + 4.0) / 2)


def test_an_image_of_void_alone_gives_no_nan():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = hardest_pixels_loss(logits, torch.full((1, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_the_whole_image_is_plain_cross_entropy():
    logits, target = torch.randn(2, 5, 6, 6), torch.randint(0, 5, (2, 6, 6))
    torch.testing.assert_close(hardest_pixels_loss(logits, target, fraction=1.0), F.cross_entropy(logits, target))


@pytest.mark.parity
def test_the_mean_of_the_hardest_quarter_is_the_papers_weighted_sum():
    logits, target = torch.randn(1, 5, 8, 8), torch.randint(0, 5, (1, 8, 8))
    losses = F.cross_entropy(logits, target, reduction="none").flatten()
    weights = torch.zeros(64).index_fill(0, losses.topk(16).indices, 4 / 64)  # w = 4 / (W H) for the worst 25 %
    torch.testing.assert_close(hardest_pixels_loss(logits, target), (weights * losses).sum())
