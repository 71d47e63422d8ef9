"""EfficientNet B0-B7 as EfficientPS uses it: batch norm + swish become NormAct, and the first stage's projection is activated."""

from efficientnet_pytorch import EfficientNet
from torch import nn

from backbones.efficientnet import LITE_SCALES, NORM_EPS, STAGES, EfficientNetFeatures, EfficientNetLite, plain_parameters
from efficientps.norm import NormAct
from runtime.files import InputError

EFFICIENTNETS = tuple(f"b{n}" for n in range(8))
VARIANTS = (*EFFICIENTNETS, *LITE_SCALES)


class Encoder(EfficientNetFeatures):
    """Image -> features at strides 4, 8, 16, 32.

    Args:
        variant: b0 .. b7.
        norm_momentum: of the running statistics; 0.01 as in TensorFlow's EfficientNet, larger for short training.
    """

    def __init__(self, variant: str = "b5", norm_momentum: float = 0.01):
        net = EfficientNet(*plain_parameters(variant))
        net._swish = nn.Identity()
        net._bn0 = _norm_act(net._bn0, norm_momentum)
        net._bn1 = _norm_act(net._bn1, norm_momentum)
        for block in net._blocks:
            block._swish = nn.Identity()
            is_expanded = block._block_args.expand_ratio != 1
            if is_expanded:
                block._bn0 = _norm_act(block._bn0, norm_momentum)
            block._bn1 = _norm_act(block._bn1, norm_momentum)
            # The projection is linear, but in the first stage, which does not expand, the official one activates it.
            block._bn2 = _norm_act(block._bn2, norm_momentum, activated=not is_expanded)
        super().__init__(net, "net")


def build_encoder(variant: str, norm_momentum: float, trainable_stages: int = STAGES) -> EfficientNetFeatures:
    """The paper's EfficientNet, or an EfficientNet-Lite, which is another function.

    Args:
        trainable_stages: of a Lite, see EfficientNetLite.

    Raises:
        InputError: for another variant, or a B0..B7 of which a part is not to learn.
    """
    if variant not in VARIANTS:
        raise InputError(f"EfficientNet variant {variant!r} is unknown; choose one of {', '.join(VARIANTS)}")
    if variant in LITE_SCALES:
        return EfficientNetLite(variant, norm_momentum, trainable_stages=trainable_stages)
    if trainable_stages != STAGES:
        raise InputError(f"trainable_stages is {trainable_stages}, but {variant} learns as a whole; leave it out, or take a Lite")
    return Encoder(variant, norm_momentum)


def _norm_act(norm: nn.BatchNorm2d, momentum: float, activated: bool = True) -> NormAct:
    return NormAct(norm.num_features, eps=NORM_EPS, momentum=momentum, activated=activated)
