"""From an image to the exchange format, at the size of the training and back; and that the network learns to give objects."""

import numpy as np
import pytest
import torch

from data.input_size import InputSize
from data.instance_dump import full_masks
from data.layouts.cityscapes import instance_ids_to_panoptic, instance_ids_to_semantic
from data.loading.datamodule import instance_targets
from data.network_input import NetworkInput
from data.resizing import logits_on_image
from data.taxonomy import CITYSCAPES
from detection.instance_head import InstanceHeadSettings
from efficientps.loss import hardest_pixels_loss
from efficientps.network import EfficientPS
from efficientps.predictor import EfficientPSPredictor, load_predictor, to_prediction
from evaluation.panoptic_quality import PanopticQuality
from fusion.logit_fusion import fuse
from fusion.settings import FusionSettings
from prediction.views import ViewSettings
from runtime.files import InputError

SMALL_HEAD = {"anchor_sizes": (8, 16, 32, 64), "box_channels": 64, "mask_channels": 32, "num_rois": 32}


def small_network(**head) -> EfficientPS:
    things, head = list(CITYSCAPES.thing_ids), SMALL_HEAD | head
    return EfficientPS(CITYSCAPES.num_classes, things, head, variant="b0", fpn_channels=32, norm_momentum=0.1)


@pytest.fixture(scope="module")
def eager_network() -> EfficientPS:
    """Random weights, and a head that gives its five best of whatever score; scores that differ by more than rounding."""
    torch.manual_seed(0)
    network = small_network(score_threshold=0.0, max_detections=5).eval()
    network.instance_head.roi.box_predictor.cls_score.weight.data *= 100
    return network


def draw_noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(45, 70), (64, 64), (32, 33)])
def test_an_image_of_any_size_gives_a_pair_that_can_be_fused(size, eager_network):
    found = EfficientPSPredictor(eager_network, CITYSCAPES, "test", NetworkInput()).predict("a", draw_noise(*size))
    assert found.semantic.logits.shape == (CITYSCAPES.num_classes, -(-size[0] // 4), -(-size[1] // 4))
    assert len(found.instances) > 0
    fused = fuse(found.instances, found.semantic, CITYSCAPES, FusionSettings(min_score=0.0))
    assert fused.segment_ids.shape == size


def test_an_image_larger_than_the_trainings_is_seen_at_the_trainings_size(eager_network):
    image = draw_noise(64, 96)
    enlarged = image.repeat(2, 0).repeat(2, 1)  # whose means of 2 x 2 pixels are the image
    trained_at_64 = NetworkInput(InputSize(trained_sides=(64, 64)))
    predictor = EfficientPSPredictor(eager_network, CITYSCAPES, "test", trained_at_64)
    found, small = predictor.predict("a", enlarged), predictor.predict("a", image)
    expected = logits_on_image(torch.from_numpy(small.semantic.logits), (64, 96), (128, 192), 4, 4)
    np.testing.assert_array_equal(found.semantic.logits, expected.numpy())
    assert found.instances.train_ids.tolist() == small.instances.train_ids.tolist()
    np.testing.assert_array_equal(found.instances.scores, small.instances.scores)
    for mask, small_mask in zip(full_masks(found.instances), full_masks(small.instances), strict=True):
        doubled = small_mask.repeat(2, 0).repeat(2, 1)
        assert (mask != doubled).mean() < 0.02  # pixels at the border of a mask


def test_the_mirrored_image_gives_the_mirrored_result_with_flips(eager_network):
    image = draw_noise(64, 96)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    plain = EfficientPSPredictor(eager_network, CITYSCAPES, "test", NetworkInput())
    both = EfficientPSPredictor(eager_network, CITYSCAPES, "test", NetworkInput(), views=ViewSettings(flip=True))
    assert not np.array_equal(plain.predict("a", mirrored).instances.scores, plain.predict("a", image).instances.scores)
    found, expected = both.predict("a", mirrored), both.predict("a", image)
    np.testing.assert_allclose(found.semantic.logits, expected.semantic.logits[..., ::-1], rtol=1e-4, atol=1e-5)
    assert found.instances.train_ids.tolist() == expected.instances.train_ids.tolist()
    np.testing.assert_allclose(found.instances.scores, expected.instances.scores, rtol=1e-5)
    for mask, other in zip(full_masks(found.instances), full_masks(expected.instances), strict=True):
        assert (mask & other[:, ::-1]).sum() > 0.8 * (mask | other[:, ::-1]).sum()  # torchvision cuts a box at whole pixels


def test_a_network_that_gives_nan_is_refused():
    network = small_network().eval()
    torch.nn.init.constant_(network.semantic_head.classify.bias, torch.nan)
    with pytest.raises(InputError, match="a: the semantic model gives NaN"):
        EfficientPSPredictor(network, CITYSCAPES, "test", NetworkInput()).predict("a", np.zeros((32, 32, 3), np.uint8))


def test_the_network_overfits_one_image():
    torch.manual_seed(0)
    y, x = np.mgrid[:64, :96]
    ids = np.full((64, 96), 7, dtype=np.int32)  # road
    ids[np.hypot(y - 30, x - 24) < 18] = 26000  # a round car
    ids[20:60, 60:84] = 26001  # a square one, and a person that stands before it
    ids[8:44, 72:88] = 24000
    semantic = torch.from_numpy(instance_ids_to_semantic(ids).astype(np.int64))[None]
    target = instance_targets(instance_ids_to_panoptic(ids), CITYSCAPES)
    colors = torch.rand(65536, 3)
    image = colors[torch.from_numpy(ids).long()].permute(2, 0, 1)[None]
    network = small_network()
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    totals = []
    for _ in range(60):
        pyramid = network.pyramid(image)
        losses = network.instance_head.losses(pyramid, [target])
        loss = sum(losses.values()) + hardest_pixels_loss(network.semantic_head(pyramid), semantic, 1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < 0.1 * totals[0]

    with torch.no_grad():
        pyramid = network.eval().pyramid(image)
        (found,) = network.instance_head.detect(pyramid, [(64, 96)])
        about = {"image_id": "a", "size": (64, 96), "taxonomy": CITYSCAPES}
        pair = to_prediction(network.semantic_head(pyramid)[0], found, **about)
    quality = PanopticQuality()
    quality.add(instance_ids_to_panoptic(ids), fuse(pair.instances, pair.semantic, CITYSCAPES, FusionSettings(min_score=0.5)))
    scores = quality.scores(CITYSCAPES)
    assert scores["per_class"]["car"]["tp"] == 2
    assert scores["per_class"]["person"]["tp"] == 1
    assert scores["Things"]["pq"] > 0.7


def test_a_checkpoint_says_all_that_prediction_needs(write_checkpoint, tmp_path):
    network_input = NetworkInput(InputSize(shorter_side=64, longer_side=128))
    semantic = load_predictor(write_checkpoint(tmp_path / "semantic.ckpt", network_input=network_input))
    assert semantic.taxonomy == CITYSCAPES
    assert semantic.network_input == network_input
    assert semantic.min_score is None
    found = semantic.predict("a", draw_noise(100, 150))
    assert found.semantic.logits.shape == (19, 25, 38)
    assert found.instances is None

    head = InstanceHeadSettings(box_channels=16, mask_channels=16, score_threshold=0.35)
    joint = load_predictor(write_checkpoint(tmp_path / "joint.ckpt", instance_head=head))
    assert joint.min_score == 0.35
    assert joint.network.instance_head.roi.score_thresh == 0.05  # mask AP needs the uncertain ones, too


def test_broken_missing_and_foreign_checkpoints_are_named(write_checkpoint, tmp_path):
    path = tmp_path / "best.ckpt"
    with pytest.raises(InputError, match="no such checkpoint; train stage 2 first"):
        load_predictor(path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="broken checkpoint"):
        load_predictor(path)
    torch.save({"hyper_parameters": {}}, path)
    with pytest.raises(InputError, match="no checkpoint of a training"):
        load_predictor(path)
    content = torch.load(write_checkpoint(path), weights_only=True)
    del content["hyper_parameters"]["input_size"]
    torch.save(content, path)
    with pytest.raises(InputError, match=r"no checkpoint of efficientps/train_net\.py \('input_size'\)"):
        load_predictor(path)


def test_weights_that_are_not_finite_are_refused(write_checkpoint, tmp_path):
    content = torch.load(write_checkpoint(tmp_path / "nan.ckpt"), weights_only=True)
    content["state_dict"]["network.semantic_head.classify.bias"][0] = torch.nan
    torch.save(content, tmp_path / "nan.ckpt")
    with pytest.raises(InputError, match="use an earlier checkpoint"):
        load_predictor(tmp_path / "nan.ckpt")
