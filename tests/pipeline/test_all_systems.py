"""Every system through train, predict and evaluate, by the public commands, on four data sets: minutes, so only on request.

    $ make test-all
    $ python -m pytest -m everything tests/pipeline/test_all_systems.py

Photographs: a folder in the COCO layout, $PANOPTIC_PHOTOS, else ../shared/samples/coco_photos.
"""

import json
import os
from pathlib import Path

import pytest

from data.drawn.snapshots import SnapshotsSettings, ensure_snapshots
from data.drawn.streets import StreetsSettings, ensure_streets

pytestmark = [pytest.mark.slow, pytest.mark.everything]
PHOTOS = Path(os.environ.get("PANOPTIC_PHOTOS", Path(__file__).parents[3] / "shared" / "samples" / "coco_photos"))
STEPS = ("--epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "2", "--precision", "32")
SHORT = (*STEPS, "--data.batch_size", "2", "--data.num_workers", "0", "--trainer.enable_progress_bar", "false")
HEAD = {"box_channels": 32, "mask_channels": 32, "num_proposals_training": 50, "num_proposals": 50}


@pytest.fixture(scope="module", params=["streets", "snapshots", "photographs", "boxes"])
def data_root(request, data_sets, tmp_path_factory) -> Path:
    """One of the four data sets."""
    folder = tmp_path_factory.mktemp("data")
    if request.param == "streets":
        return ensure_streets(folder, StreetsSettings(128, 256, num_train=4, num_val=3))
    if request.param == "snapshots":
        return ensure_snapshots(folder, SnapshotsSettings(num_train=4, num_val=3))
    if request.param == "boxes":
        return data_sets["boxes"]
    if not PHOTOS.is_dir():
        pytest.skip(f"{PHOTOS}: no photographs there; name a folder in the COCO layout by $PANOPTIC_PHOTOS")
    for name in ("train", "val"):
        (folder / name).symlink_to(PHOTOS / name)
    (folder / "annotations").mkdir()
    for path in (PHOTOS / "annotations").iterdir():  # by links: what is derived is written beside them
        (folder / "annotations" / path.name).symlink_to(path)
    return folder


@pytest.fixture
def run(run_command, tmp_path):
    """Run a command that must succeed; return what it printed."""

    def call(script: str, *arguments: object) -> str:
        result = run_command(script, *arguments)
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
        return result.stdout

    return call


def check_scores(folder: Path) -> None:
    """Whether a run was scored in every way."""
    scores = json.loads((folder / "scores.json").read_text())
    assert 0 <= scores["All"]["pq"] <= 1
    assert {"mask_ap", "semantic", "sizes", "per_image"} <= set(scores)
    assert (folder / "results.md").read_text().startswith("|")


def head_flags(prefix: str) -> list[str]:
    return [part for name, value in HEAD.items() for part in (f"{prefix}.{name}", str(value))]


def test_two_stages(data_root, run, tmp_path):
    data = ("--data-root", data_root)
    tiny = ("model.backbone.base_channels=8", "model.backbone.stem_channels=8", "model.neck.in_channels=[8,16,32,64]")
    few = ("train_dataloader.batch_size=2", "train_dataloader.dataset.dataset.indices=4")
    run(
        "solov2/train.py",
        *data,
        "--config",
        "configs/solov2/streets_r18.py",
        "--output",
        tmp_path / "solo",
        "--epochs",
        "1",
        "--cfg-options",
        *tiny,
        *few,
    )
    run("solov2/eval.py", *data, "--checkpoint", tmp_path / "solo/epoch_1.pth", "--output", tmp_path / "dumps")
    run("efficientps/train_net.py", *data, *SHORT, "--model.fpn_channels", "32", "--output", tmp_path / "semantic")
    halves = ("--instances", tmp_path / "dumps", "--checkpoint", tmp_path / "semantic/last.ckpt")
    keep = ("--keep", "panoptic", "instances", "semantic", "overlay")
    run("fusion/solo_fusion.py", *data, *halves, "--output", tmp_path / "fused", *keep)
    check_scores(tmp_path / "fused")


def test_original_efficientps(data_root, run, tmp_path):
    data = ("--data-root", data_root)
    sizes = ("--model.fpn_channels", "32", *head_flags("--model.instance_head"))
    config = ("--config", "configs/efficientps/streets_lite0_maskrcnn.yaml")
    run("efficientps/train_net.py", *config, *data, *SHORT, *sizes, "--output", tmp_path / "joint")
    both = ("--instances", "model", "--checkpoint", tmp_path / "joint/last.ckpt")
    run("fusion/solo_fusion.py", *data, *both, "--output", tmp_path / "run", "--keep", "panoptic", "instances", "semantic")
    check_scores(tmp_path / "run")


def test_panoptic_fpn(data_root, run, tmp_path):
    data = ("--data-root", data_root)
    sizes = ("--model.network.fpn_channels", "32", *head_flags("--model.network.instance_head"))
    run("panoptic_fpn/train.py", *data, *SHORT, *sizes, "--output", tmp_path / "fpn")
    run("panoptic_fpn/evaluate.py", *data, "--checkpoint", tmp_path / "fpn/last.ckpt", "--output", tmp_path / "run")
    check_scores(tmp_path / "run")


def test_pan_secb(data_root, run, tmp_path):
    data = ("--data-root", data_root)
    run("pan_secb/generate_crops.py", *data, "--output", tmp_path / "crops")
    crops = ("--data.crops", tmp_path / "crops", "--model.network.width", "0.25", "--data.crops_per_epoch", "4")
    configs = [("--config", f"configs/pan_secb/{name}.yaml") for name in ("streets", "streets_finetune")]
    run("pan_secb/train.py", *configs[0], *data, *SHORT, *crops, "--output", tmp_path / "first")
    start = ("--weights", tmp_path / "first/last.ckpt")
    run("pan_secb/train.py", *configs[1], *data, *SHORT, *crops, *start, "--output", tmp_path / "second")
    kept = ("--keep", "panoptic", "instances", "semantic")
    run("pan_secb/test.py", *data, "--checkpoint", tmp_path / "second/last.ckpt", "--output", tmp_path / "run", *kept)
    check_scores(tmp_path / "run")
