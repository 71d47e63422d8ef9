"""Checkpoints of small networks with random weights, as train_net.py writes them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.network_input import NetworkInput
from data.taxonomy import CITYSCAPES, Taxonomy
from efficientps.module import EfficientPSModule


@pytest.fixture(scope="session")
def write_checkpoint() -> Callable[..., Path]:
    """Write one; further arguments are the module's."""

    def write(path: Path, taxonomy: Taxonomy = CITYSCAPES, network_input: NetworkInput = NetworkInput(), **settings) -> Path:
        torch.manual_seed(0)
        module = EfficientPSModule(taxonomy, network_input, variant="b0", fpn_channels=32, norm_momentum=0.1, **settings)
        torch.save({"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}, path)
        return path

    return write
