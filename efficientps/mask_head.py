"""Mask head of the original EfficientPS (Mohan & Valada, IJCV 2021, section 3.4): four separable convolutions."""

from torch import nn

from efficientps.norm import SeparableConv


class MaskHead(nn.Sequential):
    """(N, C, 14, 14) -> (N, channels, 14, 14)."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__(*(SeparableConv(in_channels if k == 0 else channels, channels) for k in range(4)))
