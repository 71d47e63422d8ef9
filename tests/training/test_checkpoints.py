"""What a training may start from: no part of a network may stay as it was drawn at random."""

import pytest
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from runtime.files import InputError
from training.checkpoints import check_learns


def network() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), FrozenBatchNorm2d(4), nn.Conv2d(4, 2, 1))
    network[0].weight.requires_grad_(False)
    return network


def test_frozen_parts_must_have_been_loaded():
    loaded = {"0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var"}
    check_learns(network(), loaded, "")
    with pytest.raises(InputError, match=r"stay as they are, 1\.bias, but no weights were loaded"):
        check_learns(network(), loaded - {"1.bias"}, "")


def test_the_message_names_the_flags_with_which_all_learn():
    with pytest.raises(InputError, match=r"stay as they are, .* or let all learn: --norm bn"):
        check_learns(network(), set(), "--norm bn")


def test_a_network_of_which_all_learns_needs_no_weights():
    check_learns(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), set(), "")
