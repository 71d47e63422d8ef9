"""A short console: one bar with the time left, one line an epoch. mmengine's full log goes to its file."""

import contextlib
import logging
import os
import sys
import time
from datetime import timedelta

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from rich.console import Console
from torch import nn

from runtime.progress import progress_bar


class ShortLogRunner(Runner):
    """mmengine's Runner whose environment, config and iteration log go to the log file only."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """mmengine's, whose console handler keeps errors only."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.ERROR)
                handler.addFilter(_is_no_empty_validation)
        return logger

    def train(self) -> nn.Module:
        """mmengine's, with a bar."""
        hook = ProgressHook(Console(file=sys.stdout))
        if is_main_process():
            self.register_hook(hook, "LOWEST")
        # pycocotools prints how it reads and scores.
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            try:
                return super().train()
            finally:
                hook.bar.stop()  # else an error or Ctrl-C leaves the terminal without a cursor


def _is_no_empty_validation(record: logging.LogRecord) -> bool:
    """A young model finds nothing: mmdet calls that an error, ProgressHook says it in two words."""
    return "results of the whole dataset is empty" not in record.getMessage()


class ProgressHook(Hook):
    """Shows how far the training is and how long it will take."""

    def __init__(self, console: Console):
        self.bar = progress_bar(console)

    def before_train(self, runner: Runner) -> None:
        self.bar.start()
        self.task = self.bar.add_task("training", total=runner.max_iters, completed=runner.iter)
        self.started, self.first_iter = time.monotonic(), runner.iter

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self.bar.update(self.task, completed=runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        losses = {name: runner.message_hub.get_scalar(f"train/{name}").mean(50) for name in ("loss", "loss_mask", "loss_cls")}
        seconds = time.monotonic() - self.started
        left = seconds / (runner.iter - self.first_iter) * (runner.max_iters - runner.iter)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        self.bar.console.print(f"epoch {runner.epoch + 1} of {runner.max_epochs}: {shown}; {timedelta(seconds=int(left))} left")

    def before_val_epoch(self, runner: Runner) -> None:
        self.validation = self.bar.add_task("validation", total=len(runner.val_dataloader))

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self.bar.update(self.validation, completed=batch_idx + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self.bar.remove_task(self.validation)
        # The evaluator gives -1 for a size of which the truth holds no object, and nothing at all where nothing was found.
        scores = {name.split("_")[-1]: value for name, value in (metrics or {}).items() if "mAP" in name and value >= 0}
        shown = ", ".join(f"{name} {100 * value:.1f}" for name, value in scores.items())
        self.bar.console.print(f"validation: {shown or 'nothing found'}")
