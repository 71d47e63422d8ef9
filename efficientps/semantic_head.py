"""Semantic head of EfficientPS (Mohan & Valada, IJCV 2021, section 3.3): LSFE, DPC and mismatch correction.

As the official code: DPC ends with 128 channels (the paper's text says 256, its figure 128), and the DPC of stride 16 enters
the final concatenation as it is, without the stride-32 one added.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientps.norm import ConvNormAct, SeparableConv

HEAD_CHANNELS = 128
DPC_DILATIONS = ((1, 6), (1, 1), (6, 21), (18, 15), (6, 3))
"""(rows, columns) of the five branches; the first feeds the 2nd, 3rd and 4th, the 4th the 5th."""


class LargeScaleFeatures(nn.Sequential):
    """LSFE: two separable convolutions for the fine levels."""

    def __init__(self, in_channels: int):
        super().__init__(SeparableConv(in_channels, HEAD_CHANNELS), SeparableConv(HEAD_CHANNELS, HEAD_CHANNELS))


class DensePredictionCell(nn.Module):
    """DPC (Chen et al., NeurIPS 2018) as EfficientPS writes it, for the coarse levels."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.branches = nn.ModuleList(SeparableConv(in_channels, in_channels, dilation=d) for d in DPC_DILATIONS)
        self.merge = ConvNormAct(len(DPC_DILATIONS) * in_channels, HEAD_CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 128, h, w)."""
        first, second, third, fourth, fifth = self.branches
        x0 = first(x)
        x3 = fourth(x0)
        return self.merge(torch.cat([x0, second(x0), third(x0), x3, fifth(x3)], dim=1))


class MismatchCorrection(nn.Module):
    """MC: two separable convolutions, then twice the size."""

    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(*(SeparableConv(HEAD_CHANNELS, HEAD_CHANNELS) for _ in range(2)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 128, h, w) -> (B, 128, 2h, 2w)."""
        return _enlarge(self.convs(x), 2)


class SemanticHead(nn.Module):
    """Four pyramid levels -> logits at stride 4."""

    def __init__(self, in_channels: int, num_classes: int):
        super().__init__()
        self.dpc = nn.ModuleDict({level: DensePredictionCell(in_channels) for level in ("s32", "s16")})
        self.lsfe = nn.ModuleDict({level: LargeScaleFeatures(in_channels) for level in ("s8", "s4")})
        self.correction = nn.ModuleDict({level: MismatchCorrection() for level in ("s16", "s8")})
        self.classify = nn.Conv2d(4 * HEAD_CHANNELS, num_classes, 1)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Levels at strides 4, 8, 16, 32, (B, C, H / s, W / s) -> (B, num_classes, H / 4, W / 4), before any softmax."""
        p4, p8, p16, p32 = pyramid
        d32, d16 = self.dpc["s32"](p32), self.dpc["s16"](p16)
        l8 = self.lsfe["s8"](p8) + self.correction["s16"](d16 + _enlarge(d32, 2))
        l4 = self.lsfe["s4"](p4) + self.correction["s8"](l8)
        return self.classify(torch.cat([l4, _enlarge(l8, 2), _enlarge(d16, 4), _enlarge(d32, 8)], dim=1))


def _enlarge(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
