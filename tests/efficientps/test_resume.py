"""train_net.py killed and started again, against the same command undisturbed: equal to the last bit."""

import sys
from pathlib import Path

import pytest
import torch

from efficientps.predictor import load_predictor
from efficientps.train_net import main
from training import callbacks

# Two steps an epoch, so that order, crops and colours of the two images show in the weights.
TINY = (
    *("--data.batch_size", "1", "--data.val_batch_size", "2", "--ema-decay", "0.9"),
    *("--data.crop_height", "64", "--data.crop_width", "64", "--model.fpn_channels", "32", "--trainer.max_epochs", "3"),
    *("--trainer.limit_val_batches", "1", "--trainer.check_val_every_n_epoch", "1", "--trainer.accelerator", "cpu"),
    *("--trainer.num_sanity_val_steps", "0", "--trainer.enable_progress_bar", "false"),
)


class Killed(Exception):
    pass


@pytest.fixture(params=["0", pytest.param("1", marks=pytest.mark.everything)], ids=["no worker", "a worker"])
def train(request, streets, monkeypatch):
    def run(output: Path) -> dict:
        others = ["--data-root", str(streets), "--output", str(output), "--workers", request.param]
        monkeypatch.setattr(sys, "argv", ["train_net.py", *TINY, *others])
        main()
        return torch.load(output / "last.ckpt", weights_only=True)

    return run


def test_a_killed_training_goes_on_bit_for_bit(train, tmp_path, monkeypatch):
    undisturbed = train(tmp_path / "a")

    def stop(callback, trainer, *_) -> None:
        if trainer.current_epoch == 1:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.EpochSeeds, "on_train_epoch_end", stop)
        with pytest.raises(Killed):
            train(tmp_path / "b")
    resumed = train(tmp_path / "b")
    for part in ("state_dict", "current_model_state"):
        for name, weight in undisturbed[part].items():
            assert torch.equal(weight, resumed[part][name]), name
    # Inference uses the average.
    for name, weight in load_predictor(tmp_path / "b/last.ckpt").network.state_dict().items():
        assert torch.equal(weight, resumed["state_dict"][f"network.{name}"]), name
