"""What of SOLOv2 is exported: the network, point NMS and the dynamic convolution. Matrix NMS runs beside it.

Beside, since a mask then costs one pass over its cells, and pairs of masks are compared by packed bits where their boxes overlap;
in the graph every pair of masks is a product of all their cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.constant_padding import with_constant_padding
from prediction.onnx_export import Exportable
from runtime.files import InputError
from solov2.location_head import NMS_SETTINGS, LocationHead
from solov2.predictor import SOLOv2Predictor

MULTIPLE = 32
"""Of the sides of the network's input; the predictors pad to it."""


class CandidateGraph(nn.Module):
    """A detector of mmdet with a LocationHead, from an RGB image to its candidates.

    Args:
        is_bgr: whether the network takes the channels in the order B, G, R.
    """

    def __init__(self, network: nn.Module, is_bgr: bool = False):
        super().__init__()
        self.network, self.is_bgr = network, is_bgr

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(1, 3, H, W) float32 -> what prediction.exported.model_folder.OUTPUTS says."""
        head: LocationHead = self.network.mask_head
        image = image.to(next(self.network.parameters()).dtype)
        features = self.network.extract_feat(image.flip(1) if self.is_bgr else image)
        mask_features = _mask_features(head.mask_feature_head, features)[0].float()  # (C, h, w)
        kernels, scores, areas = [], [], []
        for level, grid, stride in zip(head.resize_feats(features), head.num_grids, head.strides, strict=True):
            kernel, score = _cells(head, level, grid)
            kernels.append(kernel[0].float().flatten(1).T)  # (cells, D)
            scores.append(point_nms(score.float().sigmoid())[0].flatten(1).T)  # (cells, classes)
            areas.append(torch.full((grid[0] * grid[1],), float(stride)))
        kernels, scores = torch.cat(kernels), torch.cat(scores)
        cells, labels = (scores > head.test_cfg.score_thr).nonzero().unbind(1)
        masks = (kernels[cells] @ mask_features.flatten(1)).unflatten(1, mask_features.shape[1:])
        return masks, scores[cells, labels], labels, torch.cat(areas)[cells]


def point_nms(scores: Tensor) -> Tensor:
    """(B, C, rows, columns) with 0 where a neighbour above or on the left in a window of 2x2 is larger, as mmdet."""
    return scores * (F.max_pool2d(scores, 2, stride=1, padding=1)[:, :, :-1, :-1] == scores)


def _mask_features(module: nn.Module, features: tuple[Tensor, ...]) -> Tensor:
    """As mmdet's MaskFeatModule, whose coordinates cannot be exported for any size."""
    inputs = features[module.start_level : module.end_level + 1]
    total = module.convs_all_levels[0](inputs[0])
    for k, level in enumerate(inputs[1:], 1):
        total = total + module.convs_all_levels[k](with_coordinates(level) if k == len(inputs) - 1 else level)
    return module.conv_pred(total)


def _cells(head: LocationHead, level: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Kernels (1, D, rows, columns) and class logits of a level's cells, as mmdet's SOLOV2Head.forward."""
    kernel = F.interpolate(with_coordinates(level), size=grid, mode="bilinear", align_corners=False)
    score = kernel[:, :-2]
    for kernel_conv, score_conv in zip(head.kernel_convs, head.cls_convs, strict=True):
        kernel, score = kernel_conv(kernel), score_conv(score)
    return head.conv_kernel(kernel), head.conv_cls(score)


def with_coordinates(features: Tensor) -> Tensor:
    """(1, C, h, w) -> (1, C + 2, h, w): where each cell is, x and then y, from -1 to 1."""
    rows, columns = features.shape[-2:]
    y, x = (2 * torch.arange(n) / torch.sym_max(n - 1, 1) - 1 for n in (rows, columns))
    y, x = (axis.to(features.dtype)[None, None] for axis in (y[:, None].expand(rows, columns), x.expand(rows, columns)))
    return torch.cat([features, x, y], 1)


def export_of(predictor: SOLOv2Predictor) -> Exportable:
    """What there is to export.

    Raises:
        InputError: if the dynamic convolutions have a size, or images reach the network in a way that a YAML cannot say.
    """
    network, head = predictor.network, predictor.network.mask_head
    if head.dynamic_conv_size != 1:
        raise InputError(f"dynamic_conv_size is {head.dynamic_conv_size}, but only 1 can be exported")
    normalizer = network.data_preprocessor
    if normalizer.pad_size_divisor != MULTIPLE or getattr(normalizer, "pad_value", 0) != 0:
        raise InputError(f"pad_size_divisor is {normalizer.pad_size_divisor}, but {MULTIPLE} with zeros is needed for an export")
    is_bgr = not normalizer._channel_conversion
    mean, std = [0.0] * 3, [1.0] * 3
    if normalizer._enable_normalize:
        mean, std = ([float(v) for v in getattr(normalizer, name).flatten()] for name in ("mean", "std"))
    return Exportable(
        system="solov2",
        network=CandidateGraph(with_constant_padding(network), is_bgr),
        taxonomy=predictor.taxonomy,
        producer=predictor.name,
        multiple=MULTIPLE,
        stride=head.mask_stride,
        resize=_resize_of(predictor),
        mean=tuple(mean[::-1] if is_bgr else mean),
        std=tuple(std[::-1] if is_bgr else std),
        min_score=predictor.min_score,
        settings={
            "mask_stride": head.mask_stride,
            "logit_stride": head.logit_stride,
            "score_thr": head.test_cfg.score_thr,
            "nms": {name: head.test_cfg[name] for name in NMS_SETTINGS},
        },
    )


def _resize_of(predictor: SOLOv2Predictor) -> dict:
    """The rule of the test pipeline's Resize."""
    resizing = [t for t in predictor.pipelines[1.0].transforms if type(t).__name__ == "Resize"]
    others = {type(t).__name__ for t in predictor.pipelines[1.0].transforms}
    others -= {"Resize", "LoadImageFromNDArray", "LoadAnnotations", "PackDetInputs"}
    resize = resizing[0] if len(resizing) == 1 else None
    is_known = resize is not None and resize.scale and resize.keep_ratio and resize.interpolation == "bilinear" and not others
    if not is_known:
        raise InputError("its test pipeline cannot be exported: one Resize with `scale`, keep_ratio and bilinear is needed")
    return {"rule": "box", "longer": int(max(resize.scale)), "shorter": int(min(resize.scale))}
