"""Activated batch norm, the function of InPlaceABN (Rota Bulò et al., CVPR 2018), with its checkpoint keys.

Plain PyTorch by default; `set_norm` lets a built network compute it in place, by the package inplace-abn.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.files import InputError, shorten

LEAKY_SLOPE = 0.01
NORMS = ("bn", "iabn", "iabn_sync")
"""Plain; in place; in place with the statistics of all processes together."""
INSTALL = "run `make iabn`, or pip install setuptools_scm; pip install --no-build-isolation inplace-abn (needs a C++ compiler)"


class NormAct(nn.BatchNorm2d):
    """Batch norm that scales by |weight| + eps, then leaky ReLU (slope 0.01) unless `activated` is False.

    In-place ABN >= 1.0 keeps the scale positive in this way, so its checkpoints mean something else in a plain BatchNorm2d.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, activated: bool = True):
        super().__init__(channels, eps=eps, momentum=momentum)
        self.activated = activated
        self.norm = "bn"

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same shape. All forms but "bn" overwrite x with the result."""
        if self.training:
            self.num_batches_tracked.add_(1)
        if self.norm != "bn":
            return self._in_place(x)
        scale = self.weight.abs() + self.eps
        x = F.batch_norm(x, self.running_mean, self.running_var, scale, self.bias, self.training, self.momentum, self.eps)
        return F.leaky_relu(x, LEAKY_SLOPE) if self.activated else x

    def _in_place(self, x: Tensor) -> Tensor:
        from inplace_abn import functions  # an optional package; set_norm has made sure of it

        if x.dtype == torch.bfloat16:
            raise InputError("in-place ABN cannot compute in bfloat16; set --trainer.precision 16-mixed or 32-true, or norm bn")
        if len(x) == 0:  # no objects; the package would fail
            return x
        is_sync = self.norm == "iabn_sync" and self.training and torch.distributed.is_initialized()
        if (x.is_cuda or is_sync) and not hasattr(functions._backend, "reduce_statistics"):
            raise InputError(
                "inplace-abn was built without CUDA; run `make iabn` again where the GPU is visible, or choose norm bn"
            )
        activation = "leaky_relu" if self.activated else "identity"
        statistics = (self.running_mean, self.running_var, self.training, self.momentum, self.eps)
        if is_sync:
            # The package's own default is the group that there was when it was imported, which is none: it would not synchronise.
            group = torch.distributed.group.WORLD
            return functions.inplace_abn_sync(x, self.weight, self.bias, *statistics, activation, LEAKY_SLOPE, group)
        return functions.inplace_abn(x, self.weight, self.bias, *statistics, activation, LEAKY_SLOPE)


def set_norm(network: nn.Module, norm: str) -> None:
    """Let a network's activated norms compute in another of the forms NORMS; weights and checkpoint keys are the same.

    In place, a convolution with its norm keeps one feature map for the backward pass, the plain form three: the norm overwrites
    its input, which nothing else may read, and computes it back for the gradient. It cannot compute in bfloat16.
    "iabn_sync" needs processes that call each norm equally often: not for a head that skips images without objects.

    Raises:
        InputError: for another form, or where inplace-abn is not installed.
    """
    if norm not in NORMS:
        raise InputError(f"norm {norm!r} is unknown; choose one of {', '.join(NORMS)}")
    if norm != "bn":
        try:
            import inplace_abn  # noqa: F401
        except ImportError as error:
            raise InputError(f"norm {norm!r} needs inplace-abn ({shorten(error)}): {INSTALL}; or choose norm bn") from None
    for module in network.modules():
        if isinstance(module, NormAct):
            module.norm = norm


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
