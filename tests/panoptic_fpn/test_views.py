"""Test-time augmentation: views return to the image as it was, meet in one result, and the mirror image gets the mirrored one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data.instance_dump import full_masks
from data.network_input import NetworkInput
from data.normalization import IMAGENET
from data.taxonomy import CITYSCAPES
from detection.instance_head import Detections
from detection.views import detections_on_image, merge_views
from fusion.settings import MergeSettings
from panoptic_fpn.predictor import PanopticFPNPredictor
from prediction.predictor import Prediction
from prediction.views import PLAIN, ViewSettings


def detected(*rows: tuple[tuple[float, ...], int, float]) -> Detections:
    """(box, train id, score) of each object, best first; the k-th mask is filled with k."""
    boxes, train_ids, scores = zip(*rows)
    masks = torch.arange(len(rows), dtype=torch.float32)[:, None, None].expand(-1, 28, 28)
    return Detections(torch.tensor(boxes), torch.tensor(train_ids), torch.tensor(scores), masks)


def test_boxes_return_to_the_image_as_it_was():
    found = detected(((10.0, 20.0, 30.0, 40.0), 11, 0.9))
    assert detections_on_image(found, seen=(100, 200), size=(50, 400)).boxes.tolist() == [[20, 10, 60, 20]]
    # Of 200 columns 10..30 from the left are 170..190 from the right.
    assert detections_on_image(found, (100, 200), (50, 400), is_flipped=True).boxes.tolist() == [[340, 10, 380, 20]]


def test_flipping_twice_changes_nothing():
    torch.manual_seed(0)
    found = replace(detected(((10.0, 20.0, 30.0, 40.0), 11, 0.9)), mask_logits=torch.randn(1, 28, 28))
    once = detections_on_image(found, (64, 96), (64, 96), is_flipped=True)
    assert torch.equal(once.mask_logits, found.mask_logits.flip(-1))
    twice = detections_on_image(once, (64, 96), (64, 96), is_flipped=True)
    for name in ("boxes", "train_ids", "scores", "mask_logits"):
        assert torch.equal(getattr(twice, name), getattr(found, name)), name


def test_views_keep_the_surer_of_two_boxes_of_an_object():
    box, near, far = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 9.0), (20.0, 0.0, 30.0, 10.0)
    plain = detected((box, 11, 0.9), (far, 11, 0.4))
    flipped = detected((far, 13, 0.8), (near, 11, 0.7), (far, 11, 0.5))
    found = merge_views([plain, flipped], max_detections=10)
    # The car at `far` is another class; of the persons there and at `box` the surer ones stay, each with its own mask.
    assert [(b, k) for b, k in zip(found.boxes.tolist(), found.train_ids.tolist())] == [
        ([*box], 11),
        ([*far], 13),
        ([*far], 11),
    ]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.5])
    assert found.mask_logits[:, 0, 0].tolist() == [0, 0, 2]
    assert merge_views([plain, flipped], max_detections=2).scores.tolist() == pytest.approx([0.9, 0.8])


def test_one_view_alone_is_left_as_it_is():
    found = detected(((0.0, 0.0, 10.0, 10.0), 11, 0.9), ((0.0, 0.0, 10.0, 9.0), 11, 0.8))
    assert merge_views([found], max_detections=1) is found


@pytest.fixture
def predict(learned):
    """Predict an image in some views."""

    def run(image: np.ndarray, views: ViewSettings, side: int | None = None) -> Prediction:
        network_input = NetworkInput(normalization=IMAGENET)
        if side is not None:
            network_input = replace(network_input, size=replace(network_input.size, shorter_side=side))
        merging = MergeSettings(min_score=0.2, min_stuff_area=500)
        return PanopticFPNPredictor(learned[0], CITYSCAPES, "learned", network_input, merging, views).predict("a", image)

    return run


@pytest.mark.slow
def test_the_mirror_image_gets_the_mirrored_result(predict, street_image):
    """With a flip both see the same two images, at sizes that need no padding."""
    views = ViewSettings(flip=True)
    mirrored, found = predict(street_image[:, ::-1], views), predict(street_image, views)
    assert np.array_equal(mirrored.semantic.train_ids, found.semantic.train_ids[:, ::-1])
    assert np.array_equal(mirrored.panoptic.segment_ids, found.panoptic.segment_ids[:, ::-1])
    assert len(mirrored.instances) == len(found.instances) > 3
    np.testing.assert_allclose(mirrored.instances.scores, found.instances.scores, rtol=0, atol=1e-6)
    width = street_image.shape[1]
    x1, y1, x2, y2 = found.instances.boxes.T
    # A mask's edge may be a pixel away, where its logit is next to 0.
    np.testing.assert_allclose(mirrored.instances.boxes, np.stack([width - x2, y1, width - x1, y2], 1), rtol=0, atol=1)
    plain = predict(street_image, PLAIN)
    assert not np.array_equal(plain.semantic.train_ids, found.semantic.train_ids)  # the second view has its say


@pytest.mark.slow
def test_a_scale_is_the_size_that_the_network_sees(predict, street_image):
    """Half of 128 pixels, asked for as a scale or as an input size."""
    scaled, resized = predict(street_image, ViewSettings((0.5,))), predict(street_image, PLAIN, side=64)
    assert np.array_equal(scaled.instances.boxes, resized.instances.boxes)
    assert np.array_equal(scaled.instances.scores, resized.instances.scores)
    # Class maps differ by the way: to cells of 4 pixels of the image first, or at once.
    assert (scaled.semantic.train_ids == resized.semantic.train_ids).mean() > 0.97


@pytest.mark.slow
def test_each_object_of_several_scales_is_one_of_a_single_scales(predict, street_image):
    both = predict(street_image, ViewSettings((0.5, 1.0))).instances
    single = [predict(street_image, ViewSettings((scale,))).instances for scale in (0.5, 1.0)]
    known = {(int(k), float(score)) for found in single for k, score in zip(found.train_ids, found.scores)}
    assert {(int(k), float(score)) for k, score in zip(both.train_ids, both.scores)} <= known
    assert both.scores[0] == max(found.scores[0] for found in single)
    assert all(mask.any() for mask in full_masks(both))
