"""From detections to the exchange format and to a panoptic map; and that the network learns to give them."""

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from data.cityscapes import instance_ids_to_panoptic, instance_ids_to_semantic
from data.datamodule import instance_targets
from data.files import InputError
from data.instance_dump import read_instances, write_instances
from data.taxonomy import CITYSCAPES
from efficientps.inference import load_semantic_predictor
from efficientps.instance_head import Detections
from efficientps.loss import hardest_pixels_loss
from efficientps.network import EfficientPS, SemanticEfficientPS
from efficientps.panoptic_inference import (
    PanopticPredictor,
    load_panoptic_predictor,
    paste_masks,
    to_instance_logits,
    to_semantic_logits,
)
from evaluation.panoptic_quality import PanopticQuality
from fusion.logit_fusion import FusionSettings, fuse

SMALL_HEAD = {"anchor_sizes": (8, 16, 32, 64), "box_channels": 64, "mask_channels": 32, "num_rois": 32}
ABOUT = {"image_id": "a", "taxonomy": CITYSCAPES, "producer": "test"}
PERSON, CAR = (next(k for k, c in enumerate(CITYSCAPES.categories) if c.name == name) for name in ("person", "car"))


def small_network(**head) -> EfficientPS:
    things, head = list(CITYSCAPES.thing_ids), SMALL_HEAD | head
    return EfficientPS(CITYSCAPES.num_classes, things, head, variant="b0", fpn_channels=32, norm_momentum=0.1)


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


@pytest.mark.parametrize("size", [(45, 70), (64, 64), (32, 33)])
def test_a_picture_of_any_size_gives_a_pair_that_can_be_fused(size):
    torch.manual_seed(0)
    predictor = PanopticPredictor(small_network(score_threshold=0.0, max_detections=5).eval(), CITYSCAPES, "test")
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    instances, semantic = predictor.predict("a", picture)
    assert semantic.logits.shape == (CITYSCAPES.num_classes, -(-size[0] // 4), -(-size[1] // 4))
    assert fuse(instances, semantic, CITYSCAPES, FusionSettings(min_score=0.0)).segment_ids.shape == size


def test_a_network_that_gives_nan_is_refused():
    network = small_network().eval()
    torch.nn.init.constant_(network.semantic_head.classify.bias, torch.nan)
    with pytest.raises(InputError, match="a: the model gives NaN"):
        PanopticPredictor(network, CITYSCAPES, "test").predict("a", np.zeros((32, 32, 3), np.uint8))


def test_the_network_overfits_one_image():
    torch.manual_seed(0)
    y, x = np.mgrid[:64, :96]
    ids = np.full((64, 96), 7, dtype=np.int32)  # road
    ids[np.hypot(y - 30, x - 24) < 18] = 26000  # a round car
    ids[20:60, 60:84] = 26001  # a square one, and a person that stands before it
    ids[8:44, 72:88] = 24000
    semantic = torch.from_numpy(instance_ids_to_semantic(ids).astype(np.int64))[None]
    colors = torch.rand(65536, 3)
    image = colors[torch.from_numpy(ids).long()].permute(2, 0, 1)[None]
    network = small_network()
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    totals = []
    for _ in range(60):
        pyramid = network.pyramid(image)
        losses = network.instance_head.losses(pyramid, [instance_targets(ids)])
        loss = sum(losses.values()) + hardest_pixels_loss(network.semantic_head(pyramid), semantic, 1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < 0.1 * totals[0]

    with torch.no_grad():
        pyramid = network.eval().pyramid(image)
        (found,) = network.instance_head.detect(pyramid, [(64, 96)])
        instances = to_instance_logits(found, size=(64, 96), **ABOUT)
        logits = to_semantic_logits(network.semantic_head(pyramid)[0], size=(64, 96), **ABOUT)
    quality = PanopticQuality()
    quality.add(instance_ids_to_panoptic(ids), fuse(instances, logits, CITYSCAPES, FusionSettings(min_score=0.5)))
    scores = quality.scores(CITYSCAPES)
    assert scores["per_class"]["car"]["tp"] == 2
    assert scores["per_class"]["person"]["tp"] == 1
    assert scores["Things"]["pq"] > 0.7


def write_checkpoint(path, network, settings: dict) -> None:
    """As train_net.py writes it, with the hyper-parameters of the time before there was an instance head."""
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    about = {"network": settings, "taxonomy": "cityscapes", "optimizer": {"name": "adamw", "lr": 0.003}}
    torch.save({"hyper_parameters": about, "state_dict": weights}, path)


def test_checkpoints_of_the_semantic_model_load_as_before_and_are_no_panoptic_ones(tmp_path):
    settings = {"num_classes": 19, "variant": "b0", "fpn_channels": 32, "is_separable": True, "norm_momentum": 0.1}
    write_checkpoint(tmp_path / "best.ckpt", SemanticEfficientPS(**settings), settings)
    semantic = load_semantic_predictor(tmp_path / "best.ckpt").predict("a", np.zeros((32, 64, 3), np.uint8))
    assert semantic.logits.shape == (19, 8, 16)
    with pytest.raises(InputError, match=r"best\.ckpt: is of the semantic model"):
        load_panoptic_predictor(tmp_path / "best.ckpt")


def test_broken_and_missing_checkpoints_are_named(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        load_panoptic_predictor(tmp_path / "best.ckpt")
    (tmp_path / "best.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="broken checkpoint"):
        load_panoptic_predictor(tmp_path / "best.ckpt")
    torch.save({"hyper_parameters": {}}, tmp_path / "best.ckpt")
    with pytest.raises(InputError, match="no checkpoint of efficientps"):
        load_panoptic_predictor(tmp_path / "best.ckpt")
