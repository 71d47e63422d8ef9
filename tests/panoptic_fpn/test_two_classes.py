"""A data set of one thing and one stuff class, drawn in the COCO layout, is trained on and predicted by both small systems.

No class number or count is anybody's but the data's: dataset ids are 5 and 900, and the thing stands first.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import Trainer

import pan_secb.predictor
import panoptic_fpn.predictor
from data.layouts.find import open_data_set
from data.loading.augmentation import AugmentationSettings
from data.loading.datamodule import PanopticDataModule
from data.panoptic_file import write_panoptic_json
from data.panoptic_png import describe_segments, write_segment_ids
from data.taxonomy import Category, Taxonomy
from fusion.settings import ClusterSettings, MergeSettings
from pan_secb.datamodule import PanSECBDataModule
from pan_secb.module import NetworkSettings as PanSECBSettings
from pan_secb.module import PanSECBModule
from panoptic_fpn.module import PanopticFPNModule
from panoptic_fpn.network import NetworkSettings
from prediction.run import Run, predict_split
from prediction.score import score
from training.module import PanopticModule

BALL, LAWN = 900, 5
CLASSES = Taxonomy("park", (Category("ball", BALL, True, (200, 30, 30)), Category("lawn", LAWN, False, (30, 160, 30))))
SIZE = 64
OFF = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "logger": False}


def draw_park(root: Path, split: str, num_images: int, seed: int) -> None:
    """Two red balls on a green lawn in each image."""
    rng, entries = np.random.default_rng(seed), []
    y, x = np.mgrid[:SIZE, :SIZE]
    for k in range(num_images):
        ids = np.full((SIZE, SIZE), 1, np.uint32)
        for segment_id, column in ((2, 16), (3, 48)):
            ids[(y - rng.integers(16, 48)) ** 2 + (x - column) ** 2 < 12**2] = segment_id
        image = np.where((ids > 1)[..., None], (200, 30, 30), (30, 160, 30)) + rng.integers(-20, 20, (SIZE, SIZE, 3))
        path = root / split / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)
        write_segment_ids(root / "annotations" / f"panoptic_{split}" / f"{k}.png", ids)
        segments = describe_segments(ids, lambda segment_id: LAWN if segment_id == 1 else BALL)
        entries.append((k, f"{k}.png", f"{k}.png", (SIZE, SIZE), segments))
    write_panoptic_json(root / "annotations" / f"panoptic_{split}.json", CLASSES, entries)


@pytest.fixture(scope="module")
def park(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("park")
    draw_park(root, "train", 8, seed=0)
    draw_park(root, "val", 2, seed=1)
    return root


def panoptic_fpn_parts(park: Path, small: NetworkSettings) -> tuple[PanopticDataModule, PanopticModule]:
    data = PanopticDataModule(str(park), **loading())
    settings = replace(small, instance_head=replace(small.instance_head, anchor_sizes=(8, 16, 24, 32, 64)))
    return data, PanopticFPNModule(data.taxonomy, data.network_input, settings, merging=MergeSettings(0.1, min_stuff_area=0))


def pan_secb_parts(park: Path, small: NetworkSettings) -> tuple[PanopticDataModule, PanopticModule]:
    data = PanSECBDataModule(on_crops=True, crops_per_epoch=8, **loading(), data_root=str(park))
    settings = PanSECBSettings(width=0.25, pixels_per_unit=SIZE, start_sigma=0.3, dropout=0.0)
    clustering = ClusterSettings(min_candidate_seed=0.1, min_seed=0.1, min_pixels=0, min_stuff_area=0)
    about = {"clustering": clustering, "foreground_weights": data.foreground_weights, "num_pictures": 0}
    assert len(data.foreground_weights) == 1
    return data, PanSECBModule(data.taxonomy, data.network_input, settings, **about)


def loading() -> dict:
    crop = AugmentationSettings(crop_height=32, crop_width=32)
    return {"batch_size": 4, "num_workers": 0, "normalization": "imagenet", "augmentation": crop, "seed": 0}


SYSTEMS = {
    "panoptic_fpn": (panoptic_fpn_parts, panoptic_fpn.predictor.load_predictor),
    "pan_secb": (pan_secb_parts, pan_secb.predictor.load_predictor),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_one_thing_and_one_stuff_class_are_trained_on_and_predicted(system, park, small, tmp_path, monkeypatch):
    monkeypatch.setattr("pan_secb.crops.CROPS", tmp_path / "crops")
    build, load_predictor = SYSTEMS[system]
    torch.manual_seed(0)
    data, module = build(park, small)
    assert [(c.name, c.dataset_id, c.is_thing) for c in data.taxonomy.categories] == [("ball", BALL, True), ("lawn", LAWN, False)]
    data.has_instances = module.needs_instances
    before = {name: value.clone() for name, value in module.network.named_parameters()}
    trainer = Trainer(accelerator="cpu", max_epochs=2, num_sanity_val_steps=0, log_every_n_steps=1, **OFF)
    trainer.fit(module, data)
    assert all(value.isfinite().all() for value in module.network.parameters())
    assert any(not torch.equal(value, before[name]) for name, value in module.network.named_parameters())
    torch.save({"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}, tmp_path / "last.ckpt")

    predictor = load_predictor(tmp_path / "last.ckpt")
    split = open_data_set(park).split()
    assert predictor.taxonomy.difference(split.taxonomy) is None
    run: Run = predict_split(split, predictor, tmp_path / "out", ("panoptic", "instances", "semantic"))
    scores = score(run, split)
    assert scores.quality["All"]["n"] == 2
    assert {c["id"] for c in run.taxonomy.to_coco_categories()} == {BALL, LAWN}
    for index in range(len(split)):
        found = run.panoptic(split.image_id(index))
        assert found.segment_ids.shape == (SIZE, SIZE)
        assert {segment.category_id for segment in found.segments} <= {BALL, LAWN}
