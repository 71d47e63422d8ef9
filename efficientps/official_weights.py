"""Names of the official EfficientPS checkpoint (mmdet 1.x fork) -> names of our networks; the functions are the same.

Of the Mask R-CNN heads, the names of the mask head's separable convolutions are inferred from those of the semantic head.
"""

import re

from backbones.efficientnet import STRIDES
from efficientps.network import SemanticEfficientPS

_IN_BLOCK = {
    # ours: (official where the block does not expand, official where it does)
    "_expand_conv": (None, "conv_pw"),
    "_bn0": (None, "bn1"),
    "_depthwise_conv": ("conv_dw", "conv_dw"),
    "_bn1": ("bn1", "bn2"),
    "_project_conv": ("conv_pw", "conv_pwl"),
    "_bn2": ("bn2", "bn3"),
}
_SEPARABLE = {"0": "depthwise_conv", "1": "pointwise_conv"}
_CONV_NORM = {"0": "conv", "1": "bn"}


_INSTANCE_HEAD = {
    "rpn.head.conv.0.0": "rpn_head.rpn_conv",
    "rpn.head.cls_logits": "rpn_head.rpn_cls",
    "rpn.head.bbox_pred": "rpn_head.rpn_reg",
    "roi.box_head.fc6": "bbox_head.shared_fcs.0",
    "roi.box_head.fc7": "bbox_head.shared_fcs.1",
    "roi.box_predictor.cls_score": "bbox_head.fc_cls",
    "roi.box_predictor.bbox_pred": "bbox_head.fc_reg",
    "roi.mask_predictor.conv5_mask": "mask_head.upsample",
    "roi.mask_predictor.mask_fcn_logits": "mask_head.conv_logits",
}


def official_names(network: SemanticEfficientPS) -> dict[str, str]:
    """Name in our state dict -> name in the official checkpoint, for every tensor of the network."""
    stages = _stage_positions(network)
    return {name: _official_name(name, stages) for name in network.state_dict()}


def _stage_positions(network: SemanticEfficientPS) -> list[tuple[int, int, bool]]:
    """(stage, position in the stage, does it expand) of each block: the official checkpoint numbers them so."""
    positions, previous = [], None
    for block in network.encoder.net._blocks:
        args = block._block_args
        kind = (args.kernel_size, args.expand_ratio, args.output_filters)
        stage, position = positions[-1][:2] if positions else (-1, 0)
        stage, position = (stage, position + 1) if kind == previous else (stage + 1, 0)
        positions.append((stage, position, args.expand_ratio != 1))
        previous = kind
    return positions


def _official_name(name: str, stages: list[tuple[int, int, bool]]) -> str:
    if match := re.fullmatch(r"encoder\.net\._blocks\.(\d+)\.(\w+)\.(\w+)", name):
        stage, position, is_expanded = stages[int(match[1])]
        return f"backbone.blocks.{stage}.{position}.{_IN_BLOCK[match[2]][is_expanded]}.{match[3]}"
    if match := re.fullmatch(r"encoder\.net\.(\w+)\.(\w+)", name):
        ends = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
        return f"backbone.{ends[match[1]]}.{match[2]}"
    if match := re.fullmatch(r"two_way_fpn\.(\w+)\.s(\d+)\.([\d.]+)\.(\w+)", name):
        level = STRIDES.index(int(match[2]))
        # The official list of bottom-up laterals starts at stride 32.
        part = {
            "top_down_laterals": f"lateral_convs_top.{level}",
            "bottom_up_laterals": f"lateral_convs_bottom.{len(STRIDES) - 1 - level}",
            "outputs": f"fpn_convs.{level}",
        }[match[1]]
        return f"neck.{part}.{_conv_name(match[3])}.{match[4]}"
    if match := re.fullmatch(r"semantic_head\.classify\.(\w+)", name):
        return f"semantic_head.conv_logits.{match[1]}"
    if match := re.fullmatch(r"instance_head\.roi\.mask_head\.(\d)\.([\d.]+)\.(\w+)", name):
        return f"mask_head.convs.{match[1]}.{_conv_name(match[2])}.{match[3]}"
    if name.startswith("instance_head."):
        layer, _, parameter = name.removeprefix("instance_head.").rpartition(".")
        return f"{_INSTANCE_HEAD[layer]}.{parameter}"
    match = re.fullmatch(r"semantic_head\.(\w+)\.s(\d+)\.(?:(branches|convs|merge)\.)?([\d.]+)\.(\w+)", name)
    assert match, name
    group = {
        "dpc": ("lateral_convs_ss", ("32", "16")),
        "lsfe": ("lateral_convs_ls", ("8", "4")),
        "correction": ("aligning_convs", ("16", "8")),
    }
    official, order = group[match[1]]
    prefix = f"semantic_head.{official}.{order.index(match[2])}"
    if match[3] == "merge":
        return f"{prefix}.conv.{_conv_name(match[4])}.{match[5]}"
    index, rest = match[4].split(".", 1)
    return f"{prefix}.convs.{index}.{_conv_name(rest)}.{match[5]}"


def _conv_name(indices: str) -> str:
    """Position in our Sequentials -> official names: "1.0" is the pointwise convolution, "0" a plain one."""
    parts = indices.split(".")
    return ".".join([*(_SEPARABLE[p] for p in parts[:-1]), _CONV_NORM[parts[-1]]])
