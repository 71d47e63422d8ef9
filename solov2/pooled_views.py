"""Test-time augmentation of SOLOv2: candidates of all views on the image's own grid, then one matrix NMS over all."""

from collections.abc import Callable

from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from data.resizing import logits_on_image
from solov2.location_head import LocationHead, select_candidates


@MODELS.register_module()
class CandidateHead(LocationHead):
    """LocationHead whose predictions are the candidates of matrix NMS, on the grid of the original, unflipped image.

    `img_meta` says with `flip` whether the network saw the image flipped left to right.

    A prediction has class_scores (N,), labels (N,), mask_logits (N, ceil(H / s), ceil(W / s)) and smallest_areas (N,) in
    cells of that grid; N is at most `nms_pre`.
    """

    def _predict_by_feat_single(
        self, kernel_preds: Tensor, cls_scores: Tensor, mask_feats: Tensor, img_meta: dict, cfg: dict | None = None
    ) -> InstanceData:
        cfg = self.test_cfg if cfg is None else cfg
        # Only the best are enlarged.
        found = best_candidates(self._candidates(kernel_preds, cls_scores, mask_feats, cfg.score_thr), cfg)
        size, net_size = img_meta["ori_shape"][:2], img_meta["img_shape"][:2]
        on_image = logits_on_image(found.mask_logits, net_size, size, self.mask_stride, self.logit_stride, img_meta["flip"])
        # The same area, in cells of the other grid.
        growth = size[0] * size[1] / (net_size[0] * net_size[1]) * (self.mask_stride / self.logit_stride) ** 2
        return InstanceData(
            class_scores=found.class_scores,
            labels=found.labels,
            mask_logits=on_image,
            smallest_areas=found.smallest_areas * growth,
        )


def select_from_views(predict_views: list[Callable[[], InstanceData]], cfg: dict) -> InstanceData:
    """The instances of an image, best first: scores (N,), labels (N,), mask_logits (N, rows, columns).

    Never more candidates are held than those of one view and the `nms_pre` best of the others: matrix NMS compares no more.

    Args:
        predict_views: predict one view each, by CandidateHead; called one by one.
        cfg: the head's test_cfg.
    """
    pool = predict_views[0]()
    for predict_view in predict_views[1:]:
        pool = best_candidates(InstanceData.cat([pool, predict_view()]), cfg)
    found = select_candidates(pool, cfg)
    return InstanceData(scores=found.scores, labels=found.labels, mask_logits=pool.mask_logits[found.chosen])


def best_candidates(pool: InstanceData, cfg: dict) -> InstanceData:
    """The `nms_pre` best, by class score times maskness, of those that are large enough."""
    if not len(pool) > cfg["nms_pre"] > 0:
        return pool
    # sigma 0: no mask decays another.
    keep_all = {"mask_thr": cfg["mask_thr"], "nms_pre": cfg["nms_pre"], "max_per_img": 0, "kernel": "gaussian"}
    return pool[select_candidates(pool, keep_all | {"sigma": 0.0, "filter_thr": 0.0}).chosen]
