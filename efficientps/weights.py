"""Which checkpoints can start a network of EfficientPS, and how their names and meanings become ours."""

from collections.abc import Iterable

import torch
from torch import Tensor

from backbones.efficientnet import NORM_EPS
from efficientps.network import SemanticEfficientPS
from efficientps.official_weights import official_names
from training.weights_file import Source, lite_sources

NORM_OF = {"_conv_stem": "_bn0", "_conv_head": "_bn1", "_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}
"""The norm right after each of the encoder's convolutions."""
CLASS_LAYERS = (
    "semantic_head.classify",
    "instance_head.roi.box_predictor.cls_score",
    "instance_head.roi.box_predictor.bbox_pred",
    "instance_head.roi.mask_predictor.mask_fcn_logits",
)
STANDARD_CONVOLUTION = "neck.fpn_convs.0.conv.weight"
"""An official checkpoint has it where the FPN's output convolutions are standard ones."""


def is_separable(names: Iterable[str]) -> bool:
    """Whether an official checkpoint with these names has separable output convolutions in its FPN."""
    return STANDARD_CONVOLUTION not in set(names)


def sources(network: SemanticEfficientPS) -> tuple[Source, ...]:
    """The official model as a whole, and sources of an encoder trained on ImageNet; with an EfficientNet-Lite those alone."""
    if lite := lite_sources(network):
        return lite
    official = official_names(network)
    encoder = {ours: theirs for ours, theirs in official.items() if ours.startswith("encoder.")}
    return (
        Source(
            "official EfficientPS",
            marker="backbone.conv_stem.weight",
            names=official,
            class_layers=tuple(ours for ours in official if ours.rpartition(".")[0] in CLASS_LAYERS),
        ),
        Source(
            "efficientnet_pytorch",
            marker="_conv_stem.weight",
            names={ours: ours.removeprefix("encoder.net.") for ours in encoder},
            convert=activate_plain_norms,
            has_squeeze=True,
        ),
        Source(
            "timm EfficientNet",
            marker="conv_stem.weight",
            names={ours: theirs.removeprefix("backbone.") for ours, theirs in encoder.items()},
            convert=activate_plain_norms,
            has_squeeze=True,
        ),
    )


def activate_plain_norms(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Change weights of an encoder with plain BatchNorm2d so that NormAct, which scales by |weight| + eps, normalises alike.

    A negative scale becomes a positive one and negates the convolution before it. Scales within eps of 0 become eps.
    """
    changed = dict(tensors)
    for name in tensors:
        prefix, _, layer = name.removesuffix(".weight").rpartition(".")
        norm = f"{prefix}.{NORM_OF.get(layer)}"
        scale = tensors.get(f"{norm}.weight")
        if scale is None or f"{norm}.running_mean" not in tensors:
            continue
        sign = torch.where(scale < 0, -1.0, 1.0)
        changed[name] = tensors[name] * sign[:, None, None, None]
        changed[f"{norm}.running_mean"] = tensors[f"{norm}.running_mean"] * sign
        changed[f"{norm}.weight"] = (scale.abs() - NORM_EPS).clamp(min=0)
    return changed
