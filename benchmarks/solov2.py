"""SOLOv2's post-processing against mmdet's."""

from collections.abc import Callable
from functools import cache
from unittest import mock

import solov2  # noqa: F401, first: it makes mmdet importable

# isort: split
import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import SOLOV2Head
from mmengine import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from benchmarks.scenes import STRIDE, placed_objects
from benchmarks.side_by_side import Contest
from data.taxonomy import CITYSCAPES
from solov2.full_size_masks import MaskCrop, full_size_masks
from solov2.mask_selection import Selection, select_instances

SIZE = (1024, 2048)
"""(height, width) of the image and of the network's input."""
OBJECTS, DUPLICATES = 60, 5
SETTINGS = ConfigDict(nms_pre=500, mask_thr=0.5, filter_thr=0.05, kernel="gaussian", sigma=2.0, max_per_img=100)
SCORE_THR = 0.1


def after_the_dynamic_convolution() -> Contest:
    """From 300 maps of mask logits at stride 4 and their class scores to 100 instances with masks at full size.

    Theirs is SOLOV2Head's own method. Its dynamic convolution is replaced by one that returns the ready logits, so that neither
    its time nor its memory counts for any side. Inside both times: thresholds, maskness, matrix NMS and enlarged masks, ours as
    crops, theirs as images. Outside: the convolution, and the choice of candidates by class score on our side (0.05 ms).
    """
    logits, class_scores, labels, cells = candidates()
    head = _mmdet_head()
    cls_scores = torch.zeros(sum(side**2 for side in head.num_grids), head.num_classes)
    cls_scores[cells, labels] = class_scores
    kernels = torch.zeros(len(cls_scores), head.kernel_out_channels)
    sides = torch.tensor(head.num_grids)
    strides = torch.tensor(head.strides, dtype=torch.float32).repeat_interleave(sides**2)[cells]

    def ours() -> tuple[Selection, list[MaskCrop]]:
        found = select_instances(logits, class_scores, labels, strides, **SETTINGS)
        maps = (logits[k] for k in found.chosen.tolist())
        sizes = dict(mask_stride=STRIDE, net_size=SIZE, size=SIZE)
        return found, list(full_size_masks(maps, found.boxes, mask_thr=SETTINGS.mask_thr, **sizes))

    def theirs() -> InstanceData:
        with torch.no_grad(), mock.patch.object(F, "conv2d", lambda features, *_, **__: features):
            return head._predict_by_feat_single(kernels, cls_scores, logits[None], dict(img_shape=SIZE, ori_shape=SIZE))

    return Contest("SOLOv2 after the dynamic convolution, 300 candidates", 20, ours, theirs, _same, memory_at_most=0.02)


@cache
def candidates() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """300 maps of logits, their class scores, classes 0..7, and cells: of each of 60 objects 5, moved by up to 2 cells."""
    rng = np.random.default_rng(0)
    maps, train_ids = placed_objects(rng, OBJECTS, (SIZE[0] // STRIDE, SIZE[1] // STRIDE))
    logits = np.empty((OBJECTS * DUPLICATES, *maps[0].shape), np.float32)
    order = rng.permutation(len(logits))
    for k, place in enumerate(order):
        y, x = rng.integers(0, 5, 2)
        moved = np.pad(maps[k // DUPLICATES], 2, constant_values=-20)[y : y + maps[0].shape[0], x : x + maps[0].shape[1]]
        logits[place] = moved * rng.uniform(0.3, 2) + rng.normal(0, 0.5)
    labels = np.empty(len(logits), np.int64)
    labels[order] = np.repeat([CITYSCAPES.thing_ids.index(train_id) for train_id in train_ids], DUPLICATES)
    cells = np.sort(rng.permutation(sum(side**2 for side in _mmdet_head().num_grids))[: len(logits)])
    scores = rng.uniform(SCORE_THR, 1, len(logits)).astype(np.float32)
    return tuple(map(torch.from_numpy, (logits, scores, labels, cells)))


@cache
def _mmdet_head() -> SOLOV2Head:
    settings = ConfigDict(SETTINGS, score_thr=SCORE_THR)
    features = ConfigDict(feat_channels=32, start_level=0, end_level=3, out_channels=32, mask_stride=STRIDE)
    head = SOLOV2Head(
        num_classes=len(CITYSCAPES.thing_ids),
        in_channels=32,
        feat_channels=32,
        stacked_convs=1,
        strides=[8, 8, 16, 32, 32],
        num_grids=[40, 36, 24, 16, 12],
        mask_feature_head=features,
        test_cfg=settings,
    )
    return head.eval()


def _same(ours: tuple[Selection, list[MaskCrop]], theirs: InstanceData) -> bool:
    """The same classes in the same order, no pixel different, and scores to the rounding of sums."""
    found, crops = ours
    for crop, mask in zip(crops, theirs.masks, strict=True):
        full = torch.zeros(SIZE, dtype=torch.bool)
        full[crop.y : crop.y + crop.mask.shape[0], crop.x : crop.x + crop.mask.shape[1]] = crop.mask
        if not torch.equal(full, mask):
            return False
    return torch.equal(found.labels, theirs.labels) and torch.allclose(found.scores, theirs.scores, rtol=1e-6, atol=0)


ROWS: dict[str, Callable[[], Contest]] = {"SOLOv2 after the dynamic convolution, 300 candidates": after_the_dynamic_convolution}
