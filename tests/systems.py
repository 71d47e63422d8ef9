"""Every system of the project as a tiny network with random weights, written as the checkpoint that its training would write.

A new system gets all tests of tests/pipeline for one entry in NETWORKS and one in SYSTEMS.
"""

from collections.abc import Callable
from pathlib import Path

import torch

import solov2  # noqa: F401, before mmengine

# isort: split
from data.layouts.find import open_data_set
from data.loading.datamodule import PanopticDataModule
from detection.instance_head import InstanceHeadSettings
from efficientps.module import EfficientPSModule
from fusion.settings import ClusterSettings, FusionSettings, MergeSettings
from pan_secb.module import NetworkSettings as PanSECBSettings
from pan_secb.module import PanSECBModule
from panoptic_fpn.module import PanopticFPNModule
from panoptic_fpn.network import NetworkSettings
from prediction.fused import FusedPredictor, LogitRule, with_panoptic
from prediction.models import load_predictor
from prediction.predictor import Predictor
from prediction.views import PLAIN, ViewSettings
from solov2.data_set import prepare_split, use_splits
from solov2.settings import DEFAULT_CONFIG, load_config
from solov2.trained_settings import KEY, TrainedSettings
from solov2.weights import build_network
from training.module import PanopticModule

ANCHORS = (12, 24, 48, 96)
SIZES = {"box_channels": 32, "mask_channels": 32, "num_proposals_training": 50, "num_proposals": 50, "max_detections": 10}
TINY_SOLOV2 = {
    "model.backbone.base_channels": 8,
    "model.backbone.stem_channels": 8,
    "model.neck.in_channels": [8, 16, 32, 64],
    "model.test_cfg.score_thr": 0.005,
    "model.test_cfg.filter_thr": 0.0,
    "model.test_cfg.max_per_img": 5,
}


def save(module: PanopticModule, path: Path) -> Path:
    """Write a module's checkpoint."""
    weights = {f"network.{name}": value for name, value in module.network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": 0, "state_dict": weights, "hyper_parameters": dict(module.hparams)}, path)
    return path


def efficientps_module(root: Path, has_head: bool = True) -> EfficientPSModule:
    """EfficientPS, original or semantic alone."""
    data = PanopticDataModule(root)
    head = InstanceHeadSettings(ANCHORS, score_threshold=0.05, num_rois=16, **SIZES) if has_head else None
    about = {"variant": "b0", "fpn_channels": 32, "instance_head": head}
    return EfficientPSModule(data.taxonomy, data.network_input, **about)


def panoptic_fpn_module(root: Path) -> PanopticFPNModule:
    """Panoptic FPN."""
    data = PanopticDataModule(root, normalization="imagenet")
    head = InstanceHeadSettings((*ANCHORS, 192), score_threshold=0.0, num_rois=16, convention="detectron2", **SIZES)
    settings = NetworkSettings("resnet18", "bn", 5, fpn_channels=32, semantic_channels=32, instance_head=head)
    merging = MergeSettings(min_score=0.0, min_stuff_area=0)
    return PanopticFPNModule(data.taxonomy, data.network_input, settings, merging=merging)


def pan_secb_module(root: Path) -> PanSECBModule:
    """Pan-SECB."""
    data = PanopticDataModule(root, normalization="imagenet")
    settings = PanSECBSettings(width=0.25, pixels_per_unit=128, start_sigma=0.2, dropout=0)
    clustering = ClusterSettings(min_candidate_seed=0.3, min_seed=0.3, min_stuff_area=0)
    return PanSECBModule(data.taxonomy, data.network_input, settings, clustering=clustering)


NETWORKS = {
    "EfficientPS, semantics": lambda root: efficientps_module(root, has_head=False),
    "EfficientPS": efficientps_module,
    "Panoptic FPN": panoptic_fpn_module,
    "Pan-SECB": pan_secb_module,
}
"""Name -> function of a data set's root that gives the module of a network; those of Lightning's trainings."""


def load_module(name: str, root: Path) -> PanopticModule:
    """A tiny network of a data set's classes."""
    return NETWORKS[name](root)


def efficientps(root: Path, folder: Path, has_head: bool = True) -> Path:
    """The checkpoint of EfficientPS, original or semantic alone."""
    return save(efficientps_module(root, has_head), folder / f"efficientps_{has_head}.ckpt")


def panoptic_fpn(root: Path, folder: Path) -> Path:
    """That of Panoptic FPN."""
    return save(panoptic_fpn_module(root), folder / "panoptic_fpn.ckpt")


def pan_secb(root: Path, folder: Path) -> Path:
    """That of Pan-SECB."""
    return save(pan_secb_module(root), folder / "pan_secb.ckpt")


def solov2_checkpoint(root: Path, folder: Path) -> Path:
    """Stage 1."""
    config, data_set = load_config(DEFAULT_CONFIG.with_name("streets_r18.py"), TINY_SOLOV2), open_data_set(root)
    splits = [prepare_split(data_set, None, for_training=t, track=lambda items, _: items)[0] for t in (True, False)]
    use_splits(config, *splits)
    settings = TrainedSettings.of_config(config, splits[0].taxonomy)
    network = build_network(settings.model, "test")
    network.mask_head.conv_cls.bias.data += 3.0  # so that there is something to dump
    path = folder / "solov2.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": network.state_dict(), "meta": {"epoch": 1, KEY: settings.to_plain()}}, path)
    return path


def _two_stages(root: Path, folder: Path, views: ViewSettings) -> Predictor:
    halves = solov2_checkpoint(root, folder), efficientps(root, folder, has_head=False)
    rule = LogitRule(FusionSettings(min_score=0.0, min_stuff_area=0))
    return FusedPredictor(*(load_predictor(path, views=views) for path in halves), rule)


def _single(make: Callable[[Path, Path], Path]) -> Callable[[Path, Path, ViewSettings], Predictor]:
    def build(root: Path, folder: Path, views: ViewSettings) -> Predictor:
        rule = LogitRule(FusionSettings(min_score=0.0, min_stuff_area=0))
        return with_panoptic(load_predictor(make(root, folder), views=views), rule)

    return build


SYSTEMS = {
    "two stages": _two_stages,
    "original EfficientPS": _single(efficientps),
    "Panoptic FPN": _single(panoptic_fpn),
    "Pan-SECB": _single(pan_secb),
}
"""Name -> function of a data set's root, a folder for checkpoints, and views, that gives a predictor."""


def build_system(name: str, root: Path, folder: Path, views: ViewSettings = PLAIN) -> Predictor:
    """A system with classes and input size of a data set; the same call gives the same weights."""
    torch.manual_seed(0)
    return SYSTEMS[name](root, folder, views)
