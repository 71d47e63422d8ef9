"""The validation says what a user's prediction says: of images that are resized, by a checkpoint of the same weights."""

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer

from data.input_size import InputSize
from data.layouts.cityscapes import CityscapesSplit
from data.loading.datamodule import PanopticDataModule
from data.taxonomy import CITYSCAPES
from evaluation.panoptic_quality import PanopticQuality
from fusion.settings import MergeSettings
from panoptic_fpn.module import PanopticFPNModule
from panoptic_fpn.predictor import load_predictor

OFF = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "logger": False}


@pytest.fixture
def validated(monkeypatch) -> list:
    """The panoptic maps that a validation counts, in order."""
    found, add = [], PanopticQuality.add
    monkeypatch.setattr(PanopticQuality, "add", lambda self, truth, map_: found.append(map_) or add(self, truth, map_))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("input_size", [InputSize(80), InputSize()], ids=["resized", "as it is"])
def test_the_validation_sees_what_the_loaded_checkpoint_sees(learned, small, streets, tmp_path, validated, input_size):
    data = PanopticDataModule(str(streets), num_workers=0, normalization="imagenet", input_size=input_size)
    data.has_instances = True
    merging = MergeSettings(min_score=0.2, min_stuff_area=500)
    module = PanopticFPNModule(CITYSCAPES, data.network_input, small, merging=merging, panels_every_n_steps=0)
    module.network.load_state_dict(learned[0].state_dict())
    Trainer(accelerator="cpu", **OFF).validate(module, data, verbose=False)
    torch.save({"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}, tmp_path / "last.ckpt")
    predictor, split = load_predictor(tmp_path / "last.ckpt"), CityscapesSplit(streets, "val")
    assert predictor.network_input.size.of((128, 256)) == ((80, 160) if input_size.shorter_side else (128, 256))
    assert len(validated) == len(split)
    for index, counted in enumerate(validated):
        used = predictor.predict(split.image_id(index), split.image(index)).panoptic
        assert np.array_equal(used.segment_ids, counted.segment_ids)
        assert used.segments == counted.segments
    assert any(segment.score is not None for counted in validated for segment in counted.segments)


def test_the_checkpoint_says_all_that_use_needs(small, streets, tmp_path):
    data = PanopticDataModule(str(streets), normalization="imagenet")
    module = PanopticFPNModule(data.taxonomy, data.network_input, small, merging=MergeSettings(min_score=0.3))
    torch.save({"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}, tmp_path / "last.ckpt")
    predictor = load_predictor(tmp_path / "last.ckpt")
    assert predictor.taxonomy == CITYSCAPES
    assert predictor.network_input == data.network_input
    assert predictor.network_input.size.trained_sides == (128, 128)
    assert predictor.merging == MergeSettings(min_score=0.3)
