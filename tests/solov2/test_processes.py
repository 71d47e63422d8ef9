"""train.py under torchrun with two gloo processes on the CPU: what they learn together, and how one that fails ends both."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from data.drawn.streets import StreetsSettings, ensure_streets
from data.layouts.cityscapes import CityscapesSplit, find_images
from solov2 import train
from solov2.checkpoints import read_checkpoint

# Each process has one image of the two, unflipped; norms that do not look at the batch; a constant rate; SGD, whose step is
# proportional to the gradient: Adam would turn rounding of tiny gradients into steps of full size.
PLAIN = (
    *("train_dataloader.batch_size=1", "train_dataloader.dataset.dataset.pipeline.3.prob=0.0", "model.backbone.norm_eval=True"),
    *("optim_wrapper.optimizer.type=SGD", "optim_wrapper.optimizer.lr=0.01", "param_scheduler.0.start_factor=1.0"),
    "param_scheduler.1.eta_min=0.01",
)


@pytest.fixture
def train_together(streets, tiny):
    """Run train.py as two processes of one image each."""

    def run(folder: Path, *options: str, data_root: Path = streets) -> subprocess.CompletedProcess:
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", train.__file__]
        arguments = ["--launcher", "pytorch", "--data-root", data_root, "--output", folder, "--ema-decay", "0"]
        words = [*launch, *arguments, *tiny, *PLAIN, *options]
        return subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd="/", timeout=300)

    return run


@pytest.mark.everything  # 40 s; that of EfficientPS is in every run
def test_two_processes_learn_what_one_learns_from_accumulated_batches(train_together, streets, tiny, tmp_path, monkeypatch):
    """One batch of two images would not do: mmdet divides the losses of a batch by its positives, here those of one image."""
    for epochs in (1, 2):  # the second run goes on
        both = train_together(tmp_path / "both", f"train_cfg.max_epochs={epochs}")
        assert both.returncode == 0, both.stderr
    assert both.stdout.count("training SOLOv2") == both.stdout.count("going on from") == both.stdout.count("wrote ") == 1
    arguments = ["--accumulate", "2", "--ema-decay", "0", "--data-root", streets, "--output", tmp_path / "one"]
    monkeypatch.setattr(sys, "argv", list(map(str, ["train.py", *arguments, *tiny, *PLAIN])))
    train.main()
    found, expected = (read_checkpoint(tmp_path / name / "epoch_2.pth") for name in ("both", "one"))
    assert (found["meta"]["iter"], expected["meta"]["iter"]) == (2, 4)
    # Rounding only: two gradients are added in another order.
    torch.testing.assert_close(found["state_dict"], expected["state_dict"], rtol=1e-4, atol=1e-6)
    start = read_checkpoint(tmp_path / "both/epoch_1.pth")["state_dict"]
    assert not torch.equal(start["mask_head.conv_cls.weight"], found["state_dict"]["mask_head.conv_cls.weight"])


@pytest.mark.everything  # 20 s
def test_an_error_in_the_second_process_ends_both_with_one_line(train_together, tmp_path):
    root = ensure_streets(tmp_path / "streets", StreetsSettings(128, 256, num_train=2, num_val=1))
    for split in ("train", "val"):
        CityscapesSplit(root, split).ensure_instances_json()
    # mmengine's DefaultSampler with seed 0: the second process reads the second of these.
    index = torch.randperm(2, generator=torch.Generator().manual_seed(0))[1]
    image = find_images(root, "train")[index].image_path
    image.write_bytes(b"no image")
    started = time.monotonic()
    result = train_together(tmp_path / "out", data_root=root)
    assert result.returncode != 0
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]  # torchrun adds lines of its own
    assert len(errors) == 1
    assert image.name in errors[0]
    assert 'solov2/train.py", line' not in result.stderr  # no traceback of ours
    assert time.monotonic() - started < 120
