"""Checkpoints are read without executing anything, and what is no checkpoint is refused in one line."""

import zipfile

import pytest
import torch
from mmengine.logging import HistoryBuffer

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


@pytest.fixture
def no_safe_globals():
    """torch as it is where solov2/ has not said which of mmengine's classes it reads."""
    known = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.add_safe_globals(known)


def test_a_checkpoint_of_mmengine_is_called_so(no_safe_globals, tmp_path):
    torch.save({"message_hub": {"loss": HistoryBuffer([1.0], [1])}, "state_dict": {}}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a\.pth: is mmengine's, of solov2/ or mmdet, .*; train first"):
        read_checkpoint_file(tmp_path / "a.pth", "train first")


def test_a_missing_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"a\.ckpt: no such checkpoint; train first"):
        read_checkpoint_file(tmp_path / "a.ckpt", "train first")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    check_finite(tmp_path / "a.ckpt", {"good": torch.ones(2), "count": torch.tensor(3)})
    with pytest.raises(InputError, match=r"NaN or infinite weights in bad \(1 in all\); use an earlier checkpoint"):
        check_finite(tmp_path / "a.ckpt", {"good": torch.ones(2), "bad": torch.tensor([1.0, value])})


ODD_TENSORS = {
    "larger than its storage": (lambda: torch.zeros(1).expand(60000, 60000), "larger than what the file holds"),
    "sparse": (lambda: torch.ones(2, 2).to_sparse(), "a sparse or nested tensor"),
    "sparse by rows": (lambda: torch.ones(2, 2).to_sparse_csr(), "a sparse or nested tensor"),
    "without content": (lambda: torch.empty(2, device="meta"), "without content"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "qint8"),
    "of 8 bits": (lambda: torch.ones(2).to(torch.float8_e4m3fn), "float8_e4m3fn"),
    "complex": (lambda: torch.ones(2, dtype=torch.complex64), "complex64"),
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize(("make", "words"), ODD_TENSORS.values(), ids=ODD_TENSORS)
def test_a_tensor_that_is_no_plain_array_is_refused(tmp_path, make, words):
    torch.save({"state_dict": {"layer.weight": make()}}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=words):
        read_checkpoint_file(tmp_path / "a.pth", "train")


def test_views_of_one_storage_are_read(tmp_path):
    whole = torch.arange(12.0)
    torch.save({"a": whole[:6], "b": whole[6:].view(2, 3).T, "again": [whole]}, tmp_path / "a.pth")
    found = read_checkpoint_file(tmp_path / "a.pth", "train")
    torch.testing.assert_close(found["b"], whole[6:].view(2, 3).T)


def test_a_function_in_a_checkpoint_is_refused(tmp_path):
    torch.save({"a": torch._utils._rebuild_tensor_v2}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="a is <function"):
        read_checkpoint_file(tmp_path / "a.pth", "train")


def test_a_compressed_checkpoint_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as plain, zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(InputError, match="it is compressed"):
        read_checkpoint_file(tmp_path / "b.pth", "train")
