"""Checkpoints of detectron2's model zoo, which are pickled NumPy arrays, read without building anything but numbers."""

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from runtime.checkpoint_file import BROKEN
from runtime.files import InputError, shorten
from runtime.pickled_arrays import RecordedArray, RecordedType


def _bytes_of(text: str, encoding: str) -> bytes:
    """Stands for _codecs.encode, by which Python 3 writes bytes for Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds bytes in {shorten(encoding, 20)}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stands for bytes(), by which Python 3 writes none for Python 2; with an argument it would allocate as much."""
    return b""


ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): RecordedArray,
    ("numpy._core.multiarray", "_reconstruct"): RecordedArray,  # since NumPy 2
    ("numpy.core.numeric", "_frombuffer"): RecordedArray.from_buffer,
    ("numpy._core.numeric", "_frombuffer"): RecordedArray.from_buffer,
    ("numpy", "ndarray"): RecordedArray,
    ("numpy", "dtype"): RecordedType,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _bytes_of,
    ("__builtin__", "bytes"): _no_bytes,
}
"""All that a pickle may name, and what stands for it."""


# Python's own, as the one in C allocates as much as a damaged file asks for.
class RecordingUnpickler(pickle._Unpickler):
    """Reads Python's own containers, numbers and texts, and records arrays."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return ALLOWED[module, name]


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pkl of detectron2's model zoo by name, floating ones as float32.

    Raises:
        InputError: if it is missing, truncated, holds anything but arrays of plain numbers, or NaN.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give a .pkl file of detectron2's model zoo")
    try:
        with path.open("rb") as file:
            content = RecordingUnpickler(file, encoding="latin1").load()
        model = content["model"] if isinstance(content, Mapping) else None
        recorded = {name: array for name, array in model.items() if isinstance(name, str) and isinstance(array, RecordedArray)}
        found = {name: torch.from_numpy(array.to_array()) for name, array in recorded.items()}
    except BROKEN as error:
        if getattr(error, "errno", None):
            raise
        raise InputError(
            f"{path}: no plain arrays of detectron2's model zoo ({shorten(error) or type(error).__name__}); copy it again, or "
            'where detectron2 is installed save torch.save({"model": model.state_dict()}, "model.pth") and give that'
        ) from None
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}
    if not tensors:
        raise InputError(f"{path}: holds no arrays by name under 'model'; give a .pkl file of detectron2's model zoo")
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise InputError(f"{path}: NaN or infinite weights in {name}; copy it again")
    return tensors
