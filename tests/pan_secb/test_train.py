"""What the command does without a configuration: both steps, the second from the first's checkpoint."""

import sys
from pathlib import Path

import pytest

from pan_secb import train
from pan_secb.datamodule import PanSECBDataModule
from runtime.files import InputError
from training.command import REPOSITORY


@pytest.fixture
def runs(monkeypatch) -> list[list[str]]:
    """The command lines of the trainings that would have run."""
    found = []
    monkeypatch.setattr(train, "run_training", lambda *_, **__: found.append(sys.argv[1:]))
    return found


def value(arguments: list[str], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


def test_without_a_configuration_both_steps_run_and_the_second_goes_on_from_the_first(runs, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["train.py", "--output", str(tmp_path), "--trainer.max_epochs", "1"])
    train.main()
    crops, whole = runs
    assert [Path(value(run, "--config")).stem for run in runs] == ["streets", "streets_finetune"]
    assert value(whole, "--model.weights") == str(Path(value(crops, "--output")) / "last.ckpt")
    assert "--model.weights" not in crops
    assert all(value(run, "--trainer.max_epochs") == "1" for run in runs)


def test_the_configurations_name_the_same_checkpoint_as_the_default_run(runs, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    train.main()
    config = (REPOSITORY / "configs" / "pan_secb" / "streets_finetune.yaml").read_text()
    weights = Path(value(runs[1], "--model.weights")).relative_to(REPOSITORY)
    assert f"weights: {weights}\n" in config


def test_with_a_configuration_it_alone_runs(runs, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", "x.yaml"])
    train.main()
    assert runs == [["--config", "x.yaml"]]


def test_crops_that_are_missing_are_named_with_the_command_that_cuts_them(streets, tmp_path):
    data = PanSECBDataModule(data_root=str(streets), crops=str(tmp_path))
    with pytest.raises(InputError, match=r"foreground_weights\.json: no such file; cut the crops first with python pan_secb/"):
        _ = data.foreground_weights
