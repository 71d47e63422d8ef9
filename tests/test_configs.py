"""Every configuration file builds what it describes."""

import sys
from pathlib import Path

import numpy as np
import pytest

from data.loading.datamodule import PanopticDataModule
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC
from efficientps.module import EfficientPSModule
from efficientps.train_net import EfficientPSCLI
from pan_secb.crop_cutting import MIN_AREA, CropSettings, generate
from pan_secb.crops import CropPictures
from pan_secb.datamodule import PanSECBDataModule
from pan_secb.module import PanSECBModule
from pan_secb.train import PanSECBCLI
from panoptic_fpn.module import PanopticFPNModule
from panoptic_fpn.train import PanopticFPNCLI
from training.command import TrainCLI

CONFIGS = Path(__file__).parents[1] / "configs"


def configs(system: str) -> pytest.MarkDecorator:
    """All YAML files of a system."""
    return pytest.mark.parametrize("config", sorted((CONFIGS / system).glob("*.yaml")), ids=lambda p: p.stem)


@pytest.fixture
def build(tmp_path, monkeypatch):
    """What a command has built when it begins to train."""

    def run(cli: type[TrainCLI], module: type, data: type, *arguments: str | Path) -> TrainCLI:
        more = (*arguments, "--output", tmp_path, "--trainer.accelerator", "cpu", "--trainer.devices", "1")
        monkeypatch.setattr(sys, "argv", ["train.py", *(str(a) for a in more)])
        built = cli(module, data, run=False, save_config_callback=None)
        built.datamodule.setup("fit")
        return built

    return run


@configs("efficientps")
def test_an_efficientps_config_builds_network_data_and_trainer(config, streets, build):
    cli = build(EfficientPSCLI, EfficientPSModule, PanopticDataModule, "--config", config, "--data-root", streets)
    assert len(cli.datamodule.train_set) == 2
    assert config.stem.split("_")[1] == cli.model.hparams["network"]["variant"]
    assert config.stem.endswith("maskrcnn") == cli.datamodule.has_instances == cli.model.has_instances


@configs("panoptic_fpn")
def test_a_panoptic_fpn_config_builds_a_network_of_the_datas_classes(config, streets, snapshots, build):
    is_coco = config.stem.startswith(("coco", "snapshots"))
    root = snapshots if is_coco else streets
    cli = build(PanopticFPNCLI, PanopticFPNModule, PanopticDataModule, "--config", config, "--data-root", root)
    assert len(cli.datamodule.train_set) > 0
    assert cli.datamodule.has_instances
    assert cli.model.taxonomy.num_classes == (COCO_PANOPTIC if is_coco else CITYSCAPES).num_classes
    assert cli.model.hparams["network"]["backbone"].removeprefix("resnet") == config.stem.split("_")[1].removeprefix("r")


@pytest.mark.parametrize("base", ["streets_r18", "snapshots_r18"])
def test_the_change_to_learn_by_heart_fits_both_small_configs(base, streets, snapshots, build):
    files = ("--config", CONFIGS / "panoptic_fpn" / f"{base}.yaml", "--config", CONFIGS / "panoptic_fpn/changes/overfit.yaml")
    root, split = (streets, "train") if base.startswith("streets") else (snapshots, "train2017")
    data = ("--data-root", root, "--data.val_split", split)
    cli = build(PanopticFPNCLI, PanopticFPNModule, PanopticDataModule, *files, *data)
    size = cli.config.data.crop_height, cli.config.data.crop_width
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    segment_ids = np.arange(size[0] * size[1], dtype=np.uint32).reshape(size)
    for seed in range(3):  # nothing is changed where the crop is the whole picture
        found, found_ids = cli.datamodule.train_set.augmentation(picture, segment_ids, seed=seed)
        np.testing.assert_array_equal(found, picture)
        np.testing.assert_array_equal(found_ids, segment_ids)
    assert cli.model.merging.min_stuff_area == 0
    assert cli.config.save_every > 1


@configs("pan_secb")
def test_a_pan_secb_config_trains_on_crops_or_on_whole_images(config, streets, tmp_path, build):
    generate(streets, "train", tmp_path / "crops" / "train", CropSettings(64, MIN_AREA))
    paths = ("--data-root", streets, "--data.crops", tmp_path / "crops")
    cli = build(PanSECBCLI, PanSECBModule, PanSECBDataModule, "--config", config, *paths)
    is_second = config.stem.endswith("finetune")
    assert isinstance(cli.datamodule.train_set.pictures, CropPictures) != is_second
    assert (cli.model.weights is not None) == is_second
    assert cli.model.loss_settings.foreground_weights == cli.datamodule.foreground_weights
