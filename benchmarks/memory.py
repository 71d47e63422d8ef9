"""Peak memory of predict.py, solo_fusion.py and evaluate.py, each a process of its own, on more and more tiny images.

Each image is 32x48 pixels with four segments, so that what grows is kept for an image whatever its size. The model is a small
Panoptic FPN with random weights, whose instances and class maps are kept and fused again.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.scenes import REPOSITORY
from benchmarks.watched import run_watched
from data.images import write_image
from data.loading.datamodule import PanopticDataModule
from data.panoptic_file import write_panoptic_json
from data.panoptic_png import PanopticMap, describe_segments, write_panoptic_png
from data.taxonomy import Category, Taxonomy
from detection.instance_head import InstanceHeadSettings
from fusion.settings import MergeSettings
from panoptic_fpn.module import PanopticFPNModule
from panoptic_fpn.network import NetworkSettings

FOLDER = REPOSITORY / "outputs" / "benchmark" / "memory"
NUM_IMAGES = (200, 1000, 4000)
CLASSES = Taxonomy("memory", (Category("wall", 1, False, (90, 90, 90)), Category("box", 2, True, (200, 80, 0))))


def draw(root: Path, num_images: int) -> None:
    """A data set in the COCO layout, of splits train (two images) and val."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", num_images)):
        entries = []
        for k in range(count):
            ids = np.ones((32, 48), np.uint32)
            for number in (2, 3, 4):
                y, x = rng.integers(0, 20), rng.integers(0, 36)
                ids[y : y + 12, x : x + 12] = number
            panoptic = PanopticMap(ids, describe_segments(ids, lambda segment_id: 1 if segment_id == 1 else 2))
            write_image(root / split / f"{k:06d}.png", rng.integers(0, 255, (32, 48, 3), dtype=np.uint8))
            write_panoptic_png(root / "annotations" / f"panoptic_{split}" / f"{k:06d}.png", panoptic, "benchmark")
            entries.append((k, f"{k:06d}.png", f"{k:06d}.png", ids.shape, panoptic.segments))
        write_panoptic_json(root / "annotations" / f"panoptic_{split}.json", CLASSES, entries)


def write_checkpoint(root: Path, path: Path) -> None:
    """A small network of the data set's classes."""
    torch.manual_seed(0)
    data = PanopticDataModule(root, normalization="imagenet")
    sizes = {"box_channels": 32, "mask_channels": 32, "num_proposals": 20, "max_detections": 5}
    head = InstanceHeadSettings((8, 16, 32, 64, 128), score_threshold=0.0, convention="detectron2", **sizes)
    settings = NetworkSettings("resnet18", "bn", 5, fpn_channels=32, semantic_channels=32, instance_head=head)
    merging = MergeSettings(min_score=0.0, min_stuff_area=0)
    module = PanopticFPNModule(data.taxonomy, data.network_input, settings, merging=merging)
    weights = {f"network.{name}": value for name, value in module.network.state_dict().items()}
    torch.save({"epoch": 0, "state_dict": weights, "hyper_parameters": dict(module.hparams)}, path)


def measure(num_images: int) -> dict[str, tuple[float, float]]:
    """Command -> (seconds, peak MB)."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    root, run, fused, checkpoint = (FOLDER / name for name in ("data", "run", "fused", "small.ckpt"))
    draw(root, num_images)
    write_checkpoint(root, checkpoint)
    data = ("--data-root", str(root), "--device", "cpu")
    keep = ("--keep", "panoptic", "instances", "semantic")
    halves = ("--instances", str(run), "--semantics", str(run), "--rule", "heuristic")
    commands = {
        "predict.py": ("scripts/predict.py", *data, "--checkpoint", str(checkpoint), "--output", str(run), *keep),
        "solo_fusion.py": ("fusion/solo_fusion.py", *data, *halves, "--output", str(fused)),
        "evaluate.py": (
            *("scripts/evaluate.py", "--truth", str(root / "annotations/panoptic_val.json")),
            *("--prediction", str(fused / "panoptic.json"), "--output", str(FOLDER / "scores.json")),
        ),
    }
    return {name: run_watched([sys.executable, str(REPOSITORY / script), *rest]) for name, (script, *rest) in commands.items()}
