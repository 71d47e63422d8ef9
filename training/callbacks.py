"""What Lightning's trainer is given: averaged weights, seeds, fixed norms, an end to what became NaN, lines for a log file."""

import math
import os
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, WeightAveraging
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from runtime.files import InputError, first_few
from runtime.progress import SECONDS_BETWEEN_LINES
from training.seeds import seed_generators

MOST_OVERFLOWS = 10
"""Steps in a row whose scaled loss may overflow."""
STEPS_BETWEEN_LOOKS = 20
LOWER_RATE = "no checkpoint of it was written; lower the learning rate, warm it up longer, or clip gradients"


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights, which validation, the `state_dict` of checkpoints and inference use.

    As Lightning's EMAWeightAveraging, but the start is forgotten sooner, so that short trainings may have it too; norm
    statistics are averaged as the weights are.

    Args:
        decay: share of the average that stays at each optimiser step; 0.999 looks back some thousand steps.

    Raises:
        InputError: unless 0 < decay < 1.
    """

    def __init__(self, decay: float):
        if not 0 < decay < 1:
            raise InputError(f"decay of the averaged weights is {decay}, but a share within 0..1 is needed, such as 0.999")
        super().__init__(avg_fn=moving_average(decay))


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The function of (average, current, n averaged before) that AveragedModel takes.

    The n-th step keeps (1 + n) / (10 + n), as TensorFlow's ExponentialMovingAverage, and at most `decay`.
    """

    def average(averaged: Tensor, current: Tensor, n: Tensor) -> Tensor:
        if not averaged.is_floating_point():  # counts of batches
            return current
        return averaged.lerp(current, 1 - min(decay, (1 + int(n)) / (10 + int(n))))

    return average


class EpochSeeds(Callback):
    """Seeds Python, NumPy and torch by (seed, epoch, process) before an epoch's first step: a resumed run then draws the same.

    This is for what a model draws; what the data draws is EpochSampler's. The seed is that of seed_everything; without one it
    is random, and no two runs draw the same.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed()))

    # Not when the epoch begins: a DataLoader's iterator, which draws a number too, is made after that, but before on a resume.
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int) -> None:
        if batch_idx == 0:
            seed_generators((self.seed, trainer.current_epoch, trainer.global_rank))


class FiniteTraining(Callback):
    """Ends a training whose loss is NaN or infinite: nothing would bring it back, and the last checkpoint is still good.

    In 16 bits with a scaled loss single steps may overflow, which are then not taken; there only MOST_OVERFLOWS in a row end it.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.num_in_a_row = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        loss = _loss_of(outputs)
        is_scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        # A GPU would wait at each look; without a scaler what is NaN stays so.
        if loss is None or (loss.is_cuda and not is_scaled and batch_idx % STEPS_BETWEEN_LOOKS):
            return
        self.num_in_a_row = 0 if torch.isfinite(loss) else self.num_in_a_row + 1
        if self.num_in_a_row >= (MOST_OVERFLOWS if is_scaled else 1):
            where = f"epoch {trainer.current_epoch + 1}, batch {batch_idx + 1}"
            raise InputError(f"the loss is {float(loss)} in {where}; {LOWER_RATE}")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            check_finite_weights(pl_module.state_dict())


def _loss_of(outputs: object) -> Tensor | None:
    return outputs.get("loss") if isinstance(outputs, dict) else outputs


def check_finite_weights(weights: Mapping[str, object]) -> None:
    """Refuse to go on with, or to keep, weights that are NaN or infinite.

    Raises:
        InputError: if there are any.
    """
    floating = ((name, value) for name, value in weights.items() if isinstance(value, Tensor) and value.is_floating_point())
    if broken := [name for name, value in floating if not value.isfinite().all()]:
        raise InputError(f"the training has made weights NaN or infinite: {first_few(broken)}; {LOWER_RATE}")


class TrainingLines(Callback):
    """Progress for a log file: a line every SECONDS_BETWEEN_LINES and after each validation."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = self.last_line = time.monotonic()
        self.first_step, self.loss = trainer.global_step, None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        self.loss = _loss_of(outputs)
        self._say(trainer, lambda: f"batch {batch_idx + 1} of {trainer.num_training_batches}{self._shown_loss()}")

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int, *others: int
    ) -> None:
        if not trainer.sanity_checking:
            self._say(trainer, lambda: f"validation {batch_idx + 1} of {sum(trainer.num_val_batches)}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            shown = ("val/pq", "val/miou", "val/loss")
            scores = [f"{name} {float(trainer.callback_metrics[name]):.3f}" for name in shown if name in trainer.callback_metrics]
            self._say(trainer, lambda: ", ".join(["validated", *scores]) + self._shown_loss(), always=True)

    def _shown_loss(self) -> str:
        return "" if self.loss is None else f", loss {float(self.loss):.3f}"

    @rank_zero_only
    def _say(self, trainer: pl.Trainer, describe: Callable[[], str], always: bool = False) -> None:
        now = time.monotonic()
        if not always and now - self.last_line < SECONDS_BETWEEN_LINES:
            return
        self.last_line, done = now, trainer.global_step - self.first_step
        ahead = trainer.estimated_stepping_batches - trainer.global_step
        left = f"; {timedelta(seconds=round((now - self.started) / done * ahead))} left" if done and math.isfinite(ahead) else ""
        epochs = f" of {trainer.max_epochs}" if trainer.max_epochs > 0 else ""
        print(f"epoch {trainer.current_epoch + 1}{epochs}, {describe()}{left}", flush=True)


class FixedNorms(Callback):
    """Keeps the statistics of all batch norms as they are, as EfficientPS's paper does in its last epochs.

    What an image teaches then does not depend on the others of its batch: 2 processes with 1 image each, 2 accumulated batches
    of 1 image and 1 batch of 2 images learn the same.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for module in pl_module.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
