"""Checkpoints of detectron2's model zoo, which are pickled NumPy arrays, read without executing what else a pickle may hold."""

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from runtime.checkpoint_file import BROKEN
from runtime.files import InputError, shorten

RECONSTRUCT = np.empty(0).__reduce__()[0]
"""What a pickled array is made with: an empty one that is then filled."""
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,  # since NumPy 2
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
}
"""All that a pickle may name. Each makes data and calls nothing."""


class ArraysOnly(pickle.Unpickler):
    """Reads arrays and Python's own containers, numbers and texts."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return ALLOWED[module, name]


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pkl of detectron2's model zoo by name, floating ones as float32.

    Raises:
        InputError: if it is missing, truncated, holds anything but arrays, or NaN.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give a .pkl file of detectron2's model zoo")
    try:
        with path.open("rb") as file:
            content = ArraysOnly(file, encoding="latin1").load()
        model = content["model"] if isinstance(content, Mapping) else None
        found = {name: torch.from_numpy(np.array(array)) for name, array in model.items() if isinstance(array, np.ndarray)}
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
