"""Mask R-CNN (He et al., ICCV 2017) on the levels of a pyramid, put together from torchvision's parts.

The original EfficientPS (section 3.4; default sizes are those of its official configuration) and Panoptic FPN have it. Differs
from mmdet and detectron2 as torchvision does: anchors count in the RPN's loss also where they leave the image, the best anchor
of an object is positive whatever its overlap, and mask targets are shares of a cell, not rounded.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops._utils import convert_boxes_to_roi_format
from torchvision.ops.poolers import LevelMapper

from runtime.files import InputError

ROI_STRIDES = (4, 8, 16, 32)
"""Levels from which an object's features are taken; a coarser one only proposes."""
LEVELS = tuple(f"s{stride}" for stride in ROI_STRIDES)
CONVENTIONS = ("torchvision", "detectron2")
"""torchvision: cells begin half a pixel early, two points a cell and axis, anchors of whole pixels. detectron2, and mmdet: cells
where they belong, as many points as a cell has pixels, exact anchors. Masks are pasted into boxes of whole pixels, or of
what the box is. Weights fit the one that they were trained with."""

ASPECT_RATIOS = (0.5, 1.0, 2.0)
"""Height / width of the anchors at each place."""
NMS_THRESHOLD = 0.5
"""IoU of boxes of a class from which the less certain detection goes."""
BOX_POOL, MASK_POOL = 7, 14
"""Side of an object's features, in cells, where its box and where its mask is predicted; a mask has twice the side."""
SAMPLING_RATIO = 2
"""Points a cell and axis of RoIAlign."""
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""1 / standard deviations .1, .1, .2, .2 of the box regression."""


@dataclass(frozen=True)
class InstanceHeadSettings:
    """Sizes of the head and what is kept of its predictions; the defaults are those of EfficientPS's configuration."""

    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256)
    """Side of the square anchor at each level, the finest, of stride 4, first; in pixels."""
    box_channels: int = 1024
    """Width of the two fully connected layers of the box head."""
    mask_channels: int = 256
    """Width of the four convolutions of the mask head."""
    num_rois: int = 256
    """Boxes an image on which the second stage learns, up to a quarter of them objects. The paper has 512."""
    num_proposals_training: int = 2000
    """Boxes that the RPN hands on while training, as many at each level before suppression."""
    num_proposals: int = 1000
    """The same in evaluation."""
    score_threshold: float = 0.5
    """Detections with a lower score are dropped."""
    max_detections: int = 100
    """An image."""
    box_beta: float = 1.0
    """Where SmoothL1 of the boxes turns linear, in standard deviations; the RPN's is 1/9. 0, plain L1: detectron2 and mmdet."""
    convention: str = "torchvision"
    """torchvision or detectron2: see CONVENTIONS."""

    def __post_init__(self):
        if len(self.anchor_sizes) < len(ROI_STRIDES) or min(self.anchor_sizes) <= 0:
            raise InputError(f"anchor_sizes {self.anchor_sizes}: one side above 0 for each level from stride 4 on is needed")
        if self.convention not in CONVENTIONS:
            raise InputError(f"instance_head.convention {self.convention!r} is unknown; choose {' or '.join(CONVENTIONS)}")
        if not self.box_beta >= 0:
            raise InputError(f"instance_head.box_beta is {self.box_beta}, but 0 or more is needed")
        sizes = ("box_channels", "mask_channels", "num_rois", "num_proposals_training", "num_proposals", "max_detections")
        for name in sizes:
            if getattr(self, name) < 1:
                raise InputError(f"instance_head.{name} is {getattr(self, name)}, but at least 1 is needed")
        if not 0 <= self.score_threshold <= 1:
            raise InputError(f"instance_head.score_threshold is {self.score_threshold}, but a share from 0 to 1 is needed")


@dataclass(frozen=True)
class Detections:
    """The objects of one image, best first.

    boxes: (N, 4) float32, (x1, y1, x2, y2) in pixels, inside the image. train_ids: (N,) int64. scores: (N,) float32 in
    [0, 1]. mask_logits: (N, 28, 28) float32, before the sigmoid; the grid fills the box. convention: see CONVENTIONS; it says
    how the masks become pixels.
    """

    boxes: Tensor
    train_ids: Tensor
    scores: Tensor
    mask_logits: Tensor
    convention: str = "torchvision"

    def __len__(self) -> int:
        return len(self.scores)


class ExactAnchors(AnchorGenerator):
    """torchvision's anchors, neither their sides nor their distance rounded."""

    def grid_anchors(self, grid_sizes: list[list[int]], strides: list[list[Tensor]]) -> list[Tensor]:
        """Of each level (h * w * A, 4) anchors, as far apart as the level's stride.

        torchvision divides the image's size by the level's, which at stride 64 gives 48 where 96 pixels have two cells.
        """
        doubled = [[stride * 2**level for stride in strides[0]] for level in range(len(grid_sizes))]
        return super().grid_anchors(grid_sizes, doubled)

    def generate_anchors(
        self,
        scales: list[int],
        aspect_ratios: list[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device = torch.device("cpu"),
    ) -> Tensor:
        """(A, 4) boxes around the origin, A = ratios * scales."""
        roots = torch.tensor(aspect_ratios, dtype=dtype, device=device).sqrt()
        sides = torch.tensor(scales, dtype=dtype, device=device)
        widths, heights = (sides / roots[:, None]).flatten(), (sides * roots[:, None]).flatten()
        return torch.stack([-widths, -heights, widths, heights], dim=1) / 2


class AlignedRoIPool(nn.Module):
    """RoIAlign as detectron2 and mmdet have it, on the level that a box's size asks for; called as MultiScaleRoIAlign is.

    Args:
        side: of the result, in cells.
    """

    def __init__(self, side: int):
        super().__init__()
        self.output_size = (side, side)
        self.level_of = LevelMapper(k_min=2, k_max=5)  # strides 2**2 .. 2**5; 224 pixels are at home at stride 16

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """{level: (B, C, H / s, W / s)} and of each image (N, 4) boxes -> (all N, C, side, side)."""
        rois, levels = convert_boxes_to_roi_format(boxes), self.level_of(boxes)
        pooled = rois.new_zeros(len(rois), features[LEVELS[0]].shape[1], *self.output_size, dtype=features[LEVELS[0]].dtype)
        for place, (name, stride) in enumerate(zip(LEVELS, ROI_STRIDES, strict=True)):
            here = (levels == place).nonzero().flatten()
            level = features[name]
            found = roi_align(level, rois[here].to(level.dtype), self.output_size, 1 / stride, sampling_ratio=0, aligned=True)
            pooled = pooled.index_put((here,), found)
        return pooled


class InstanceHead(nn.Module):
    """RPN, box head and mask head. It has no forward(): `losses` is for training, `detect` for use.

    Args:
        in_channels: width of the pyramid.
        thing_ids: train ids of the classes that it tells apart, ascending.
        mask_head: (N, in_channels, 14, 14) -> (N, settings.mask_channels, 14, 14); None: four convolutions with bias.
    """

    def __init__(
        self,
        in_channels: int,
        thing_ids: tuple[int, ...],
        settings: InstanceHeadSettings = InstanceHeadSettings(),
        mask_head: nn.Module | None = None,
    ):
        super().__init__()
        s = settings
        if s.convention == "torchvision":
            anchors, make_pool = AnchorGenerator, lambda side: MultiScaleRoIAlign(LEVELS, side, SAMPLING_RATIO)
        else:
            anchors, make_pool = ExactAnchors, AlignedRoIPool
        num_levels, self.box_beta, self.convention = len(s.anchor_sizes), s.box_beta, s.convention
        num_outputs = 1 + len(thing_ids)  # the first is background; the official mask and box layers have it, too
        num_proposals = {"training": s.num_proposals_training, "testing": s.num_proposals}
        self.register_buffer("thing_ids", torch.tensor(thing_ids), persistent=False)
        self.rpn = RegionProposalNetwork(
            anchors(tuple((size,) for size in s.anchor_sizes), (ASPECT_RATIOS,) * num_levels),
            RPNHead(in_channels, len(ASPECT_RATIOS)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n=num_proposals,
            post_nms_top_n=num_proposals,
            nms_thresh=0.7,
        )
        self.roi = RoIHeads(
            make_pool(BOX_POOL),
            TwoMLPHead(in_channels * BOX_POOL**2, s.box_channels),
            FastRCNNPredictor(s.box_channels, num_outputs),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=s.num_rois,
            positive_fraction=0.25,
            bbox_reg_weights=BOX_WEIGHTS,
            score_thresh=s.score_threshold,
            nms_thresh=NMS_THRESHOLD,
            detections_per_img=s.max_detections,
            mask_roi_pool=make_pool(MASK_POOL),
            mask_head=mask_head or MaskRCNNHeads(in_channels, (s.mask_channels,) * 4, dilation=1),
            mask_predictor=MaskRCNNPredictor(s.mask_channels, s.mask_channels, num_outputs),
        )
        self._initialize()

    def losses(self, pyramid: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The five terms of Mask R-CNN, each a scalar; images without objects teach what is background.

        Args:
            pyramid: levels at strides 4, 8, 16, 32, and 64 where there are anchors for it, of a batch, (B, C, H / s, W / s).
            targets: of each image boxes (N, 4) float32 (x1, y1, x2, y2) in pixels, train_ids (N,) int64, and masks
                (N, H, W) bool.
        """
        targets = [self._to_labels(target) for target in targets]
        objectness, deltas, anchors = self._score_anchors(pyramid)
        labels, matched_boxes = self.rpn.assign_targets_to_anchors(anchors, targets)
        deltas_wanted = self.rpn.box_coder.encode(matched_boxes, anchors)
        objectness_loss, anchor_loss = self.rpn.compute_loss(objectness, deltas, labels, deltas_wanted)

        proposals = self._propose(objectness, deltas, anchors, pyramid, [_image_size(pyramid)] * len(targets))
        proposals, matched, labels, deltas_wanted = self.roi.select_training_samples(proposals, targets)
        class_logits, deltas = self._classify(pyramid, proposals)
        class_loss, box_loss = box_losses(class_logits, deltas, torch.cat(labels), torch.cat(deltas_wanted), self.box_beta)

        objects = [image_labels > 0 for image_labels in labels]
        masked = [boxes[is_object] for boxes, is_object in zip(proposals, objects, strict=True)]
        matched = [indices[is_object] for indices, is_object in zip(matched, objects, strict=True)]
        if any(len(boxes) for boxes in masked):
            masks, labels = ([target[name] for target in targets] for name in ("masks", "labels"))
            mask_loss = maskrcnn_loss(self._predict_masks(pyramid, masked), masked, masks, labels, matched)
        else:  # statistics of no object are NaN; every parameter stays in the graph, as training on several devices needs
            mask_loss = 0 * sum(p.sum() for part in (self.roi.mask_head, self.roi.mask_predictor) for p in part.parameters())
        return {
            "rpn_objectness": objectness_loss,
            "rpn_box": anchor_loss,
            "roi_class": class_loss,
            "roi_box": box_loss,
            "roi_mask": mask_loss,
        }

    def detect(self, pyramid: list[Tensor], image_sizes: list[tuple[int, int]]) -> list[Detections]:
        """The objects of each image. Call it in evaluation mode.

        Args:
            pyramid: as in `losses`.
            image_sizes: (height, width) in pixels of each image without its padding; boxes end there.
        """
        objectness, deltas, anchors = self._score_anchors(pyramid)
        proposals = self._propose(objectness, deltas, anchors, pyramid, image_sizes)
        class_logits, deltas = self._classify(pyramid, proposals)
        boxes, scores, labels = self.roi.postprocess_detections(class_logits, deltas, proposals, image_sizes)
        of_all_classes = self._predict_masks(pyramid, boxes)
        of_class = of_all_classes[torch.arange(len(of_all_classes), device=of_all_classes.device), torch.cat(labels)]
        masks = of_class.split([len(image_boxes) for image_boxes in boxes])
        found = zip(boxes, labels, scores, masks, strict=True)
        return [Detections(b, self.thing_ids[label - 1], s, m, self.convention) for b, label, s, m in found]

    def _score_anchors(self, pyramid: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Objectness (B * A, 1) and box deltas (B * A, 4) of all anchors, and of each image the anchors, (A, 4)."""
        objectness, deltas = concat_box_prediction_layers(*self.rpn.head(pyramid))
        batch_size, size = len(pyramid[0]), _image_size(pyramid)
        # The generator reads sizes and type alone. Boxes need float32 under autocast, too: bfloat16 counts by 8 beyond 1024.
        zero = pyramid[0].new_zeros((), dtype=torch.float32)
        images = ImageList(zero.expand(batch_size, 3, *size), [size] * batch_size)
        anchors = self.rpn.anchor_generator(images, [zero.expand(level.shape) for level in pyramid])
        return objectness.float(), deltas.float(), anchors

    def _propose(
        self,
        objectness: Tensor,
        deltas: Tensor,
        anchors: list[Tensor],
        pyramid: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Tensor]:
        """Of each image the boxes that the second stage looks at, (P, 4), without gradient."""
        boxes = self.rpn.box_coder.decode(deltas.detach(), anchors).view(len(anchors), -1, 4)
        num_anchors = [len(ASPECT_RATIOS) * level.shape[-2] * level.shape[-1] for level in pyramid]
        return self.rpn.filter_proposals(boxes, objectness, image_sizes, num_anchors)[0]

    def _classify(self, pyramid: list[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits (R, 1 + things) and box deltas (R, 4 * (1 + things)) of the boxes of all images."""
        class_logits, deltas = self.roi.box_predictor(self.roi.box_head(self._pool(self.roi.box_roi_pool, pyramid, boxes)))
        return class_logits.float(), deltas.float()

    def _predict_masks(self, pyramid: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """Mask logits of each class, (R, 1 + things, 28, 28), of the boxes of all images."""
        if not any(len(image_boxes) for image_boxes in boxes):
            return pyramid[0].new_zeros(0, 1 + len(self.thing_ids), 2 * MASK_POOL, 2 * MASK_POOL, dtype=torch.float32)
        features = self._pool(self.roi.mask_roi_pool, pyramid, boxes)
        return self.roi.mask_predictor(self.roi.mask_head(features)).float()

    def _pool(self, pool: MultiScaleRoIAlign, pyramid: list[Tensor], boxes: list[Tensor]) -> Tensor:
        # It infers the strides from the size it is told: that of the padded images, as the pyramid's.
        return pool(dict(zip(LEVELS, pyramid)), boxes, [_image_size(pyramid)] * len(boxes))

    def _to_labels(self, target: dict[str, Tensor]) -> dict[str, Tensor]:
        """Train ids -> torchvision's labels, where 0 is background."""
        labels = torch.searchsorted(self.thing_ids, target["train_ids"]) + 1
        return {"boxes": target["boxes"], "labels": labels, "masks": target["masks"]}

    def _initialize(self) -> None:
        """As mmdet and detectron2; torchvision has done it for the RPN and the last layers of the masks."""
        for layer in (self.roi.box_head.fc6, self.roi.box_head.fc7):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer, deviation in ((self.roi.box_predictor.cls_score, 0.01), (self.roi.box_predictor.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)


def box_losses(
    class_logits: Tensor, deltas: Tensor, labels: Tensor, deltas_wanted: Tensor, beta: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the classes, and SmoothL1 of the boxes of objects, summed and divided by the number of all boxes.

    Args:
        class_logits: (R, 1 + things).
        deltas: (R, 4 * (1 + things)), of which the true class's count.
        labels: (R,) int64, 0 is background.
        deltas_wanted: (R, 4).
        beta: where SmoothL1 turns linear.
    """
    objects = labels.nonzero().flatten()
    of_class = deltas.view(len(deltas), -1, 4)[objects, labels[objects]]
    box_loss = F.smooth_l1_loss(of_class, deltas_wanted[objects], beta=beta, reduction="sum") / len(labels)
    return F.cross_entropy(class_logits, labels), box_loss


def _image_size(pyramid: list[Tensor]) -> tuple[int, int]:
    """(height, width) of the padded images."""
    height, width = pyramid[0].shape[-2:]
    return ROI_STRIDES[0] * height, ROI_STRIDES[0] * width
