"""The training command on two images: it learns, stops, goes on, and what it writes can be used."""

import sys

import numpy as np
import pytest
import torch

from data.taxonomy import CITYSCAPES
from efficientps.inference import load_semantic_predictor
from efficientps.module import OptimizerSettings, learning_rate_factor
from efficientps.train_net import main

TINY = (
    *("--data.batch_size", "2", "--data.val_batch_size", "2", "--data.num_workers", "0"),
    *("--data.crop_height", "64", "--data.crop_width", "64", "--model.fpn_channels", "32"),
    *("--trainer.limit_val_batches", "1", "--trainer.check_val_every_n_epoch", "1", "--trainer.accelerator", "cpu"),
    *("--trainer.num_sanity_val_steps", "0", "--trainer.enable_progress_bar", "false"),
)


@pytest.fixture
def train(streets, tmp_path, monkeypatch, capsys):
    """Run the command for some epochs; return what it printed."""

    def run(epochs: int, *more: str) -> str:
        arguments = ["--data-root", str(streets), "--output", str(tmp_path), "--trainer.max_epochs", str(epochs)]
        monkeypatch.setattr(sys, "argv", ["train_net.py", *arguments, *TINY, *more])
        main()
        return capsys.readouterr().out

    return run


def test_training_goes_on_from_the_last_epoch_and_then_is_done(train, tmp_path):
    train(1)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0
    train(2)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (1, 2)  # one step an epoch: the first was not done again
    assert "all 2 epochs are done" in train(2)
    assert list((tmp_path / "tensorboard").glob("events.*"))

    picture = np.zeros((45, 70, 3), dtype=np.uint8)
    semantic = load_semantic_predictor(tmp_path / "best.ckpt").predict("x", picture)
    assert semantic.logits.shape == (CITYSCAPES.num_classes, 12, 18)


def test_bad_settings_are_one_line(streets, tmp_path, fails_in_one_line):
    assert "leftImg8bit" in fails_in_one_line(main, "--data-root", tmp_path, "--output", tmp_path / "new", *TINY)
    (tmp_path / "last.ckpt").write_bytes(b"no checkpoint")
    line = fails_in_one_line(main, "--data-root", streets, "--output", tmp_path, *TINY)
    assert "cannot be read" in line
    for setting, value, words in (
        ("--model.hardest_fraction", "2", "hardest_fraction is 2"),
        ("--model.optimizer.milestones", "[120, 144]", "shares of the training"),
        ("--model.variant", "b9", "choose one of b0"),
        ("--data.crop_height", "0", "crop"),
        ("--trainer.sync_batchnorm", "true", "leave it false"),
    ):
        line = fails_in_one_line(main, "--data-root", streets, "--output", tmp_path / "new", *TINY, setting, value)
        assert words in line


def test_going_on_with_another_network_is_refused_and_starting_anew_is_not(train, streets, tmp_path, fails_in_one_line):
    train(1)
    wider = ("--model.fpn_channels", "48")
    line = fails_in_one_line(main, "--data-root", streets, "--output", tmp_path, *TINY, *wider)
    assert "of another model" in line
    assert "fpn_channels" in line
    train(1, *wider, "--resume", "false")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["hyper_parameters"]["network"]["fpn_channels"] == 48


def test_learning_rate_warms_up_and_drops_at_the_milestones():
    settings = OptimizerSettings(warmup_steps=10, warmup_factor=0.5, milestones=(0.5, 0.8), gamma=0.1)
    factors = [learning_rate_factor(step, 100, settings) for step in (0, 5, 10, 49, 50, 79, 80, 99)]
    assert factors == pytest.approx([0.5, 0.75, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("bad", [{"name": "adam"}, {"milestones": (0.9, 0.5)}, {"milestones": (120, 144)}])
def test_optimizer_settings_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad)) if "milestones" in bad else "sgd or adamw"):
        OptimizerSettings(**bad)
