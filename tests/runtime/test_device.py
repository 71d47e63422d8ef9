"""A device that this machine lacks is refused in one line, and so is what needs torch where there is none."""

import sys

import pytest
import torch

from runtime.device import check_device, default_device, has_torch, is_cpu, need_torch
from runtime.files import InputError


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    has_torch.cache_clear()
    yield
    has_torch.cache_clear()


def test_the_default_is_there():
    assert check_device(default_device()) == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "warp", ""])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(InputError, match=rf"device '{name}' cannot be used here .*; take cpu or cuda"):
        check_device(name)


@pytest.mark.parametrize(("device", "expected"), [("cpu", True), ("cpu:0", True), ("cuda", False), ("cuda:1", False)])
def test_the_cpu_is_known_by_name_and_as_torch_names_it(device, expected):
    assert is_cpu(device) is expected
    assert is_cpu(torch.device(device)) is expected


def test_there_is_a_cpu_without_torch(no_torch):
    assert check_device("cpu") == "cpu"


def test_without_torch_a_gpu_is_one_that_onnxruntime_can_use(no_torch, monkeypatch):
    providers = ["CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)
    assert default_device() == "cpu"
    with pytest.raises(InputError, match="device 'cuda' cannot be used here"):
        check_device("cuda")
    providers.insert(0, "CUDAExecutionProvider")
    assert default_device() == check_device("cuda") == "cuda"


def test_what_needs_torch_says_how_to_get_it(no_torch):
    with pytest.raises(InputError, match=r"best.ckpt: needs torch, which is not installed; install it by .*\[train\]"):
        need_torch("best.ckpt")


def test_nothing_is_said_where_torch_is_there():
    need_torch("best.ckpt")
