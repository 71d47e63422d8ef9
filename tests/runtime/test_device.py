"""A device that this machine lacks is refused in one line."""

import pytest
import torch

from runtime.device import check_device, default_device
from runtime.files import InputError


def test_the_default_is_there():
    assert check_device(default_device()) == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "warp", ""])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(InputError, match=rf"device '{name}' cannot be used here .*; take cpu or cuda"):
        check_device(name)
