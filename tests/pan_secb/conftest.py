"""A small scene of objects that touch, a network's output for it, and a small network's checkpoint."""

from pathlib import Path

import pytest
import torch

from data.network_input import NetworkInput
from data.normalization import IMAGENET
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from fusion.settings import ClusterSettings
from pan_secb.module import NetworkSettings, PanSECBModule
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


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """What train.py would have written of a small network, which sees a round object wherever it looks."""
    torch.manual_seed(0)
    # Its seeds are all about one half.
    clustering = ClusterSettings(min_candidate_seed=0.3, min_seed=0.4, min_stuff_area=0)
    network = NetworkSettings(0.25, pixels_per_unit=128)
    module = PanSECBModule(CITYSCAPES, NetworkInput(normalization=IMAGENET), network, clustering=clustering)
    with torch.no_grad():
        module.network.embedding_decoder.output.weight.normal_(std=0.01)
        module.network.embedding_decoder.output.bias[2:] = 0.5  # a radius of 9 pixels
    path = tmp_path_factory.mktemp("checkpoint") / "last.ckpt"
    torch.save({"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}, path)
    return path
