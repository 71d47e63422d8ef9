"""Makes mmdet importable before a test module asks for it, and trains a tiny model once."""

import sys
from pathlib import Path

import pytest
import torch

import solov2  # noqa: F401, before mmengine

# isort: split
from mmengine import Config

from data.layouts.find import open_data_set
from solov2 import train
from solov2.checkpoints import read_checkpoint
from solov2.data_set import prepare_split, use_splits
from solov2.settings import DEFAULT_CONFIG, load_config, parse_options

SMALL_CONFIG = DEFAULT_CONFIG.with_name("streets_r18.py")
TINY = (
    *("--config", str(SMALL_CONFIG), "--cfg-options"),
    *("train_cfg.max_epochs=2", "train_cfg.val_interval=9", "train_dataloader.batch_size=2"),
    *("model.backbone.base_channels=8", "model.backbone.stem_channels=8", "model.neck.in_channels=[8,16,32,64]"),
)
"""Arguments that make one iteration of streets_r18.py take a fraction of a second."""


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    return TINY


@pytest.fixture
def tiny_config() -> Config:
    """What train.py makes of these options."""
    return load_config(SMALL_CONFIG, parse_options(TINY[3:]))


@pytest.fixture
def on_data():
    """Let a configuration train on a data set, as train.py does."""

    def use(config: Config, root: Path) -> Config:
        data_set = open_data_set(root)
        train, val = (
            prepare_split(data_set, None, for_training=is_training, track=lambda items, _: items)[0]
            for is_training in (True, False)
        )
        use_splits(config, train, val)
        return config

    return use


def train_tiny(folder: Path, *arguments: str | Path, options: tuple[str, ...] = ()) -> Path:
    """Run train.py's main() with further arguments and --cfg-options; return the work folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", list(map(str, ["train.py", "--output", folder, *arguments, *TINY, *options])))
        train.main()
    return folder


def make_eager(checkpoint: Path) -> Path:
    """A checkpoint with the class bias raised, so that there is something to dump."""
    content = read_checkpoint(checkpoint)
    content["state_dict"]["mask_head.conv_cls.bias"] += 4.5
    path = checkpoint.with_name("eager.pth")
    torch.save(content, path)
    return path


@pytest.fixture(scope="session")
def trained(streets, tmp_path_factory) -> Path:
    """The work folder of two epochs (of one iteration each) on Streets."""
    return train_tiny(tmp_path_factory.mktemp("solov2"), "--data-root", streets)


@pytest.fixture(scope="session")
def eager(trained) -> Path:
    """The trained checkpoint, which finds much."""
    return make_eager(trained / "epoch_2.pth")


@pytest.fixture(scope="session")
def trained_on_snapshots(snapshots, tmp_path_factory) -> Path:
    """One epoch of two iterations on a data set of the COCO layout, with classes of its own."""
    folder = tmp_path_factory.mktemp("solov2_snapshots")
    return train_tiny(folder, "--data-root", snapshots, "--epochs", "1", options=("train_dataloader.batch_size=5",))


@pytest.fixture(scope="session")
def eager_on_snapshots(trained_on_snapshots) -> Path:
    """The trained checkpoint, which finds much."""
    return make_eager(trained_on_snapshots / "epoch_1.pth")
