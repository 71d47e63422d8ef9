"""The training command on two images: it learns, stops, goes on, and what it writes can be used."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.images import read_image
from data.layouts.cityscapes import find_images, read_truth
from data.layouts.find import open_data_set
from data.taxonomy import CITYSCAPES
from efficientps.module import EfficientPSModule
from efficientps.predictor import load_predictor
from efficientps.train_net import main
from evaluation.panoptic_quality import PanopticQuality
from fusion.logit_fusion import fuse
from fusion.settings import FusionSettings
from runtime.files import PARTIAL
from training import callbacks
from training.schedule import OptimizerSettings, learning_rate, learning_rate_factor

TINY = (
    *("--data.batch_size", "2", "--data.val_batch_size", "2", "--data.num_workers", "0"),
    *("--data.crop_height", "64", "--data.crop_width", "64", "--model.fpn_channels", "32"),
    *("--trainer.limit_val_batches", "1", "--trainer.check_val_every_n_epoch", "1", "--trainer.accelerator", "cpu"),
    *("--trainer.num_sanity_val_steps", "0", "--trainer.enable_progress_bar", "false"),
)

MASKRCNN = ("--config", str(Path(__file__).parents[2] / "configs" / "efficientps" / "streets_lite0_maskrcnn.yaml"))


@pytest.fixture
def train(streets, tmp_path, monkeypatch, capsys):
    """Run the command for some epochs; return what it printed."""

    def run(epochs: int, *more: str, config: tuple[str, ...] = ()) -> str:
        arguments = ["--data-root", str(streets), "--output", str(tmp_path), "--trainer.max_epochs", str(epochs)]
        monkeypatch.setattr(sys, "argv", ["train_net.py", *config, *arguments, *TINY, *more])
        main()
        return capsys.readouterr().out

    return run


def test_training_goes_on_from_the_last_epoch_and_then_is_done(train, tmp_path):
    train(1)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0
    train(2)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (1, 2)  # one step an epoch: the first was not done again
    assert "all 2 epochs are done" in train(2)
    assert list((tmp_path / "tensorboard").glob("events.*"))

    image = np.zeros((45, 70, 3), dtype=np.uint8)
    semantic = load_predictor(tmp_path / "best.ckpt").predict("x", image).semantic
    assert semantic.logits.shape == (CITYSCAPES.num_classes, 12, 18)


def test_the_last_checkpoint_is_written_as_often_as_asked(train, tmp_path, fails_in_one_line, streets):
    train(4, "--save-every", "4", "--trainer.check_val_every_n_epoch", "4")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 3
    arguments = ("--data-root", streets, "--output", tmp_path / "new", *TINY, "--trainer.max_epochs", "3", "--save-every")
    for more, words in (
        (("2",), "max_epochs as a multiple"),
        (("3", "--trainer.max_steps", "2"), "no max_steps"),
        (("0",), "--save-every 0: does not conform"),
    ):
        assert words in fails_in_one_line(main, *arguments, *more)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_a_cpu_trains_in_bfloat16_or_says_that_it_cannot(has_bfloat16, train, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bfloat16)
    seen, step = [], EfficientPSModule.training_step

    def watched(*arguments) -> torch.Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return step(*arguments)

    monkeypatch.setattr(EfficientPSModule, "training_step", watched)
    said = train(1, "--trainer.precision", "bf16-mixed")
    assert ("no bfloat16 device here: training with precision 32-true" in said) != has_bfloat16
    assert seen == [has_bfloat16]
    weights = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert all(weight.isfinite().all() for weight in weights.values())


def test_the_original_trains_goes_on_and_its_checkpoint_gives_panoptic_maps(train, streets, tmp_path):
    small = ("--model.instance_head.box_channels", "32", "--model.instance_head.mask_channels", "16")
    train(1, *small, config=MASKRCNN)
    train(2, *small, config=MASKRCNN)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (1, 2)
    assert last["hyper_parameters"]["network"]["instance_head"]["box_channels"] == 32
    best = next(state for name, state in last["callbacks"].items() if "'monitor': 'val/pq'" in name)
    assert Path(best["best_model_path"]).name == "best.ckpt"

    predictor = load_predictor(tmp_path / "best.ckpt")
    settings, quality = FusionSettings(min_score=predictor.min_score), PanopticQuality()
    for image in find_images(streets, "val")[:2]:
        found = predictor.predict(image.image_id, read_image(image.image_path))
        quality.add(read_truth(image), fuse(found.instances, found.semantic, predictor.taxonomy, settings))
    # limit_val_batches leaves these two images: what picked best.ckpt is the quality of its maps
    assert quality.scores(CITYSCAPES)["All"]["pq"] == pytest.approx(best["best_model_score"].item(), abs=1e-5)


def test_the_original_does_not_go_on_from_the_semantic_model(train, streets, tmp_path, fails_in_one_line):
    train(1)
    line = fails_in_one_line(main, *MASKRCNN, "--data-root", streets, "--output", tmp_path, *TINY)
    assert "of another model" in line
    assert "instance_head" in line


def test_losses_and_quality_are_logged_by_their_names(train, tmp_path):
    train(1, config=MASKRCNN)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    terms = ("semantic", "rpn_objectness", "rpn_box", "roi_class", "roi_box", "roi_mask")
    wanted = {f"val/loss_{term}" for term in terms} | {"val/loss", "val/miou", "val/pq", "val/pq_things", "val/pq_stuff"}
    assert wanted <= set(events.Tags()["scalars"])
    assert sum(events.Scalars(f"val/loss_{term}")[0].value for term in terms) == pytest.approx(
        events.Scalars("val/loss")[0].value, rel=1e-4
    )
    assert "val/0" in events.Tags()["images"]


def test_bad_settings_are_one_line(streets, tmp_path, fails_in_one_line):
    assert "leftImg8bit" in fails_in_one_line(main, "--data-root", tmp_path, "--output", tmp_path / "new", *TINY)
    (tmp_path / "last.ckpt").write_bytes(b"no checkpoint")
    line = fails_in_one_line(main, "--data-root", streets, "--output", tmp_path, *TINY)
    assert "broken checkpoint" in line
    for setting, value, words in (
        ("--model.hardest_fraction", "2", "hardest_fraction is 2"),
        ("--model.optimizer.milestones", "[120, 144]", "shares of the training"),
        ("--model.variant", "b9", "choose one of b0"),
        ("--data.crop_height", "0", "crop"),
        ("--trainer.sync_batchnorm", "true", "leave it false"),
        ("--model.optimizer.base_batch", "0", "base_batch is 0"),
        ("--model.optimizer.lr", "-1", "lr above 0"),
        ("--data.batch_size", "0", "does not conform to restriction v>0"),
        ("--data.seed", "-1", "--data.seed -1: does not conform to restriction v>=0"),
        ("--epochs", "-1", "--epochs -1: does not conform to restriction v>0"),
        ("--config", "nowhere.yaml", "nowhere.yaml: no such configuration"),
        ("--frob", "1", "unrecognized arguments: --frob 1"),
        ("--model.instance_head.num_rois", "0", "num_rois is 0"),
    ):
        line = fails_in_one_line(main, "--data-root", streets, "--output", tmp_path / "new", *TINY, setting, value)
        assert words in line


def test_going_on_with_another_network_is_refused_and_starting_anew_is_not(train, streets, tmp_path, fails_in_one_line):
    train(1)
    wider = ("--model.fpn_channels", "48")
    line = fails_in_one_line(main, "--data-root", streets, "--output", tmp_path, *TINY, *wider)
    assert "of another model" in line
    assert "fpn_channels" in line
    train(1, *wider, "--resume", "false")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["hyper_parameters"]["network"]["fpn_channels"] == 48


def test_a_data_set_of_the_coco_layout_teaches_its_own_classes_and_no_others_go_on(
    train, snapshots, streets, tmp_path, fails_in_one_line
):
    train(1, "--data-root", str(snapshots), "--trainer.limit_train_batches", "1")
    own = open_data_set(snapshots).split().taxonomy
    predictor = load_predictor(tmp_path / "last.ckpt")
    assert predictor.taxonomy.difference(own) is None
    assert predictor.network_input.size.trained_sides is not None
    assert len(predictor.predict("x", np.zeros((45, 70, 3), np.uint8)).semantic.logits) == own.num_classes

    line = fails_in_one_line(main, "--data-root", streets, "--output", tmp_path, *TINY)
    assert "last.ckpt: was trained on other classes" in line
    assert "against 19, without" in line


def test_a_best_checkpoint_that_is_not_the_end_is_said(train):
    assert "validated every 2 epochs, not after the last of 3" in train(3, "--trainer.check_val_every_n_epoch", "2")
    assert "validated every" not in train(4, "--trainer.check_val_every_n_epoch", "2")


def test_learning_rate_warms_up_and_drops_at_the_milestones():
    settings = OptimizerSettings(warmup_steps=10, warmup_factor=0.5, milestones=(0.5, 0.8), gamma=0.1)
    factors = [learning_rate_factor(step, 100, settings) for step in (0, 5, 10, 49, 50, 79, 80, 99)]
    assert factors == pytest.approx([0.5, 0.75, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_learning_rate_falls_as_a_cosine_also_in_a_short_training():
    settings = OptimizerSettings(warmup_steps=10, warmup_factor=0.5, decay="cosine")
    factors = [learning_rate_factor(step, 110, settings) for step in (0, 10, 60, 85, 110)]
    assert factors == pytest.approx([0.5, 1, 0.5, (1 + math.cos(0.75 * math.pi)) / 2, 0], abs=1e-9)
    assert learning_rate_factor(5, math.inf, settings) == 0.75
    assert learning_rate_factor(8, 8, settings) == pytest.approx(0)


def test_the_encoder_learns_at_a_rate_of_its_own():
    module = EfficientPSModule(
        CITYSCAPES, variant="lite0", fpn_channels=16, optimizer=OptimizerSettings(lr=0.1, encoder_rate=0.3)
    )
    module.trainer = SimpleNamespace(datamodule=None)
    groups = module.configure_optimizers()["optimizer"].param_groups
    assert [round(group["initial_lr"], 6) for group in groups] == [0.1, 0.03]
    encoder = set(map(id, module.network.encoder.parameters()))
    assert {id(p) for p in groups[1]["params"]} == encoder
    assert {id(p) for p in groups[0]["params"]} == {id(p) for p in module.parameters()} - encoder


def test_learning_rate_grows_with_the_images_of_a_step_where_it_is_given_for_some():
    trainer, data = SimpleNamespace(world_size=4, accumulate_grad_batches=2), SimpleNamespace(batch_size=3)
    assert learning_rate(OptimizerSettings(lr=0.07, base_batch=8), trainer, data) == pytest.approx(0.07 * 24 / 8)
    assert learning_rate(OptimizerSettings(lr=0.07), trainer, data) == 0.07


@pytest.mark.parametrize(
    "bad", [{"name": "adam"}, {"decay": "line"}, {"encoder_rate": -1.0}, {"milestones": (0.9, 0.5)}, {"milestones": (120, 144)}]
)
def test_optimizer_settings_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError, match="sgd or adamw" if "name" in bad else next(iter(bad))):
        OptimizerSettings(**bad)


def test_a_loss_of_nan_ends_the_training_and_keeps_the_last_good_checkpoint(
    train, streets, tmp_path, fails_in_one_line, monkeypatch
):
    train(1)
    before = (tmp_path / "last.ckpt").read_bytes()
    step = EfficientPSModule.training_step
    monkeypatch.setattr(EfficientPSModule, "training_step", lambda *given: step(*given) * float("nan"))
    line = fails_in_one_line(
        main, "--data-root", streets, "--output", tmp_path, "--trainer.max_epochs", "2", "--trainer.limit_val_batches", "0", *TINY
    )
    assert "the loss is nan in epoch 2, batch 1; no checkpoint of it was written; lower the learning rate" in line
    assert (tmp_path / "last.ckpt").read_bytes() == before


def test_going_on_with_another_input_is_refused(train, streets, tmp_path, fails_in_one_line):
    train(1)
    arguments = ["--data-root", str(streets), "--output", str(tmp_path), "--trainer.max_epochs", "2", *TINY]
    line = fails_in_one_line(main, *arguments, "--data.normalization", "imagenet")
    assert "is of another input, normalization" in line
    assert "--weights" in line


def test_a_resumed_training_says_where_it_goes_on(train):
    assert "going on from" not in train(1)
    assert "last.ckpt, epoch 1 of 2" in train(2)


def test_without_a_terminal_a_training_says_how_far_it_is(train, monkeypatch):
    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN_LINES", 0.0)
    said = train(2, "--trainer.enable_progress_bar", "true")
    assert "epoch 1 of 2, batch 1 of 1, loss " in said
    assert "epoch 2 of 2, validated, val/miou" in said
    assert "val/miou" in said


def test_a_folder_that_a_kill_left_a_part_in_is_cleaned(train, tmp_path):
    leftover = tmp_path / f"{PARTIAL}{2**22 + 1}-x.ckpt"  # of a process that is no more
    leftover.touch()
    assert ".partial" not in train(1)
    assert not leftover.exists()


def test_a_rate_that_a_resume_would_not_take_is_refused(train, streets, tmp_path, fails_in_one_line):
    train(1)
    arguments = ["--data-root", streets, "--output", tmp_path, "--trainer.max_epochs", "2", *TINY]
    line = fails_in_one_line(main, *arguments, "--model.optimizer.lr", "0.5")
    assert "is of another schedule, optimizer.lr" in line
