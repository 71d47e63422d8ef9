"""The public commands one after the other, as a user types them, with tiny networks: from drawn streets to a report."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts import predict

TINY_SOLO = (
    *("train_cfg.max_epochs=1", "train_cfg.val_interval=9", "param_scheduler.1.end=1"),
    *("train_dataloader.batch_size=2", "train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False"),
)
TINY_SEMANTIC = ("--trainer.max_epochs", "1", "--data.batch_size", "2", "--data.num_workers", "0", "--model.fpn_channels", "32")
TINY_SEMANTIC += ("--trainer.check_val_every_n_epoch", "1")
SIZES = {"wide": (375, 1242), "square": (800, 800)}


@pytest.fixture(scope="module")
def trained(streets, tmp_path_factory, run_command) -> Path:
    """A folder with both stages' checkpoints, solo/epoch_1.pth and semantic/best.ckpt."""
    folder = tmp_path_factory.mktemp("trained")
    solo = run_command("solov2/train.py", "--data-root", streets, "--work-dir", folder / "solo", "--cfg-options", *TINY_SOLO)
    assert solo.returncode == 0, solo.stderr
    semantic = run_command("efficientps/train_net.py", "--data-root", streets, "--output", folder / "semantic", *TINY_SEMANTIC)
    assert semantic.returncode == 0, semantic.stderr
    return folder


@pytest.mark.slow
def test_the_whole_chain_ends_in_scores_that_the_official_evaluator_confirms(streets, trained, tmp_path, run_command):
    chain = [
        ("scripts/prepare_cityscapes.py", "--data-root", streets),
        ("solov2/eval.py", "--data-root", streets, "--checkpoint", trained / "solo/epoch_1.pth", "--output", tmp_path / "dumps"),
        ("fusion/solo_fusion.py", "--data-root", streets, "--instances", tmp_path / "dumps", "--output", tmp_path / "fused")
        + ("--checkpoint", trained / "semantic/best.ckpt", "--fusion.min_score", "0.05"),
        ("scripts/evaluate.py", "--truth", streets / "gtFine/cityscapes_panoptic_val.json", "--official")
        + ("--prediction", tmp_path / "fused/panoptic.json", "--output", tmp_path / "scores.json")
        + ("--report", tmp_path / "report", "--images", streets / "leftImg8bit/val"),
    ]
    for script, *arguments in chain:
        result = run_command(script, *arguments)
        assert result.returncode == 0, result.stderr
    assert "agree to the last digit" in result.stdout
    evaluated, own = (json.loads((tmp_path / name).read_text()) for name in ("scores.json", "fused/scores.json"))
    assert evaluated["errors"]["kinds"]["found"]["truths"] == sum(c["tp"] for c in own["per_class"].values())
    groups = ("All", "Things", "Stuff", "per_class")
    assert [evaluated[name] for name in groups] == [own[name] for name in groups]
    num_images = len(list((streets / "leftImg8bit" / "val").rglob("*.png")))
    assert len(list((tmp_path / "report" / "data").glob("[0-9]*.js"))) == num_images


@pytest.mark.slow
def test_predict_takes_images_of_any_size_and_draws_each(trained, tmp_path, run_command):
    (tmp_path / "images").mkdir()
    for name, size in SIZES.items():
        noise = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"images/{name}.jpg")
    checkpoints = ("--stage1-checkpoint", trained / "solo/epoch_1.pth", "--stage2-checkpoint", trained / "semantic/best.ckpt")
    views = ("--tta-scales", "0.75", "1", "--tta-flip")
    places = ("--image-path", tmp_path / "images", "--output", tmp_path / "out")
    result = run_command("scripts/predict.py", *places, *checkpoints, *views)
    assert result.returncode == 0, result.stderr
    annotations = json.loads((tmp_path / "out/panoptic.json").read_text())["annotations"]
    assert [a["image_id"] for a in annotations] == sorted(SIZES)
    for name, size in SIZES.items():
        assert np.asarray(Image.open(tmp_path / f"out/panoptic/{name}_panoptic.png")).shape == (*size, 3)
        assert (tmp_path / f"out/overlay/{name}.png").exists()


def test_predict_names_what_is_missing_in_one_line(tmp_path, fails_in_one_line):
    assert "--images is needed" in fails_in_one_line(predict.main)
    assert "no images there" in fails_in_one_line(predict.main, "--images", tmp_path / "none")


def test_truth_goes_through_a_class_map(snapshots, tmp_path, run_command):
    halves = ("--instances", "truth", "--semantics", "truth", "--truth-classes", "coco-supercategories")
    result = run_command("fusion/solo_fusion.py", "--data-root", snapshots, *halves, "--output", tmp_path / "fused")
    assert result.returncode == 0, result.stderr
    scores = json.loads((tmp_path / "fused/scores.json").read_text())
    assert scores["All"]["pq"] > 0.8
    categories = json.loads((tmp_path / "fused/panoptic.json").read_text())["categories"]
    assert len(categories) == 27
