"""bfloat16 is used where the device has it, and only there."""

import pytest
import torch

from training.precision import has_bfloat16


@pytest.mark.parametrize("has_cpu", [True, False])
@pytest.mark.parametrize("gpu", [None, True, False])
def test_the_device_that_trains_is_asked(gpu, has_cpu, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu and not including_emulation)
    assert has_bfloat16("cpu") == has_cpu
    assert has_bfloat16() == (has_cpu if gpu is None else gpu)
    assert has_bfloat16("auto") == has_bfloat16("gpu") == has_bfloat16()


def test_the_name_that_torch_has_for_it_is_there():
    assert hasattr(torch.cpu, "_is_avx512_bf16_supported")
