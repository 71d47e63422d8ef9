"""Instance dumps and semantic dumps: what is read is as InstanceLogits and SemanticLogits say."""

from functools import cache
from pathlib import Path

import numpy as np

from data.dump_file import grid_size
from data.instance_dump import InstanceLogits, dump_path, from_full_logits, full_masks, read_instances, write_instances
from data.semantic_dump import SemanticLogits, read_semantic, write_semantic
from data.semantic_dump import dump_path as semantic_path
from data.taxonomy import CITYSCAPES
from tests.fuzz.drawn import are_equal, written

SIZE, STRIDE = (14, 22), 4


def _check_header(found: InstanceLogits | SemanticLogits) -> None:
    sides = (found.height, found.width, found.stride)
    assert all(type(side) is int and side > 0 for side in sides), f"a side that is no whole number above 0: {sides}"
    assert found.image_id == "a", "of another image"
    assert found.taxonomy == CITYSCAPES.name, "of another taxonomy"
    assert isinstance(found.producer, str), f"a producer that is no text: {found.producer!r}"


# Instances


@cache
def instance_seeds() -> dict[bytes, object]:
    """Content -> InstanceLogits."""
    seeds: dict[bytes, object] = {}
    things = CITYSCAPES.thing_ids
    for k, (count, size, stride) in enumerate(
        ((0, SIZE, STRIDE), (1, SIZE, STRIDE), (3, SIZE, STRIDE), (2, (1, 1), 1), (4, (30, 50), 8), (2, SIZE, 1))
    ):
        logits = np.random.default_rng(k).normal(-1, 2, (count, *grid_size(*size, stride))).astype(np.float32)
        logits[:, 0, 0] = 3
        scores = np.random.default_rng(k).random(count)
        about = {"image_id": "a", "size": size, "stride": stride, "taxonomy": CITYSCAPES, "producer": "test"}
        instances = from_full_logits(logits, [things[j % 8] for j in range(count)], scores, **about)
        seeds[written(lambda folder: write_instances(folder, instances))] = instances  # noqa: B023
    return seeds


def check_instances(content: bytes, folder: Path, expected: InstanceLogits | None) -> None:
    """Types, shapes and ranges of InstanceLogits; its masks can be drawn where the image is small."""
    dump_path(folder, "a").write_bytes(content)
    found = read_instances(folder, "a", CITYSCAPES)
    _check_header(found)
    count, stride = len(found.scores), found.stride
    rows, columns = grid_size(found.height, found.width, stride)
    wanted = {"train_ids": (np.int64, (count,)), "scores": (np.float32, (count,))}
    wanted |= {"boxes": (np.float32, (count, 4)), "crop_boxes": (np.int32, (count, 4))}
    for name, (dtype, shape) in wanted.items():
        array = getattr(found, name)
        assert array.dtype == dtype, f"{name} have another type: {array.dtype}"
        assert array.shape == shape, f"{name} have another shape: {array.shape}"
    assert set(found.train_ids.tolist()) <= set(CITYSCAPES.thing_ids), "a class that is no thing"
    assert ((found.scores >= 0) & (found.scores <= 1)).all(), "a score outside 0..1"
    assert (found.scores[:-1] >= found.scores[1:]).all(), "scores do not descend"
    for (y1, x1, y2, x2), box, crop in zip(found.crop_boxes.tolist(), found.boxes.tolist(), found.crops, strict=True):
        assert 0 <= y1 < y2 <= rows, f"a crop leaves the grid: {(y1, x1, y2, x2)}"
        assert 0 <= x1 < x2 <= columns, f"a crop leaves the grid: {(y1, x1, y2, x2)}"
        assert crop.dtype == np.float16, f"logits have another type: {crop.dtype}"
        assert crop.shape == (y2 - y1, x2 - x1), f"a crop has another shape than its box: {crop.shape}"
        assert np.isfinite(crop.astype(np.float32)).all(), "logits are not finite"
        assert x1 * stride <= box[0] < box[2] <= min(x2 * stride, found.width), f"a box leaves its crop or the image: {box}"
        assert y1 * stride <= box[1] < box[3] <= min(y2 * stride, found.height), f"a box leaves its crop or the image: {box}"
    if found.height * found.width * count < 1e6 and rows * columns * stride**2 < 1e6:
        masks = list(full_masks(found))
        assert all(mask.shape == (found.height, found.width) for mask in masks), "a mask has another size than the image"
    if expected is not None:
        assert are_equal(found, expected, ("height", "width", "stride", "producer", *wanted)), "differs from what was written"
        assert all(map(np.array_equal, found.crops, expected.crops)), "crops differ from what was written"


# Semantics


@cache
def semantic_seeds() -> dict[bytes, object]:
    """Content -> SemanticLogits."""
    seeds: dict[bytes, object] = {}
    for k, (size, stride) in enumerate((((1, 1), 1), ((3, 4), 2), (SIZE, STRIDE), ((5, 9), 32))):
        logits = np.random.default_rng(k).normal(0, 4, (CITYSCAPES.num_classes, *grid_size(*size, stride))).astype(np.float16)
        semantic = SemanticLogits("a", *size, stride, CITYSCAPES.name, "test", logits)
        seeds[written(lambda folder: write_semantic(folder, semantic))] = semantic  # noqa: B023
    return seeds


def check_semantic(content: bytes, folder: Path, expected: SemanticLogits | None) -> None:
    """Type, shape and range of SemanticLogits as they are dumped."""
    semantic_path(folder, "a").write_bytes(content)
    found = read_semantic(folder, "a", CITYSCAPES)
    _check_header(found)
    shape = (CITYSCAPES.num_classes, *grid_size(found.height, found.width, found.stride))
    assert found.logits.dtype == np.float16, f"logits have another type: {found.logits.dtype}"
    assert found.logits.shape == shape, f"logits have another shape: {found.logits.shape}"
    assert np.isfinite(found.logits.astype(np.float32)).all(), "logits are not finite"
    names = ("height", "width", "stride", "producer", "logits")
    assert expected is None or are_equal(found, expected, names), "differs from what was written"
