"""Arrays in pickles are read as NumPy wrote them, and what only looks like one is refused without being built."""

import pickle

import numpy as np
import pytest
import torch

from panoptic_fpn.detectron2_pickle import read_pickle
from runtime.files import InputError
from solov2.checkpoints import read_checkpoint

ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "of another order of bytes": np.arange(4, dtype=">f8"),
    "by columns": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    "one number": np.array(3.5),
    "empty": np.zeros((0, 4), np.float16),
    "flags": np.array([True, False]),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_come_back_as_they_were_written(tmp_path, array, protocol):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": {"a": array}}, protocol))
    found = read_pickle(tmp_path / "a.pkl")["a"].numpy()
    np.testing.assert_array_equal(found, array)
    assert found.shape == array.shape


def dtype_with_state(name: bytes, state: bytes) -> bytes:
    """A pickle of a numpy.dtype whose state is forged."""
    return b"\x80\2cnumpy\ndtype\n(X" + bytes([len(name), 0, 0, 0]) + name + b"\x89\x88tR(" + state + b"tb."


FORGED = {
    "a datetime without metadata": dtype_with_state(b"m8[ns]", b"K\4X\1\0\0\0=NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0"),
    "a float of objects": dtype_with_state(b"f4", b"K\3X\1\0\0\0>NK\7NNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0"),
    "an array that nobody has filled": b"}X\5\0\0\0model}X\1\0\0\0acnumpy\nndarray\n(J\xe8\3\0\0tRss.",
    "objects": pickle.dumps({"model": {"a": np.array([{}], dtype=object)}}, 2),
    "records": pickle.dumps({"model": {"a": np.zeros(2, dtype=[("x", "f4")])}}, 2),
    "text": pickle.dumps({"model": {"a": np.array(["a", "b"])}}, 2),
    "a place among 4 billion": b"\x80\2}r\xff\xff\xff\xffX\5\0\0\0model}ss.",
}


@pytest.mark.parametrize("content", FORGED.values(), ids=FORGED)
def test_what_is_no_array_of_plain_numbers_is_refused(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pkl: (no plain|holds no) arrays"):
        read_pickle(tmp_path / "a.pkl")


def test_fewer_bytes_than_the_shape_needs_are_refused(tmp_path):
    content = pickle.dumps({"model": {"a": np.arange(6, dtype=np.float32)}}, 3)
    (tmp_path / "a.pkl").write_bytes(content.replace(b"K\x06\x85", b"K\x07\x85"))
    with pytest.raises(InputError, match=r"an array \(7,\) of float32 with 24 bytes"):
        read_pickle(tmp_path / "a.pkl")


class Forged:
    """Pickles as a numpy.dtype of 8-byte objects, whose array would take bytes of the file for addresses."""

    def __reduce__(self):
        return np.dtype, ("V8",), (3, "|", None, None, None, 8, 1, 63)


def test_mmengine_checkpoints_do_not_build_what_numpy_would(tmp_path):
    torch.save({"state_dict": {}, "message_hub": Forged()}, tmp_path / "a.pth")
    content = read_checkpoint(tmp_path / "a.pth")
    assert not isinstance(content["message_hub"], np.dtype)
