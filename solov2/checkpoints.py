"""mmengine's checkpoints, read without executing pickled code, and which one a run goes on from."""

import pickle
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from runtime.checkpoint_file import broken_reason, read_checkpoint_file
from runtime.command_line import relative_to_repository
from runtime.files import InputError
from runtime.pickled_arrays import RecordedArray, RecordedType

ADVICE = "train stage 1 first: cd solov2 && python train.py"
POINTER = "last_checkpoint"
"""The file in a work folder in which mmengine names its newest checkpoint."""


class ReadHistory(HistoryBuffer):
    """What stands for HistoryBuffer while a checkpoint is read: its arrays are looked at before they are made."""

    def __setstate__(self, state: dict) -> None:
        read = {name: value.to_array() if isinstance(value, RecordedArray) else value for name, value in state.items()}
        self.__dict__.update(read)
        self.__class__ = HistoryBuffer  # by whose name the next checkpoint must have it


def _read_scalar(kind: RecordedType, content: bytes | str) -> np.generic:
    """Stands for NumPy's own function of this name."""
    return np.frombuffer(content if isinstance(content, bytes) else content.encode("latin1"), kind.to_dtype())[0]


def allow_checkpoint_classes() -> None:
    """Let torch.load, which mmengine 0.10.7 calls with weights_only on (torch >= 2.6), read mmengine's own checkpoints.

    They hold the history of the logged values: HistoryBuffer and NumPy arrays, nothing else beside tensors and plain types.
    """
    allowed = {
        f"{HistoryBuffer.__module__}.{HistoryBuffer.__name__}": ReadHistory,
        "numpy.ndarray": RecordedArray,
        "numpy.dtype": RecordedType,
        "builtins.getattr": _history_method,
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # NumPy 1 and 2
        allowed |= {f"{module}._reconstruct": RecordedArray, f"{module}.scalar": _read_scalar}
    torch.serialization.add_safe_globals([(stand_in, name) for name, stand_in in allowed.items()])


def _history_method(owner: type, name: str):
    """Stands for the getattr by which pickle names HistoryBuffer's four methods; the real one would reach anything."""
    if owner is not ReadHistory or name not in ("min", "max", "mean", "current"):
        raise pickle.UnpicklingError(f"attribute {name!r} of {owner!r} is not allowed in a checkpoint")
    return getattr(HistoryBuffer, name)


def read_checkpoint(path: Path) -> dict:
    """The content of an mmengine checkpoint, on the CPU.

    Raises:
        InputError: if it is missing, truncated, or holds anything but weights and logs.
    """
    allow_checkpoint_classes()
    content = read_checkpoint_file(path, ADVICE)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise InputError(f"{path}: has no `state_dict`; give an epoch_*.pth that solov2/train.py wrote")
    return content


def load_weights(model: nn.Module, checkpoint: dict, path: Path) -> None:
    """Load the weights of a checkpoint, all of them and no others.

    Raises:
        InputError: if they are of another model.
    """
    try:
        model.load_state_dict({k.removeprefix("module."): v for k, v in checkpoint["state_dict"].items()})
    except RuntimeError as error:
        reason = broken_reason(error).partition(":")[2].strip()  # without "Error(s) in loading state_dict for SOLOv2:"
        needed = "give another checkpoint, or to a training the config that it is of"
        raise InputError(f"{path}: is of another model than the config ({reason}); {needed}") from None


def find_last(work_dir: Path) -> Path | None:
    """The newest whole checkpoint of a run; None where there is none.

    mmengine writes neither checkpoints nor the pointer atomically, so a kill may have broken the newest one.
    """
    pointer = Path(work_dir) / POINTER
    if not pointer.is_file():
        return None
    # The name only: the folder may have been moved since.
    named = Path(work_dir) / (Path(pointer.read_text().strip()).name or "none")
    older = [p for p in Path(work_dir).glob("epoch_*.pth") if p.stem.removeprefix("epoch_").isdigit()]
    older.sort(key=lambda p: int(p.stem.removeprefix("epoch_")), reverse=True)
    for path in dict.fromkeys([named, *older]):
        try:
            read_checkpoint(path)
            return path
        except InputError:
            continue
    return None


def need_last(work_dir: Path) -> Path:
    """As find_last.

    Raises:
        InputError: if there is none.
    """
    found = find_last(work_dir)
    if found is None:
        raise InputError(f"{relative_to_repository(work_dir)}: no checkpoint there; {ADVICE}")
    return found
