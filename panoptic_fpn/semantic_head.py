"""Semantic branch of Panoptic FPN (Kirillov et al., CVPR 2019, section 3.1 and figure 3)."""

from itertools import pairwise

from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)


class SemanticHead(nn.Module):
    """Each level is brought to stride 4 by [3x3 convolution, group norm, ReLU, bilinear x2] as often as needed; then their sum.

    Args:
        in_channels: width of the pyramid.
        num_outputs: classes that it tells apart.
        channels: width of the branch; 128 in the paper.
        num_groups: of the group norms.
    """

    def __init__(self, in_channels: int, num_outputs: int, channels: int = 128, num_groups: int = 32):
        super().__init__()
        self.scale_heads = nn.ModuleDict()
        for k, stride in enumerate(STRIDES):
            widths = [in_channels] + [channels] * max(k, 1)
            steps = [ConvNormUp(a, b, num_groups, is_enlarging=k > 0) for a, b in pairwise(widths)]
            self.scale_heads[f"s{stride}"] = nn.Sequential(*steps)
        self.classify = nn.Conv2d(channels, num_outputs, 1)
        for conv in (m for m in self.modules() if isinstance(m, nn.Conv2d) and m.bias is None):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Levels at strides 4, 8, 16, 32, each half of the one before -> (B, num_outputs, H / 4, W / 4) logits."""
        at_stride_4 = [head(level) for head, level in zip(self.scale_heads.values(), pyramid, strict=True)]
        return self.classify(sum(at_stride_4))


class ConvNormUp(nn.Sequential):
    """3x3 convolution, group norm, ReLU, and bilinear x2 where `is_enlarging`."""

    def __init__(self, in_channels: int, channels: int, num_groups: int, is_enlarging: bool):
        conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        parts = [conv, nn.GroupNorm(num_groups, channels), nn.ReLU()]
        if is_enlarging:
            parts.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
        super().__init__(*parts)
