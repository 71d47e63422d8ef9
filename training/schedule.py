"""Optimiser and learning rate of a training: linear warm-up, then a drop at each milestone, or half a cosine."""

import math
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch import nn

from runtime.files import InputError


@dataclass(frozen=True)
class OptimizerSettings:
    """SGD or AdamW with linear warm-up and decay; the defaults are those of EfficientPS's configuration."""

    name: str = "sgd"
    """sgd (momentum 0.9) or adamw."""
    lr: float = 0.07
    """Learning rate after warm-up; the official one. For how many images a step that is, is not said: see base_batch."""
    base_batch: int | None = None
    """Images a step that `lr` is for: the rate grows and shrinks with those that there are. None: `lr` as it is."""
    weight_decay: float = 1e-4
    """Share of each weight that a step takes away, times the learning rate."""
    warmup_steps: int = 500
    """In which the learning rate rises to `lr`; 0: none."""
    warmup_factor: float = 1 / 3
    """Learning rate at step 0, as a share of `lr`."""
    milestones: tuple[float, ...] = (0.75, 0.9)
    """Shares of the training after which the rate drops; the official 120 and 144 of 160 epochs."""
    gamma: float = 0.1
    """Factor at each milestone."""
    decay: str = "steps"
    """steps: at the milestones. cosine: half a cosine from the warm-up's end down to 0, without milestones."""
    encoder_rate: float = 1.0
    """Factor of the rate of the encoder, which pretrained weights need to be small."""

    def __post_init__(self):
        if self.name not in ("sgd", "adamw"):
            raise InputError(f"optimizer {self.name!r} is unknown; choose sgd or adamw")
        if self.decay not in ("steps", "cosine"):
            raise InputError(f"decay {self.decay!r} is unknown; choose steps or cosine")
        if not 0 <= self.encoder_rate < math.inf:
            raise InputError(f"encoder_rate is {self.encoder_rate}, but a factor from 0 on is needed")
        if not 0 < self.lr < math.inf or not self.weight_decay >= 0 or not self.warmup_steps >= 0:
            found = f"lr {self.lr}, weight_decay {self.weight_decay}, warmup_steps {self.warmup_steps}"
            raise InputError(f"optimizer {found}, but lr above 0 and the others from 0 on are needed")
        if list(self.milestones) != sorted(self.milestones) or not all(0 < m < 1 for m in self.milestones):
            raise InputError(f"milestones {self.milestones} must ascend within 0..1: they are shares of the training")
        if self.base_batch is not None and self.base_batch < 1:
            raise InputError(f"base_batch is {self.base_batch}, but at least 1 image, or null, is needed")


def make_optimizer(settings: OptimizerSettings, module: nn.Module, encoder: nn.Module, trainer: pl.Trainer) -> dict:
    """What configure_optimizers returns: the optimiser of the settings, its rate set at each step by learning_rate_factor.

    Args:
        encoder: the part of the module whose rate is encoder_rate times the others'.
    """
    rate = learning_rate(settings, trainer, trainer.datamodule)
    parameters: list = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if settings.encoder_rate != 1:
        own = set(map(id, encoder.parameters()))
        others = [parameter for parameter in parameters if id(parameter) not in own]
        slow = [parameter for parameter in parameters if id(parameter) in own]
        parameters = [{"params": others}, {"params": slow, "lr": settings.encoder_rate * rate}]
    if settings.name == "sgd":
        optimizer = torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=settings.weight_decay)
    else:
        optimizer = torch.optim.AdamW(parameters, rate, weight_decay=settings.weight_decay)

    def factor(step: int) -> float:
        # Not before the first step: Lightning counts steps by setting up the data, and on a resume the workers would begin with
        # the first epoch's order.
        total_steps = trainer.estimated_stepping_batches if step else math.inf
        return learning_rate_factor(step, total_steps, settings)

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def learning_rate(settings: OptimizerSettings, trainer: pl.Trainer, data: pl.LightningDataModule) -> float:
    """The rate after warm-up, for as many images as an optimiser step of this training sees."""
    if settings.base_batch is None:
        return settings.lr
    images = trainer.world_size * data.batch_size * trainer.accumulate_grad_batches
    return settings.lr * images / settings.base_batch


def learning_rate_factor(step: int, total_steps: float, settings: OptimizerSettings) -> float:
    """Share of the full rate at an optimiser step: linear warm-up, then a drop at each milestone, or a cosine.

    Args:
        total_steps: of the whole training; may be infinite, then no milestone comes, and no decay.
    """
    warmed = min(1.0, step / settings.warmup_steps) if settings.warmup_steps else 1.0
    warmup = settings.warmup_factor + (1 - settings.warmup_factor) * warmed
    if settings.decay == "cosine":
        start = min(settings.warmup_steps, total_steps / 2)  # a short training falls, too
        done = min(1.0, max(0.0, (step - start) / (total_steps - start)))
        return warmup * (1 + math.cos(math.pi * done)) / 2
    return warmup * settings.gamma ** sum(step >= m * total_steps for m in settings.milestones)
