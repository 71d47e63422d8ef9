"""Which device a command computes on."""

import torch

from runtime.files import InputError, shorten


def default_device() -> str:
    """cuda where there is a GPU, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(name: str) -> str:
    """The name, if this machine has the device.

    Raises:
        InputError: if it has not.
    """
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device {name!r} cannot be used here ({shorten(error, 80)}); take cpu or cuda") from None
    return name
