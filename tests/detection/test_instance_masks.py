"""From detections to the exchange format."""

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from data.instance_dump import read_instances, write_instances
from data.taxonomy import CITYSCAPES
from detection.instance_head import Detections
from detection.instance_masks import paste_masks, sample_masks, to_instance_logits

ABOUT = {"image_id": "a", "taxonomy": CITYSCAPES, "producer": "test"}
PERSON, CAR = (next(k for k, c in enumerate(CITYSCAPES.categories) if c.name == name) for name in ("person", "car"))


def full_masks(mask_logits: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    masks = np.zeros((len(boxes), *size), dtype=bool)
    for mask, (top, left, logits) in zip(masks, paste_masks(mask_logits, boxes, size), strict=True):
        mask[top : top + logits.shape[0], left : left + logits.shape[1]] = logits > 0
    return masks


@pytest.mark.parity
@pytest.mark.parametrize("size", [(40, 60), (37, 101)])
def test_pasted_masks_equal_torchvisions_pixel_for_pixel(size):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(50, 2, 2, generator=generator) * torch.tensor(size[::-1])
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)  # from parts of a pixel to the whole image
    boxes[0] = torch.tensor([0.0, 0.0, size[1], size[0]])
    mask_logits = 3 * torch.randn(50, 28, 28, generator=generator)
    theirs = paste_masks_in_image(mask_logits.sigmoid()[:, None], boxes, size)[:, 0] > 0.5
    assert np.array_equal(full_masks(mask_logits, boxes, size), theirs.numpy())


def test_instances_are_what_the_format_asks_for(tmp_path):
    mask_logits = torch.full((3, 28, 28), -5.0)
    mask_logits[0] = 5.0
    mask_logits[2, 14:] = 5.0  # the lower half
    boxes = torch.tensor([[4.0, 2.0, 18.0, 16.0], [0.0, 0.0, 9.0, 9.0], [30.0, 10.0, 58.0, 38.0]])
    found = Detections(boxes, torch.tensor([CAR, CAR, PERSON]), torch.tensor([0.9, 0.8, 0.7]), mask_logits)
    instances = to_instance_logits(found, size=(40, 60), **ABOUT)
    write_instances(tmp_path, instances)
    read = read_instances(tmp_path, "a", CITYSCAPES, (40, 60))  # checks order, classes and boxes
    assert read.train_ids.tolist() == [CAR, PERSON]  # the one without a mask is left out
    assert read.scores.tolist() == pytest.approx([0.9, 0.7])
    # A mask ends within a pixel of its box.
    np.testing.assert_allclose(read.boxes, [[4, 2, 18, 16], [30, 24, 58, 38]], atol=1)
    assert read.crops[0].max() == pytest.approx(5, abs=0.01)


def test_no_detections_are_no_instances(tmp_path):
    none = Detections(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0), torch.zeros(0, 28, 28))
    write_instances(tmp_path, to_instance_logits(none, size=(40, 60), **ABOUT))
    assert len(read_instances(tmp_path, "a", CITYSCAPES)) == 0


def test_a_sampled_mask_keeps_the_parts_of_a_pixel_of_its_box():
    full = torch.full((1, 28, 28), 9.0)
    # Pixels whose centre lies in 10.4..19.6 by 5.6..9.4: 10 to 19 and 6 to 8; the last ones of whole pixels are one further.
    ((top, left, logits),) = sample_masks(full, torch.tensor([[10.4, 5.6, 19.6, 9.4]]), (40, 60))
    ys, xs = np.nonzero(logits > 0)
    assert (left + xs.min(), left + xs.max(), top + ys.min(), top + ys.max()) == (10, 19, 6, 8)


def test_a_box_outside_the_image_or_without_a_pixel_has_no_mask():
    boxes = torch.tensor([[70.0, 5.0, 80.0, 9.0], [-9.0, -9.0, -2.0, -3.0], [10.6, 5.6, 10.9, 5.9]])
    for _, _, logits in sample_masks(torch.full((3, 28, 28), 9.0), boxes, (40, 60)):
        assert not (logits > 0).any()
