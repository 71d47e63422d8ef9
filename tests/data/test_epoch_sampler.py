"""Order and augmentation seeds depend on seed and epoch alone, and processes share the images."""

import pytest

from data.loading.epoch_sampler import EpochSampler
from runtime.files import InputError


def test_an_epoch_is_the_same_whatever_came_before_it():
    went_on = EpochSampler(7, seed=3)
    epochs = []
    for epoch in range(3):
        went_on.set_epoch(epoch)
        epochs.append(list(went_on))
    assert list(EpochSampler(7, seed=3, epoch=2)) == epochs[2]
    assert sorted(index for index, _ in epochs[2]) == list(range(7))
    assert len({seed for epoch in epochs for _, seed in epoch}) == 21  # each image is augmented anew each epoch
    assert [index for index, _ in epochs[0]] != [index for index, _ in epochs[1]]
    assert list(EpochSampler(7, seed=4, epoch=2)) != epochs[2]


def test_processes_share_an_epoch_without_overlap_and_with_the_same_seeds():
    alone = set(EpochSampler(7, seed=3, epoch=1))
    shares = [list(EpochSampler(7, seed=3, epoch=1, num_processes=2, rank=rank)) for rank in range(2)]
    assert [len(share) for share in shares] == [3, 3]  # the seventh image stays away
    assert not set(shares[0]) & set(shares[1])
    assert set(shares[0]) | set(shares[1]) < alone


def test_fewer_images_than_processes_are_refused():
    with pytest.raises(InputError, match="1 training images are too few for 2 processes"):
        EpochSampler(1, seed=0, num_processes=2)
