"""Random numbers that a resumed training draws as it would have drawn them."""

import os
from functools import partial

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from runtime.processes import end_with_parent
from training.seeds import seed_generators


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds Python, NumPy and torch by (seed, epoch, process, worker) when an epoch begins.

    mmengine seeds once, when a run starts, and processes alike: a resumed run would augment as in its first epoch, and all
    processes would flip together. Workers are seeded when they start, so they must not be persistent.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        words = (runner.seed, runner.epoch, runner.rank)
        seed_generators(words)
        runner.train_dataloader.worker_init_fn = partial(_start_worker, os.getpid(), words)


def _start_worker(parent: int, words: tuple[int, ...], worker_id: int) -> None:
    end_with_parent(parent)
    seed_generators((*words, worker_id))
