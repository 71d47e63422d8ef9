"""One spelling for one wish: what the flags of trainings become, and the older spellings that still work."""

import sys
from pathlib import Path

import pytest
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from efficientps import train_net
from runtime.command_line import current_spelling
from training import command
from training.arguments import lightning_arguments
from training.command import TrainCLI

CONFIG = Path(__file__).parents[2] / "configs" / "efficientps" / "streets_lite0.yaml"


def to_lightning(*arguments: str) -> list[str]:
    """What LightningCLI gets, without the configuration."""
    about = {"prog": "train", "description": "", "system": "efficientps", "default_config": CONFIG}
    return lightning_arguments(arguments, **about)[0][2:]


@pytest.fixture
def build(streets, tmp_path, monkeypatch):
    """What train_net.py builds from some arguments, without the training."""
    built: list[TrainCLI] = []
    monkeypatch.setattr(command, "fit", built.append)

    def run(*arguments: str) -> TrainCLI:
        given = ["--data-root", str(streets), "--output", str(tmp_path), "--device", "cpu", "--model.fpn_channels", "16"]
        monkeypatch.setattr(sys, "argv", ["train_net.py", *given, *arguments])
        train_net.main()
        return built.pop()

    return run


@pytest.mark.parametrize(
    ("older", "current"),
    [
        (["--image-path", "a.png"], ["--images", "a.png"]),
        (["--image-path=a.png"], ["--images=a.png"]),
        (["--tta-scales", "0.75", "1"], ["--tta.scales", "[0.75,1]"]),
        (["--tta.scales", "[0.75, 1]", "--split", "val"], ["--tta.scales", "[0.75,1]", "--split", "val"]),
        (["--tta-flip", "--split", "val"], ["--tta.flip", "true", "--split", "val"]),
        (["--tta.flip", "False"], ["--tta.flip", "false"]),
        (["--work-dir", "out"], ["--output", "out"]),
        (["--amp", "bf16"], ["--precision", "bf16"]),
        (["--resume", "false"], ["--no-resume"]),
        (["--resume=true"], ["--resume"]),
        (["--resume", "--epochs", "3"], ["--resume", "--epochs", "3"]),
    ],
)
def test_older_spellings_mean_the_same(older, current):
    assert current_spelling(older) == current


def test_settings_that_have_moved_are_found_under_their_older_names():
    assert to_lightning("--data.crop_height", "64") == ["--resume", "true", "--data.augmentation.crop_height", "64"]
    assert to_lightning("--data.scale_range=[1,2]")[2:] == ["--data.augmentation.scale_range=[1,2]"]
    assert to_lightning("--model.input_size.shorter_side", "64")[2:] == ["--data.input_size.shorter_side", "64"]
    assert to_lightning("--data.batch_size", "2")[2:] == ["--data.batch_size", "2"]
    assert "false" in to_lightning("--resume", "false")


def test_the_shared_flags_reach_a_lightning_training(build):
    flags = ("--epochs", "3", "--precision", "32", "--accumulate", "2", "--ema-decay", "0.9", "--seed", "7", "--workers", "1")
    cli = build(*flags, "--weights", "start.safetensors")
    assert (cli.trainer.max_epochs, cli.trainer.precision, cli.trainer.accumulate_grad_batches) == (3, "32-true", 2)
    assert any(isinstance(callback, WeightAveraging) for callback in cli.trainer.callbacks)
    assert (cli.config.seed_everything, cli.datamodule.num_workers) == (7, 1)
    assert cli.model.weights == "start.safetensors"


def test_a_decay_of_zero_averages_nothing(build):
    cli = build("--ema-decay", "0")
    assert not any(isinstance(callback, WeightAveraging) for callback in cli.trainer.callbacks)
    assert not cli.config.ema_decay


def test_a_short_training_is_validated_at_its_end(build):
    assert build("--epochs", "2").trainer.check_val_every_n_epoch == 2  # the configuration says 5


def test_the_users_own_logger_is_kept(build, tmp_path):
    cli = build("--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(tmp_path / "csv"))
    assert [type(logger) for logger in cli.trainer.loggers] == [CSVLogger]
    assert [type(logger) for logger in build().trainer.loggers] == [TensorBoardLogger]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--epochs", "0"), "error: --epochs 0: does not conform to restriction v>0; see --help"),
        (("--device", "tpu"), "error: --device tpu is unknown; give one of auto, cpu, cuda, mps, or cuda:1"),
        (("--workers", "many"), "error: --workers many: invalid literal for int() with base 10: 'many'; see --help"),
        (("--data.seed", "-1"), "error: --data.seed -1: does not conform to restriction v>=0; see --help"),
        (("--data.layout", "voc"), "error: layout 'voc' is unknown; choose one of auto, cityscapes, coco"),
        (("--trainer.frob", "1"), "error: unrecognized arguments: --trainer.frob 1; see --help"),
        (
            ("--config", "none.yaml"),
            "error: none.yaml: no such configuration; give the path of a YAML, such as those in configs/",
        ),
    ],
)
def test_a_wrong_argument_is_one_line(arguments, line, streets, tmp_path, fails_in_one_line):
    assert fails_in_one_line(train_net.main, "--data-root", streets, "--output", tmp_path, *arguments) == line
