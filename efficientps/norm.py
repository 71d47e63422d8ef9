"""Activated batch norm, the function of InPlaceABN (Rota Bulò et al., CVPR 2018) in plain PyTorch, with its checkpoint keys."""

import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.01


class NormAct(nn.BatchNorm2d):
    """Batch norm that scales by |weight| + eps, then leaky ReLU (slope 0.01) unless `activated` is False.

    In-place ABN >= 1.0 keeps the scale positive in this way, so its checkpoints mean something else in a plain BatchNorm2d.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, activated: bool = True):
        super().__init__(channels, eps=eps, momentum=momentum)
        self.activated = activated

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same shape."""
        if self.training:
            self.num_batches_tracked.add_(1)
        scale = self.weight.abs() + self.eps
        x = F.batch_norm(x, self.running_mean, self.running_var, scale, self.bias, self.training, self.momentum, self.eps)
        return F.leaky_relu(x, LEAKY_SLOPE) if self.activated else x


class ConvNormAct(nn.Sequential):
    """Convolution without bias, then NormAct; padding keeps the size."""

    def __init__(self, in_channels: int, channels: int, kernel: int, *, dilation: tuple[int, int] = (1, 1), groups: int = 1):
        padding = tuple(d * (kernel // 2) for d in dilation)
        super().__init__(
            nn.Conv2d(in_channels, channels, kernel, padding=padding, dilation=dilation, groups=groups, bias=False),
            NormAct(channels),
        )


class SeparableConv(nn.Sequential):
    """Depthwise 3x3, then pointwise 1x1, each with NormAct (EfficientPS section 3.2)."""

    def __init__(self, in_channels: int, channels: int, *, dilation: tuple[int, int] = (1, 1)):
        super().__init__(
            ConvNormAct(in_channels, in_channels, 3, dilation=dilation, groups=in_channels),
            ConvNormAct(in_channels, channels, 1),
        )
