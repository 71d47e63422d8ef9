"""What Lightning's trainer is given for long and for parallel training: averaged weights, seeds, fixed norms."""

import os
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, WeightAveraging
from torch import Tensor

from runtime.files import InputError
from training.seeds import seed_generators


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


class FixedNorms(Callback):
    """Keeps the statistics of all batch norms as they are, as EfficientPS's paper does in its last epochs.

    What an image teaches then does not depend on the others of its batch: 2 processes with 1 image each, 2 accumulated batches
    of 1 image and 1 batch of 2 images learn the same.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for module in pl_module.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
