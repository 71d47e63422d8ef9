"""The network has the paper's parts and sizes, refuses settings that cannot be, and learns."""

import pytest
import torch
from torch import nn

from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, VOID_TRAIN_ID
from panoptic_fpn.backbone import Backbone
from panoptic_fpn.network import NetworkSettings, PanopticFPN, build_network, semantic_outputs, to_plain
from panoptic_fpn.semantic_head import SemanticHead
from runtime.files import InputError


def test_resnet50_for_coco_has_as_many_parameters_as_its_layers_need():
    """46.0 M, as detectron2's, whose mask head has no output for the background (257 fewer)."""
    network = build_network(to_plain(NetworkSettings(), COCO_PANOPTIC))
    body = 25_557_032 - (2048 * 1000 + 1000) - 53_120  # torchvision's ResNet-50 without classifier; frozen norms are buffers
    conv = 256 * 256 * 9 + 256
    pyramid = (256 + 512 + 1024 + 2048) * 256 + 4 * 256 + 4 * conv
    rpn = conv + (256 + 1) * 3 * (1 + 4)
    box = (256 * 7 * 7 + 1) * 1024 + (1024 + 1) * 1024 + (1024 + 1) * (80 + 1) * (1 + 4)
    mask = 4 * conv + (256 * 256 * 2 * 2 + 256) + (256 + 1) * (80 + 1)
    first, further = 256 * 128 * 9 + 2 * 128, 128 * 128 * 9 + 2 * 128  # a convolution without bias, and its group norm
    semantic = 4 * first + (0 + 0 + 1 + 2) * further + (128 + 1) * (53 + 1)
    assert sum(p.numel() for p in network.parameters()) == body + pyramid + rpn + box + mask + semantic


def test_levels_and_logits_have_their_strides(small):
    network = build_network(to_plain(small, CITYSCAPES)).eval()
    pyramid, logits = network(torch.randn(2, 3, 64, 96))
    assert [tuple(level.shape) for level in pyramid] == [(2, 32, 64 // s, 96 // s) for s in (4, 8, 16, 32)] + [(2, 32, 1, 2)]
    assert logits.shape == (2, 11 + 1, 16, 24)


def test_the_semantic_branch_tells_stuff_from_other_or_all_classes_apart():
    is_thing = [True, False, False, True, False]
    assert semantic_outputs(is_thing, has_all_classes=False) == [1, 2, 4, VOID_TRAIN_ID]
    assert semantic_outputs(is_thing, has_all_classes=True) == [0, 1, 2, 3, 4]


def test_a_level_is_enlarged_as_often_as_its_stride_asks():
    head = SemanticHead(8, num_outputs=3, channels=4, num_groups=2)
    count = {name: sum(isinstance(m, nn.Upsample) for m in part.modules()) for name, part in head.scale_heads.items()}
    convs = {name: sum(isinstance(m, nn.Conv2d) for m in part.modules()) for name, part in head.scale_heads.items()}
    assert count == {"s4": 0, "s8": 1, "s16": 2, "s32": 3}
    assert convs == {"s4": 1, "s8": 1, "s16": 2, "s32": 3}


def test_the_semantic_branch_sums_its_levels():
    """Classification is linear: the sum of what each level says alone, less what silence says three times too often."""
    torch.manual_seed(0)
    head = SemanticHead(8, num_outputs=3, channels=4, num_groups=2).eval()
    levels = [torch.randn(1, 8, 32 // s, 64 // s) for s in (1, 2, 4, 8)]
    silent = [torch.zeros_like(level) for level in levels]
    alone = [head([level if k == own else quiet for k, (level, quiet) in enumerate(zip(levels, silent))]) for own in range(4)]
    torch.testing.assert_close(head(levels), sum(alone) - 3 * head(silent), atol=1e-6, rtol=1e-5)


def test_only_the_last_stages_learn():
    body = Backbone("resnet18", 8, trainable_stages=2).levels.body
    learning = {name.partition(".")[0] for name, p in body.named_parameters() if p.requires_grad}
    assert learning == {"layer3", "layer4"}


def test_the_stride_can_stand_in_the_1x1_convolution():
    where = {}
    for has_stride in (False, True):
        block = Backbone("resnet50", 8, has_stride_in_1x1=has_stride).levels.body["layer2"][0]
        where[has_stride] = (block.conv1.stride, block.conv2.stride)
    assert where == {False: ((1, 1), (2, 2)), True: ((2, 2), (1, 1))}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet12"}, "backbone 'resnet12' is unknown; choose one of resnet18"),
        ({"norm": "sync"}, "norm 'sync' is unknown; choose one of frozen, bn"),
        ({"trainable_stages": 6}, "trainable_stages is 6, but 0 to 5"),
        ({"backbone": "resnet18", "has_stride_in_1x1": True}, "is for resnet50 and resnet101"),
        ({"semantic_channels": 48}, "semantic_channels is 48, but a multiple of its 32 groups"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        PanopticFPN([True, False], NetworkSettings(**settings))


@pytest.mark.parametrize("is_thing", [[True, True], [False]])
def test_things_and_stuff_are_both_needed(is_thing):
    with pytest.raises(InputError, match="Panoptic FPN needs things and stuff"):
        PanopticFPN(is_thing)


@pytest.mark.slow
def test_it_overfits_one_image(learned):
    """A network that says nothing has log(12) + log(9) + 2 log(2) and the boxes' terms; what it learns is far below half."""
    _, losses = learned
    assert sum(losses[-5:]) / 5 < 0.4 * losses[0]
