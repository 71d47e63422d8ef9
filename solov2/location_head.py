"""SOLOv2's head (Wang et al., NeurIPS 2020) as mmdet has it, with soft masks out and rectangular grids.

Differs from mmdet's SOLOV2Head: predictions carry mask logits and boxes, full-size binary masks are built only on demand,
and `num_grids` may hold (rows, columns). With square grids its losses, labels and masks are those of mmdet, and its scores too
but for the order in which probabilities are added up.
"""

from collections.abc import Mapping, Sequence

import mmcv
import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import SOLOV2Head
from mmdet.models.utils import center_of_mass
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from data.resizing import logits_on_image
from solov2.full_size_masks import full_size_masks
from solov2.mask_selection import Selection, cell_boxes, select_instances

NMS_SETTINGS = ("mask_thr", "nms_pre", "max_per_img", "kernel", "sigma", "filter_thr")
"""What matrix NMS reads of a head's test_cfg."""


@MODELS.register_module()
class LocationHead(SOLOV2Head):
    """SOLOV2Head whose predictions keep what the fusion needs.

    Args:
        num_grids: one entry a level, an int S for S x S cells or (rows, columns).
        logit_stride: pixels of the original image that one cell of `mask_logits` covers, per side.
        with_full_masks: whether predictions hold `masks`, which mmdet's evaluators read; N x H x W bytes an image.
        kwargs: as SOLOV2Head's.

    A prediction has scores (N,) descending, labels (N,), mask_logits (N, ceil(H / s), ceil(W / s)) on the grid of
    stride s of the original H x W image, bboxes (N, 4) as x1, y1, x2, y2 in its pixels, and if asked masks (N, H, W) bool.
    """

    def __init__(
        self,
        *args,
        num_grids: Sequence[int | Sequence[int]],
        logit_stride: int = 4,
        with_full_masks: bool = True,
        **kwargs,
    ):
        # mmdet's forward() hands each entry to F.interpolate as the size, which takes both forms.
        super().__init__(*args, num_grids=rows_and_columns(num_grids), **kwargs)
        self.logit_stride = logit_stride
        self.with_full_masks = with_full_masks

    def _get_targets_single(self, gt_instances: InstanceData, featmap_sizes: tuple[int, int]) -> tuple[list, list, list, list]:
        """mmdet's targets of one image, cell indices row by row in a (rows, columns) grid.

        Args:
            gt_instances: with bboxes (N, 4), labels (N,), masks of the padded image.
            featmap_sizes: (h, w) of the mask features.

        Returns:
            One entry a level: mask targets (P, h, w) uint8, labels (rows, columns), positive cells (rows * columns,) bool,
            indices of the cells that the P targets belong to. A cell that two objects claim has two targets.
        """
        boxes, device = gt_instances.bboxes, gt_instances.labels.device
        masks = gt_instances.masks.to_tensor(dtype=torch.bool, device=device)
        sizes = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        is_seen = masks.flatten(1).any(1) if len(masks) else sizes.new_zeros(0, dtype=torch.bool)
        # Cell ranges are computed in the unit of whole images, as mmdet does, so that rounding is the same.
        image_size = sizes.new_tensor([side * self.mask_stride for side in featmap_sizes])
        center = torch.stack([torch.stack(center_of_mass(mask)) for mask in masks]) if len(masks) else boxes.new_zeros(0, 2)
        reach = 0.5 * torch.stack([boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], 1) * self.pos_scale  # (N, 2) y, x
        targets = [self._small_mask(mask, featmap_sizes) if seen else None for mask, seen in zip(masks, is_seen)]

        levels = []
        for (smallest, largest), grid in zip(self.scale_ranges, self.num_grids):
            chosen = (is_seen & (sizes >= smallest) & (sizes <= largest)).nonzero().flatten().tolist()
            cells_of = positive_cells(center, reach, image_size, grid).tolist()
            labels = torch.full(grid, self.num_classes, dtype=torch.int64, device=device)
            is_positive = torch.zeros(grid, dtype=torch.bool, device=device)
            level_targets, indices = [], []
            for k in chosen:
                top, left, bottom, right = cells_of[k]
                labels[top:bottom, left:right] = gt_instances.labels[k]
                is_positive[top:bottom, left:right] = True
                cells = [i * grid[1] + j for i in range(top, bottom) for j in range(left, right)]
                indices += cells
                level_targets += [targets[k]] * len(cells)
            stacked = torch.stack(level_targets) if level_targets else masks.new_zeros((0, *featmap_sizes), dtype=torch.uint8)
            levels.append((stacked, labels, is_positive.flatten(), indices))
        return tuple(map(list, zip(*levels)))

    def _small_mask(self, mask: Tensor, size: tuple[int, int]) -> Tensor:
        """(H, W) bool -> (h, w) uint8 at the stride of the mask features, resized by OpenCV as mmdet does."""
        small = mmcv.imrescale(np.uint8(mask.cpu().numpy()), scale=1 / self.mask_stride)
        padded = torch.zeros(size, dtype=torch.uint8, device=mask.device)
        padded[: small.shape[0], : small.shape[1]] = torch.from_numpy(small)
        return padded

    def _predict_by_feat_single(
        self, kernel_preds: Tensor, cls_scores: Tensor, mask_feats: Tensor, img_meta: dict, cfg: dict | None = None
    ) -> InstanceData:
        """Candidates of one image -> instances after matrix NMS.

        Args:
            kernel_preds: (G, D), cells of all levels.
            cls_scores: (G, classes), probabilities after point NMS.
            mask_feats: (1, C, h, w).
            img_meta: with img_shape (network input without padding) and ori_shape, (height, width).
        """
        cfg = self.test_cfg if cfg is None else cfg
        candidates = self._candidates(kernel_preds, cls_scores, mask_feats, cfg.score_thr)
        found = select_candidates(candidates, cfg)
        return self._instances(candidates.mask_logits[found.chosen], found, img_meta, cfg)

    def _candidates(self, kernel_preds: Tensor, cls_scores: Tensor, mask_feats: Tensor, score_thr: float) -> InstanceData:
        """Every cell and class above the threshold, before any NMS over masks.

        Args:
            kernel_preds, cls_scores, mask_feats: as _predict_by_feat_single's.

        Returns:
            class_scores (N,), labels (N,), mask_logits (N, h, w), smallest_areas (N,) in cells of the logits.
        """
        cells, labels = (cls_scores > score_thr).nonzero().unbind(1)
        logits = mask_feats.new_zeros(0, *mask_feats.shape[-2:])
        if len(cells):
            kernels = kernel_preds[cells].view(len(cells), -1, self.dynamic_conv_size, self.dynamic_conv_size)
            logits = F.conv2d(mask_feats, kernels).squeeze(0)  # (N, h, w)
        # A mask smaller than one cell of its level's features is noise.
        smallest_areas = self._cell_strides(cells)
        scores = cls_scores[cells, labels]
        return InstanceData(class_scores=scores, labels=labels, mask_logits=logits, smallest_areas=smallest_areas)

    def _cell_strides(self, cells: Tensor) -> Tensor:
        """Stride of the level that each cell, counted over all levels, belongs to."""
        sizes = [rows * columns for rows, columns in self.num_grids]
        strides = torch.tensor(self.strides, dtype=torch.float32, device=cells.device)
        return strides.repeat_interleave(torch.tensor(sizes, device=cells.device))[cells]

    def _instances(self, logits: Tensor, found: Selection, img_meta: dict, cfg: dict) -> InstanceData:
        size, net_size = img_meta["ori_shape"][:2], img_meta["img_shape"][:2]
        on_image = logits_on_image(logits, net_size, size, self.mask_stride, self.logit_stride)
        boxes = mask_boxes(on_image > 0, size, self.logit_stride)
        results = InstanceData(scores=found.scores, labels=found.labels, mask_logits=on_image, bboxes=boxes)
        if self.with_full_masks:
            sizes = dict(mask_stride=self.mask_stride, net_size=net_size, size=size)
            results.masks = logits.new_zeros(len(logits), *size, dtype=torch.bool)
            crops = full_size_masks(logits, found.boxes, mask_thr=cfg.mask_thr, **sizes)
            for mask, (y, x, crop) in zip(results.masks, crops):
                mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return results


def select_candidates(candidates: InstanceData, settings: Mapping) -> Selection:
    """Matrix NMS over candidates as LocationHead has them.

    Args:
        settings: NMS_SETTINGS at least, such as a head's test_cfg.
    """
    return select_instances(
        candidates.mask_logits,
        candidates.class_scores,
        candidates.labels,
        candidates.smallest_areas,
        **{name: settings[name] for name in NMS_SETTINGS},
    )


def rows_and_columns(num_grids: Sequence[int | Sequence[int]]) -> list[tuple[int, int]]:
    """A config's num_grids with each S as (S, S).

    Raises:
        ValueError: if an entry is neither S nor (rows, columns).
    """
    grids = [(grid, grid) if isinstance(grid, int) else tuple(grid) for grid in num_grids]
    if any(len(grid) != 2 or min(grid) < 1 for grid in grids):
        raise ValueError(f"num_grids is {num_grids}, but each level needs S or (rows, columns), at least 1")
    return grids


def positive_cells(center: Tensor, reach: Tensor, image_size: Tensor, grid: tuple[int, int]) -> Tensor:
    """The cells that predict each object: those within `reach` of its centre of mass, at most one beyond the centre's cell.

    Args:
        center: (N, 2) y, x in pixels. reach: (N, 2), same units and order.
        image_size: (2,) or (N, 2) height, width with padding; a cell is 1 / grid of it.

    Returns:
        (N, 4) int64: top, left, bottom, right, end exclusive.
    """
    step = center.new_tensor([1.0 / side for side in grid])
    middle, first, last = (
        torch.div(point / image_size, step, rounding_mode="trunc").long() for point in (center, center - reach, center + reach)
    )
    start = torch.maximum(first, middle - 1).clamp(min=0)
    end = torch.minimum(torch.minimum(last, middle + 1), middle.new_tensor(grid) - 1) + 1
    return torch.cat([start, end], 1)


def mask_boxes(masks: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """(N, h, w) bool on a grid of a (height, width) image -> (N, 4) x1, y1, x2, y2 in pixels; empty -> zeros."""
    boxes = cell_boxes(masks)[:, [1, 0, 3, 2]].float() * stride
    return boxes.minimum(boxes.new_tensor([size[1], size[0], size[1], size[0]]))
