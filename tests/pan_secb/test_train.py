"""What the command does without a configuration: both steps, the second from the first's checkpoint."""

import shutil
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pan_secb.crops
from pan_secb import train
from pan_secb.datamodule import PanSECBDataModule
from runtime.command_line import REPOSITORY
from runtime.files import InputError


@pytest.fixture
def runs(monkeypatch) -> list[list[str]]:
    """What LightningCLI would have been given in each training."""
    found = []
    monkeypatch.setattr("training.command.run_training", lambda module, arguments, **_: found.append(list(arguments)))
    return found


def values(arguments: list[str], flag: str) -> list[str]:
    return [value for name, value in pairwise(arguments) if name == flag]


def test_without_a_configuration_both_steps_run_and_the_second_goes_on_from_the_first(runs, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["train.py", "--output", str(tmp_path), "--epochs", "1"])
    train.main()
    crops, whole = runs
    assert [Path(values(run, "--config")[-1]).stem for run in runs] == ["streets", "streets_finetune"]
    assert [values(run, "--output")[-1] for run in runs] == [str(tmp_path / "streets"), str(tmp_path / "streets_finetune")]
    assert values(whole, "--model.weights") == [str(tmp_path / "streets" / "last.ckpt")]
    assert values(crops, "--model.weights") == []
    assert all(values(run, "--trainer.max_epochs") == ["1"] for run in runs)


def test_the_configurations_name_the_same_checkpoint_as_the_default_run(runs, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    train.main()
    config = (REPOSITORY / "configs" / "pan_secb" / "streets_finetune.yaml").read_text()
    (weights,) = values(runs[1], "--model.weights")
    assert f"weights: {Path(weights).relative_to(REPOSITORY)}\n" in config


def test_with_a_configuration_it_alone_runs(runs, monkeypatch):
    config = str(REPOSITORY / "configs" / "pan_secb" / "cityscapes.yaml")
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", config])
    train.main()
    (run,) = runs
    assert values(run, "--config")[-1] == config


def test_a_given_folder_of_crops_is_named_with_the_command_that_cuts_them(streets, tmp_path):
    data = PanSECBDataModule(data_root=str(streets), crops=str(tmp_path))
    with pytest.raises(InputError, match=r"foreground_weights\.json: no such file; cut the crops first with python pan_secb/"):
        _ = data.foreground_weights


@pytest.mark.parametrize("layout", ["streets", "snapshots"])
def test_crops_that_nobody_named_are_cut_where_they_are_absent(layout, request, tmp_path, monkeypatch):
    monkeypatch.setattr(pan_secb.crops, "CROPS", tmp_path)
    data = PanSECBDataModule(data_root=str(request.getfixturevalue(layout)), on_crops=True, num_workers=0)
    weights = data.foreground_weights
    assert len(weights) == len(data.taxonomy.thing_ids)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert any(path.name == "foreground_weights.json" for path in before)
    assert data.foreground_weights == weights
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    data.setup("fit")
    assert len(data.train_set.split) == len(list(data.crops.glob("crops_*/*_panoptic.png")))


def test_crops_of_another_truth_are_cut_anew_or_refused_where_they_were_given(streets, tmp_path, monkeypatch):
    monkeypatch.setattr(pan_secb.crops, "CROPS", tmp_path / "crops")
    shutil.copytree(streets, tmp_path / "streets")
    data = PanSECBDataModule(data_root=str(tmp_path / "streets"), on_crops=True, num_workers=0)
    _ = data.foreground_weights
    before = {path: path.read_bytes() for path in data.crops.glob("crops_*/*.png")}
    label = next((tmp_path / "streets/gtFine/train").glob("*/*_instanceIds.png"))
    Image.fromarray(np.asarray(Image.open(label))[:, ::-1].copy()).save(label)
    given = PanSECBDataModule(data_root=str(tmp_path / "streets"), on_crops=True, num_workers=0, crops=str(data.crops.parent))
    with pytest.raises(InputError, match="holds crops of other images or labels"):
        _ = given.foreground_weights
    _ = data.foreground_weights
    assert {path: path.read_bytes() for path in data.crops.glob("crops_*/*.png")} != before
    assert given.foreground_weights == data.foreground_weights
