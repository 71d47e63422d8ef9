"""ERFNet (Romera et al., IEEE T-ITS 2018): factorised residual blocks, an encoder to stride 8, a decoder to every pixel.

Written from the paper's description. Differs: the width and the dropout can be scaled, and blocks begin as the identity.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 8
"""Of the encoder's output; an image's sides must be multiples of it."""
WIDTHS = (16, 64, 128)
"""Channels at strides 2, 4 and 8."""
SMALLEST_WIDTH = 0.25
"""Below, the first block would have no channel left beside the three of the image that it keeps."""
NORM_EPS = 1e-3


def scaled_widths(width: float) -> tuple[int, int, int]:
    """Channels at strides 2, 4 and 8 of a network that is `width` times as wide as the published one."""
    return tuple(round(channels * width) for channels in WIDTHS)


class Downsampler(nn.Module):
    """Half the size: a strided convolution beside a maximum, so that what goes in is not lost."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels - in_channels, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(out_channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / 2, W / 2)."""
        return F.relu(self.norm(torch.cat([self.conv(x), F.max_pool2d(x, 2)], dim=1)))


class Upsampler(nn.Sequential):
    """Twice the size, by a transposed convolution."""

    def __init__(self, in_channels: int, out_channels: int):
        enlarge = nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)
        super().__init__(enlarge, nn.BatchNorm2d(out_channels, eps=NORM_EPS), nn.ReLU())


class NonBottleneck1D(nn.Module):
    """A residual block of two 3x3 convolutions, each as a column and a row; the second pair is dilated."""

    def __init__(self, channels: int, dropout: float = 0.0, dilation: int = 1):
        super().__init__()
        self.columns_and_rows = nn.Sequential(
            nn.Conv2d(channels, channels, (3, 1), padding=(1, 0)),
            nn.ReLU(),
            nn.Conv2d(channels, channels, (1, 3), padding=(0, 1)),
            nn.BatchNorm2d(channels, eps=NORM_EPS),
            nn.ReLU(),
            nn.Conv2d(channels, channels, (3, 1), padding=(dilation, 0), dilation=(dilation, 1)),
            nn.ReLU(),
            nn.Conv2d(channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation)),
            nn.BatchNorm2d(channels, eps=NORM_EPS),
            nn.Dropout2d(dropout),
        )
        # Each block begins as the identity (Goyal et al. 2017): as deep and narrow a network learns sooner so.
        nn.init.zeros_(self.columns_and_rows[8].weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return F.relu(x + self.columns_and_rows(x))


class Encoder(nn.Sequential):
    """(B, 3, H, W), H and W multiples of 8 -> (B, widths[2], H / 8, W / 8).

    Args:
        widths: channels at strides 2, 4 and 8.
        dropout: factor of the published rates, .03 and .3.
    """

    def __init__(self, widths: tuple[int, int, int] = WIDTHS, dropout: float = 1.0):
        at_2, at_4, at_8 = widths
        super().__init__(
            Downsampler(3, at_2),
            Downsampler(at_2, at_4),
            *(NonBottleneck1D(at_4, dropout=0.03 * dropout) for _ in range(5)),
            Downsampler(at_4, at_8),
            *(NonBottleneck1D(at_8, dropout=0.3 * dropout, dilation=d) for _ in range(2) for d in (2, 4, 8, 16)),
        )


class Decoder(nn.Module):
    """(B, widths[2], H / 8, W / 8) -> (B, out_channels, H, W)."""

    def __init__(self, out_channels: int, widths: tuple[int, int, int] = WIDTHS):
        super().__init__()
        at_2, at_4, at_8 = widths
        self.features = nn.Sequential(
            Upsampler(at_8, at_4),
            *(NonBottleneck1D(at_4) for _ in range(2)),
            Upsampler(at_4, at_2),
            *(NonBottleneck1D(at_2) for _ in range(2)),
        )
        self.output = nn.ConvTranspose2d(at_2, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.output(self.features(x))
