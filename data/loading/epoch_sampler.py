"""Which training image comes when, and how it is augmented: a function of seed and epoch alone."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import DistributedSampler

from runtime.files import InputError


class EpochSampler(DistributedSampler):
    """Yields (index, augmentation seed) of each image once an epoch, in a new order each epoch; see set_epoch.

    They do not depend on what was drawn before, so a resumed run, another number of workers and another number of processes
    see the same augmented images. Of several processes, each gets its own share; what cannot be shared equally stays away.

    Args:
        epoch: the first one; Lightning creates the iterator of a resumed epoch before it sets the epoch.

    Raises:
        InputError: if there are fewer images than processes.
    """

    def __init__(self, num_images: int, *, seed: int, epoch: int = 0, num_processes: int = 1, rank: int = 0):
        if num_images < num_processes:
            raise InputError(f"{num_images} training images are too few for {num_processes} processes; ask for fewer devices")
        super().__init__(range(num_images), num_processes, rank, shuffle=True, seed=seed, drop_last=True)
        self.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for index in super().__iter__():
            words = np.random.SeedSequence((self.seed, self.epoch, index)).generate_state(1, np.uint64)
            yield index, int(words[0] >> np.uint64(1))
