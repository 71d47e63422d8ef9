"""How cost grows: fusion with the number of instances and of pixels, evaluation with the number of images."""

from dataclasses import replace
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.pq import perturbed_files, repeated
from benchmarks.scenes import predictions
from data.instance_dump import InstanceLogits
from data.semantic_dump import SemanticLogits
from data.taxonomy import CITYSCAPES
from evaluation.file_scores import evaluate_files
from fusion.logit_fusion import fuse
from fusion.settings import FusionSettings

SETTINGS = FusionSettings(min_score=0.0)
INSTANCES = (0, 10, 30, 100, 300)
TILES = (1, 2, 4)
"""Images side by side: 1024x2048, 1024x4096, 1024x8192."""
IMAGES = (8, 80, 800)


def tables() -> dict[str, list[tuple[str, float, float]]]:
    """{title: rows of (what, milliseconds, the same divided by the size of the input)}."""
    most, semantic = predictions(max(INSTANCES))
    by_instances = []
    for num in INSTANCES:
        milliseconds = _median_ms(_fuse, _first(most, num), semantic)
        by_instances.append((f"{num} instances", milliseconds, milliseconds / max(num, 1)))
    by_pixels = []
    for tiles in TILES:
        wide = _side_by_side(*predictions(30), tiles)
        milliseconds = _median_ms(_fuse, *wide)
        by_pixels.append((f"{2 * tiles} megapixels, 30 instances", milliseconds, milliseconds / (2 * tiles)))
    truth, prediction = perturbed_files("ours")
    by_images = []
    for num in IMAGES:
        milliseconds = _median_ms(evaluate_files, repeated(truth, num), repeated(prediction, num))
        by_images.append((f"{num} images", milliseconds, milliseconds / num))
    return {
        "fusion, 1024x2048 (ms, ms an instance)": by_instances,
        "fusion (ms, ms a megapixel)": by_pixels,
        "panoptic quality from files (ms, ms an image)": by_images,
    }


def _fuse(instances: InstanceLogits, semantic: SemanticLogits) -> None:
    fuse(instances, semantic, CITYSCAPES, SETTINGS)


def _median_ms(function, *arguments, repeats: int = 5) -> float:
    function(*arguments)
    times = []
    for _ in range(repeats):
        start = perf_counter()
        function(*arguments)
        times.append(1000 * (perf_counter() - start))
    return median(times)


def _first(instances: InstanceLogits, num: int) -> InstanceLogits:
    arrays = {name: getattr(instances, name)[:num] for name in ("train_ids", "scores", "boxes", "crop_boxes")}
    return replace(instances, **arrays, crops=instances.crops[:num])


def _side_by_side(instances: InstanceLogits, semantic: SemanticLogits, tiles: int) -> tuple[InstanceLogits, SemanticLogits]:
    """The semantics repeated from left to right; the instances stay in the first tile."""
    width = tiles * semantic.width
    return replace(instances, width=width), replace(semantic, width=width, logits=np.tile(semantic.logits, (1, 1, tiles)))
