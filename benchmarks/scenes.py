"""The input of all benchmarks: eight street scenes of 1024x2048 in the Cityscapes layout, and what models would say of them."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from data.drawn.streets import StreetsSettings, ensure_streets
from data.instance_dump import InstanceLogits, from_full_logits
from data.layouts.cityscapes import LabelledImage, find_images, read_truth
from data.semantic_dump import SemanticLogits
from data.targets import panoptic_to_instance_logits, panoptic_to_semantic_logits
from data.taxonomy import CITYSCAPES

REPOSITORY = Path(__file__).resolve().parents[1]
SETTINGS = StreetsSettings(height=1024, width=2048, num_train=1, num_val=8)
STRIDE = 4
LARGEST_OVERLAP = 0.4
"""Objects are placed until this share of one is covered by others, so that the fusion keeps all of them."""


def street_root() -> Path:
    """The drawn data set; drawn on the first call."""
    return ensure_streets(REPOSITORY / "outputs" / "benchmark" / "streets_1024x2048", SETTINGS)


def street_images() -> list[LabelledImage]:
    """Its eight val frames."""
    return find_images(street_root(), "val")


@cache
def predictions(num_instances: int, index: int = 0) -> tuple[InstanceLogits, SemanticLogits]:
    """What two models would say of frame `index`: its truth with smooth noise, and `num_instances` objects in all.

    The objects are those of all eight frames, moved to where they hardly cover each other; classes and sizes stay.
    """
    frame = street_images()[index]
    rng = np.random.default_rng(num_instances + 1000 * index)
    options = dict(image_id=frame.image_id, stride=STRIDE, producer="benchmark")
    semantic = panoptic_to_semantic_logits(read_truth(frame), CITYSCAPES, **options)
    logits = (semantic.logits + _smooth_noise(rng, semantic.logits.shape)).astype(np.float16)
    semantic = SemanticLogits(frame.image_id, semantic.height, semantic.width, STRIDE, CITYSCAPES.name, "benchmark", logits)
    maps, train_ids = placed_objects(rng, num_instances, logits.shape[1:])
    instances = from_full_logits(
        maps,
        train_ids,
        np.sort(rng.uniform(0.3, 1, num_instances))[::-1],
        size=(semantic.height, semantic.width),
        taxonomy=CITYSCAPES,
        **options,
    )
    return instances, semantic


def placed_objects(rng: np.random.Generator, num: int, grid: tuple[int, int]) -> tuple[list[np.ndarray], list[int]]:
    """(logit maps on the grid, train ids)."""
    pool = [
        (int(found.train_ids[k]), found.crops[k].astype(np.float32))
        for frame in street_images()
        for found in [panoptic_to_instance_logits(read_truth(frame), CITYSCAPES, image_id="", stride=STRIDE, producer="truth")]
        for k in range(len(found))
    ]
    covered = np.zeros(grid, dtype=bool)
    maps, train_ids = [], []
    while len(maps) < num:
        train_id, crop = pool[rng.integers(len(pool))]
        height, width = crop.shape
        y, x = rng.integers(grid[0] - height + 1), rng.integers(grid[1] - width + 1)
        window = covered[y : y + height, x : x + width]
        if (window & (crop > 0)).sum() > LARGEST_OVERLAP * (crop > 0).sum():
            continue
        window |= crop > 0
        full = np.full(grid, -20, dtype=np.float32)
        full[y : y + height, x : x + width] = crop + _smooth_noise(rng, (1, *crop.shape))[0]
        maps.append(full)
        train_ids.append(train_id)
    return maps, train_ids


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    coarse = rng.normal(0, 0.7, (1, shape[0], -(-shape[1] // 8) + 1, -(-shape[2] // 8) + 1)).astype(np.float32)
    return F.interpolate(torch.from_numpy(coarse), shape[1:], mode="bilinear")[0].numpy()
