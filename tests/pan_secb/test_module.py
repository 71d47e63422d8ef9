"""Training in two steps through the command: what is logged, gone on from, and told by the data to the loss."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.input_size import InputSize
from data.layouts.cityscapes import CityscapesSplit
from data.taxonomy import CITYSCAPES
from evaluation.panoptic_quality import PanopticQuality
from pan_secb.crop_cutting import CropSettings, generate
from pan_secb.crops import WEIGHTS_FILE, read_foreground_weights
from pan_secb.datamodule import PanSECBDataModule
from pan_secb.loss import embedding_loss
from pan_secb.module import NetworkSettings, PanSECBModule, draw_seeds
from pan_secb.predictor import load_predictor
from pan_secb.targets import EmbeddingTargets
from pan_secb.train import main
from training.arguments import lightning_arguments
from training.command import TrainCLI

CONFIGS = Path(__file__).parents[2] / "configs" / "pan_secb"
TERMS = ("instance", "bandwidth", "seed", "semantic")
TINY = (
    *("--data.batch_size", "2", "--workers", "0", "--data.augmentation.crop_height", "48"),
    *("--data.augmentation.crop_width", "48"),
    *("--data.crops_per_epoch", "4", "--model.network.width", "0.25", "--model.network.pixels_per_unit", "128"),
    *("--trainer.limit_val_batches", "2", "--trainer.check_val_every_n_epoch", "1", "--trainer.accelerator", "cpu"),
    *("--trainer.num_sanity_val_steps", "0", "--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1"),
)


@pytest.fixture(scope="module")
def crops(streets, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    generate(CityscapesSplit(streets, "train"), "train", folder / "train", CropSettings(64))
    return folder


@pytest.fixture
def arguments(streets, crops, tmp_path):
    """The command line of a step."""

    def make(step: str, *more: str | Path) -> list[str]:
        config = CONFIGS / ("streets.yaml" if step == "crops" else "streets_finetune.yaml")
        given = ["--config", config, "--data-root", streets, "--data.crops", crops, "--output", tmp_path / step]
        return [str(a) for a in (*given, *TINY, *more)]

    return make


@pytest.fixture
def train(arguments, monkeypatch, capsys):
    """Run a step for some epochs; return what it printed."""

    def run(step: str, epochs: int, *more: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments(step, "--epochs", str(epochs), *more)])
        main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def build(arguments):
    """Module and data of a step, as the command builds them."""

    def run(step: str, *more: str) -> TrainCLI:
        about = {"prog": "train.py", "description": "", "system": "pan_secb", "default_config": CONFIGS / "streets.yaml"}
        given, _ = lightning_arguments(arguments(step, *more), **about)
        cli = type("CLI", (TrainCLI,), {"system": "pan_secb", "linked": ("foreground_weights",)})
        return cli(PanSECBModule, PanSECBDataModule, run=False, args=given, save_config_callback=None)

    return run


def read_events(output: Path) -> EventAccumulator:
    events = EventAccumulator(str(output / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return events


def test_step_two_starts_from_step_one_and_both_go_on_where_they_were_stopped(train, tmp_path):
    train("crops", 1)
    train("crops", 2)
    last = torch.load(tmp_path / "crops" / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (1, 4)  # two steps an epoch: the first epoch was not done again
    assert "all 2 epochs are done" in train("crops", 2)

    printed = train("full", 1, "--weights", tmp_path / "crops" / "last.ckpt", "--model.optimizer.lr", "1e-12")
    assert f"starting from {tmp_path / 'crops' / 'last.ckpt'}: all" in printed
    tuned = torch.load(tmp_path / "full" / "last.ckpt", weights_only=True)
    assert (tuned["epoch"], tuned["global_step"]) == (0, 1)  # one batch of the two whole images
    for name, tensor in last["state_dict"].items():
        if name.endswith(("weight", "bias")):
            torch.testing.assert_close(tuned["state_dict"][name], tensor, rtol=0, atol=1e-8)  # at this rate nothing moves


@pytest.mark.parametrize("step", ["crops", "full"])
def test_losses_quality_and_pictures_are_logged_by_their_names(train, tmp_path, step):
    more = () if step == "crops" else ("--model.weights", "null")
    train(step, 1, *more)
    events = read_events(tmp_path / step)
    wanted = {f"{stage}/loss_{term}" for stage in ("train", "val") for term in TERMS}
    wanted |= {f"val/{name}{group}" for name in ("pq", "sq", "rq") for group in ("", "_things", "_stuff")}
    assert wanted | {"train/loss", "val/loss", "val/miou"} <= set(events.Tags()["scalars"])
    assert {"val/0", "val/1"} <= set(events.Tags()["images"])
    terms = {term: events.Scalars(f"val/loss_{term}")[0].value for term in TERMS}
    weights = {"instance": 1, "bandwidth": 10, "seed": 1, "semantic": 1}
    total = sum(weight * terms[term] for term, weight in weights.items())
    assert events.Scalars("val/loss")[0].value == pytest.approx(total, rel=1e-4)


def test_the_logged_quality_is_that_of_the_checkpoints_predictions(train, streets, tmp_path):
    """Also where images must be resized: the validation sees what a user's prediction sees."""
    clustering = ("--model.clustering.min_seed", "0.1", "--model.clustering.min_candidate_seed", "0.05")
    train("full", 1, "--model.weights", "null", *clustering, "--data.input_size.shorter_side", "80")
    predictor, quality = load_predictor(tmp_path / "full" / "last.ckpt"), PanopticQuality()
    assert predictor.clustering.min_seed == 0.1
    assert predictor.network_input.size.of((128, 256)) == (80, 160)
    split = CityscapesSplit(streets, "val")
    for k in range(2):  # limit_val_batches leaves these
        quality.add(split.truth(k), predictor.predict(split.image_id(k), split.image(k)).panoptic)
    assert sum(counts.fp for counts in quality.counts.values()) > 0
    events = read_events(tmp_path / "full")
    for name in ("pq", "sq", "rq"):
        assert events.Scalars(f"val/{name}")[0].value == pytest.approx(quality.scores(CITYSCAPES)["All"][name], abs=1e-6)


def test_crops_cannot_be_resized(arguments, fails_in_one_line):
    line = fails_in_one_line(main, *arguments("crops", "--epochs", "1", "--data.input_size.shorter_side", "80"))
    assert "crops are cut at the size of the images; leave it out" in line


def test_the_foreground_weights_of_each_step_come_from_its_data_and_reach_the_loss(build, crops):
    losses = {}
    for step, more in (("crops", ()), ("full", ("--model.weights", "null"))):
        cli = build(step, *more)
        expected = read_foreground_weights(crops / "train" / WEIGHTS_FILE, CITYSCAPES, step)
        assert cli.model.loss_settings.foreground_weights == expected
        assert cli.datamodule.on_crops == (step == "crops")
        cli.model.log = cli.model.log_dict = lambda *args, **kwargs: None
        cli.datamodule.setup("fit")
        torch.manual_seed(0)
        cli.model.network = type(cli.model.network)(**cli.model.hparams["network"])  # the same one in both steps
        batch = next(iter(cli.datamodule.val_dataloader()))
        output = cli.model(batch["image"])
        losses[step] = cli.model._loss("val", batch, output).item()
        targets = EmbeddingTargets.of_batch(batch)
        direct = embedding_loss(output, targets, CITYSCAPES, cli.model.loss_settings, cli.model.network.pixels_per_unit)
        assert losses[step] == pytest.approx(direct["total"].item())
    assert losses["crops"] != pytest.approx(losses["full"], rel=1e-3)


def test_foreground_weights_that_are_given_are_not_replaced(build):
    given = tuple(float(k + 1) for k in range(len(CITYSCAPES.thing_ids)))
    cli = build("crops", "--model.loss.foreground_weights", str(list(given)))
    assert cli.model.loss_settings.foreground_weights == given


def test_seeds_are_drawn_as_the_largest_of_the_classes(random_output):
    from pan_secb.embedding_maps import to_embedding_maps

    output = random_output(1, 8, 16)
    maps = to_embedding_maps(output, 0, image_id="a", height=8, width=16, taxonomy=CITYSCAPES)
    drawn = draw_seeds(maps)
    largest = output.seeds[0].sigmoid().amax(0)
    assert drawn.shape == (8, 16, 3)
    assert (torch.from_numpy(drawn[..., 1]) == (255 * largest).byte()).all()


def test_bad_settings_and_missing_crops_are_one_line(arguments, tmp_path, fails_in_one_line):
    def fails(step: str, *more: str | Path) -> str:
        return fails_in_one_line(main, *arguments(step, "--epochs", "1", *more))

    assert str(tmp_path / "nowhere" / "train") in fails("crops", "--data.crops", tmp_path / "nowhere")
    assert "no such checkpoint" in fails("full", "--weights", tmp_path / "none.ckpt")
    for setting, value, words in (
        ("--model.network.width", "0.1", "width 0.1"),
        ("--model.network.num_sigma", "3", "num_sigma 3"),
        ("--model.num_pictures", "-1", "num_pictures is -1"),
        ("--data.balance", "2", "balance 2"),
        ("--data.crops_per_epoch", "0", "crops_per_epoch 0"),
        ("--model.clustering.min_seed", "7", "min_seed is 7"),
        ("--model.loss.seed_weight", "-1", "loss weights"),
    ):
        assert words in fails("crops", setting, value)


@pytest.mark.parametrize("input_size", [InputSize(40), InputSize()], ids=["resized", "as it is"])
def test_the_validation_sees_what_the_loaded_checkpoint_sees(checkpoint, streets, tmp_path, monkeypatch, input_size):
    """Bit by bit; 40 rows are padded to 64 by both."""
    counted, add = [], PanopticQuality.add
    monkeypatch.setattr(PanopticQuality, "add", lambda self, truth, map_: counted.append(map_) or add(self, truth, map_))
    data = PanSECBDataModule(data_root=str(streets), num_workers=0, normalization="imagenet", input_size=input_size)
    data.has_instances = True
    trained = load_predictor(checkpoint)
    network = NetworkSettings(0.25, pixels_per_unit=128)
    module = PanSECBModule(CITYSCAPES, data.network_input, network, clustering=trained.clustering, num_pictures=0)
    module.network.load_state_dict(trained.network.state_dict())
    off = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "logger": False}
    Trainer(accelerator="cpu", **off).validate(module, data, verbose=False)
    torch.save({"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}, tmp_path / "last.ckpt")
    predictor, split = load_predictor(tmp_path / "last.ckpt"), CityscapesSplit(streets, "val")
    assert len(counted) == len(split)
    for index, validated in enumerate(counted):
        used = predictor.predict(split.image_id(index), split.image(index)).panoptic
        assert np.array_equal(used.segment_ids, validated.segment_ids)
        assert used.segments == validated.segments
    assert any(segment.score is not None for validated in counted for segment in validated.segments)
