"""Which checkpoints can start SOLOv2, how their names become ours, and a training that starts from a weights file."""

import sys
from pathlib import Path

from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from data.files import InputError
from data.weights_file import Source, load_weights_file


def build_network(config: Config) -> nn.Module:
    """The config's model with random weights; nothing is downloaded.

    Raises:
        InputError: if it cannot be built.
    """
    register_all_modules()
    try:
        settings = config.model.copy()
        settings.backbone.init_cfg = None
        return MODELS.build(settings)
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError) as error:
        raise InputError(f"{config.filename}: cannot be built ({' '.join(str(error).split())}); correct the config") from None


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
    )


class StartFromWeights(Hook):
    """Loads a weights file after mmengine's Runner has initialised the model, and before the first step."""

    def __init__(self, path: Path):
        self.path = path
        self.console = sys.stdout  # while it trains, what others print is swallowed

    def before_train(self, runner: Runner) -> None:
        summary = load_weights_file(getattr(runner.model, "module", runner.model), self.path)
        if is_main_process():
            print(summary, file=self.console, flush=True)
