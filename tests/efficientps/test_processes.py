"""train_net.py with two gloo processes on the CPU: what they learn together, and how one that fails ends both."""

import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.drawn.streets import StreetsSettings, ensure_streets
from data.layouts.cityscapes import find_images
from data.loading.epoch_sampler import EpochSampler

# Whole images without any augmentation, and norms that do not look at the batch: what an image teaches depends on it alone.
# SGD, as its step is proportional to the gradient: Adam would turn rounding of tiny gradients into steps of full size.
PLAIN = (
    *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1"),
    *("--trainer.num_sanity_val_steps", "0", "--trainer.check_val_every_n_epoch", "1", "--trainer.limit_val_batches", "1"),
    *("--trainer.callbacks+=training.callbacks.FixedNorms", "--model.fpn_channels", "32", "--data.num_workers", "0"),
    *("--model.optimizer.name", "sgd", "--model.optimizer.lr", "0.01"),
    *("--model.optimizer.decay", "steps", "--model.optimizer.milestones", "[]"),
    *("--data.crop_height", "128", "--data.crop_width", "256", "--data.scale_range", "[1, 1]", "--data.flip_probability", "0"),
    *("--data.brightness", "0", "--data.contrast", "0", "--data.saturation", "0", "--data.hue", "0"),
)


@pytest.fixture
def train(run_command, streets):
    """Run the command on a data set of two training images, which are one batch of all processes together."""

    def run(output: Path, devices: int, epochs: int, data_root: Path = streets):
        sizes = ("--data.batch_size", str(2 // devices), "--data.val_batch_size", "1")
        settings = ("--trainer.devices", str(devices), "--trainer.max_epochs", str(epochs), *sizes)
        return run_command("efficientps/train_net.py", "--data-root", data_root, "--output", output, *settings, *PLAIN)

    return run


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


def losses(folder: Path) -> list[float]:
    """By step, over all runs that have written to the folder."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars("train/loss")]


@pytest.mark.everything  # two processes on two cores: a minute; CI runs it apart
def test_two_processes_learn_what_one_learns_from_the_same_images(train, tmp_path):
    for epochs in (2, 3):  # the second run goes on
        both = train(tmp_path / "both", 2, epochs)
        assert both.returncode == 0, both.stderr
    assert train(tmp_path / "one", 1, 3).returncode == 0
    assert both.stdout.count("config ") == 1
    assert both.stdout.count("wrote ") == 2
    # Rounding only: the mean of two gradients against the gradient of a mean.
    torch.testing.assert_close(losses(tmp_path / "both"), losses(tmp_path / "one"), rtol=1e-4, atol=1e-5)
    assert len(losses(tmp_path / "one")) == 3
    torch.testing.assert_close(weights(tmp_path / "both"), weights(tmp_path / "one"), rtol=1e-3, atol=1e-5)


@pytest.mark.everything  # 17 s each
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_in_one_process_ends_both_with_one_line(rank, train, tmp_path):
    root = ensure_streets(tmp_path / "streets", StreetsSettings(128, 256, num_train=2, num_val=1))
    ((index, _),) = EpochSampler(2, seed=0, num_processes=2, rank=rank)
    broken = find_images(root, "train")[index].image_path
    broken.write_bytes(broken.read_bytes()[:2000])
    started = time.monotonic()
    result = train(tmp_path / "out", 2, 1, root)
    assert result.returncode != 0
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert broken.name in errors[0]
    assert "Traceback" not in result.stderr
    assert time.monotonic() - started < 120
