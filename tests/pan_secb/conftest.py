"""A small scene of objects that touch, and a network's output for it."""

import pytest
import torch

from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from pan_secb.network import EmbeddingOutput
from pan_secb.targets import EmbeddingTargets

PERSON, CAR = (next(k for k, c in enumerate(CITYSCAPES.categories) if c.name == name) for name in ("person", "car"))
SCENE = """
........vvvv
.aaa....vvvv
.aaabbb.cc..
.aaabbb.cc..
....bbb..xx.
.........xx.
"""
"""Persons a and c, a car b that touches a, a crowd x of cars, void v."""


def read_scene() -> EmbeddingTargets:
    """One image, 6x12."""
    letters = [list(row) for row in SCENE.split()]
    semantic = {".": 0, "a": PERSON, "b": CAR, "c": PERSON, "x": CAR, "v": VOID_TRAIN_ID}
    numbers = {"a": 1, "b": 2, "c": 3}
    return EmbeddingTargets(
        torch.tensor([[[semantic[letter] for letter in row] for row in letters]]),
        torch.tensor([[[numbers.get(letter, 0) for letter in row] for row in letters]], dtype=torch.int16),
        [torch.tensor([PERSON, CAR, PERSON])],
    )


@pytest.fixture
def targets() -> EmbeddingTargets:
    return read_scene()


@pytest.fixture
def random_output():
    """Output for B images of any size: offsets of some pixels, bandwidths of clusters a few pixels wide."""

    def make(num_images: int, height: int, width: int, num_sigma: int = 1, dtype=torch.float32) -> EmbeddingOutput:
        torch.manual_seed(0)
        size = (height, width)
        output = EmbeddingOutput(
            0.004 * torch.randn(num_images, 2, *size, dtype=dtype),
            1 + 0.05 * torch.randn(num_images, num_sigma, *size, dtype=dtype),
            torch.randn(num_images, len(CITYSCAPES.thing_ids), *size, dtype=dtype),
            torch.randn(num_images, CITYSCAPES.num_classes, *size, dtype=dtype),
        )
        return EmbeddingOutput(*(values.requires_grad_() for values in output))

    return make
