"""EfficientNet-Lite as a backbone of mmdet."""

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from backbones.efficientnet import EfficientNetLite


@MODELS.register_module()
class LiteBackbone(BaseModule):
    """EfficientNetLite by the name `LiteBackbone`; a neck's in_channels for lite0 and lite1 are [24, 40, 112, 1280].

    Args:
        init_cfg: mmengine's. `weights = "lite0"` in the configuration loads the packaged weights.
        settings: of EfficientNetLite.
    """

    def __init__(self, init_cfg: dict | None = None, **settings):
        super().__init__(init_cfg)
        # Depthwise convolutions are faster in this memory format: on a CPU by a fifth of a SOLOv2 iteration.
        self.features = EfficientNetLite(**settings).to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> features at strides 4, 8, 16, 32."""
        return tuple(self.features(image.contiguous(memory_format=torch.channels_last)))
