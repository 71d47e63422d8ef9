"""Peak memory and speed of every command on more and more tiny images: it must not grow with their number.

Images are 64x128 pixels of two classes, of which sixteen are different; the others are hard links. The network is a Pan-SECB of a
quarter of the width with random weights; what is fused are dumps of the truth. Everything is a command of its own, one worker.

    $ python -m benchmarks.many_images 1000 5000 20000
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.side_by_side import REPOSITORY
from benchmarks.watched import run_watched
from data.images import write_image
from data.layouts.coco import CocoSplit
from data.loading.datamodule import PanopticDataModule
from data.panoptic_file import write_panoptic_json
from data.panoptic_png import describe_segments, write_segment_ids
from data.taxonomy import Category, Taxonomy
from evaluation.results_table import markdown_table
from fusion.settings import ClusterSettings
from pan_secb.module import NetworkSettings, PanSECBModule
from prediction.run import predict_split
from prediction.sources.truth import Truth

NUM_DIFFERENT = 16
NUM_SHARDS = 3
HEIGHT, WIDTH = 64, 128
CLASSES = Taxonomy("tiny", (Category("wall", 1, False, (90, 90, 90)), Category("box", 2, True, (200, 80, 0))))


def draw(root: Path, num_images: int) -> None:
    """Write a data set of COCO's layout with one split, val."""
    rng, entries = np.random.default_rng(0), []
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        (root / f"annotations/panoptic_{split}").mkdir(parents=True)
        entries.clear()
        segments = {}
        for k in range(num_images if split == "val" else 2):
            name, first = f"{k:06d}", f"{k % NUM_DIFFERENT:06d}"
            paths = [(root / split, "jpg"), (root / f"annotations/panoptic_{split}", "png")]
            if k < NUM_DIFFERENT:
                ids = np.ones((HEIGHT, WIDTH), np.uint32)
                for number in range(3):
                    y, x = int(rng.integers(0, HEIGHT - 24)), int(rng.integers(0, WIDTH - 24))
                    ids[y : y + 24, x : x + 24] = 2000 + number
                segments[first] = describe_segments(ids, lambda i: min(i, 2))
                pixels = np.where(ids[..., None] > 1, (200, 80, 40), (90, 90, 90)) + rng.integers(-20, 20, (HEIGHT, WIDTH, 3))
                write_image(root / split / f"{name}.jpg", pixels.clip(0, 255).astype(np.uint8))
                write_segment_ids(paths[1][0] / f"{name}.png", ids)
            else:
                for folder, suffix in paths:
                    os.link(folder / f"{first}.{suffix}", folder / f"{name}.{suffix}")
            entries.append((k + 1, f"{name}.jpg", f"{name}.png", (HEIGHT, WIDTH), segments[first]))
        write_panoptic_json(root / f"annotations/panoptic_{split}.json", CLASSES, entries)


def write_network(root: Path, path: Path) -> None:
    """A Pan-SECB of the data set's classes, random but always the same."""
    torch.manual_seed(0)
    data = PanopticDataModule(root, normalization="imagenet")
    settings = NetworkSettings(width=0.25, pixels_per_unit=128, start_sigma=0.2, dropout=0)
    module = PanSECBModule(data.taxonomy, data.network_input, settings, clustering=ClusterSettings(min_stuff_area=0))
    weights = {f"network.{name}": value for name, value in module.network.state_dict().items()}
    torch.save({"epoch": 0, "state_dict": weights, "hyper_parameters": dict(module.hparams)}, path)


def commands(folder: Path) -> Iterator[tuple[str, list[list[str]]]]:
    """What is measured: a name, and the commands, of which the slowest and the largest count."""
    root, dumps, run = folder / "data", folder / "dumps", folder / "fused"
    halves = ["--instances", dumps / "instances", "--semantics", dumps / "semantic"]
    common = ["--data-root", root, "--split", "val", "--workers", "1"]
    fuse = ["fusion/solo_fusion.py", *common, *halves]
    files = ["--truth", root / "annotations/panoptic_val.json", "--prediction", run / "panoptic.json", "--workers", "1"]
    evaluate = ["scripts/evaluate.py", *files, "--output", folder / "evaluated/scores.json"]
    predict = ["scripts/predict.py", *common, "--checkpoint", folder / "pan_secb.ckpt"]
    yield "predict and score, Pan-SECB", [[*predict, "--keep", "panoptic", "--output", folder / "predicted"]]
    yield "fuse dumps and score", [[*fuse, "--output", run]]
    shards = [f"{number}/{NUM_SHARDS}" for number in range(1, NUM_SHARDS + 1)]
    yield "the same, a shard of 3", [[*fuse, "--output", folder / "sharded", "--shard", shard] for shard in shards]
    yield "collect", [["scripts/collect.py", folder / "sharded"]]
    yield "evaluate", [evaluate]
    yield "evaluate, a shard of 3", [[*evaluate, "--shard", shard] for shard in shards]
    yield "collect that", [["scripts/collect.py", folder / "evaluated"]]


def measure(num_images: int, folder: Path) -> list[tuple[str, float, float]]:
    """(name, images a second, peak MB) of each command."""
    draw(folder / "data", num_images)
    write_network(folder / "data", folder / "pan_secb.ckpt")
    split = CocoSplit(folder / "data", "val")
    truth = Truth(split)
    predict_split(split, truth, folder / "dumps", ("instances", "semantic"))
    found = []
    for name, to_run in commands(folder):
        seconds = peak = 0.0
        for command in to_run:
            spent, used = run_watched([sys.executable, *map(str, command)])
            seconds, peak = seconds + spent, max(peak, used)
        found.append((name, num_images / seconds, peak))
        print(f"{num_images} images, {name}: {num_images / seconds:.1f} a second, {peak:.0f} MB", flush=True)
    same = (folder / "sharded/panoptic.json").read_bytes() == (folder / "fused/panoptic.json").read_bytes()
    print(f"the shards' panoptic.json is {'' if same else 'not '}that of one process", flush=True)
    return found


def main() -> None:
    """The command; see above."""
    rows: dict[str, list[str]] = {}
    numbers = [int(text) for text in sys.argv[1:]] or [1000, 5000, 20000]
    os.chdir(REPOSITORY)
    for num_images in numbers:
        with tempfile.TemporaryDirectory() as folder:
            for name, speed, peak in measure(num_images, Path(folder)):
                rows.setdefault(name, [name]).extend((f"{speed:.0f}", f"{peak:.0f}"))
    header = ["", *(text for number in numbers for text in (f"{number}: images/s", "MB"))]
    print(markdown_table(header, list(rows.values())))


if __name__ == "__main__":
    main()
