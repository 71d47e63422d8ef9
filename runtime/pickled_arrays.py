"""NumPy arrays in pickles of other programs, read without calling NumPy's own classes.

A forged state of numpy.dtype would make bytes of the file an object's address. So what a pickle says of an array is recorded,
looked at, and only then made an array.
"""

import math
import re

import numpy as np

from runtime.files import shorten

PLAIN_NUMBER = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


class RecordedType:
    """What a pickle says of a numpy.dtype: its name, such as f4, and in its state the order of bytes."""

    def __init__(self, name: object = None, *others: object):
        self.name, self.order = name, "="

    def __setstate__(self, state: object) -> None:
        self.order = state[1]

    def to_dtype(self) -> np.dtype:
        """Raises ValueError unless it is a plain number."""
        code = f"{self.order}{self.name}" if isinstance(self.name, str) and len(self.name) == 2 else self.name
        if not isinstance(code, str) or not PLAIN_NUMBER.fullmatch(code):
            raise ValueError(f"an array of {shorten(repr(code), 30)}")
        return np.dtype(code)


class RecordedArray:
    """What a pickle says of a numpy.ndarray."""

    def __init__(self, *others: object):
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    @classmethod
    def from_buffer(cls, content: object, kind: object, shape: object, order: object) -> "RecordedArray":
        """Stands for the function by which NumPy writes arrays since pickle's protocol 5."""
        recorded = cls()
        recorded.state = (1, shape, kind, order == "F", content)
        return recorded

    def to_array(self) -> np.ndarray:
        """Raises ValueError unless it is an array of plain numbers with as many bytes as it needs."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("an array without content")
        _, shape, kind, is_fortran, content = self.state
        content = content.encode("latin1") if isinstance(content, str) else content  # as Python 2 wrote it
        content = bytes(content) if isinstance(content, bytearray) else content
        are_sides = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
        if not are_sides or not isinstance(kind, RecordedType) or not isinstance(content, bytes):
            raise ValueError("an array of no known form")
        dtype = kind.to_dtype()
        if math.prod(shape) * dtype.itemsize != len(content):
            raise ValueError(f"an array {shape} of {dtype} with {len(content)} bytes")
        native = np.frombuffer(content, dtype).astype(dtype.newbyteorder("="))
        return native.reshape(shape, order="F" if is_fortran else "C")
