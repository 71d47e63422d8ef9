"""Kernels that numba compiles. Where numba is absent every caller takes its numpy or torch path, which gives the same results."""

from collections.abc import Callable
from typing import TypeVar

try:
    import numba
except ImportError:  # no wheel for this Python or machine
    numba = None

Kernel = TypeVar("Kernel", bound=Callable)


def has_compiler() -> bool:
    """Whether kernels can run. Asked at every call, so that tests can say no."""
    return numba is not None


def kernel(function: Kernel) -> Kernel:
    """Compile a function of arrays and numbers on its first call and keep the machine code on disk beside its source.

    A kernel holds no interpreter lock, so that threads run it in parallel; it checks no index and divides as C does.
    """
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function) if numba else function
