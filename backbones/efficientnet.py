"""EfficientNet (Tan & Le, ICML 2019) as a pyramid of features at strides 4, 8, 16 and 32, built from efficientnet_pytorch.

Without squeeze-and-excitation, which neither EfficientPS nor EfficientNet-Lite has, drop-connect, pooling and classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise

import torch
from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.utils import BlockArgs, GlobalParams, get_model_params, round_filters, round_repeats
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from runtime.files import InputError

STRIDES = (4, 8, 16, 32)
NORM_EPS = 1e-3
LITE_SCALES = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}
"""Width and depth, as factors of EfficientNet-B0's (tensorflow/tpu, efficientnet/lite/efficientnet_lite_builder.py)."""
STAGES = 5
"""That can be frozen: the stem, and the blocks up to each of the four features."""
NORMS = ("bn", "frozen")
"""bn: statistics and scales are learned. frozen: they stay those of the weights that it starts from."""


class EfficientNetFeatures(nn.Module):
    """Image -> features at strides 4, 8, 16, 32; the last is that of the 1x1 head convolution.

    Args:
        net: of efficientnet_pytorch, whose norms and activations the derived class has made.
        name: begins the names of its tensors. Kinds that compute different functions with tensors of the same names and shapes
            have different ones, so that the weights of one never load into the other.
    """

    def __init__(self, net: EfficientNet, name: str):
        super().__init__()
        self.name = name
        self.add_module(name, net)
        del net._avg_pooling
        # A feature is what stands right before each further halving; the one at stride 2 is not used.
        halving = [i for i, block in enumerate(net._blocks) if block._depthwise_conv.stride[0] == 2]
        self.feature_blocks = tuple(i - 1 for i in halving[1:])
        last_channels = [net._blocks[i]._project_conv.out_channels for i in self.feature_blocks]
        self.channels = (*last_channels, net._conv_head.out_channels)
        # Not an argument: it changes neither the weights nor the function, so no checkpoint needs to know it.
        self.is_checkpointed = False

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised RGB -> four features, (B, channels[i], H / s, W / s), rounded up.

        A CPU computes in 32 bits: the gradient of a depthwise convolution takes it several times as long in bfloat16.
        """
        if image.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return self(image.float())
        net, features = getattr(self, self.name), []
        x = net._swish(net._bn0(net._conv_stem(image)))
        for i, block in enumerate(net._blocks):
            x = self._run(block, x)
            if i in self.feature_blocks:
                features.append(x)
        features.append(net._swish(net._bn1(net._conv_head(x))))
        return features

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        if not (self.is_checkpointed and self.training and torch.is_grad_enabled()):
            return block(x)
        contexts = lambda: (nullcontext(), _on_copied_buffers(block))  # noqa: E731, of the first computation and the second
        return checkpoint(block, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


class EfficientNetLite(EfficientNetFeatures):
    """EfficientNet-Lite0, 1 or 2: plain batch norm, ReLU6, linear projections; input (x - 127) / 128.

    Stem, head, and the repeats of the first and the last stage are never scaled.

    Args:
        variant: one of LITE_SCALES.
        norm_momentum: of the running statistics; 0.01 as in TensorFlow's EfficientNet, larger for short training.
        norm: one of NORMS.
        trainable_stages: how many of STAGES learn, counted from the last; norms of the others stay, too.

    Raises:
        InputError: if a setting is unknown.
    """

    def __init__(self, variant: str = "lite0", norm_momentum: float = 0.01, norm: str = "bn", trainable_stages: int = STAGES):
        for what, given, known in (("EfficientNet-Lite variant", variant, tuple(LITE_SCALES)), ("norm", norm, NORMS)):
            if given not in known:
                raise InputError(f"{what} {given!r} is unknown; choose one of {', '.join(known)}")
        if not 0 <= trainable_stages <= STAGES:
            raise InputError(f"trainable_stages is {trainable_stages}, but 0 to {STAGES} are there")
        net = EfficientNet(*lite_parameters(variant))
        for module in (net, *net._blocks):
            module._swish = nn.ReLU6(inplace=True)
        norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
        for batch_norm in norms:
            batch_norm.momentum = norm_momentum
        super().__init__(net, "lite")
        self.variant = variant
        frozen = [part for stage in self._stages()[: STAGES - trainable_stages] for part in stage]
        frozen += norms if norm == "frozen" else []
        for part in frozen:
            part.requires_grad_(False)
        inner = {id(module) for part in frozen for module in part.modules()}
        # By name: a conversion, such as to SyncBatchNorm, puts others in their places.
        self._frozen_norms = [name for name, m in self.named_modules() if m in norms and id(m) in inner]
        self.train()

    def train(self, mode: bool = True) -> "EfficientNetLite":
        """As nn.Module's, but frozen norms keep their statistics."""
        super().train(mode)
        for name in self._frozen_norms:
            self.get_submodule(name).eval()
        return self

    def _stages(self) -> list[list[nn.Module]]:
        """The modules of each of STAGES."""
        net, ends = self.lite, [0, *(i + 1 for i in self.feature_blocks), len(self.lite._blocks)]
        blocks = [list(net._blocks[start:end]) for start, end in pairwise(ends)]
        blocks[-1] += [net._conv_head, net._bn1]
        return [[net._conv_stem, net._bn0], *blocks]


def plain_parameters(variant: str) -> tuple[list[BlockArgs], GlobalParams]:
    """What efficientnet_pytorch builds a B0..B7 from, without squeeze-and-excitation and drop-connect.

    image_size is None: padding is computed from each input's own size, as TensorFlow does, not fixed for one size.
    """
    blocks, params = get_model_params(f"efficientnet-{variant}", {"image_size": None, "include_top": False})
    return [block._replace(se_ratio=None) for block in blocks], params._replace(image_size=None, drop_connect_rate=0.0)


def lite_parameters(variant: str) -> tuple[list[BlockArgs], GlobalParams]:
    """What efficientnet_pytorch builds a Lite from: B0's blocks, scaled here, since the package would scale all of them."""
    blocks, params = plain_parameters("b0")
    width, depth = LITE_SCALES[variant]
    scaling = params._replace(width_coefficient=width, depth_coefficient=depth)
    scaled = [
        block._replace(
            input_filters=round_filters(block.input_filters, scaling) if k else block.input_filters,
            output_filters=round_filters(block.output_filters, scaling),
            num_repeat=round_repeats(block.num_repeat, scaling) if 0 < k < len(blocks) - 1 else block.num_repeat,
        )
        for k, block in enumerate(blocks)
    ]
    return scaled, params._replace(width_coefficient=None, depth_coefficient=None)


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
