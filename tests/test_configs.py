"""Every configuration file builds what it describes."""

from pathlib import Path

import numpy as np
import pytest

from data.layouts.find import open_data_set
from data.loading.datamodule import PanopticDataModule
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC
from efficientps.module import EfficientPSModule
from pan_secb.crop_cutting import MIN_AREA, CropSettings, generate
from pan_secb.crops import CropSplit
from pan_secb.datamodule import PanSECBDataModule
from pan_secb.module import PanSECBModule
from panoptic_fpn.module import PanopticFPNModule
from runtime.files import InputError
from training.arguments import lightning_arguments, with_bases
from training.command import TrainCLI

CONFIGS = Path(__file__).parents[1] / "configs"
NUM_SUPERCATEGORIES = 27


def configs(system: str) -> pytest.MarkDecorator:
    """All YAML files of a system."""
    return pytest.mark.parametrize("config", sorted((CONFIGS / system).glob("*.yaml")), ids=lambda p: p.stem)


@pytest.fixture
def build(tmp_path):
    """What a command has built when it begins to train."""

    def run(system: str, module: type, *arguments: str | Path, data: type = PanopticDataModule, linked=()) -> TrainCLI:
        more = (*arguments, "--output", tmp_path, "--device", "cpu", "--trainer.devices", "1")
        about = {"prog": "train.py", "description": "", "system": system, "default_config": Path("none")}
        read, _ = lightning_arguments([str(a) for a in more], **about)
        cli = type("CLI", (TrainCLI,), {"system": system, "linked": linked})
        built = cli(module, data, run=False, args=read, save_config_callback=None)
        built.datamodule.setup("fit")
        return built

    return run


@configs("efficientps")
def test_an_efficientps_config_builds_network_data_and_trainer(config, streets, snapshots, build):
    is_photos = config.stem.startswith("photos")
    cli = build("efficientps", EfficientPSModule, "--config", config, "--data-root", snapshots if is_photos else streets)
    assert len(cli.datamodule.train_set) == (10 if is_photos else 2)
    assert cli.model.taxonomy.num_classes == (NUM_SUPERCATEGORIES if is_photos else CITYSCAPES.num_classes)
    assert config.stem.split("_")[1] == cli.model.hparams["network"]["variant"]
    assert config.stem.endswith("maskrcnn") == cli.datamodule.has_instances == cli.model.needs_instances


@configs("panoptic_fpn")
def test_a_panoptic_fpn_config_builds_a_network_of_the_datas_classes(config, streets, snapshots, build):
    is_coco, is_photos = config.stem.startswith(("coco", "snapshots")), config.stem.startswith("photos")
    root = snapshots if is_coco or is_photos else streets
    cli = build("panoptic_fpn", PanopticFPNModule, "--config", config, "--data-root", root)
    assert len(cli.datamodule.train_set) > 0
    assert cli.datamodule.has_instances
    num_classes = NUM_SUPERCATEGORIES if is_photos else (COCO_PANOPTIC if is_coco else CITYSCAPES).num_classes
    assert cli.model.taxonomy.num_classes == num_classes
    assert cli.model.hparams["network"]["backbone"].removeprefix("resnet") == config.stem.split("_")[1].removeprefix("r")


@pytest.mark.parametrize("base", ["streets_r18", "snapshots_r18"])
def test_the_change_to_memorise_images_fits_both_small_configs(base, streets, snapshots, build):
    files = ("--config", CONFIGS / "panoptic_fpn" / f"{base}.yaml", "--config", CONFIGS / "panoptic_fpn/changes/overfit.yaml")
    root, split = (streets, "train") if base.startswith("streets") else (snapshots, "train2017")
    data = ("--data-root", root, "--data.val_split", split)
    cli = build("panoptic_fpn", PanopticFPNModule, *files, *data)
    augmentation = cli.datamodule.augmentation
    size = augmentation.crop_height, augmentation.crop_width
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    segment_ids = np.arange(size[0] * size[1], dtype=np.uint32).reshape(size)
    for seed in range(3):  # nothing is changed where the crop is the whole image
        found, found_ids = cli.datamodule.train_set.augmentation(image, segment_ids, seed=seed)
        np.testing.assert_array_equal(found, image)
        np.testing.assert_array_equal(found_ids, segment_ids)
    assert cli.model.merging.min_stuff_area == 0
    assert cli.config.save_every > 1


@configs("pan_secb")
def test_a_pan_secb_config_trains_on_crops_or_on_whole_images(config, streets, tmp_path, build):
    split = open_data_set(streets).split("train")
    generate(split, "train", tmp_path / "crops" / "train", CropSettings(64, MIN_AREA))
    paths = ("--data-root", streets, "--data.crops", tmp_path / "crops")
    options = {"data": PanSECBDataModule, "linked": ("foreground_weights",)}
    cli = build("pan_secb", PanSECBModule, "--config", config, *paths, **options)
    is_second = config.stem.endswith("finetune")
    assert isinstance(cli.datamodule.train_set.split, CropSplit) != is_second
    assert (cli.model.weights is not None) == is_second
    assert cli.model.loss_settings.foreground_weights == cli.datamodule.foreground_weights


def test_a_config_is_laid_over_those_that_it_builds_on():
    chain = with_bases(CONFIGS / "panoptic_fpn/coco_r101_3x.yaml")
    assert [path.name for path in chain] == ["coco_r50.yaml", "coco_r50_3x.yaml", "coco_r101_3x.yaml"]


def test_a_config_that_builds_on_itself_or_on_nothing_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(InputError, match="builds on itself"):
        with_bases(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("base: c.yaml\n")
    with pytest.raises(InputError, match="no such configuration"):
        with_bases(tmp_path / "a.yaml")
