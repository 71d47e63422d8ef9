"""Pickled arrays are read, and nothing else that a pickle can do is done."""

import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from panoptic_fpn.detectron2_pickle import read_pickle
from runtime.files import InputError

ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.array([0.5], dtype=np.float16)}


class Code:
    """Unpickled carelessly, it makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def write(path: Path, content: object, protocol: int = 3) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_arrays_are_read_as_float32(protocol, kind, tmp_path):
    content = {"model": kind(ARRAYS), "__author__": "Detectron2 Model Zoo"}
    tensors = read_pickle(write(tmp_path / "model.pkl", content, protocol))
    assert list(tensors) == list(ARRAYS)
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(tensors[name].numpy(), array)


def test_arrays_are_read_by_their_name_of_both_numpys(tmp_path):
    written = pickle.dumps({"model": ARRAYS}, protocol=3)
    for name in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        (tmp_path / "model.pkl").write_bytes(re.sub(rb"numpy\._?core\.multiarray", name, written))
        assert len(read_pickle(tmp_path / "model.pkl")) == len(ARRAYS)


def test_every_other_name_is_refused_before_it_is_called(tmp_path):
    for k, content in enumerate(
        [
            {"model": ARRAYS, "hook": Code(tmp_path / "executed")},
            {"model": ARRAYS | {"b": Code(tmp_path / "executed")}},
            Code(tmp_path / "executed"),
            {"model": {"a": np.array([Code(tmp_path / "executed")], dtype=object)}},
        ]
    ):
        path = write(tmp_path / f"{k}.pkl", content)
        with pytest.raises(InputError, match=rf"{k}\.pkl: no plain arrays .*it names posix\.mkdir.*torch\.save"):
            read_pickle(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["eval", "getattr", "__import__"])
def test_builtins_are_refused(name, tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"cbuiltins\n" + name.encode() + b"\n.")
    with pytest.raises(InputError, match=rf"it names builtins\.{name}"):
        read_pickle(tmp_path / "model.pkl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}}, "holds no arrays"),
        ({"blobs": ARRAYS}, "'model'"),
        ([1, 2], "no plain arrays"),
        ({"model": [1]}, "no plain arrays"),
        ({"model": {"a": np.array(["text"])}}, "no plain arrays"),
        ({"model": {"a": np.array([None])}}, "no plain arrays"),
        ({"model": {"a": np.array([1.0, np.nan])}}, "NaN or infinite weights in a"),
    ],
)
def test_what_holds_no_weights_is_refused(content, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_pickle(write(tmp_path / "model.pkl", content))


def test_damaged_files_are_refused(tmp_path):
    whole = pickle.dumps({"model": ARRAYS}, protocol=3)
    path = tmp_path / "model.pkl"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=str(path)):
            read_pickle(path)
    with pytest.raises(InputError, match="no such checkpoint"):
        read_pickle(tmp_path / "none.pkl")
