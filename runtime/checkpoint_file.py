"""Files that torch.save has written, read without executing pickled code."""

import errno
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import BuiltinFunctionType, FunctionType

import torch

from runtime.files import InputError, shorten

PLAIN_DTYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)
BROKEN = (
    *(pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError),
    *(OverflowError, MemoryError, AssertionError, struct.error, zipfile.BadZipFile),
)
"""What damaged bytes can raise; an OSError without a number is torch's own."""


def read_checkpoint_file(path: Path, advice: str) -> object:
    """The content of a file of tensors and plain values, on the CPU.

    Args:
        advice: what to do where there is none, or one that is of no use.

    Raises:
        InputError: if it is missing, truncated, or holds anything but plain tensors and plain values.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; {advice}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle's version, before the refusal
            if zipfile.is_zipfile(path):
                _check_stored(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
        check_plain(content)
        return content
    except BROKEN as error:
        if getattr(error, "errno", None) not in (None, errno.EINVAL):  # EINVAL: torch seeks before the start of a cut file
            raise
        if "mmengine" in str(error):
            raise InputError(f"{path}: is mmengine's, of solov2/ or mmdet, which this command does not read; {advice}") from None
        raise InputError(f"{path}: broken checkpoint ({broken_reason(error)}); copy it again, or {advice}") from None


def _check_stored(path: Path) -> None:
    """torch packs nothing; a file of a few bytes that unpacks to gigabytes is no checkpoint of its."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed; save it with torch.save")


def check_plain(content: object) -> None:
    """Raise ValueError where a value in nested containers is no plain one, or a tensor cannot be what its file holds."""
    seen: set[int] = set()
    waiting = [("", content)]
    while waiting:
        name, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            if problem := _problem_of(value):
                raise ValueError(f"{shorten(name, 60)} is {problem}")
        elif isinstance(value, Mapping):
            waiting += [(f"a key of {name or 'it'}", key) for key in value if not isinstance(key, str)]
            waiting += [(f"{name}.{key}" if name else str(key), inner) for key, inner in value.items()]
        elif isinstance(value, list | tuple | set):
            waiting += [(f"{name}[{k}]", inner) for k, inner in enumerate(value)]
        elif isinstance(value, type | FunctionType | BuiltinFunctionType) or _is_of_torch(value):
            raise ValueError(f"{shorten(name, 60)} is {shorten(repr(value), 60)}")


def _is_of_torch(value: object) -> bool:
    """Whether a value is one of torch's own kinds, of which checkpoints need only these two."""
    return type(value).__module__.partition(".")[0] == "torch" and not isinstance(value, torch.dtype | torch.device | torch.Size)


def _problem_of(tensor: torch.Tensor) -> str | None:
    """Why a tensor is no plain array of numbers; None where it is one."""
    if tensor.is_nested or tensor.layout != torch.strided:
        return "a sparse or nested tensor"
    if tensor.is_quantized or tensor.dtype not in PLAIN_DTYPES:
        return f"a tensor of {tensor.dtype}"
    if tensor.device.type != "cpu":
        return f"a tensor without content, on {tensor.device}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"a tensor {tuple(tensor.shape)} that is larger than what the file holds of it"
    return None


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
