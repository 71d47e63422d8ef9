"""Random numbers that a resumed training draws as it would have drawn them."""

import random
from functools import partial

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds Python, NumPy and torch by (seed, epoch, process, worker) when an epoch begins.

    mmengine seeds once, when a run starts, and processes alike: a resumed run would augment as in its first epoch, and all
    processes would flip together. Workers are seeded when they start, so they must not be persistent.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        words = (runner.seed, runner.epoch, runner.rank)
        seed_generators(words)
        runner.train_dataloader.worker_init_fn = partial(_seed_worker, words)


def seed_generators(words: tuple[int, ...]) -> None:
    """The global generators of Python, NumPy and torch."""
    seed = int(np.random.SeedSequence(words).generate_state(1)[0])
    for function in (random.seed, np.random.seed, torch.manual_seed):
        function(seed)


def _seed_worker(words: tuple[int, ...], worker_id: int) -> None:
    seed_generators((*words, worker_id))
