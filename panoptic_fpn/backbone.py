"""ResNet or EfficientNet-Lite with torchvision's feature pyramid; a ResNet's names are those in its Mask R-CNN."""

from functools import partial

from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from backbones.efficientnet import LITE_SCALES, EfficientNetLite
from runtime.files import InputError

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
STAGES = ("layer4", "layer3", "layer2", "layer1", "conv1")
"""In the order in which they are trained: the first layers of a pretrained network are general, and stay."""
NORMS = {"frozen": FrozenBatchNorm2d, "bn": nn.BatchNorm2d}
"""frozen: statistics and scales stay those of the weights that it starts from. bn: learned, for a start from scratch."""
STRIDES = (4, 8, 16, 32, 64)
"""Of the pyramid's levels P2 to P6; P6, which only proposes, is every second place of P5."""


NUM_GROUPS = 8
"""Of the norms in the pyramid on an EfficientNet-Lite."""


class LiteWithFPN(nn.Module):
    """EfficientNet-Lite in the place of the ResNet, on a pyramid with norms.

    Lite's first three features are linear, with deviations of 5 to 9 on photographs and drawings, the last has one of 0.5 to 0.9:
    without norms it would be lost in the sums of the pyramid.
    """

    def __init__(self, body: EfficientNetLite, channels: int):
        super().__init__()
        self.body = body
        norm = partial(nn.GroupNorm, NUM_GROUPS)
        self.fpn = FeaturePyramidNetwork(list(body.channels), channels, LastLevelMaxPool(), norm_layer=norm)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> the levels by name, the finest first."""
        return self.fpn({str(k): feature for k, feature in enumerate(self.body(image))})


class Backbone(nn.Module):
    """(B, 3, H, W) -> levels at strides 4, 8, 16, 32 and 64, (B, channels, H / s, W / s), rounded up.

    Args:
        name: one of RESNETS, or of EfficientNet-Lite's LITE_SCALES.
        channels: width of the pyramid.
        norm: one of NORMS.
        trainable_stages: how many of STAGES learn, 0 to 5; weights that start at random must. An EfficientNet-Lite has as many.
        has_stride_in_1x1: stride in the first convolution of a bottleneck, as in the original ResNet-50 and detectron2's
            weights, not in its 3x3 one, as in torchvision's and mmdet's.

    Raises:
        InputError: if a setting is unknown.
    """

    def __init__(
        self,
        name: str = "resnet50",
        channels: int = 256,
        norm: str = "frozen",
        trainable_stages: int = 3,
        has_stride_in_1x1: bool = False,
    ):
        super().__init__()
        for what, given, known in (("backbone", name, (*RESNETS, *LITE_SCALES)), ("norm", norm, tuple(NORMS))):
            if given not in known:
                raise InputError(f"{what} {given!r} is unknown; choose one of {', '.join(known)}")
        if not 0 <= trainable_stages <= len(STAGES):
            raise InputError(f"trainable_stages is {trainable_stages}, but 0 to {len(STAGES)} are there")
        if name in LITE_SCALES:
            if channels % NUM_GROUPS:
                raise InputError(f"fpn_channels is {channels}, but a multiple of {NUM_GROUPS} is needed on {name}")
            if has_stride_in_1x1:
                raise InputError(f"has_stride_in_1x1 is for resnet50 and resnet101, but the backbone is {name}; leave it false")
            self.levels = LiteWithFPN(EfficientNetLite(name, norm=norm, trainable_stages=trainable_stages), channels)
            return
        body = getattr(resnet, name)(weights=None, norm_layer=NORMS[norm])
        if has_stride_in_1x1:
            move_strides(body)
        for parameter_name, parameter in body.named_parameters():
            stage = "conv1" if parameter_name.startswith("bn1") else parameter_name.partition(".")[0]
            parameter.requires_grad_(stage in STAGES[:trainable_stages])
        layers = {f"layer{k}": str(k - 1) for k in range(1, 5)}
        widths = [body.inplanes // 8 * 2**k for k in range(4)]
        self.levels = BackboneWithFPN(body, layers, widths, channels, LastLevelMaxPool())

    def forward(self, image: Tensor) -> list[Tensor]:
        return list(self.levels(image).values())


def move_strides(body: resnet.ResNet) -> None:
    """Give the stride of each bottleneck to its first convolution.

    Raises:
        InputError: if it has no bottlenecks.
    """
    for layer in (body.layer2, body.layer3, body.layer4):
        if not isinstance(layer[0], resnet.Bottleneck):
            raise InputError("has_stride_in_1x1 is for resnet50 and resnet101, whose blocks have a 1x1 convolution first")
        layer[0].conv1.stride, layer[0].conv2.stride = layer[0].conv2.stride, layer[0].conv1.stride
