"""Kernels that numba compiles: the loops over pixels that NumPy and torch would pass over many times."""

from collections.abc import Callable
from typing import TypeVar

import numba

Kernel = TypeVar("Kernel", bound=Callable)


def kernel(function: Kernel) -> Kernel:
    """Compile a function of arrays and numbers on its first call and keep the machine code on disk beside its source.

    A kernel holds no interpreter lock, so that threads run it in parallel; it checks no index and divides as C does.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except (RuntimeError, OSError):  # no folder can be written to: it is compiled anew in each process
        return numba.njit(**options)(function)
