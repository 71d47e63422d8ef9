"""From detections to the exchange format and to a panoptic map; and that the network learns to give them."""

import numpy as np
import pytest
import torch

from data.layouts.cityscapes import instance_ids_to_panoptic, instance_ids_to_semantic
from data.loading.datamodule import instance_targets
from data.taxonomy import CITYSCAPES
from detection.instance_masks import to_instance_logits
from efficientps.loss import hardest_pixels_loss
from efficientps.network import EfficientPS, SemanticEfficientPS
from efficientps.panoptic_inference import PanopticPredictor, load_panoptic_predictor, to_semantic_logits
from efficientps.predictor import load_semantic_predictor
from evaluation.panoptic_quality import PanopticQuality
from fusion.logit_fusion import fuse
from fusion.settings import FusionSettings
from runtime.files import InputError

SMALL_HEAD = {"anchor_sizes": (8, 16, 32, 64), "box_channels": 64, "mask_channels": 32, "num_rois": 32}
ABOUT = {"image_id": "a", "taxonomy": CITYSCAPES, "producer": "test"}


def small_network(**head) -> EfficientPS:
    things, head = list(CITYSCAPES.thing_ids), SMALL_HEAD | head
    return EfficientPS(CITYSCAPES.num_classes, things, head, variant="b0", fpn_channels=32, norm_momentum=0.1)


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
    with pytest.raises(InputError, match="no checkpoint of a training"):
        load_panoptic_predictor(tmp_path / "best.ckpt")
