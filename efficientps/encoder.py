"""EfficientNet B0-B7 (Tan & Le, ICML 2019) as EfficientPS uses it: a pyramid of features at strides 4, 8, 16 and 32.

Built from efficientnet_pytorch. Differs from its classifier: no squeeze-and-excitation, no drop-connect, no pooling and
classes; batch norm + swish become NormAct. The 1x1 head convolution stays: it is the stride-32 feature.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.utils import get_model_params
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from efficientps.norm import NormAct
from runtime.files import InputError

STRIDES = (4, 8, 16, 32)
VARIANTS = tuple(f"b{n}" for n in range(8))
NORM_EPS = 1e-3


class Encoder(nn.Module):
    """Image -> features at strides 4, 8, 16, 32.

    Args:
        variant: b0 .. b7.
        norm_momentum: of the running statistics; 0.01 as in TensorFlow's EfficientNet, larger for short training.

    Raises:
        InputError: for another variant.
    """

    def __init__(self, variant: str = "b5", norm_momentum: float = 0.01):
        super().__init__()
        if variant not in VARIANTS:
            raise InputError(f"EfficientNet variant {variant!r} is unknown; choose one of {', '.join(VARIANTS)}")
        # image_size=None: padding is computed from each input's own size, as TensorFlow does, not fixed for one size.
        blocks_args, params = get_model_params(f"efficientnet-{variant}", {"image_size": None, "include_top": False})
        blocks_args = [args._replace(se_ratio=None) for args in blocks_args]
        self.net = EfficientNet(blocks_args, params._replace(image_size=None, drop_connect_rate=0.0))
        del self.net._avg_pooling
        self.net._swish = nn.Identity()
        self.net._bn0 = _norm_act(self.net._bn0, norm_momentum)
        self.net._bn1 = _norm_act(self.net._bn1, norm_momentum)
        for block in self.net._blocks:
            block._swish = nn.Identity()
            is_expanded = block._block_args.expand_ratio != 1
            if is_expanded:
                block._bn0 = _norm_act(block._bn0, norm_momentum)
            block._bn1 = _norm_act(block._bn1, norm_momentum)
            # The projection is linear, but in the first stage, which does not expand, the official one activates it.
            block._bn2 = _norm_act(block._bn2, norm_momentum, activated=not is_expanded)
        # A feature is what stands right before each further halving; the one at stride 2 is not used.
        halving = [i for i, block in enumerate(self.net._blocks) if block._depthwise_conv.stride[0] == 2]
        self.feature_blocks = tuple(i - 1 for i in halving[1:])
        last_channels = [self.net._blocks[i]._project_conv.out_channels for i in self.feature_blocks]
        self.channels = (*last_channels, self.net._conv_head.out_channels)
        # Not an argument: it changes neither the weights nor the function, so no checkpoint needs to know it.
        self.is_checkpointed = False

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised RGB, H and W multiples of 32 -> four features, (B, channels[i], H / s, W / s)."""
        features = []
        x = self.net._bn0(self.net._conv_stem(image))
        for i, block in enumerate(self.net._blocks):
            x = self._run(block, x)
            if i in self.feature_blocks:
                features.append(x)
        features.append(self.net._bn1(self.net._conv_head(x)))
        return features

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        if not (self.is_checkpointed and self.training and torch.is_grad_enabled()):
            return block(x)
        contexts = lambda: (nullcontext(), _on_copied_buffers(block))  # noqa: E731, of the first computation and the second
        return checkpoint(block, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


@contextmanager
def _on_copied_buffers(block: nn.Module) -> Iterator[None]:
    """Let what a block computes update copies of its running statistics: one step must count once."""
    buffers = [(owner, name, buffer) for owner in block.modules() for name, buffer in owner.named_buffers(recurse=False)]
    for owner, name, buffer in buffers:
        setattr(owner, name, buffer.clone())
    try:
        yield
    finally:
        for owner, name, buffer in buffers:
            setattr(owner, name, buffer)


def _norm_act(norm: nn.BatchNorm2d, momentum: float, activated: bool = True) -> NormAct:
    return NormAct(norm.num_features, eps=NORM_EPS, momentum=momentum, activated=activated)
