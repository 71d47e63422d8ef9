"""Masks of detections, brought to the image without torch, are those that torch brings there."""

import numpy as np
import pytest
import torch

from data.instance_dump import read_instances, write_instances
from data.mask_pasting import to_instance_logits
from data.taxonomy import CITYSCAPES
from detection.instance_head import Detections
from detection.instance_masks import to_instance_logits as to_instance_logits_in_torch
from runtime.files import InputError

ABOUT = {"image_id": "a", "taxonomy": CITYSCAPES, "producer": "test"}
CONVENTIONS = ("torchvision", "detectron2")


def draw_detections(size: tuple[int, int], num: int, convention: str) -> Detections:
    """Random ones, best first, from parts of a pixel to the whole image."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(num, 2, 2, generator=generator) * torch.tensor(size[::-1])
    corners[0] = torch.tensor([[0.0, 0.0], [size[1], size[0]]])
    corners[1:4, 1] = corners[1:4, 0] + 0.3
    corners[4:6, 1] = corners[4:6, 0]  # no area at all
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    train_ids = torch.tensor(CITYSCAPES.thing_ids)[torch.randint(8, (num,), generator=generator)]
    scores = torch.rand(num, generator=generator).sort(descending=True).values
    return Detections(boxes, train_ids, scores, 3 * torch.randn(num, 28, 28, generator=generator), convention)


def as_arrays(found: Detections) -> tuple[np.ndarray, ...]:
    return tuple(values.numpy() for values in (found.boxes, found.scores, found.train_ids, found.mask_logits))


@pytest.mark.parity
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("size", [(40, 60), (37, 101), (600, 900)])
def test_masks_are_those_of_torch(size, convention):
    found = draw_detections(size, 60, convention)
    expected = to_instance_logits_in_torch(found, size=size, **ABOUT)
    instances = to_instance_logits(*as_arrays(found), convention=convention, size=size, **ABOUT)
    for name in ("train_ids", "scores", "boxes", "crop_boxes"):
        assert np.array_equal(getattr(instances, name), getattr(expected, name)), name
    for ours, theirs in zip(instances.crops, expected.crops, strict=True):
        assert np.array_equal(ours > 0, theirs > 0)
        # Two neighbours in float16, or, where a probability is near 1, what is left of 1 - p in float32 of 2^-24.
        np.testing.assert_allclose(ours.astype(np.float32), theirs.astype(np.float32), rtol=2**-10, atol=1e-3)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_dump_is_one_that_reads(tmp_path, convention):
    found = draw_detections((40, 60), 20, convention)
    instances = to_instance_logits(*as_arrays(found), convention=convention, size=(40, 60), **ABOUT)
    write_instances(tmp_path, instances)
    assert len(read_instances(tmp_path, "a", CITYSCAPES, (40, 60))) == len(instances)  # checks order, classes and boxes


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_no_detections_are_no_instances(convention):
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros((0, 28, 28), np.float32)
    assert len(to_instance_logits(*none, convention=convention, size=(40, 60), **ABOUT)) == 0


def test_nan_is_refused():
    boxes, scores, train_ids, mask_logits = as_arrays(draw_detections((40, 60), 6, "torchvision"))
    boxes[2, 1] = np.nan
    with pytest.raises(InputError, match="a: NaN or infinite boxes"):
        to_instance_logits(boxes, scores, train_ids, mask_logits, convention="torchvision", size=(40, 60), **ABOUT)
