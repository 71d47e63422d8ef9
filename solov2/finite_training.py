"""Ends a training whose loss is NaN or infinite, before a checkpoint of it is written."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from runtime.files import InputError
from training.callbacks import LOWER_RATE, MOST_OVERFLOWS, STEPS_BETWEEN_LOOKS, check_finite_weights


class FiniteTrainingHook(Hook):
    """As training.callbacks.FiniteTraining; a scaled loss may overflow, its steps are then not taken."""

    def before_train(self, runner: Runner) -> None:
        self.num_in_a_row = 0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        loss = torch.as_tensor((outputs or {}).get("loss", 0.0)).detach()
        is_scaled = hasattr(runner.optim_wrapper, "loss_scaler")
        if loss.is_cuda and not is_scaled and batch_idx % STEPS_BETWEEN_LOOKS:
            return
        self.num_in_a_row = 0 if loss.isfinite() else self.num_in_a_row + 1
        if self.num_in_a_row >= (MOST_OVERFLOWS if is_scaled else 1):
            raise InputError(f"the loss is {float(loss)} in epoch {runner.epoch + 1}, batch {batch_idx + 1}; {LOWER_RATE}")

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        check_finite_weights(checkpoint["state_dict"])
