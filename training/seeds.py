"""Random numbers that depend on where a training is, and not on how it came there."""

import random

import numpy as np
import torch


def seed_generators(words: tuple[int, ...]) -> None:
    """The global generators of Python, NumPy and torch, from such as (seed, epoch, process)."""
    seed = int(np.random.SeedSequence(words).generate_state(1)[0])
    for function in (random.seed, np.random.seed, torch.manual_seed):
        function(seed)
