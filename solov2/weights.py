"""SOLOv2 without its weights, which checkpoints can start it, how their names become ours, and training from a weights file."""

import copy
import sys

from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from backbones.packaged_weights import PACKAGES, load_packaged
from runtime.files import InputError
from solov2.lite_backbone import LiteBackbone
from training.arguments import RANDOM
from training.checkpoints import check_learns
from training.weights_file import Source, lite_sources, load_weights_file

FROM_SCRATCH = "--cfg-options model.backbone.frozen_stages=-1 model.backbone.norm_cfg.requires_grad=True"
"""The flags with which all parts of a ResNet learn."""
LITE_FROM_SCRATCH = "--cfg-options model.backbone.trainable_stages=5 model.backbone.norm=bn"
"""The same for an EfficientNet-Lite."""


def build_network(model: dict, source: str, head: str | None = None) -> nn.Module:
    """A model with random weights; nothing is downloaded, and the settings stay as they are.

    Args:
        model: settings as in a configuration.
        source: where they are from, for the message.
        head: type of the mask head in place of the config's own, with the same settings.

    Raises:
        InputError: if it cannot be built.
    """
    register_all_modules()
    try:
        settings = ConfigDict(copy.deepcopy(model))
        settings.backbone.init_cfg = None
        if head is not None:
            settings.mask_head.type = head
        return MODELS.build(settings)
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError) as error:
        raise InputError(f"{source}: cannot be built ({' '.join(str(error).split())}); correct the config") from None


def sources(network: nn.Module) -> tuple[Source, ...]:
    """mmdet's own SOLOv2, in whose place LocationHead stands with the same names, and a backbone trained on ImageNet."""
    names = list(network.state_dict())
    backbone = {name: name.removeprefix("backbone.") for name in names if name.startswith("backbone.")}
    return (
        Source(
            "mmdet SOLOv2",
            marker="mask_head.conv_kernel.weight",
            names={name: name for name in names},
            class_layers=("mask_head.conv_cls.weight", "mask_head.conv_cls.bias"),
        ),
        Source("torchvision ResNet", marker="layer1.0.conv1.weight", names=backbone),
        *lite_sources(network),
    )


class StartFromWeights(Hook):
    """Loads weights after mmengine's Runner has initialised the model, and before the first step; refuses what cannot learn.

    Args:
        weights: name of packaged ones, the path of a file of scripts/import_weights.py, or RANDOM; None: what mmengine loads.
        config: of the training.
    """

    def __init__(self, weights: str | None, config: Config):
        self.weights, self.config = weights, config
        self.console = sys.stdout  # while it trains, what others print is swallowed

    def before_train(self, runner: Runner) -> None:
        network = getattr(runner.model, "module", runner.model)
        if self.weights == RANDOM:
            loaded = set()
        elif self.weights is not None:
            load = load_packaged if self.weights in PACKAGES else load_weights_file
            summary, loaded = load(network, self.weights)
            if is_main_process():
                print(summary, file=self.console, flush=True)
        else:  # mmengine has done it
            part = "" if self.config.get("load_from") else "backbone." if self.config.model.backbone.get("init_cfg") else None
            loaded = {name for name in network.state_dict() if part is not None and name.startswith(part)}
        is_lite = self.config.model.backbone.type == LiteBackbone.__name__
        check_learns(network, loaded, LITE_FROM_SCRATCH if is_lite else FROM_SCRATCH)
