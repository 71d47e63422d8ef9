"""A small network that has learned one drawn street by heart, and its checkpoint."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from data.input_size import InputSize
from data.layouts.cityscapes import CityscapesSplit
from data.loading.datamodule import instance_targets
from data.network_input import NetworkInput
from data.normalization import IMAGENET, normalize_and_pad
from data.targets import panoptic_to_semantic
from data.taxonomy import CITYSCAPES, Taxonomy
from detection.instance_head import InstanceHeadSettings
from fusion.settings import MergeSettings
from panoptic_fpn.loss import semantic_loss, to_output_index
from panoptic_fpn.network import NetworkSettings, PanopticFPN, build_network, to_plain

SMALL_HEAD = InstanceHeadSettings(
    anchor_sizes=(8, 16, 32, 64, 128),
    box_channels=64,
    mask_channels=32,
    num_rois=64,
    num_proposals_training=200,
    num_proposals=100,
    score_threshold=0.05,
    box_beta=0.0,
    convention="detectron2",
    max_detections=20,
)
SMALL = NetworkSettings("resnet18", "bn", 5, fpn_channels=32, semantic_channels=64, instance_head=SMALL_HEAD)
NUM_STEPS = 60


@pytest.fixture(scope="session")
def small() -> NetworkSettings:
    return SMALL


@pytest.fixture(scope="session")
def learned(streets) -> tuple[PanopticFPN, list[float]]:
    """A network after NUM_STEPS on the first validation image, and the loss of each step."""
    torch.manual_seed(0)
    split = CityscapesSplit(streets, "val")
    street, truth = split.image(0), split.truth(0)
    network = build_network(to_plain(SMALL, CITYSCAPES))
    image = torch.from_numpy(normalize_and_pad(street, IMAGENET, 32))[None]
    semantic = torch.from_numpy(panoptic_to_semantic(truth, CITYSCAPES)).long()[None]
    target = to_output_index(semantic, network.train_id_of_output)
    objects = [instance_targets(truth, CITYSCAPES)]
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(NUM_STEPS):
        pyramid, logits = network(image)
        loss = semantic_loss(logits, target) + sum(network.instance_head.losses(pyramid, objects).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        losses.append(loss.item())
    return network.eval(), losses


@pytest.fixture(scope="session")
def save_checkpoint():
    """Write what the training command writes, as far as a predictor reads it; return its path."""

    def save(
        path: Path,
        network: PanopticFPN,
        taxonomy: Taxonomy,
        input_size: InputSize = InputSize(),
        merging: MergeSettings = MergeSettings(),
    ) -> Path:
        settings = {
            "system": "panoptic_fpn",
            "network": to_plain(SMALL, taxonomy),
            "taxonomy": taxonomy.name,
            "categories": taxonomy.to_coco_categories(),
            "merging": asdict(merging),
            **NetworkInput(input_size, IMAGENET).to_plain(),
        }
        weights = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        torch.save({"hyper_parameters": settings, "state_dict": weights}, path)
        return path

    return save


@pytest.fixture(scope="session")
def checkpoint(learned, save_checkpoint, tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.ckpt", learned[0], CITYSCAPES)


@pytest.fixture(scope="session")
def street_image(streets):
    """The image that the network has learned, (H, W, 3) uint8."""
    return CityscapesSplit(streets, "val").image(0)
