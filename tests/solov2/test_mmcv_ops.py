"""What mmcv's Python API computes through our stand-in, against torchvision called directly."""

import importlib
import sys
from types import ModuleType

import mmcv.ops
import pytest
import torch
import torch.nn.functional as F
import torchvision
from mmdet.models.losses.focal_loss import FocalLoss, py_sigmoid_focal_loss

from solov2 import mmcv_ops

pytestmark = pytest.mark.parity


def draw_boxes(num_boxes: int, generator: torch.Generator) -> torch.Tensor:
    corners = torch.rand(num_boxes, 2, generator=generator) * 20
    return torch.cat([corners, corners + 1 + torch.rand(num_boxes, 2, generator=generator) * 12], 1)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def gradients(output: torch.Tensor, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of a sum with uneven weights, so that no two positions can be exchanged unseen."""
    weights = torch.linspace(-1, 2, output.numel()).view_as(output)
    return list(torch.autograd.grad((output * weights).sum(), inputs))


def test_nms_keeps_what_torchvision_keeps(generator):
    boxes, scores = draw_boxes(200, generator), torch.rand(200, generator=generator)
    kept_rows, kept = mmcv.ops.nms(boxes, scores, 0.4)
    assert kept.tolist() == torchvision.ops.nms(boxes, scores, 0.4).tolist()
    assert 1 < len(kept) < 200
    torch.testing.assert_close(kept_rows, torch.cat([boxes, scores[:, None]], 1)[kept])


def test_nms_with_offset_counts_the_last_pixel():
    # 3 x 3 and 3 x 2 pixels, 6 in common: overlap 6 / 9 with the last pixel counted, 2 / 4 without.
    boxes, scores = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1]]), torch.tensor([0.9, 0.8])
    assert len(mmcv.ops.nms(boxes, scores, 0.6, offset=1)[1]) == 1
    assert len(mmcv.ops.nms(boxes, scores, 0.6, offset=0)[1]) == 2


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align_equals_torchvision(generator, aligned, sampling_ratio):
    features = torch.randn(2, 3, 16, 20, generator=generator, requires_grad=True)
    rois = torch.cat([torch.tensor([[0.0], [1], [1], [0]]), draw_boxes(4, generator)], 1)
    ours = mmcv.ops.roi_align(features, rois, (3, 4), 0.5, sampling_ratio, "avg", aligned)
    theirs = torchvision.ops.roi_align(features, rois, (3, 4), 0.5, sampling_ratio, aligned)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, [features]), gradients(theirs, [features]))


@pytest.mark.parametrize(("groups", "deform_groups"), [(1, 1), (2, 2)])
@pytest.mark.parametrize("is_modulated", [False, True])
def test_deformable_convolution_equals_torchvision(generator, groups, deform_groups, is_modulated):
    def draw(*size):
        return torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=True)

    # Uneven stride, padding and dilation, so that height and width cannot be exchanged unseen; 9 x 13 becomes 5 x 13.
    stride, padding, dilation = (2, 1), (1, 2), (1, 2)
    x, weight, bias = draw(2, 4, 9, 13), draw(6, 4 // groups, 3, 3), draw(6)
    offset, mask = draw(2, 18 * deform_groups, 5, 13), draw(2, 9 * deform_groups, 5, 13)
    geometry = (stride, padding, dilation)
    if is_modulated:
        inputs = [x, offset, mask, weight, bias]
        ours = mmcv.ops.modulated_deform_conv2d(*inputs, *geometry, groups, deform_groups)
        theirs = torchvision.ops.deform_conv2d(x, offset, weight, bias, *geometry, mask)
    else:
        inputs = [x, offset, weight]
        ours = mmcv.ops.deform_conv2d(*inputs, *geometry, groups, deform_groups)
        theirs = torchvision.ops.deform_conv2d(x, offset, weight, None, *geometry)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, inputs), gradients(theirs, inputs))


def test_modulated_convolution_without_bias_trains(generator):
    layer = mmcv.ops.ModulatedDeformConv2dPack(2, 4, 3, padding=1, bias=False)
    x = torch.randn(1, 2, 6, 6, generator=generator, requires_grad=True)
    # The offsets start at 0 and the mask at sigmoid(0), so this is half a plain convolution.
    plain = F.conv2d(x, layer.weight, padding=1) / 2
    torch.testing.assert_close(layer(x), plain)
    torch.testing.assert_close(gradients(layer(x), [x, layer.weight]), gradients(plain, [x, layer.weight]))


def test_focal_loss_as_on_a_gpu_equals_mmdets_own_python_one(generator):
    logits = torch.randn(50, 8, generator=generator, requires_grad=True)
    labels = torch.randint(0, 9, (50,), generator=generator)  # 8 is background
    ours = mmcv.ops.sigmoid_focal_loss(logits, labels, 2.0, 0.25, None, "none")
    theirs = py_sigmoid_focal_loss(logits, F.one_hot(labels, 9)[:, :8], reduction="none")
    torch.testing.assert_close(ours, theirs)
    mean = mmcv.ops.sigmoid_focal_loss(logits, labels, 2.0, 0.25, None, "mean")
    expected = FocalLoss()(logits, labels, avg_factor=50)
    torch.testing.assert_close(gradients(mean, [logits]), gradients(expected, [logits]))


@pytest.mark.parametrize(
    "call",
    [
        lambda: mmcv.ops.soft_nms(torch.rand(3, 4), torch.rand(3)),
        lambda: mmcv.ops.roi_pool(torch.rand(1, 1, 4, 4), torch.rand(1, 5), 2),
        lambda: mmcv.ops.roi_align(torch.rand(1, 1, 4, 4), torch.rand(1, 5), 2, 1.0, 0, "max"),
    ],
    ids=["softnms", "roi_pool", "roi_align"],
)
def test_an_operator_without_stand_in_says_what_to_install(call, request):
    name = request.node.callspec.id
    with pytest.raises(NotImplementedError, match=f"mmcv operator '{name}.*install the full mmcv"):
        call()


def test_a_real_mmcv_is_left_alone(monkeypatch):
    compiled = ModuleType("mmcv._ext")
    compiled.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", loader=None)
    monkeypatch.setitem(sys.modules, "mmcv._ext", compiled)
    mmcv_ops.install()
    assert sys.modules["mmcv._ext"] is compiled
