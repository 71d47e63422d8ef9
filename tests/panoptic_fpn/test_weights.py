"""Other projects' weights, whose networks are not all here: detectron2's computed by hand, torchvision's of before 2022."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from data.normalization import IMAGENET
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, Taxonomy
from panoptic_fpn.network import INSTANCE_HEAD, NetworkSettings, PanopticFPN
from panoptic_fpn.weights import sources
from runtime.files import InputError
from training.weights_file import Match, find_source, match

NUM_THINGS, NUM_STUFF = len(COCO_PANOPTIC.thing_ids), len(COCO_PANOPTIC.stuff_ids)
WIDTH = 32
BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}
"""Of ResNet-50, by detectron2's number of the stage."""
SMALL = NetworkSettings(
    fpn_channels=WIDTH,
    semantic_channels=WIDTH,
    has_stride_in_1x1=True,
    instance_head=replace(INSTANCE_HEAD, box_channels=WIDTH, mask_channels=WIDTH),
)


def build(settings: NetworkSettings, taxonomy: Taxonomy = COCO_PANOPTIC) -> PanopticFPN:
    return PanopticFPN(taxonomy.is_thing.tolist(), settings).eval()


def take(network: PanopticFPN, checkpoint: dict[str, Tensor], taxonomy: Taxonomy = COCO_PANOPTIC) -> Match:
    """Give a network what fits."""
    source = find_source(sources(network, taxonomy), checkpoint)
    found = match(network.state_dict(), source.arrange(checkpoint), source)
    network.load_state_dict(found.tensors, strict=False)
    return found


@pytest.fixture(scope="module")
def detectron2_tensors() -> dict[str, Tensor]:
    """Names and shapes of panoptic_fpn_R_50, narrow behind the ResNet, random."""
    torch.manual_seed(0)
    tensors = {}

    def layer(name: str, *shape: int, has_bias: bool = True, gain: float = 1.4) -> None:
        weight = torch.randn(shape)
        tensors[f"{name}.weight"] = weight * gain / weight[0].numel() ** 0.5
        if has_bias:
            tensors[f"{name}.bias"] = torch.randn(shape[0]) * 0.1

    def conv_norm(name: str, *shape: int, gain: float = 1.4) -> None:
        layer(name, *shape, has_bias=False, gain=gain)
        size = shape[:1]
        tensors[f"{name}.norm.weight"], tensors[f"{name}.norm.bias"] = torch.rand(size) + 0.5, torch.randn(size) * 0.1
        tensors[f"{name}.norm.running_mean"], tensors[f"{name}.norm.running_var"] = (
            torch.randn(size) * 0.1,
            torch.rand(size) + 0.5,
        )

    def conv_group_norm(name: str) -> None:
        layer(name, WIDTH, WIDTH, 3, 3, has_bias=False)
        tensors[f"{name}.norm.weight"], tensors[f"{name}.norm.bias"] = torch.rand(WIDTH) + 0.5, torch.randn(WIDTH)

    conv_norm("backbone.bottom_up.stem.conv1", 64, 3, 7, 7, gain=0.02)  # pixels are large
    inside = 64
    for stage, num_blocks in BLOCKS.items():
        width = 64 * 2 ** (stage - 2)
        for block in range(num_blocks):
            prefix = f"backbone.bottom_up.res{stage}.{block}"
            conv_norm(f"{prefix}.conv1", width, inside, 1, 1)
            conv_norm(f"{prefix}.conv2", width, width, 3, 3)
            conv_norm(f"{prefix}.conv3", 4 * width, width, 1, 1, gain=0.5)
            if block == 0:
                conv_norm(f"{prefix}.shortcut", 4 * width, inside, 1, 1, gain=1)
            inside = 4 * width
        layer(f"backbone.fpn_lateral{stage}", WIDTH, inside, 1, 1)
        layer(f"backbone.fpn_output{stage}", WIDTH, WIDTH, 3, 3)
    for name in ("p2.0", "p3.0", "p4.0", "p4.2", "p5.0", "p5.2", "p5.4"):
        conv_group_norm(f"sem_seg_head.{name}")
    layer("sem_seg_head.predictor", 1 + NUM_STUFF, WIDTH, 1, 1)
    rpn = "proposal_generator.rpn_head"
    layer(f"{rpn}.conv", WIDTH, WIDTH, 3, 3)
    layer(f"{rpn}.objectness_logits", 3, WIDTH, 1, 1)
    layer(f"{rpn}.anchor_deltas", 12, WIDTH, 1, 1)
    layer("roi_heads.box_head.fc1", WIDTH, WIDTH * 49)
    layer("roi_heads.box_head.fc2", WIDTH, WIDTH)
    layer("roi_heads.box_predictor.cls_score", NUM_THINGS + 1, WIDTH)
    layer("roi_heads.box_predictor.bbox_pred", NUM_THINGS * 4, WIDTH)
    for k in range(1, 5):
        layer(f"roi_heads.mask_head.mask_fcn{k}", WIDTH, WIDTH, 3, 3)
    layer("roi_heads.mask_head.deconv", WIDTH, WIDTH, 2, 2)
    layer("roi_heads.mask_head.predictor", NUM_THINGS, WIDTH, 1, 1)
    return tensors


class Detectron2:
    """What its layers compute, by its names, in float64."""

    def __init__(self, tensors: dict[str, Tensor]):
        self.tensors = {name: tensor.double() for name, tensor in tensors.items()}

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.tensors[f"{name}.weight"]
        return F.conv2d(x, weight, self.tensors.get(f"{name}.bias"), stride, padding=weight.shape[-1] // 2)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def frozen(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        norm = {part: self.tensors[f"{name}.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")}
        return F.batch_norm(self.conv(name, x, stride), **norm, eps=1e-5)

    def bottom_up(self, bgr: Tensor) -> dict[int, Tensor]:
        """Pixels less the mean of each colour -> res2 .. res5; a stage's stride is in its first 1x1 convolution."""
        x = F.max_pool2d(self.frozen("backbone.bottom_up.stem.conv1", bgr, 2).relu(), 3, 2, 1)
        stages = {}
        for stage, num_blocks in BLOCKS.items():
            for block in range(num_blocks):
                prefix, stride = f"backbone.bottom_up.res{stage}.{block}", 2 if block == 0 and stage > 2 else 1
                inner = self.frozen(f"{prefix}.conv1", x, stride).relu()
                inner = self.frozen(f"{prefix}.conv3", self.frozen(f"{prefix}.conv2", inner).relu())
                x = (inner + (self.frozen(f"{prefix}.shortcut", x, stride) if block == 0 else x)).relu()
            stages[stage] = x
        return stages

    def pyramid(self, bgr: Tensor) -> list[Tensor]:
        """p2 .. p6."""
        stages, levels, above = self.bottom_up(bgr), [], None
        for stage in reversed(BLOCKS):
            merged = self.conv(f"backbone.fpn_lateral{stage}", stages[stage])
            above = merged if above is None else merged + F.interpolate(above, scale_factor=2.0, mode="nearest")
            levels.insert(0, self.conv(f"backbone.fpn_output{stage}", above))
        return [*levels, levels[-1][..., ::2, ::2]]

    def semantics(self, pyramid: list[Tensor]) -> Tensor:
        """p2 .. p5 -> logits at stride 4, of which the first is "things"."""
        total = 0
        for level, x in enumerate(pyramid[:4]):
            for step in range(max(level, 1)):
                name = f"sem_seg_head.p{level + 2}.{2 * step}"
                norm = (self.tensors[f"{name}.norm.{part}"] for part in ("weight", "bias"))
                x = F.group_norm(self.conv(name, x), 32, *norm).relu()
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False) if level else x
            total = total + x
        return self.conv("sem_seg_head.predictor", total)


@torch.no_grad()
def test_detectron2s_weights_compute_the_same_on_normalised_rgb(detectron2_tensors):
    network, theirs = build(SMALL), Detectron2(detectron2_tensors)
    found = take(network, detectron2_tensors)
    assert found.left_out == found.missing == []
    network.double()
    rgb = torch.rand(1, 3, 64, 96, dtype=torch.float64) * 255
    mean, deviation = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (IMAGENET.mean, IMAGENET.std))
    bgr_mean = torch.tensor([103.53, 116.28, 123.675], dtype=torch.float64)  # MODEL.PIXEL_MEAN; PIXEL_STD is 1
    close = {"rtol": 1e-5, "atol": 1e-5}  # the first convolution is multiplied in float32

    pyramid = network.pyramid((rgb - mean) / deviation)
    wanted = theirs.pyramid(rgb.flip(1) - bgr_mean[:, None, None])
    assert wanted[0].std() > 0.1
    for ours, level in zip(pyramid, wanted, strict=True):
        torch.testing.assert_close(ours, level, **close)
    semantics = theirs.semantics(wanted)
    torch.testing.assert_close(network.semantic_head(pyramid[:4]), torch.cat([semantics[:, 1:], semantics[:, :1]], 1), **close)
    assert network.train_id_of_output[:-1].tolist() == list(COCO_PANOPTIC.stuff_ids)

    rpn, (objectness, deltas) = "proposal_generator.rpn_head", network.instance_head.rpn.head(pyramid)
    inside = theirs.conv(f"{rpn}.conv", wanted[1]).relu()
    torch.testing.assert_close(objectness[1], theirs.conv(f"{rpn}.objectness_logits", inside), **close)
    torch.testing.assert_close(deltas[1], theirs.conv(f"{rpn}.anchor_deltas", inside), **close)


@torch.no_grad()
def test_detectron2s_background_moves_to_the_front_and_boxes_and_masks_get_one(detectron2_tensors):
    network, theirs = build(SMALL), Detectron2(detectron2_tensors)
    take(network, detectron2_tensors)
    roi = network.double().instance_head.roi
    pooled = torch.randn(5, WIDTH, 7, 7, dtype=torch.float64)
    x = pooled.flatten(1)
    for layer in ("fc1", "fc2"):
        x = theirs.linear(f"roi_heads.box_head.{layer}", x).relu()
    scores, boxes = (theirs.linear(f"roi_heads.box_predictor.{layer}", x) for layer in ("cls_score", "bbox_pred"))
    class_logits, deltas = roi.box_predictor(roi.box_head(pooled))
    torch.testing.assert_close(class_logits[:, 1:], scores[:, :-1])
    torch.testing.assert_close(class_logits[:, 0], scores[:, -1])
    torch.testing.assert_close(deltas[:, 4:], boxes)
    assert (deltas[:, :4] == 0).all()

    x = pooled = torch.randn(2, WIDTH, 14, 14, dtype=torch.float64)
    for k in range(1, 5):
        x = theirs.conv(f"roi_heads.mask_head.mask_fcn{k}", x).relu()
    deconv = (theirs.tensors[f"roi_heads.mask_head.deconv.{parameter}"] for parameter in ("weight", "bias"))
    masks = theirs.conv("roi_heads.mask_head.predictor", F.conv_transpose2d(x, *deconv, stride=2).relu())
    torch.testing.assert_close(roi.mask_predictor(roi.mask_head(pooled))[:, 1:], masks)


def test_class_layers_for_other_classes_are_left_out_and_named(detectron2_tensors):
    network = build(SMALL, CITYSCAPES)
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = take(network, detectron2_tensors, CITYSCAPES)
    layers = ("roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred", "roi_heads.mask_head.predictor")
    layers += ("sem_seg_head.predictor",)
    assert found.left_out == sorted(f"{layer}.{parameter}" for layer in layers for parameter in ("weight", "bias"))
    assert len(found.missing) == len(found.left_out)
    assert all(torch.equal(network.state_dict()[name], initial[name]) for name in found.missing)


def test_a_first_convolution_of_another_number_of_colours_is_refused(detectron2_tensors):
    name = "backbone.bottom_up.stem.conv1.weight"
    for weight in (detectron2_tensors[name][:, :1], detectron2_tensors[name].mean((2, 3))):
        with pytest.raises(InputError, match=rf"{name} is .*\(64, 3, 7, 7\) was needed"):
            take(build(SMALL), detectron2_tensors | {name: weight})


def before_2022(name: str) -> str:
    """A name of torchvision's Mask R-CNN as in the published file."""
    for k in range(4):
        name = name.replace(f"mask_head.{k}.0.", f"mask_head.mask_fcn{k + 1}.")
        name = name.replace(f"inner_blocks.{k}.0.", f"inner_blocks.{k}.").replace(f"layer_blocks.{k}.0.", f"layer_blocks.{k}.")
    return name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")


@pytest.fixture(scope="module")
def old_mask_rcnn() -> MaskRCNN:
    """torchvision's, with norms without epsilon, as it loads its published weights."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=FrozenBatchNorm2d)
    network = MaskRCNN(backbone, num_classes=1 + int(COCO_PANOPTIC.dataset_ids[list(COCO_PANOPTIC.thing_ids)].max())).eval()
    for norm in (m for m in backbone.modules() if isinstance(m, FrozenBatchNorm2d)):
        norm.eps = 0.0
        norm.running_var.uniform_(2e-6, 5e-5)  # where epsilon, 1e-5, decides
        norm.weight.copy_(norm.running_var.sqrt() * (0.5 + torch.rand(len(norm.weight))))
    return network


@torch.no_grad()
def test_torchvisions_published_file_computes_the_same(old_mask_rcnn):
    checkpoint = {before_2022(name): tensor for name, tensor in old_mask_rcnn.state_dict().items()}
    assert sum(name not in old_mask_rcnn.state_dict() for name in checkpoint) == 2 * (4 + 4 + 1 + 4)
    old_mask_rcnn.load_state_dict(checkpoint)  # torchvision itself knows these names
    network = build(NetworkSettings("resnet18"))
    found = take(network, checkpoint)
    assert found.left_out == []
    assert {name.split(".")[0] for name in found.missing} == {"semantic_head"}
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    wanted = copy.deepcopy(old_mask_rcnn.backbone).double()(image).values()
    for ours, theirs in zip(network.double().pyramid(image), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.std().item())  # a difference in float32


@torch.no_grad()
def test_of_cocos_sparse_ids_those_in_use_are_taken(old_mask_rcnn):
    network = build(NetworkSettings("resnet18"))
    take(network, old_mask_rcnn.state_dict())
    ours, theirs = network.instance_head.roi, old_mask_rcnn.roi_heads
    categories = {c.name: (1 + k, c.dataset_id) for k, c in enumerate(c for c in COCO_PANOPTIC.categories if c.is_thing)}
    for name in ("person", "stop sign", "parking meter", "toothbrush"):  # COCO has no 12, which would stand between them
        output, dataset_id = categories[name]
        box = (slice(4 * output, 4 * output + 4), slice(4 * dataset_id, 4 * dataset_id + 4))
        for parameter in ("weight", "bias"):
            mine, other = (getattr(part.box_predictor.cls_score, parameter) for part in (ours, theirs))
            assert torch.equal(mine[output], other[dataset_id])
            mine, other = (getattr(part.box_predictor.bbox_pred, parameter) for part in (ours, theirs))
            assert torch.equal(mine[box[0]], other[box[1]])
            mine, other = (getattr(part.mask_predictor.mask_fcn_logits, parameter) for part in (ours, theirs))
            assert torch.equal(mine[output], other[dataset_id])
    assert categories["person"] == (1, 1)
    assert torch.equal(ours.box_predictor.cls_score.weight[0], theirs.box_predictor.cls_score.weight[0])  # background


def test_torchvisions_outputs_for_coco_are_left_out_elsewhere(old_mask_rcnn):
    found = take(build(NetworkSettings("resnet18"), CITYSCAPES), old_mask_rcnn.state_dict(), CITYSCAPES)
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in found.left_out} == {
        "cls_score",
        "bbox_pred",
        "mask_fcn_logits",
    }


def test_detectron2s_are_not_known_for_resnets_without_bottlenecks(detectron2_tensors):
    known = sources(build(NetworkSettings("resnet18")), COCO_PANOPTIC)
    assert find_source(known, detectron2_tensors) is None
