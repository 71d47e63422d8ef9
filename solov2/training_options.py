"""What train.py's flags change in a config: precision, accumulated gradients, averaged weights, rate for the batch, seeds."""

import argparse
import math

import torch
from mmengine import Config

from runtime.files import InputError
from solov2.bfloat16 import CPUBfloat16OptimWrapper
from solov2.epoch_seeds import EpochSeedHook
from training.precision import has_bfloat16

DTYPES = {"fp16": "float16", "bf16": "bfloat16"}


def apply_training_options(config: Config, args: argparse.Namespace, num_processes: int) -> list[str]:
    """Change the config as the arguments say; return what the user should read.

    Raises:
        InputError: if a value is out of range, or the config lacks what a flag needs.
    """
    _check_numbers(config)
    lines = _set_precision(config, args.precision)
    if args.epochs is not None:
        _set_epochs(config, args.epochs)
    if args.seed is not None:
        config.randomness = dict(config.get("randomness", {}), seed=args.seed)
    if args.workers is not None:
        config.train_dataloader.num_workers = args.workers
    if args.accumulate is not None:
        config.optim_wrapper.accumulative_counts = args.accumulate
    hooks = list(config.get("custom_hooks", []))
    if args.ema_decay is not None:
        hooks = _with_average(hooks, args.ema_decay)
    config.custom_hooks = [*hooks, dict(type=EpochSeedHook.__name__)]
    config.train_dataloader.persistent_workers = False  # see EpochSeedHook
    return lines + _scale_rate(config, args.scale_lr, num_processes)


def _check_numbers(config: Config) -> None:
    """Refuse text where mmengine would fail over it only in the middle of a training."""
    epochs, rate = config.train_cfg.get("max_epochs"), config.optim_wrapper.get("optimizer", {}).get("lr")
    if type(epochs) is not int or epochs < 1:
        raise InputError(f"train_cfg.max_epochs is {epochs!r}, but a whole number from 1 on is needed")
    batch = config.train_dataloader.get("batch_size")
    if type(batch) is not int or batch < 1:
        raise InputError(f"train_dataloader.batch_size is {batch!r}, but a whole number from 1 on is needed")
    if type(rate) not in (int, float) or not 0 <= rate < math.inf:
        raise InputError(f"optim_wrapper.optimizer.lr is {rate!r}, but a number from 0 on is needed")


def _set_epochs(config: Config, epochs: int) -> None:
    """Train so many epochs; the schedule keeps its shape."""
    old = config.train_cfg.max_epochs
    config.train_cfg.max_epochs = epochs
    if config.train_cfg.get("val_begin", 1) > old:
        config.train_cfg.val_begin = epochs + 1
    for scheduler in config.get("param_scheduler", []):
        if scheduler.get("by_epoch", True):
            if scheduler.get("end") == old:
                scheduler.end = epochs
            if "milestones" in scheduler:
                scheduler.milestones = [max(1, round(m * epochs / old)) for m in scheduler.milestones]


def _set_precision(config: Config, amp: str | None) -> list[str]:
    wrapper = config.optim_wrapper
    if amp == "32":
        wrapper.type = "OptimWrapper"
        for name in ("dtype", "loss_scale", "use_fsdp"):
            wrapper.pop(name, None)
    elif amp:
        # bfloat16 has float32's range, so nothing needs to be scaled into it.
        wrapper.update(type="AmpOptimWrapper", dtype=DTYPES[amp], loss_scale="dynamic" if amp == "fp16" else 1.0)
    if wrapper.get("type") != "AmpOptimWrapper":
        return []
    dtype = wrapper.get("dtype") or "float16"
    has_gpu = torch.cuda.is_available()
    has_dtype = has_bfloat16() if dtype == "bfloat16" else has_gpu
    if not (has_gpu and has_dtype):
        for name in ("dtype", "loss_scale", "use_fsdp"):
            wrapper.pop(name, None)
        wrapper.type = CPUBfloat16OptimWrapper.__name__ if has_dtype else "OptimWrapper"
    if has_dtype:
        return [f"training in {dtype} where it is safe"]
    return [f"no {dtype} on this {'GPU' if has_gpu else 'CPU'}: training in float32"]


def _with_average(hooks: list[dict], decay: float) -> list[dict]:
    """The hooks with an average of this decay, and none for 0."""
    if not 0 <= decay < 1:
        raise InputError(f"--ema-decay is {decay}, but a share from 0 to below 1 is needed, such as 0.999")
    if decay == 0:
        return [hook for hook in hooks if hook["type"] != "EMAHook"]
    if not any(hook["type"] == "EMAHook" for hook in hooks):
        hooks = [*hooks, dict(type="EMAHook", ema_type="ExpMomentumEMA")]
    return [hook | dict(momentum=1 - decay) if hook["type"] == "EMAHook" else hook for hook in hooks]


def _scale_rate(config: Config, asked: bool | None, num_processes: int) -> list[str]:
    """mmengine's auto_scale_lr, but accumulated batches count too, and the user reads what became of the rate."""
    scaling, optimizer = config.get("auto_scale_lr") or {}, config.optim_wrapper.optimizer
    if not (scaling.get("enable", False) if asked is None else asked):
        if scaling:
            scaling.enable = False
        return []
    if not scaling.get("base_batch_size"):
        raise InputError(f"{config.filename}: --scale-lr needs auto_scale_lr.base_batch_size, the images a step of its rate")
    images = num_processes * config.train_dataloader.batch_size * config.optim_wrapper.get("accumulative_counts", 1)
    rate, scaling.enable = optimizer.lr, False
    optimizer.lr = rate * images / scaling.base_batch_size
    return [f"learning rate {optimizer.lr:g} for {images} images a step: {rate:g} is for {scaling.base_batch_size}"]
