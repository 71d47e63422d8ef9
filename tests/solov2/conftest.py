"""Makes mmdet importable before a test module asks for it, and trains a tiny model once."""

import argparse
import sys
from pathlib import Path

import pytest
import torch
from mmengine import Config

from solov2 import train
from solov2.checkpoints import read_checkpoint
from solov2.settings import DEFAULT_CONFIG, add_arguments, load_config

TINY = (
    *("--cfg-options", "train_cfg.max_epochs=2", "train_cfg.val_interval=9", "train_dataloader.batch_size=2"),
    *("model.backbone.base_channels=8", "model.backbone.stem_channels=8", "model.neck.in_channels=[8,16,32,64]"),
)
"""Options that make one iteration of streets_r18.py take a fraction of a second."""


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    return TINY


@pytest.fixture
def tiny_config(tiny) -> Config:
    """What the commands make of these options."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return load_config(DEFAULT_CONFIG, parser.parse_args(list(tiny)).cfg_options)


@pytest.fixture(scope="session")
def trained(streets, tmp_path_factory) -> Path:
    """The work folder of two epochs (of one iteration each) by train.py's main()."""
    folder = tmp_path_factory.mktemp("solov2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", "--data-root", str(streets), "--work-dir", str(folder), *TINY])
        train.main()
    return folder


@pytest.fixture(scope="session")
def eager(trained) -> Path:
    """The trained checkpoint with the class bias raised, so that there is something to dump."""
    content = read_checkpoint(trained / "epoch_2.pth")
    content["state_dict"]["mask_head.conv_cls.bias"] += 4.5
    path = trained / "eager.pth"
    torch.save(content, path)
    return path
