"""Averaged weights, accumulated gradients, and a training that was killed and goes on: bit for bit what it would have been."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset

from data.loading.epoch_sampler import EpochSampler
from efficientps.norm import ConvNormAct
from runtime.files import InputError
from training.callbacks import MOST_OVERFLOWS, AveragedWeights, EpochSeeds, FiniteTraining, FixedNorms, moving_average
from training.command import AtomicCheckpointIO

QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


class Noise(Dataset):
    """Image `index` under an augmentation `seed`."""

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
        index, seed = key
        return index + torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed))


class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 2, num_workers: int = 0):
        super().__init__()
        self.batch_size, self.num_workers = batch_size, num_workers

    def train_dataloader(self) -> DataLoader:
        sampler = EpochSampler(8, seed=0, epoch=self.trainer.fit_loop.epoch_progress.current.processed)
        options = {"num_workers": self.num_workers, "persistent_workers": self.num_workers > 0}
        return DataLoader(Noise(), self.batch_size, sampler=sampler, **options)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(torch.zeros(1, 3, 8, 8))


class Tiny(pl.LightningModule):
    """Learns from what it sees and from random numbers of its own, as a head that samples its proposals does."""

    def __init__(self, is_random: bool = True):
        super().__init__()
        torch.manual_seed(1)
        self.layers = torch.nn.Sequential(ConvNormAct(3, 4, 3), torch.nn.Conv2d(4, 1, 1))
        self.is_random = is_random
        self.validated = []

    def training_step(self, batch: torch.Tensor, batch_index: int) -> torch.Tensor:
        target = torch.rand(()) if self.is_random else 0.5
        return (self.layers(batch) - target).square().mean()

    def validation_step(self, batch: torch.Tensor, batch_index: int) -> None:
        self.validated.append(self.layers[1].weight.detach().clone())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01, momentum=0.9)


class Killed(Callback):
    """Ends the training when an epoch begins."""

    def __init__(self, epoch: int):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("killed")


def fit(folder: Path, *callbacks: Callback, data: Data, module: Tiny | None = None, epochs: int = 4, **settings) -> dict:
    """Train, going on from the folder's checkpoint where there is one; return the last checkpoint."""
    checkpoints = ModelCheckpoint(folder, "last", save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[checkpoints, *callbacks], **QUIET, **settings)
    last = folder / "last.ckpt"
    trainer.fit(module or Tiny(), datamodule=data, ckpt_path=last if last.exists() else None)
    return torch.load(last, weights_only=True)


def assert_same(first: object, second: object) -> None:
    """Nested containers of tensors and numbers, equal to the last bit."""
    for a, b in zip(tree_leaves(first), tree_leaves(second), strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_killed_training_goes_on_bit_for_bit(num_workers, tmp_path, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    undisturbed = fit(tmp_path / "a", EpochSeeds(), AveragedWeights(0.9), data=Data(num_workers=num_workers))
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path / "b", EpochSeeds(), AveragedWeights(0.9), Killed(2), data=Data(num_workers=num_workers))
    torch.manual_seed(99)  # as another process would have it
    resumed = fit(tmp_path / "b", EpochSeeds(), AveragedWeights(0.9), data=Data(num_workers=num_workers))
    assert resumed["global_step"] == 16
    for part in ("state_dict", "current_model_state", "averaging_state", "optimizer_states"):
        assert_same(undisturbed[part], resumed[part])
    different = zip(resumed["state_dict"].values(), resumed["current_model_state"].values(), strict=True)
    assert not all(torch.equal(a, b) for a, b in different)


def test_another_seed_and_another_epoch_draw_other_numbers(monkeypatch):
    drawn = []
    for seed, epoch in (("5", 0), ("5", 1), ("6", 0), ("5", 0)):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        callback = EpochSeeds()
        trainer = pl.Trainer(barebones=True, accelerator="cpu")
        trainer.fit_loop.epoch_progress.current.completed = epoch
        callback.setup(trainer, None, "fit")
        callback.on_train_batch_start(trainer, None, None, 0)
        drawn.append(float(torch.rand(())))
        callback.on_train_batch_start(trainer, None, None, 1)  # within an epoch numbers go on
        assert float(torch.rand(())) != drawn[-1]
    assert drawn[0] == drawn[3]
    assert len(set(drawn)) == 3


def test_two_accumulated_batches_of_two_teach_what_one_of_four_does(tmp_path):
    states = [
        fit(folder, FixedNorms(), data=Data(batch_size), module=Tiny(is_random=False), accumulate_grad_batches=batches)
        for folder, batch_size, batches in ((tmp_path / "once", 4, 1), (tmp_path / "twice", 2, 2))
    ]
    assert [state["global_step"] for state in states] == [8, 8]
    for (name, weight), other in zip(states[0]["state_dict"].items(), states[1]["state_dict"].values(), strict=True):
        # Sums over other groups of pixels round differently.
        torch.testing.assert_close(weight, other, rtol=1e-5, atol=1e-6, msg=name)
    mean = states[0]["state_dict"]["layers.0.1.running_mean"]
    assert torch.equal(mean, torch.zeros_like(mean))  # fixed


def test_validation_and_checkpoints_have_the_average_and_training_goes_on_without_it(tmp_path):
    module, steps = Tiny(is_random=False), []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            steps.append(module.layers[1].weight.detach().clone())

    checkpoint = fit(tmp_path, AveragedWeights(0.9), Watch(), data=Data(batch_size=4), module=module, epochs=2)
    average, averages = steps[0], [steps[0]]
    for n, weight in enumerate(steps[1:], 1):
        keep = min(0.9, (1 + n) / (10 + n))
        average = keep * average + (1 - keep) * weight
        averages.append(average)
    torch.testing.assert_close(checkpoint["state_dict"]["layers.1.weight"], averages[-1])
    assert torch.equal(checkpoint["current_model_state"]["layers.1.weight"], steps[-1])
    # One validation before the training, one after each epoch of two steps.
    for seen, expected in zip(module.validated[-2:], averages[1::2], strict=True):
        torch.testing.assert_close(seen, expected)


def test_the_average_looks_back_less_far_at_first_and_counts_are_not_averaged():
    average = moving_average(0.999)
    assert average(torch.tensor(1.0), torch.tensor(0.0), torch.tensor(1)).item() == pytest.approx(2 / 11)
    assert average(torch.tensor(1.0), torch.tensor(0.0), torch.tensor(10**6)).item() == pytest.approx(0.999)
    assert average(torch.tensor(3), torch.tensor(4), torch.tensor(1)).item() == 4


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, math.nan])
def test_a_decay_outside_of_0_to_1_is_refused(decay):
    with pytest.raises(InputError, match=r"a share within 0\.\.1 is needed"):
        AveragedWeights(decay)


def test_weights_of_nan_are_never_written(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(2)}}, path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="has made weights NaN or infinite: b; no checkpoint of it was written"):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(2), "b": torch.tensor([1, float("inf")])}}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_with_a_scaled_loss_a_step_may_overflow_but_not_many_in_a_row():
    ending, trainer = FiniteTraining(), SimpleNamespace(precision_plugin=SimpleNamespace(scaler=object()), current_epoch=0)
    ending.on_train_start(trainer, None)
    for k in range(MOST_OVERFLOWS - 1):
        ending.on_train_batch_end(trainer, None, {"loss": torch.tensor(float("inf"))}, None, k)
    ending.on_train_batch_end(trainer, None, {"loss": torch.tensor(1.0)}, None, 0)
    for k in range(MOST_OVERFLOWS - 1):
        ending.on_train_batch_end(trainer, None, {"loss": torch.tensor(float("nan"))}, None, k)
    with pytest.raises(InputError, match="the loss is nan in epoch 1, batch 10"):
        ending.on_train_batch_end(trainer, None, {"loss": torch.tensor(float("nan"))}, None, 9)


FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from runtime.files import one_line_errors
from training.command import AtomicCheckpointIO
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
with one_line_errors():
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(10_000)}}, sys.argv[1])
"""


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "last.ckpt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'last.ckpt'}: cannot be written")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
