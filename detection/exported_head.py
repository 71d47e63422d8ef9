"""The instance head as one function of tensors, for export: what InstanceHead.detect does of one image, in standard operators.

Differs from torchvision's own code, which it calls where it can, in how boxes of several levels or classes are kept apart while
they suppress each other: levels one by one, classes by an offset. torchvision takes either way, by the number of boxes; the
results are the same but for the rounding of coordinates.
"""

import torch
from torch import Tensor, nn
from torchvision.ops import nms, roi_align
from torchvision.ops.poolers import LevelMapper

from detection.instance_head import (
    ASPECT_RATIOS,
    BOX_POOL,
    MASK_POOL,
    NMS_THRESHOLD,
    ROI_STRIDES,
    SAMPLING_RATIO,
    InstanceHead,
)

SMALLEST_PROPOSAL, SMALLEST_BOX = 1e-3, 1e-2
"""Sides in pixels, as torchvision's."""


class DetectionGraph(nn.Module):
    """InstanceHead.detect of one image, without a value that Python would have to know.

    Args:
        head: in evaluation mode.
    """

    def __init__(self, head: InstanceHead):
        super().__init__()
        self.head = head
        self.level_of = LevelMapper(k_min=2, k_max=5)

    def forward(self, pyramid: list[Tensor], size: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What Detections holds.

        Args:
            pyramid: as InstanceHead.detect's, of one image.
            size: (2,) int64, height and width of the image without its padding, in pixels.

        Returns:
            boxes (N, 4), scores (N,), train ids (N,) int64, mask logits (N, 28, 28).
        """
        head, limit = self.head, size.float()[[1, 0, 1, 0]]  # x1, y1, x2, y2 end there
        proposals = self._propose(pyramid, limit)
        roi = head.roi
        class_logits, deltas = roi.box_predictor(roi.box_head(self._pool(pyramid, proposals, BOX_POOL)))
        boxes, scores, labels = self._choose(class_logits.float(), deltas.float(), proposals, limit)
        # With one box more, as a layer of no object cannot be exported.
        one_more = torch.cat([boxes, torch.cat([limit[:2] * 0, limit[2:]])[None]])
        of_all_classes = roi.mask_predictor(roi.mask_head(self._pool(pyramid, one_more, MASK_POOL))).float()
        masks = of_all_classes[torch.arange(labels.shape[0]), labels]
        return boxes, scores, head.thing_ids[labels - 1], masks

    def _propose(self, pyramid: list[Tensor], limit: Tensor) -> Tensor:
        """(P, 4) boxes, best first, as RegionProposalNetwork.filter_proposals."""
        rpn, found, levels = self.head.rpn, [], zip(*self.head.rpn.head(pyramid), pyramid, strict=True)
        stride = ROI_STRIDES[0]
        height, width = stride * pyramid[0].shape[-2], stride * pyramid[0].shape[-1]
        for place, (objectness, deltas, level) in enumerate(levels):
            scores = objectness[0].permute(1, 2, 0).reshape(-1).float()  # (h, w, A)
            deltas = deltas[0].unflatten(0, (len(ASPECT_RATIOS), 4)).permute(2, 3, 0, 1).reshape(-1, 4).float()
            anchors = self._anchors(place, level, height, width)
            scores, best = scores.topk(torch.sym_min(rpn.pre_nms_top_n(), scores.shape[0]))
            boxes = rpn.box_coder.decode_single(deltas[best], anchors[best])
            boxes, scores = boxes.clamp(min=0).minimum(limit), scores.sigmoid()
            large = _is_larger(boxes, SMALLEST_PROPOSAL)
            boxes, scores = boxes[large], scores[large]
            kept = nms(boxes, scores, rpn.nms_thresh)
            found.append((boxes[kept], scores[kept]))
        boxes, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        return boxes[_best_first(scores, rpn.post_nms_top_n())]

    def _anchors(self, place: int, level: Tensor, height: int, width: int) -> Tensor:
        """(h * w * A, 4) of a level, as its own generator makes them."""
        cells = self.head.rpn.anchor_generator.cell_anchors[place]
        rows, columns = level.shape[-2:]
        if self.head.convention == "torchvision":
            y_step, x_step = height // rows, width // columns
        else:
            y_step = x_step = ROI_STRIDES[0] * 2**place
        y, x = torch.arange(rows) * y_step, torch.arange(columns) * x_step
        y, x = y[:, None].expand(rows, columns), x[None].expand(rows, columns)
        shifts = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4).float()
        return (shifts + cells).reshape(-1, 4)

    def _choose(self, class_logits: Tensor, deltas: Tensor, proposals: Tensor, limit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels, best first, as RoIHeads.postprocess_detections."""
        roi = self.head.roi
        num_outputs = class_logits.shape[1]
        boxes = roi.box_coder.decode_single(deltas, proposals).reshape(-1, num_outputs, 4)
        boxes = boxes[:, 1:].clamp(min=0).minimum(limit).reshape(-1, 4)  # without the background
        scores = class_logits.softmax(-1)[:, 1:].reshape(-1)
        likely = ((scores > roi.score_thresh) & _is_larger_mask(boxes, SMALLEST_BOX)).nonzero()[:, 0]
        boxes, scores, labels = boxes[likely], scores[likely], likely % (num_outputs - 1) + 1
        apart = boxes + (labels * (limit.max() + 1))[:, None]
        kept = nms(apart, scores, NMS_THRESHOLD)
        kept = kept[_best_first(scores[kept], roi.detections_per_img)]
        return boxes[kept], scores[kept], labels[kept]

    def _pool(self, pyramid: list[Tensor], boxes: Tensor, side: int) -> Tensor:
        """(N, 4) -> (N, C, side, side), each from the level that its size asks for, in the pyramid's type."""
        is_aligned = self.head.convention != "torchvision"
        rois, levels = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], 1), self.level_of([boxes])
        pooled = rois.new_zeros(rois.shape[0], pyramid[0].shape[1], side, side)
        for place, (level, stride) in enumerate(zip(pyramid, ROI_STRIDES)):
            here = (levels == place).nonzero()[:, 0]
            points = 0 if is_aligned else SAMPLING_RATIO
            # In 32 bits: coordinates of a large image need them.
            found = roi_align(level.float(), rois[here], side, 1 / stride, points, is_aligned)
            pooled = pooled.index_put((here,), found)
        return pooled.to(pyramid[0].dtype)


def _best_first(scores: Tensor, most: int) -> Tensor:
    """Places of at most `most` scores."""
    return scores.topk(torch.sym_min(most, scores.shape[0])).indices


def _is_larger_mask(boxes: Tensor, side: float) -> Tensor:
    return ((boxes[:, 2] - boxes[:, 0]) >= side) & ((boxes[:, 3] - boxes[:, 1]) >= side)


def _is_larger(boxes: Tensor, side: float) -> Tensor:
    return _is_larger_mask(boxes, side).nonzero()[:, 0]
