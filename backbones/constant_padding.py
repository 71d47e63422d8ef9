"""Layers that halve an even side, written so that the half is exact: for export, which follows sizes as formulas.

For sides that are multiples of 32 the results are the same. TensorFlow's padding, which efficientnet_pytorch computes from each
input's size, is a constant for them; and of the padding of a convolution that steps by 2 the last row and column are never read.
"""

from copy import deepcopy
from itertools import chain

from efficientnet_pytorch.utils import Conv2dDynamicSamePadding
from torch import nn


def with_constant_padding(network: nn.Module) -> nn.Module:
    """A copy of a network that does the same for images whose sides are multiples of 32."""
    copy = deepcopy(network)
    for module in list(copy.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Conv2dDynamicSamePadding):
                setattr(module, name, _of_same_padding(child))
            elif isinstance(child, nn.Conv2d) and child.stride == (2, 2) and child.padding != "same" and any(child.padding):
                sides = [(p, p - 1) for p in reversed(child.padding)]
                setattr(module, name, nn.Sequential(nn.ZeroPad2d(tuple(chain(*sides))), _without_padding(child)))
            elif isinstance(child, nn.MaxPool2d) and (child.kernel_size, child.stride, child.padding) == (3, 2, 1):
                padded = nn.ConstantPad2d((1, 0, 1, 0), float("-inf"))
                setattr(module, name, nn.Sequential(padded, nn.MaxPool2d(3, 2)))
    return copy


def _of_same_padding(conv: Conv2dDynamicSamePadding) -> nn.Module:
    """Where the stride is 1 a side of k cells needs k // 2 on both ends; where it is 2, k - 2 in all, the smaller half first."""
    stride = tuple(conv.stride)
    assert conv.dilation == (1, 1), conv
    assert stride in ((1, 1), (2, 2)), conv
    if stride == (1, 1):
        return _without_padding(conv, tuple(k // 2 for k in conv.kernel_size))
    sides = [((k - 2) // 2, k - 2 - (k - 2) // 2) for k in reversed(conv.kernel_size)]
    return nn.Sequential(nn.ZeroPad2d(tuple(chain(*sides))), _without_padding(conv))


def _without_padding(conv: nn.Conv2d, padding: tuple[int, int] = (0, 0)) -> nn.Conv2d:
    """A plain convolution with the same weights and another padding."""
    about = {"dilation": conv.dilation, "groups": conv.groups, "bias": conv.bias is not None}
    plain = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, tuple(conv.stride), padding, **about)
    plain.weight, plain.bias = conv.weight, conv.bias
    return plain
