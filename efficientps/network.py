"""The networks of EfficientPS (Mohan & Valada, IJCV 2021), made of encoder, two-way FPN and heads; see docs/deviations.md."""

from torch import Tensor, nn

from backbones.efficientnet import STAGES
from detection.instance_head import InstanceHead, InstanceHeadSettings
from efficientps.encoder import build_encoder
from efficientps.mask_head import MaskHead
from efficientps.semantic_head import SemanticHead
from efficientps.two_way_fpn import TwoWayFPN

LOGIT_STRIDE = 4


class SemanticEfficientPS(nn.Module):
    """EfficientPS without its instance head: stage 2 of the two-stage system.

    Args:
        num_classes: of the taxonomy, stuff and things.
        variant: EfficientNet b0 .. b7, or EfficientNet-Lite lite0 .. lite2.
        fpn_channels: width of the pyramid.
        is_separable: the FPN's output convolutions, separable (paper) or standard (official code).
        norm_momentum: of the encoder's running statistics.
        trainable_stages: how many stages of an EfficientNet-Lite learn; 0: it stays what its weights are.
    """

    def __init__(
        self,
        num_classes: int,
        variant: str = "b5",
        fpn_channels: int = 256,
        is_separable: bool = True,
        norm_momentum: float = 0.01,
        trainable_stages: int = STAGES,
    ):
        super().__init__()
        self.encoder = build_encoder(variant, norm_momentum, trainable_stages)
        self.two_way_fpn = TwoWayFPN(self.encoder.channels, fpn_channels, is_separable)
        self.semantic_head = SemanticHead(fpn_channels, num_classes)
        for conv in (m for m in self.two_way_fpn.modules() if isinstance(m, nn.Conv2d)):
            nn.init.xavier_uniform_(conv.weight)  # as the official neck

    def pyramid(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised RGB, H and W multiples of 32 -> strides 4, 8, 16, 32, (B, fpn_channels, H / s, W / s)."""
        features = self.encoder(image)  # strides 4, 8, 16, 32
        return self.two_way_fpn(features)  # same strides, fpn_channels each

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) normalised RGB, H and W multiples of 32 -> (B, num_classes, H / 4, W / 4) logits."""
        return self.semantic_head(self.pyramid(image))


class EfficientPS(SemanticEfficientPS):
    """The original: its heads share one pyramid. `semantic_head` and `instance_head` are called one by one on `pyramid(image)`.

    Args:
        num_classes, variant, fpn_channels, is_separable, norm_momentum, trainable_stages: as SemanticEfficientPS.
        thing_ids: train ids of the things, ascending.
        instance_head: sizes of the head, fields of InstanceHeadSettings.
    """

    def __init__(self, num_classes: int, thing_ids: list[int], instance_head: dict, fpn_channels: int = 256, **others):
        super().__init__(num_classes, fpn_channels=fpn_channels, **others)
        settings = InstanceHeadSettings(**instance_head)
        mask_head = MaskHead(fpn_channels, settings.mask_channels)
        self.instance_head = InstanceHead(fpn_channels, tuple(thing_ids), settings, mask_head)


def build_network(settings: dict) -> SemanticEfficientPS | EfficientPS:
    """The network that the arguments are of: EfficientPS where they have an instance head."""
    return EfficientPS(**settings) if "instance_head" in settings else SemanticEfficientPS(**settings)
