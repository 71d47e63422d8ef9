"""Checkpoints of torch, weights as safetensors, and pickled arrays: tensors and plain values, or a refusal."""

import io
import pickle
import random
import re
import struct
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as save_safetensors

from panoptic_fpn.detectron2_pickle import read_pickle
from runtime.checkpoint_file import PLAIN_DTYPES, read_checkpoint_file
from runtime.files import InputError
from tests.fuzz.mutations import mutate_archive, mutate_pickle, mutate_safetensors
from training.weights_file import read_tensors

PLAIN = (str, bytes, bytearray, int, float, complex, bool, type(None), torch.dtype, torch.device, torch.layout)


def save(value: object, is_legacy: bool = False) -> bytes | None:
    """The bytes of torch.save. Its older form names storages by their addresses; None where it has not one of them."""
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=not is_legacy)
    content = file.getvalue()
    if not is_legacy:
        return content
    addresses = set(re.findall(rb"X[\x0a-\x10]\0\0\0(\d{10,16})", content))
    if len(addresses) != 1:
        return None
    (address,) = addresses
    return content.replace(struct.pack("<cI", b"X", len(address)) + address, b"X\1\0\0\x000")


# Checkpoints and weights


@cache
def checkpoint_seeds() -> dict[bytes, object]:
    """Content -> its content, or of a safetensors file the tensors by name."""
    torch.manual_seed(0)
    weight = torch.randn(3, 4)
    parameters = {
        "p": torch.nn.Parameter(weight),
        "shared": weight,
        "again": weight[1:],
        "turned": weight.t(),
        "none": weight[:0],
    }
    halves = OrderedDict(a=weight.half(), b=weight.bfloat16(), n=torch.tensor(3))
    whole = [
        parameters,
        {"a.weight": weight, "a.bias": torch.randn(3)},
        {"state_dict": halves, "epoch": 4, "rate": 0.1, "names": ["x"]},
        {"model": {"module.a": weight.double(), "c": weight[:, 1], "e": torch.ones(2) > 0}},
        {1: torch.ones(2), None: 3, (1, 2): [torch.ones(1)]},
    ]
    seeds: dict[bytes | None, object] = {save(value, is_legacy): value for value in whole for is_legacy in (False, True)}
    seeds[save_safetensors({name: tensor.contiguous() for name, tensor in halves.items()})] = halves
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sparse and nested tensors, which torch calls prototypes
        odd = [
            *(torch.ones(2).to(dtype) for dtype in (torch.float8_e4m3fn, torch.complex64, torch.complex32, torch.uint16)),
            torch.zeros(1).expand(60000, 60000),
            torch.zeros(1).half().expand(3, 4),
            weight.to_sparse(),
            weight.to_sparse_csr(),
            torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
            torch.quantize_per_channel(weight, torch.ones(3), torch.zeros(3), 0, torch.qint8),
            torch.empty(2**20, 2**20, device="meta"),
            torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
            torch._utils._rebuild_tensor_v2,
        ]
        seeds |= {save({"a": value}, is_legacy): InputError for value in odd for is_legacy in (False, True)}
    seeds |= {save_safetensors({"a": tensor}): InputError for tensor in odd[:2]}
    return {content: value for content, value in seeds.items() if content is not None}


def mutate_checkpoint(rng: random.Random, content: bytes) -> bytes:
    """Damage to the archive or the pickles of torch.save, or to a safetensors file."""
    if content[8:9] == b"{":
        return mutate_safetensors(rng, content)
    return mutate_archive(rng, content) if content.startswith(b"PK") else mutate_pickle(rng, content)


def check_checkpoint(content: bytes, folder: Path, expected: Mapping | None) -> None:
    """Tensors and plain values, and those that were written; as weights, floating ones as float32."""
    path = folder / ("a.safetensors" if content[8:9] == b"{" else "a.pth")
    path.write_bytes(content)
    if path.suffix == ".pth":
        found = read_checkpoint_file(path, "give another")
        _check_plain(found)
        assert expected is None or _are_equal(found, expected), "values differ from what was written"
    tensors = read_tensors(path)
    _check_tensors(tensors)
    if expected is not None:
        listed = expected.get("state_dict", expected.get("model", expected))
        wanted = {str(name).removeprefix("module."): value for name, value in listed.items() if isinstance(value, torch.Tensor)}
        wanted = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in wanted.items()}
        assert _are_equal(tensors, wanted), "tensors differ from what was written"


def _check_plain(value: object, depth: int = 0) -> None:
    if depth > 20:
        return
    if isinstance(value, torch.Tensor):
        assert type(value) in (torch.Tensor, torch.nn.Parameter), f"a tensor of another class: {type(value)}"
        is_plain = value.layout == torch.strided and value.device.type == "cpu" and value.dtype in PLAIN_DTYPES
        assert is_plain, f"a tensor that is not plain: {value.layout}, {value.device}, {value.dtype}"
        assert value.numel() * value.element_size() <= 1e6, f"a tensor larger than its file: {tuple(value.shape)}"
    elif isinstance(value, Mapping | list | tuple | set | frozenset):
        for item in [*value.keys(), *value.values()] if isinstance(value, Mapping) else value:
            _check_plain(item, depth + 1)
    else:
        assert isinstance(value, (*PLAIN, torch.UntypedStorage, torch.TypedStorage)), f"a value that is not plain: {type(value)}"


def _check_tensors(found: dict) -> None:
    assert found, "no tensors"
    _check_plain(found)
    for name, tensor in found.items():
        assert isinstance(name, str), f"a name that is no text: {name!r}"
        assert isinstance(tensor, torch.Tensor), f"no tensor: {type(tensor)}"
        is_right = not tensor.is_floating_point() or tensor.dtype == torch.float32
        assert is_right, f"a floating tensor that is not float32: {tensor.dtype}"
        assert tensor.isfinite().all(), "values are not finite"


def _are_equal(found: object, expected: object) -> bool:
    if isinstance(expected, torch.Tensor):
        return isinstance(found, torch.Tensor) and found.dtype == expected.dtype and torch.equal(found, expected)
    if isinstance(expected, Mapping):
        same_names = isinstance(found, Mapping) and found.keys() == expected.keys()
        return same_names and all(_are_equal(found[name], expected[name]) for name in expected)
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(_are_equal, found, expected))
    return type(found) is type(expected) and found == expected


# Pickled arrays


@cache
def pickle_seeds() -> dict[bytes, object]:
    """Content -> arrays by name."""
    rng = np.random.default_rng(0)
    arrays = {"a.weight": rng.random((3, 4), np.float32), "a.bias": rng.random(3), "n": np.arange(4), "half": np.float16([1, 2])}
    more = {"order": np.asfortranarray(rng.random((2, 3))), "bool": np.array([True]), "empty": np.zeros((0, 3))}
    more |= {"scalar": np.array(2.5), "big": np.ones(2, ">f4")}
    odd = [np.array([{}], object), *(np.zeros(2, dtype) for dtype in ("S3", "U2", "M8[s]", np.complex64, [("x", "f4")]))]
    seeds: dict[bytes, object] = {pickle.dumps({"model": OrderedDict(arrays)}, 4): arrays}
    for protocol in range(6):
        for group in (arrays, more):
            seeds[pickle.dumps({"model": group, "__author__": "x"}, protocol)] = group
        for array in odd:
            seeds[pickle.dumps({"model": {"a": array, "z": arrays["a.bias"]}}, protocol)] = InputError
    return seeds


def check_pickle(content: bytes, folder: Path, expected: dict | None) -> None:
    """Tensors by name, floating ones as float32 and finite, and those that were written."""
    path = folder / "a.pkl"
    path.write_bytes(content)
    found = read_pickle(path)
    _check_tensors(found)
    if expected is not None:
        assert list(found) == list(expected), "names differ from what was written"
        for name, array in expected.items():
            wanted = array.astype(np.float32) if array.dtype.kind == "f" else array
            assert np.array_equal(found[name].numpy(), wanted), "values differ from what was written"
