"""A short console: one bar with the time left, one line an epoch. mmengine's full log goes to its file."""

import logging
import time
from datetime import timedelta

from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar(description: str) -> Progress:
    """A bar with count and time left; use its `track` or `add_task("...")`."""
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"))
    return Progress(*columns, TextColumn("{task.description}"))


class ShortLogRunner(Runner):
    """mmengine's Runner whose environment, config and iteration log go to the log file only."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.ERROR)
        return logger

    def train(self):
        self.register_hook(ProgressHook(), "LOWEST")
        return super().train()


class ProgressHook(Hook):
    """Shows how far the training is and how long it will take."""

    def before_train(self, runner: Runner) -> None:
        self.bar = progress_bar("training")
        self.bar.start()
        self.task = self.bar.add_task("", total=runner.max_iters, completed=runner.iter)
        self.started, self.first_iter = time.monotonic(), runner.iter

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self.bar.update(self.task, completed=runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        losses = {name: runner.message_hub.get_scalar(f"train/{name}").mean(50) for name in ("loss", "loss_mask", "loss_cls")}
        seconds = time.monotonic() - self.started
        left = seconds / (runner.iter - self.first_iter) * (runner.max_iters - runner.iter)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        self.bar.console.print(f"epoch {runner.epoch + 1} of {runner.max_epochs}: {shown}; {timedelta(seconds=int(left))} left")

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        scores = {name.split("/")[-1]: value for name, value in (metrics or {}).items() if "mAP" in name}
        self.bar.console.print("validation: " + ", ".join(f"{name} {100 * value:.1f}" for name, value in scores.items()))

    def after_train(self, runner: Runner) -> None:
        self.bar.stop()
