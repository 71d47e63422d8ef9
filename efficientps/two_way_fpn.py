"""Two-way FPN of EfficientPS (Mohan & Valada, IJCV 2021, section 3.2): a top-down and a bottom-up pass, added.

The bottom-up pass halves by nearest-neighbour sampling, as the official code does. The paper's output convolution is
separable, the official code's is a standard one: a setting.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.efficientnet import STRIDES
from efficientps.norm import ConvNormAct, SeparableConv

LEVELS = tuple(f"s{stride}" for stride in STRIDES)


class TwoWayFPN(nn.Module):
    """Features of any widths at strides 4, 8, 16, 32 -> as many levels of equal width.

    Args:
        in_channels: widths of the four features, finest first.
        channels: width of every output level.
        is_separable: separable output convolutions (paper) or standard ones (official code).
    """

    def __init__(self, in_channels: tuple[int, ...], channels: int = 256, is_separable: bool = True):
        super().__init__()
        pairs = list(zip(LEVELS, in_channels, strict=True))
        self.top_down_laterals = nn.ModuleDict({level: ConvNormAct(c, channels, 1) for level, c in pairs})
        self.bottom_up_laterals = nn.ModuleDict({level: ConvNormAct(c, channels, 1) for level, c in pairs})
        self.outputs = nn.ModuleDict(
            {level: SeparableConv(channels, channels) if is_separable else ConvNormAct(channels, channels, 3) for level in LEVELS}
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Four (B, C_i, H / s, W / s), finest first -> four (B, channels, H / s, W / s)."""
        down = [self.top_down_laterals[level](x) for level, x in zip(LEVELS, features, strict=True)]
        up = [self.bottom_up_laterals[level](x) for level, x in zip(LEVELS, features, strict=True)]
        for i in reversed(range(len(LEVELS) - 1)):
            down[i] = down[i] + F.interpolate(down[i + 1], size=down[i].shape[-2:], mode="nearest")
        for i in range(len(LEVELS) - 1):
            up[i + 1] = up[i + 1] + F.interpolate(up[i], size=up[i + 1].shape[-2:], mode="nearest")
        return [self.outputs[level](d + u) for level, d, u in zip(LEVELS, down, up, strict=True)]
