"""The Mask R-CNN head: its size, its losses on any crop, what it detects, and that it learns."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import fastrcnn_loss

from backbones.efficientnet import STRIDES
from detection.instance_head import InstanceHead, InstanceHeadSettings, box_losses
from efficientps.mask_head import MaskHead
from efficientps.network import EfficientPS
from runtime.files import InputError

THINGS = (1, 2, 5)
SMALL = {"anchor_sizes": (8, 16, 32, 64), "box_channels": 32, "mask_channels": 16, "num_rois": 32}


def num_parameters(*parts: nn.Module) -> int:
    return sum(p.numel() for part in parts for p in part.parameters())


def head(**settings) -> InstanceHead:
    return InstanceHead(8, THINGS, InstanceHeadSettings(**SMALL | settings))


def pyramid(height: int, width: int, batch_size: int = 1) -> list[Tensor]:
    return [torch.randn(batch_size, 8, height // s, width // s) for s in STRIDES]


def target(*objects: tuple[int, tuple[int, int, int, int]], size: tuple[int, int] = (64, 96)) -> dict[str, Tensor]:
    """Rectangles (train id, (x1, y1, x2, y2))."""
    masks = torch.zeros(len(objects), *size, dtype=torch.bool)
    for mask, (_, (x1, y1, x2, y2)) in zip(masks, objects, strict=True):
        mask[y1:y2, x1:x2] = True
    boxes = torch.tensor([box for _, box in objects], dtype=torch.float32).reshape(-1, 4)
    return {"boxes": boxes, "train_ids": torch.tensor([k for k, _ in objects], dtype=torch.int64), "masks": masks}


def test_parts_have_the_parameters_of_the_official_head():
    ours = InstanceHead(256, range(11, 19), mask_head=MaskHead(256, 256))  # 8 things, and background in each output
    rpn = (256 * 9 + 1) * 256 + (256 + 1) * 3 * (1 + 4)  # .59 M
    box = (256 * 49 + 1) * 1024 + (1024 + 1) * 1024 + (1024 + 1) * 9 * (1 + 4)  # 13.94 M
    separable = 256 * 9 + 256 * 256 + 2 * 2 * 256  # two norms
    mask = 4 * separable + (256 * 4 * 256 + 256) + (256 + 1) * 9  # .54 M
    assert num_parameters(ours.rpn) == rpn
    assert num_parameters(ours.roi.box_head, ours.roi.box_predictor) == box
    assert num_parameters(ours.roi.mask_head, ours.roi.mask_predictor) == mask
    assert [round(n / 1e6, 2) for n in (rpn, box, mask)] == [0.59, 13.94, 0.54]


@pytest.mark.parametrize(("is_separable", "millions"), [(True, 40.90), (False, 42.99)])
def test_the_whole_b5_has_the_parameters_of_the_paper_and_of_the_official_code(is_separable, millions):
    network = EfficientPS(19, list(range(11, 19)), {}, variant="b5", is_separable=is_separable)
    assert round(num_parameters(network) / 1e6, 2) == millions


@pytest.mark.parametrize(
    "targets",
    [
        [target((1, (8, 8, 40, 40))), target((5, (0, 0, 96, 64)), (2, (50, 10, 60, 20)))],
        [target((1, (8, 8, 40, 40))), target()],
        [target(), target()],
    ],
    ids=["objects", "one image without", "no object at all"],
)
def test_losses_and_gradients_are_finite_whatever_the_crop_holds(targets):
    torch.manual_seed(0)
    ours = head().train()
    losses = ours.losses(pyramid(64, 96, batch_size=2), targets)
    assert list(losses) == ["rpn_objectness", "rpn_box", "roi_class", "roi_box", "roi_mask"]
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in ours.parameters())
    assert all(b.isfinite().all() for b in ours.buffers())
    has_objects = any(len(t["boxes"]) for t in targets)
    assert (losses["roi_mask"] > 0) == (losses["roi_box"] > 0) == has_objects


def test_losses_are_there_in_evaluation_mode_too_and_leave_the_statistics():
    ours = head().eval()
    before = [b.clone() for b in ours.buffers()]
    losses = ours.losses(pyramid(64, 96), [target((1, (8, 8, 40, 40)))])
    assert all(loss > 0 for name, loss in losses.items() if name != "rpn_box")
    assert all(torch.equal(a, b) for a, b in zip(before, ours.buffers(), strict=True))


def test_boxes_keep_their_precision_where_features_have_16_bits():
    torch.manual_seed(0)
    ours, levels = head(score_threshold=0.0), pyramid(64, 2048)
    plain = ours.eval().detect(levels, [(64, 2048)])[0]
    with torch.autocast("cpu", torch.bfloat16):
        half = ours.detect([level.bfloat16() for level in levels], [(64, 2048)])[0]
        losses = ours.train().losses([level.bfloat16() for level in levels], [target((1, (8, 8, 40, 40)), size=(64, 2048))])
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
    assert half.boxes.dtype == half.mask_logits.dtype == torch.float32
    # Each box of one is among those of the other, to a pixel; bfloat16 itself has steps of 8 pixels beyond 1024.
    nearest = (half.boxes[:, None] - plain.boxes[None]).abs().amax(-1).amin(1)
    assert (nearest < 1).float().mean() > 0.8


def test_the_box_loss_counts_objects_with_their_own_class_and_is_linear_beyond_1():
    labels = torch.tensor([0, 2, 1])
    deltas = torch.full((3, 3, 4), 100.0)  # what other classes say does not count
    deltas[1, 2], deltas[2, 1] = torch.tensor([0.5, 0, 0, 0]), torch.tensor([0, 3.0, 0, 0])
    class_logits = torch.randn(3, 3)
    class_loss, box_loss = box_losses(class_logits, deltas.flatten(1), labels, torch.zeros(3, 4))
    assert box_loss.item() == pytest.approx((0.5 * 0.5**2 + (3 - 0.5)) / 3)
    torch.testing.assert_close(class_loss, fastrcnn_loss(class_logits, deltas.flatten(1), [labels], [torch.zeros(3, 4)])[0])


@torch.no_grad()
def test_a_detection_is_the_anchor_where_the_pyramid_says_object():
    ours = head(num_proposals=1, score_threshold=0.1).eval()
    for parameter in ours.parameters():
        parameter.zero_()
    ours.rpn.head.conv[0][0].weight[0, 0, 1, 1] = 1  # channel 0 says "object" ...
    ours.rpn.head.cls_logits.weight[1, 0] = 1  # ... of the square anchor
    ours.roi.box_predictor.cls_score.bias[2] = 2.0  # always the second thing
    ours.roi.mask_predictor.mask_fcn_logits.bias.copy_(torch.tensor([10.0, 20.0, 30.0, 40.0]))
    levels = [torch.zeros(2, 8, 64 // s, 96 // s) for s in STRIDES]
    levels[1][0, 0, 4, 5] = 1  # stride 8: center at y 32, x 40, side 16
    levels[2][1, 0, 3, 5] = 1  # stride 16: center at y 48, x 80, side 32, which leaves the second image
    first, second = ours.detect(levels, [(64, 96), (60, 90)])
    assert first.boxes.tolist() == [[32, 24, 48, 40]]
    assert second.boxes.tolist() == [[64, 32, 90, 60]]
    for found in (first, second):
        assert found.train_ids.tolist() == [THINGS[1]]
        torch.testing.assert_close(found.scores, torch.tensor([0.0, 0.0, 2.0, 0.0]).softmax(0)[2:3])
        assert found.mask_logits.shape == (1, 28, 28)
        assert (found.mask_logits == 30).all()  # logits, of the detected class


@torch.no_grad()
def test_an_image_without_detections_has_empty_ones():
    (found,) = head(score_threshold=1.0).eval().detect(pyramid(64, 96), [(64, 96)])
    assert [tuple(t.shape) for t in (found.boxes, found.train_ids, found.scores, found.mask_logits)] == [
        (0, 4),
        (0,),
        (0,),
        (0, 28, 28),
    ]


@torch.no_grad()
@pytest.mark.parametrize("size", [(45, 70), (64, 96), (33, 96)])
def test_detections_lie_in_the_image_and_are_the_best_first(size):
    torch.manual_seed(0)
    (found,) = head(score_threshold=0.0, max_detections=7).eval().detect(pyramid(64, 96), [size])
    assert len(found) == 7
    assert (found.scores.diff() <= 0).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2:] <= torch.tensor(size[::-1])).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert set(found.train_ids.tolist()) <= set(THINGS)


@pytest.mark.parametrize(
    ("bad", "words"),
    [({"anchor_sizes": (8, 16)}, "anchor_sizes"), ({"num_rois": 0}, "num_rois"), ({"score_threshold": 2}, "share")],
)
def test_settings_that_cannot_be_are_refused(bad, words):
    with pytest.raises(InputError, match=words):
        InstanceHeadSettings(**bad)
