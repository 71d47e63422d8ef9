"""Files that torch.save has written, read without executing pickled code."""

import errno
import pickle
import re
import struct
import warnings
from pathlib import Path

import torch

from runtime.files import InputError, shorten

BROKEN = (
    *(pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError),
    *(OverflowError, MemoryError, struct.error),
)
"""What damaged bytes can raise; an OSError without a number is torch's own."""


def read_checkpoint_file(path: Path, advice: str) -> object:
    """The content of a file of tensors and plain values, on the CPU.

    Args:
        advice: what to do where there is none, or one that is of no use.

    Raises:
        InputError: if it is missing, truncated, or holds anything but tensors and plain values.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; {advice}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle's version, before the refusal
            return torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN as error:
        if getattr(error, "errno", None) not in (None, errno.EINVAL):  # EINVAL: torch seeks before the start of a cut file
            raise
        raise InputError(f"{path}: broken checkpoint ({broken_reason(error)}); copy it again, or {advice}") from None


def broken_reason(error: Exception) -> str:
    """What torch found, without its paragraphs on how to turn the guard off."""
    text = "its bytes are of nothing known" if isinstance(error, LookupError) else str(error) or type(error).__name__
    found = re.search(r"unsupported [^\n]+", text, re.IGNORECASE)
    return shorten(
        found[0] if found else text.partition("WeightsUnpickler error:")[2] or text.partition("In PyTorch 2.6")[0], 100
    )


def check_finite(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Refuse broken weights: NaN would not crash anything, as no score is above its limit, so all images would look empty.

    Raises:
        InputError: if a tensor holds NaN or infinity.
    """
    broken = [name for name, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise InputError(f"{path}: NaN or infinite weights in {broken[0]} ({len(broken)} in all); use an earlier checkpoint")
