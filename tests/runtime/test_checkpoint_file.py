"""Checkpoints are read without executing anything, and what is no checkpoint is refused in one line."""

import pytest
import torch

from runtime.checkpoint_file import check_finite, read_checkpoint_file
from runtime.files import InputError


class Stranger:
    """Something that only its own code can restore."""


def test_tensors_and_plain_values_come_back(tmp_path):
    torch.save({"weight": torch.arange(3), "classes": ["car"]}, tmp_path / "a.ckpt")
    content = read_checkpoint_file(tmp_path / "a.ckpt", "train first")
    assert torch.equal(content["weight"], torch.arange(3))
    assert content["classes"] == ["car"]


def test_a_checkpoint_cut_at_any_place_is_refused(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({"weight": torch.arange(100)}, path)
    whole = path.read_bytes()
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a\.ckpt: broken checkpoint \(.*\); copy it again, or train first") as error:
            read_checkpoint_file(path, "train first")
        assert "\n" not in str(error.value)


def test_code_is_refused_and_not_run(tmp_path):
    torch.save({"weight": Stranger()}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="broken checkpoint") as error:
        read_checkpoint_file(tmp_path / "a.ckpt", "train first")
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)  # nobody is told how to turn the guard off


def test_a_missing_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"a\.ckpt: no such checkpoint; train first"):
        read_checkpoint_file(tmp_path / "a.ckpt", "train first")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    check_finite(tmp_path / "a.ckpt", {"good": torch.ones(2), "count": torch.tensor(3)})
    with pytest.raises(InputError, match=r"NaN or infinite weights in bad \(1 in all\); use an earlier checkpoint"):
        check_finite(tmp_path / "a.ckpt", {"good": torch.ones(2), "bad": torch.tensor([1.0, value])})
