"""Which checkpoints can start a Panoptic FPN, and how their names, orders and meanings become ours.

Ours: RGB normalised by ImageNet's mean and deviation; background is the first output of every layer of the box and mask heads;
"other" is the last output of the semantic branch. torchvision has the same, but COCO's own ids; mmdet and detectron2 have
background last, and none for boxes and masks; detectron2 has "other" first, and BGR of which the mean alone was taken away.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from data.normalization import IMAGENET
from data.taxonomy import COCO_PANOPTIC, Taxonomy
from panoptic_fpn.network import PanopticFPN
from panoptic_fpn.semantic_head import STRIDES
from training.weights_file import COUNTER, Source, lite_sources

Tensors = dict[str, Tensor]
Rules = tuple[tuple[str, str], ...]
"""(how our name begins, as a regular expression, what stands there in theirs); the first that fits is applied."""

BODY, FPN, SEMANTIC, HEAD = r"backbone\.levels\.body\.", r"backbone\.levels\.fpn\.", r"semantic_head\.", r"instance_head\."
FIRST = "backbone.levels.body.conv1.weight"
CLASSES = "instance_head.roi.box_predictor.cls_score"
BOXES = "instance_head.roi.box_predictor.bbox_pred"
MASKS = "instance_head.roi.mask_predictor.mask_fcn_logits"
SEMANTICS = "semantic_head.classify"
CLASS_LAYERS = tuple(f"{layer}.{parameter}" for layer in (CLASSES, BOXES, MASKS, SEMANTICS) for parameter in ("weight", "bias"))
NORM_EPS = 1e-5
"""What torchvision's norms, and ours, add to a variance."""

TORCHVISION: Rules = (
    (r"backbone\.levels\.", "backbone."),
    (HEAD + r"rpn\.", "rpn."),
    (HEAD + r"roi\.", "roi_heads."),
)
BEFORE_0_13: Rules = (
    (r"backbone\.fpn\.(inner|layer)_blocks\.(\d)\.(?=weight|bias)", r"backbone.fpn.\1_blocks.\2.0."),
    (r"rpn\.head\.conv\.(?=weight|bias)", "rpn.head.conv.0.0."),
    *((rf"roi_heads\.mask_head\.mask_fcn{k + 1}\.", f"roi_heads.mask_head.{k}.0.") for k in range(4)),
)
"""Names that torchvision wrote before its release 0.13, such as in maskrcnn_resnet50_fpn_coco -> its names since then."""
MMDET: Rules = (
    (BODY, "backbone."),
    (FPN + r"inner_blocks\.(\d)\.0\.", r"neck.lateral_convs.\1.conv."),
    (FPN + r"layer_blocks\.(\d)\.0\.", r"neck.fpn_convs.\1.conv."),
    *(
        (SEMANTIC + rf"scale_heads\.s{stride}\.(\d)\.{k}\.", rf"semantic_head.conv_upsample_layers.{level}.conv.\1.{part}.")
        for level, stride in enumerate(STRIDES)
        for k, part in enumerate(("conv", "gn"))
    ),
    (SEMANTIC + "classify", "semantic_head.conv_logits"),
    (HEAD + r"rpn\.head\.conv\.0\.0", "rpn_head.rpn_conv"),
    (HEAD + r"rpn\.head\.cls_logits", "rpn_head.rpn_cls"),
    (HEAD + r"rpn\.head\.bbox_pred", "rpn_head.rpn_reg"),
    (HEAD + r"roi\.box_head\.fc6", "roi_head.bbox_head.shared_fcs.0"),
    (HEAD + r"roi\.box_head\.fc7", "roi_head.bbox_head.shared_fcs.1"),
    (HEAD + r"roi\.box_predictor\.cls_score", "roi_head.bbox_head.fc_cls"),
    (HEAD + r"roi\.box_predictor\.bbox_pred", "roi_head.bbox_head.fc_reg"),
    (HEAD + r"roi\.mask_head\.(\d)\.0", r"roi_head.mask_head.convs.\1.conv"),
    (HEAD + r"roi\.mask_predictor\.conv5_mask", "roi_head.mask_head.upsample"),
    (HEAD + r"roi\.mask_predictor\.mask_fcn_logits", "roi_head.mask_head.conv_logits"),
)
DETECTRON2: Rules = (
    (BODY + r"conv1\.", "backbone.bottom_up.stem.conv1."),
    (BODY + r"bn1\.", "backbone.bottom_up.stem.conv1.norm."),
    *(
        (BODY + rf"layer{k}\.(\d+)\.{ours}\.", rf"backbone.bottom_up.res{k + 1}.\1.{theirs}.")
        for k in range(1, 5)
        for ours, theirs in (
            (r"conv(\d)", r"conv\2"),
            (r"bn(\d)", r"conv\2.norm"),
            (r"downsample\.0", "shortcut"),
            (r"downsample\.1", "shortcut.norm"),
        )
    ),
    *((FPN + rf"inner_blocks\.{k}\.0", f"backbone.fpn_lateral{k + 2}") for k in range(4)),
    *((FPN + rf"layer_blocks\.{k}\.0", f"backbone.fpn_output{k + 2}") for k in range(4)),
    *(  # Theirs counts the enlargements between the convolutions, too.
        (SEMANTIC + rf"scale_heads\.s{stride}\.{step}\.{k}\.", f"sem_seg_head.p{level + 2}.{2 * step}.{norm}")
        for level, stride in enumerate(STRIDES)
        for step in range(len(STRIDES) - 1)
        for k, norm in enumerate(("", "norm."))
    ),
    (SEMANTIC + "classify", "sem_seg_head.predictor"),
    (HEAD + r"rpn\.head\.conv\.0\.0", "proposal_generator.rpn_head.conv"),
    (HEAD + r"rpn\.head\.cls_logits", "proposal_generator.rpn_head.objectness_logits"),
    (HEAD + r"rpn\.head\.bbox_pred", "proposal_generator.rpn_head.anchor_deltas"),
    (HEAD + r"roi\.box_head\.fc6", "roi_heads.box_head.fc1"),
    (HEAD + r"roi\.box_head\.fc7", "roi_heads.box_head.fc2"),
    (HEAD + r"roi\.box_predictor\.", "roi_heads.box_predictor."),
    *((HEAD + rf"roi\.mask_head\.{k}\.0", f"roi_heads.mask_head.mask_fcn{k + 1}") for k in range(4)),
    (HEAD + r"roi\.mask_predictor\.conv5_mask", "roi_heads.mask_head.deconv"),
    (HEAD + r"roi\.mask_predictor\.mask_fcn_logits", "roi_heads.mask_head.predictor"),
)
"""Of detectron2/modeling: backbone/{resnet,fpn}.py, meta_arch/semantic_seg.py, proposal_generator/rpn.py, roi_heads/*.py."""
RESNET: Rules = ((BODY, ""),)
"""A backbone alone."""


@dataclass(frozen=True)
class Family(Source):
    """A source whose tensors also stand in another order, or which was trained with other settings."""

    arrange: Callable[[Tensors], Tensors] = dict
    """Applied to the checkpoint under its own names before it is matched: orders, lengths and meanings become ours."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of the network, where its weights want another value than the default."""


def sources(network: PanopticFPN, taxonomy: Taxonomy) -> tuple[Family, ...]:
    """Whole models of three projects, and a backbone trained on ImageNet, for a network of these classes.

    detectron2's are known for ResNets of bottlenecks alone: it has no others of MSRA's. With an EfficientNet-Lite, that alone.
    """
    if lite := lite_sources(network):
        return tuple(Family(**vars(source)) for source in lite)
    to_names = partial(_names, list(network.state_dict()))
    mmdet, detectron2, torchvision = to_names(MMDET), to_names(DETECTRON2), to_names(TORCHVISION)
    of_mmdet = Family(
        "mmdet Panoptic FPN",
        marker="neck.lateral_convs.0.conv.weight",
        names=mmdet,
        class_layers=CLASS_LAYERS,
        arrange=partial(from_mmdet, names=mmdet),
    )
    of_detectron2 = Family(
        "detectron2 Panoptic FPN",
        marker="backbone.bottom_up.stem.conv1.weight",
        names=detectron2,
        class_layers=CLASS_LAYERS,
        arrange=partial(from_detectron2, names=detectron2),
        settings={"has_stride_in_1x1": "true"},
    )
    of_torchvision = Family(
        "torchvision Mask R-CNN",
        marker="backbone.body.conv1.weight",
        names=torchvision,
        class_layers=CLASS_LAYERS,
        arrange=partial(from_torchvision, names=torchvision, taxonomy=taxonomy),
        settings={"instance_head.convention": "torchvision", "instance_head.box_beta": f"{1 / 9:.6f}"},
    )
    backbone = Family("torchvision ResNet", marker="layer1.0.conv1.weight", names=to_names(RESNET), arrange=without_counters)
    has_bottlenecks = "backbone.levels.body.layer1.0.conv3.weight" in mmdet
    return (of_mmdet, *([of_detectron2] if has_bottlenecks else []), of_torchvision, backbone)


def from_mmdet(checkpoint: Tensors, names: Mapping[str, str]) -> Tensors:
    """Background first.

    Args:
        names: ours -> theirs.
    """
    return background_first(without_counters(checkpoint), names)


def from_detectron2(checkpoint: Tensors, names: Mapping[str, str]) -> Tensors:
    """Background first, "other" last, and a first convolution for RGB that is divided by ImageNet's deviation.

    It holds for the models whose ResNet is MSRA's, as all published Panoptic FPNs': BGR, pixels of deviation 1.
    """
    semantics = {names[f"{SEMANTICS}.{parameter}"]: lambda rows: rows.roll(-1, 0) for parameter in ("weight", "bias")}
    return changed(background_first(without_counters(checkpoint), names), semantics | {names[FIRST]: to_normalised_rgb})


def to_normalised_rgb(weight: Tensor) -> Tensor:
    """Weight (out, 3, 7, 7) for BGR - mean -> one that gives the same for (RGB - mean) / deviation."""
    if weight.ndim != 4 or weight.shape[1] != len(IMAGENET.std):
        return weight  # to be refused for its shape
    return weight.flip(1) * torch.tensor(IMAGENET.std)[:, None, None]


def from_torchvision(checkpoint: Tensors, names: Mapping[str, str], taxonomy: Taxonomy) -> Tensors:
    """Names of today, and for COCO's classes the outputs of those of its ids that are in use.

    Files with names from before release 0.13 are, as torchvision itself reads its published one, of norms without epsilon.
    """
    arranged = without_counters(checkpoint)
    renamed = {_rename(name, BEFORE_0_13) or name: tensor for name, tensor in arranged.items()}
    if renamed.keys() != arranged.keys():
        variances = (name for name in renamed if name.endswith(".running_var"))
        renamed = changed(renamed, dict.fromkeys(variances, lambda variance: variance - NORM_EPS))
    if taxonomy != COCO_PANOPTIC:
        return renamed
    dataset_ids = taxonomy.dataset_ids[list(taxonomy.thing_ids)]
    num_outputs = 1 + int(dataset_ids.max())
    used = torch.tensor([0, *dataset_ids])

    def pick(rows: Tensor) -> Tensor:
        of_class = len(rows) // num_outputs  # 4 of a class for boxes
        return rows.unflatten(0, (num_outputs, of_class))[used].flatten(0, 1) if len(rows) == num_outputs * of_class else rows

    layers = (f"{layer}.{parameter}" for layer in (CLASSES, BOXES, MASKS) for parameter in ("weight", "bias"))
    return changed(renamed, {names[layer]: pick for layer in layers})


def background_first(checkpoint: Tensors, names: Mapping[str, str]) -> Tensors:
    """Background moves from the last place of the classes to the first, and boxes and masks get one, of zeros, for it."""
    changes = {CLASSES: lambda rows: rows.roll(1, 0), BOXES: partial(_prepend, count=4), MASKS: partial(_prepend, count=1)}
    return changed(
        checkpoint, {names[f"{layer}.{parameter}"]: f for layer, f in changes.items() for parameter in ("weight", "bias")}
    )


def _prepend(rows: Tensor, count: int) -> Tensor:
    return torch.cat([rows.new_zeros(count, *rows.shape[1:]), rows])


def changed(tensors: Tensors, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> Tensors:
    """A copy in which those that are there are changed."""
    return {name: changes[name](tensor) if name in changes else tensor for name, tensor in tensors.items()}


def without_counters(checkpoint: Tensors) -> Tensors:
    """Without the steps that norms have counted: frozen norms have no place for them."""
    return {name: tensor for name, tensor in checkpoint.items() if not name.endswith(COUNTER)}


def _names(ours: list[str], rules: Rules) -> dict[str, str]:
    """Our name -> theirs, of all tensors that they have."""
    renamed = {name: _rename(name, rules) for name in ours}
    return {name: theirs for name, theirs in renamed.items() if theirs is not None}


def _rename(name: str, rules: Rules) -> str | None:
    for pattern, replacement in rules:
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", replacement, name)
    return None
