"""Kernels that numba compiles: the loops over pixels that NumPy and torch would pass over many times."""

from collections.abc import Callable
from typing import TypeVar

import numba

Kernel = TypeVar("Kernel", bound=Callable)


def kernel(function: Kernel) -> Kernel:
    """Compile a function of arrays and numbers on its first call and keep the machine code on disk beside its source.

    A kernel holds no interpreter lock, so that threads run it in parallel; it checks no index and divides as C does.
    """
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
