"""LocationHead against mmdet's SOLOV2Head on the same weights, and what rectangular grids and soft masks add."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import SOLOV2Head
from mmdet.structures.mask import BitmapMasks
from mmengine import ConfigDict
from mmengine.structures import InstanceData

from data.resizing import logits_on_image
from solov2 import location_head
from solov2.location_head import LocationHead, mask_boxes
from solov2.mask_selection import select_instances

SIZES = {  # padded network input, network input, original image
    "not resized": ((64, 128), (64, 128), (64, 128)),
    "padded odd size": ((64, 128), (47, 111), (47, 111)),
    "enlarged": ((96, 128), (90, 120), (45, 60)),
    "shrunk odd size": ((64, 96), (50, 75), (101, 151)),
}


def build_head(head_class, num_grids=(12, 10, 8, 6, 4), **kwargs):
    torch.manual_seed(0)
    settings = dict(
        num_classes=8,
        in_channels=8,
        feat_channels=16,
        stacked_convs=1,
        strides=[8, 8, 16, 32, 32],
        scale_ranges=((1, 16), (8, 32), (16, 64), (32, 128), (64, 512)),
        num_grids=list(num_grids),
        norm_cfg=dict(type="GN", num_groups=4),
        mask_feature_head=ConfigDict(
            feat_channels=8, start_level=0, end_level=3, out_channels=8, mask_stride=4, norm_cfg=dict(type="GN", num_groups=4)
        ),
        test_cfg=ConfigDict(
            nms_pre=500, score_thr=0.1, mask_thr=0.5, filter_thr=0.05, kernel="gaussian", sigma=2.0, max_per_img=100
        ),
    )
    head = head_class(**settings, **kwargs).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    head.conv_cls.bias.data += 0.5  # half of all cells are candidates, so that NMS has work
    return head


def draw_features(padded_size, batch=1):
    """A smooth random pyramid: masks with outlines, not noise."""
    coarse = torch.randn(batch, 8, 3, 5, generator=torch.Generator().manual_seed(1))
    sizes = [(padded_size[0] // stride, padded_size[1] // stride) for stride in (4, 8, 16, 32, 64)]
    return tuple(F.interpolate(coarse, size, mode="bilinear") for size in sizes)


def predict(head, sizes):
    padded, net_size, size = sizes
    meta = dict(img_shape=net_size, ori_shape=size, batch_input_shape=padded)
    with torch.no_grad():
        return head.predict_by_feat(*head(draw_features(padded)), batch_img_metas=[meta])[0]


def draw_instances(size, boxes, labels, empty=()):
    """Filled boxes (y1, x1, y2, x2); those named in `empty` have no pixel."""
    masks = np.zeros((len(boxes), *size), np.uint8)
    for k, (y1, x1, y2, x2) in enumerate(boxes):
        masks[k, y1:y2, x1:x2] = k not in empty
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)[:, [1, 0, 3, 2]]
    return InstanceData(bboxes=tensor, labels=torch.tensor(labels, dtype=torch.int64), masks=BitmapMasks(masks, *size))


@pytest.mark.parity
@pytest.mark.parametrize("is_compiled", [True, False], ids=["compiled", "torch"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_scores_labels_and_masks_are_exactly_those_of_mmdet(sizes, is_compiled, monkeypatch):
    if not is_compiled:  # float64 takes the path of a GPU

        def select_by_torch(logits, *args, **kwargs):
            return select_instances(logits.double(), *args, **kwargs)

        monkeypatch.setattr(location_head, "select_instances", select_by_torch)
    theirs, ours = predict(build_head(SOLOV2Head), sizes), predict(build_head(LocationHead), sizes)
    assert len(theirs) > 20
    # The compiled path adds the probabilities of a mask in another order, and in float64.
    torch.testing.assert_close(ours.scores, theirs.scores, rtol=1e-6, atol=0)
    assert torch.equal(ours.labels, theirs.labels)
    assert torch.equal(ours.masks, theirs.masks)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_mask_logits_upsampled_are_the_binary_masks_but_for_the_border(sizes):
    prediction, (height, width) = predict(build_head(LocationHead), sizes), sizes[2]
    upsampled = F.interpolate(prediction.mask_logits[None], scale_factor=4, mode="bilinear")[0, :, :height, :width] > 0
    # Logits at stride 4 against probabilities at the network's size: they part only along outlines.
    overlap = (upsampled & prediction.masks).sum() / (upsampled | prediction.masks).sum()
    assert overlap > (0.97 if sizes[1] == sizes[2] else 0.85)


def test_predictions_without_full_masks_are_the_same():
    sizes = SIZES["shrunk odd size"]
    full, lean = predict(build_head(LocationHead), sizes), predict(build_head(LocationHead, with_full_masks=False), sizes)
    assert "masks" not in lean
    assert lean.mask_logits.shape[1:] == (26, 38)  # ceil(101 / 4), ceil(151 / 4)
    for name in ("scores", "labels", "bboxes", "mask_logits"):
        assert torch.equal(lean[name], full[name])


def test_a_finer_logit_stride_keeps_what_an_enlarged_input_resolves():
    sizes = SIZES["enlarged"]  # 90x120 of 45x60, so stride 4 of the input is stride 2 of the image
    prediction = predict(build_head(LocationHead, logit_stride=2), sizes)
    assert prediction.mask_logits.shape[1:] == (23, 30)
    upsampled = F.interpolate(prediction.mask_logits[None], scale_factor=2, mode="bilinear")[0, :, :45, :60] > 0
    assert (upsampled & prediction.masks).sum() / (upsampled | prediction.masks).sum() > 0.97


@pytest.mark.parametrize("threshold", [0.1, 1.0], ids=["no mask is large enough", "no candidate"])
def test_nothing_found_gives_empty_fields_of_the_right_shape(threshold):
    head = build_head(LocationHead)
    head.test_cfg.score_thr = threshold
    torch.nn.init.zeros_(head.conv_kernel.weight)  # all logits 0: no positive pixel in any mask
    torch.nn.init.zeros_(head.conv_kernel.bias)
    prediction = predict(head, SIZES["shrunk odd size"])
    shapes = {name: tuple(prediction[name].shape) for name in prediction.keys()}  # noqa: SIM118
    assert shapes == {"scores": (0,), "labels": (0,), "bboxes": (0, 4), "mask_logits": (0, 26, 38), "masks": (0, 101, 151)}


def test_a_mask_moves_to_the_image_grid_without_a_shift():
    # A ramp in x: its logit is the network's x coordinate of the cell's middle, so every cell can be computed by hand.
    ramp = ((torch.arange(32) + 0.5) * 4).expand(1, 16, 32)
    moved = logits_on_image(ramp, net_size=(64, 120), size=(32, 60), net_stride=4, stride=4)
    assert moved.shape == (1, 8, 15)
    torch.testing.assert_close(moved[0, 0], (torch.arange(15) + 0.5) * 4 * 2)


def test_boxes_are_those_of_the_mask_and_stay_inside_the_image():
    masks = torch.zeros(2, 3, 3, dtype=torch.bool)
    masks[0, 1:, 2] = True
    assert mask_boxes(masks, (10, 9), stride=4).tolist() == [[8, 4, 9, 10], [0, 0, 0, 0]]


INSTANCES = {
    "crossing": ((4, 4, 20, 30), (10, 20, 60, 50), (30, 90, 40, 100), (33, 93, 43, 101), (0, 0, 64, 128)),
    "at the edges": ((0, 0, 3, 3), (60, 124, 64, 128), (0, 60, 2, 128)),
    "none": (),
}


@pytest.mark.parity
@pytest.mark.parametrize("boxes", INSTANCES.values(), ids=INSTANCES)
def test_targets_on_square_grids_are_exactly_those_of_mmdet(boxes):
    instances = draw_instances((64, 128), boxes, list(range(len(boxes))), empty=(1,))
    theirs = build_head(SOLOV2Head)._get_targets_single(instances, featmap_sizes=(16, 32))
    ours = build_head(LocationHead)._get_targets_single(instances, featmap_sizes=(16, 32))
    for our_kind, their_kind in zip(ours, theirs, strict=True):
        for our_level, their_level in zip(our_kind, their_kind, strict=True):
            assert torch.equal(torch.as_tensor(our_level), torch.as_tensor(their_level))


@pytest.mark.parity
def test_losses_on_random_objects_equal_mmdets():
    rng = np.random.default_rng(0)
    batch = []
    for count in (12, 0, 5):
        corners = np.sort(rng.integers(0, [64, 128], (count, 2, 2)), axis=1)
        boxes = [(int(y1), int(x1), int(y2) + 1, int(x2) + 1) for (y1, x1), (y2, x2) in corners]
        batch.append(draw_instances((64, 128), boxes, rng.integers(0, 8, count).tolist()))
    losses = []
    for head in (build_head(SOLOV2Head), build_head(LocationHead)):
        losses.append(head.loss_by_feat(*head(draw_features((64, 128), 3)), batch, [{}] * 3))
    assert losses[0]["loss_mask"] > 0
    assert {k: v.item() for k, v in losses[0].items()} == {k: v.item() for k, v in losses[1].items()}


def test_rectangular_grids_place_an_object_by_row_and_column():
    head = build_head(LocationHead, num_grids=[(4, 8), (4, 8), (2, 4), (2, 4), (1, 2)])
    # 8 x 8 pixels with centre of mass (27.5, 99.5) in a 64 x 128 image: row 27.5 / 16 = 1, column 99.5 / 16 = 6.
    instances = draw_instances((64, 128), [(24, 96, 32, 104)], [3])
    targets, labels, is_positive, indices = head._get_targets_single(instances, featmap_sizes=(16, 32))
    assert labels[0].shape == (4, 8)
    assert (labels[0] != 8).nonzero().tolist() == [[1, 6]]
    assert labels[0][1, 6] == 3
    assert indices[0] == is_positive[0].nonzero().flatten().tolist() == [1 * 8 + 6]
    assert targets[0].nonzero().tolist() == [[0, y, x] for y in (6, 7) for x in (24, 25)]
    assert indices[2] == []  # its size, 8, is below the third level's range


def test_rectangular_grids_predict_and_learn():
    head = build_head(LocationHead, num_grids=[(6, 12), (5, 10), (4, 8), (3, 6), (2, 4)])
    kernels, classes, _ = head(draw_features((64, 128)))
    assert [tuple(c.shape[2:]) for c in classes] == head.num_grids == [tuple(k.shape[2:]) for k in kernels]
    assert len(predict(head, SIZES["enlarged"])) > 0
    instances = draw_instances((64, 128), INSTANCES["crossing"], [0, 1, 2, 3, 4])
    losses = head.loss_by_feat(*head(draw_features((64, 128))), [instances], [{}])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_masks_are_dropped_by_the_stride_of_their_own_level():
    head = build_head(LocationHead, num_grids=[(1, 2), (2, 2), (1, 1), (1, 3), (1, 1)])
    assert head._cell_strides(torch.arange(11)).tolist() == [8, 8, 8, 8, 8, 8, 16, 32, 32, 32, 32]


def test_a_grid_of_three_numbers_is_refused():
    with pytest.raises(ValueError, match=r"each level needs S or \(rows, columns\)"):
        build_head(LocationHead, num_grids=[(1, 2, 3), 4, 4, 4, 4])
