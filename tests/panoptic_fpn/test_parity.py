"""The network computes what mmdet's and torchvision's compute, built here with random weights, through the command's file.

Weights are random, norms have statistics of data, and the class layers are loud, so that no number is degenerate and garbage is
detected with confidence. The whole image is compared at 96x128.
"""

import copy
import runpy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import solov2  # noqa: F401, before mmdet

# isort: split
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import register_all_modules
from mmengine.hub import get_config
from mmengine.structures import InstanceData
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from data.instance_dump import InstanceLogits, full_masks
from data.normalization import IMAGENET
from data.panoptic_png import PanopticMap
from data.resizing import argmax_on_image
from data.taxonomy import COCO_PANOPTIC
from detection.instance_head import Detections
from detection.instance_masks import to_instance_logits
from fusion.compose import AREA_REFERENCE
from fusion.heuristic_merge import merge
from fusion.settings import MergeSettings
from panoptic_fpn.network import INSTANCE_HEAD, LOGIT_STRIDE, NetworkSettings, PanopticFPN
from training.weights_file import load_weights_file

pytestmark = pytest.mark.parity

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "import_weights.py"))
SIZE = (96, 128)
METAINFO = {"img_shape": SIZE, "ori_shape": SIZE, "pad_shape": SIZE, "batch_input_shape": SIZE, "scale_factor": (1.0, 1.0)}
NUM_PROPOSALS, NUM_DETECTIONS, MIN_SCORE, MIN_STUFF_AREA = 100, 12, 0.3, 64
"""Fewer than the usual 1000 and 100: each costs time."""
TIGHT = {"rtol": 1e-4, "atol": 1e-4}
"""The same operators with sums in another order, on numbers around 1."""


@torch.no_grad()
def randomise(network: nn.Module, backbone: nn.Module, image: Tensor) -> None:
    """Random affine norms, whose statistics are those of an image, and random biases."""
    for layer in network.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.GroupNorm)):
            layer.weight.uniform_(0.5, 1.5)
            layer.bias.normal_(std=0.2)
        elif isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
            layer.bias.normal_(std=0.05)
    norms = [layer for layer in backbone.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    backbone(image)
    network.eval()


@torch.no_grad()
def spread(layer: nn.Module, deviation: float, run: Callable[[], object]) -> None:
    """Random weights whose outputs, where `run` calls the layer first, have a mean of 0 and this deviation."""
    inputs = []
    handle = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    run()
    handle.remove()
    layer.weight.normal_()
    layer.bias.zero_()
    of_each_output = layer(inputs[0]).movedim(1, 0).flatten(1)
    layer.weight *= deviation / (of_each_output - of_each_output.mean(1, keepdim=True)).std()
    layer.bias -= layer(inputs[0]).movedim(1, 0).flatten(1).mean(1)


@pytest.fixture(scope="module")
def image() -> Tensor:
    """Smooth at several scales, normalised."""
    torch.manual_seed(0)
    parts = [F.interpolate(torch.randn(1, 3, s, s), SIZE, mode="bilinear", align_corners=False) for s in (3, 6, 12, 48)]
    return sum(parts) / 2


@pytest.fixture(scope="module")
def mmdet_model(image) -> nn.Module:
    """panoptic-fpn_r50_fpn_1x_coco; its own settings are changed where a test says so."""
    register_all_modules()
    settings = get_config("mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py").model
    settings.backbone.init_cfg = None
    settings.test_cfg.rpn.update(nms_pre=NUM_PROPOSALS, max_per_img=NUM_PROPOSALS)
    settings.test_cfg.rcnn.update(score_thr=MIN_SCORE, max_per_img=NUM_DETECTIONS)
    settings.test_cfg.panoptic.update(stuff_area_limit=MIN_STUFF_AREA)
    torch.manual_seed(1)
    network = MODELS.build(settings)
    randomise(network, network.backbone, image)
    with torch.no_grad():  # masks without a chequered pattern
        upsample = network.roi_head.mask_head.upsample.weight
        upsample.copy_(upsample[..., :1, :1] + 0.1 * upsample)
    samples = [DetDataSample(metainfo=METAINFO)]
    bbox, rpn = network.roi_head.bbox_head, network.rpn_head
    layers = {rpn.rpn_cls: 2, rpn.rpn_reg: 0.3, bbox.fc_cls: 2, bbox.fc_reg: 1, network.roi_head.mask_head.conv_logits: 3}
    for layer, deviation in (layers | {network.semantic_head.conv_logits: 3}).items():
        spread(layer, deviation, lambda: network.predict(image, samples, rescale=False))
    network.roi_head.mask_head.conv_logits.bias.data += 3  # a mask fills most of its box
    return network


@pytest.fixture(scope="module")
def import_weights(tmp_path_factory):
    """A network's tensors -> the file that the command makes of them, and what it prints."""
    folder = tmp_path_factory.mktemp("weights")

    def run(state: dict[str, Tensor], name: str) -> Path:
        torch.save({"meta": {"epoch": 12}, "state_dict": state}, folder / f"{name}.pth")
        output = folder / f"{name}.safetensors"
        arguments = [str(folder / f"{name}.pth"), "--for", "panoptic-fpn-r50", "--output", str(output)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["import_weights.py", *arguments])
            SCRIPT["main"]()
        (folder / f"{name}.pth").unlink()  # 180 MB
        return output

    return run


def build(weights: Path, norm: str, **head: object) -> PanopticFPN:
    """Our network with weights of a file, which has all that a frozen network needs."""
    settings = NetworkSettings(norm=norm, instance_head=replace(INSTANCE_HEAD, num_proposals=NUM_PROPOSALS, **head))
    network = PanopticFPN(COCO_PANOPTIC.is_thing.tolist(), settings).eval()
    load_weights_file(network, weights)
    return network


@pytest.fixture(scope="module")
def from_mmdet(mmdet_model, import_weights) -> Path:
    return import_weights(mmdet_model.state_dict(), "mmdet")


@pytest.fixture(scope="module")
def network(from_mmdet) -> PanopticFPN:
    """With plain norms, so that their operator is mmdet's, too."""
    return build(from_mmdet, "bn", score_threshold=MIN_SCORE, max_detections=NUM_DETECTIONS)


@torch.no_grad()
def test_backbone_pyramid_and_rpn_are_bit_equal_to_mmdets(network, mmdet_model, image):
    for stage, (found, wanted) in enumerate(zip(body_stages(network, image), mmdet_model.backbone(image), strict=True)):
        assert wanted.std() > 0.1, stage
        assert torch.equal(found, wanted), stage
    pyramid, wanted = network.pyramid(image), mmdet_model.extract_feat(image)
    assert all(torch.equal(*pair) for pair in zip(pyramid, wanted, strict=True))
    for found, expected in zip(network.instance_head.rpn.head(pyramid), mmdet_model.rpn_head(wanted), strict=True):
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def body_stages(network: PanopticFPN, image: Tensor) -> Iterator[Tensor]:
    yield from network.backbone.levels.body(image).values()


@torch.no_grad()
def test_frozen_norms_compute_the_same(from_mmdet, mmdet_model, image):
    # They multiply by a prepared scale, and sixteen blocks amplify the rounding; float64 leaves little of it.
    frozen, theirs = build(from_mmdet, "frozen").double(), copy.deepcopy(mmdet_model).double()
    for found, wanted in zip(frozen.pyramid(image.double()), theirs.extract_feat(image.double()), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)


@torch.no_grad()
def test_semantic_logits_are_mmdets(network, mmdet_model, image):
    pyramid = network.pyramid(image)
    found, wanted = network.semantic_head(pyramid[:4]), mmdet_model.semantic_head(tuple(pyramid))["seg_preds"]
    torch.testing.assert_close(found, wanted, **TIGHT)  # mmdet stacks the four levels to add them up
    train_ids = network.train_id_of_output[:-1].tolist()
    assert [k for k, is_thing in enumerate(COCO_PANOPTIC.is_thing) if not is_thing] == train_ids  # "other" is the last of both


@torch.no_grad()
def test_anchors_are_mmdets(network, mmdet_model, image):
    pyramid = network.pyramid(image)
    sizes = [level.shape[-2:] for level in pyramid]
    wanted = torch.cat(mmdet_model.rpn_head.prior_generator.grid_priors(sizes, device="cpu"))
    (found,) = network.instance_head._score_anchors(pyramid)[2]
    # Half a side is computed before or after the center is added: the last bit of numbers up to 400.
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-4)


@torch.no_grad()
def test_box_and_mask_heads_are_mmdets_on_given_boxes(network, mmdet_model, image):
    pyramid = network.pyramid(image)
    left_top = torch.rand(30, 2) * torch.tensor([100.0, 70.0])
    boxes = torch.cat([left_top, left_top + 4 + torch.rand(30, 2) * 24 * torch.tensor([1.0, 4.0])], dim=1)
    boxes = torch.cat([boxes, torch.tensor([[0.0, 0.0, 480.0, 480.0], [-8.0, 3.0, 250.0, 130.0]])])  # of the coarse levels, too
    class_logits, deltas = network.instance_head._classify(pyramid, [boxes])
    masks = network.instance_head._predict_masks(pyramid, [boxes])

    rois = bbox2roi([boxes])
    wanted = mmdet_model.roi_head._bbox_forward(tuple(pyramid), rois)
    assert wanted["cls_score"].std() > 0.3
    torch.testing.assert_close(class_logits[:, 1:], wanted["cls_score"][:, :-1], **TIGHT)
    torch.testing.assert_close(class_logits[:, 0], wanted["cls_score"][:, -1], **TIGHT)
    torch.testing.assert_close(deltas[:, 4:], wanted["bbox_pred"], **TIGHT)
    torch.testing.assert_close(masks[:, 1:], mmdet_model.roi_head._mask_forward(tuple(pyramid), rois)["mask_preds"], **TIGHT)


def detect_as_mmdet(model: nn.Module, pyramid: list[Tensor], is_class_agnostic: bool = False, **settings: float) -> InstanceData:
    """Its boxes, scores, labels, and masks at full size; with other settings than the model's where they are given."""
    samples = [DetDataSample(metainfo=METAINFO)]
    roi_head = copy.copy(model.roi_head)
    roi_head.test_cfg = copy.deepcopy(roi_head.test_cfg)
    roi_head.test_cfg.update(settings)
    roi_head.test_cfg.nms.class_agnostic = is_class_agnostic
    proposals = model.rpn_head.predict(tuple(pyramid), samples, rescale=False)
    (found,) = roi_head.predict(tuple(pyramid), proposals, samples, rescale=False)
    return found


def dump(detections: Detections) -> InstanceLogits:
    return to_instance_logits(detections, image_id="i", size=SIZE, taxonomy=COCO_PANOPTIC, producer="ours")


@torch.no_grad()
def test_detections_are_mmdets_and_masks_differ_by_its_way_to_paste_them_alone(network, mmdet_model, image):
    pyramid = network.pyramid(image)
    (found,) = network.instance_head.detect(pyramid, [SIZE])
    wanted = detect_as_mmdet(mmdet_model, pyramid)
    assert len(found) == NUM_DETECTIONS
    assert len(set(found.train_ids.tolist())) > 2
    assert torch.equal(found.train_ids, wanted.labels)
    torch.testing.assert_close(found.scores, wanted.scores, **TIGHT)
    torch.testing.assert_close(found.boxes, wanted.bboxes, rtol=0, atol=0.01)
    for logits, mask in zip(paste_as_mmdet(found), wanted.masks, strict=True):
        assert mask.any()
        assert not ((logits > 0) != mask)[logits.abs() > 1e-3].any()
    # 16 bits of the exchange format may turn a pixel whose logit is next to 0.
    for ours, theirs in zip(full_masks(dump(found)), wanted.masks.numpy(), strict=True):
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.99


def paste_as_mmdet(detections: Detections) -> Tensor:
    """(N, H, W) logits by mmdet's own function, in 32 bits."""
    probabilities, _ = _do_paste_mask(detections.mask_logits.sigmoid()[:, None], detections.boxes, *SIZE, skip_empty=False)
    return probabilities.logit(1e-6)


@torch.no_grad()
def test_what_mmdet_suppresses_beyond_us_overlaps_a_better_object_of_another_class(network, mmdet_model, image, monkeypatch):
    pyramid = network.pyramid(image)
    for name, value in (("score_thresh", 0.1), ("detections_per_img", 40)):
        monkeypatch.setattr(network.instance_head.roi, name, value)
    (ours,) = network.instance_head.detect(pyramid, [SIZE])
    agnostic = detect_as_mmdet(mmdet_model, pyramid, is_class_agnostic=True, score_thr=0.1, max_per_img=40)
    overlaps = box_iou(ours.boxes, agnostic.bboxes)
    is_missing = overlaps.amax(1) < 0.99
    assert 0 < is_missing.sum() < len(ours)
    is_better = (agnostic.scores[None] >= ours.scores[:, None]) & (agnostic.labels[None] != ours.train_ids[:, None])
    assert (((overlaps > 0.5) & is_better).any(1) | ~is_missing).all()


@torch.no_grad()
def test_the_panoptic_map_is_mmdets(network, mmdet_model, image):
    pyramid, logits = network(image)
    theirs = detect_as_mmdet(mmdet_model, pyramid)
    semantics = mmdet_model.semantic_head.predict(tuple(pyramid), [METAINFO])
    wanted = mmdet_model.panoptic_fusion_head.predict([theirs], semantics)[0].sem_seg[0].numpy()

    (found,) = network.instance_head.detect(pyramid, [SIZE])
    instances = dump(found)
    outputs = argmax_on_image(logits[0], SIZE, SIZE, LOGIT_STRIDE)
    semantic = network.train_id_of_output[outputs].to(torch.uint8).numpy()
    settings = MergeSettings(min_score=MIN_SCORE, min_stuff_area=MIN_STUFF_AREA * AREA_REFERENCE / (SIZE[0] * SIZE[1]))
    assert {COCO_PANOPTIC.num_classes} < set(wanted.flatten().tolist())  # there is void
    assert len(np.unique(wanted[wanted < COCO_PANOPTIC.num_classes])) > 2  # stuff
    assert 2 < len(np.unique(wanted[wanted > COCO_PANOPTIC.num_classes])) < len(found)  # things, of which some were dropped
    np.testing.assert_array_equal(relabel(merge(instances, semantic, COCO_PANOPTIC, settings)), wanted)


def relabel(panoptic: PanopticMap) -> np.ndarray:
    """Our segments -> train id + 1000 * number of the object, from the best on; void is the number of classes."""
    relabelled = np.full(panoptic.segment_ids.shape, COCO_PANOPTIC.num_classes)
    by_score = sorted(panoptic.segments, key=lambda segment: -(segment.score or 0))  # stuff has none
    for count, segment in enumerate(by_score, start=1):
        train_id = COCO_PANOPTIC.dataset_id_to_train_id[segment.category_id]
        number = count if COCO_PANOPTIC.is_thing[train_id] else 0
        relabelled[panoptic.segment_ids == segment.segment_id] = train_id + 1000 * number
    return relabelled


@pytest.fixture(scope="module")
def torchvision_model(image) -> MaskRCNN:
    torch.manual_seed(2)
    sizes = {"rpn_pre_nms_top_n_test": NUM_PROPOSALS, "rpn_post_nms_top_n_test": NUM_PROPOSALS}
    sizes |= {"box_detections_per_img": NUM_DETECTIONS, "box_score_thresh": MIN_SCORE, "min_size": SIZE[0], "max_size": SIZE[1]}
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, **sizes)
    randomise(model, model.backbone, image)
    rpn, roi = model.rpn.head, model.roi_heads
    layers = {rpn.cls_logits: 2, rpn.bbox_pred: 0.3, roi.box_predictor.cls_score: 2, roi.box_predictor.bbox_pred: 1}
    for layer, deviation in (layers | {roi.mask_predictor.mask_fcn_logits: 3}).items():
        spread(layer, deviation, lambda: model(list(unnormalised(image))))
    # Of its 91 outputs ten are of ids that COCO does not use; those have learned to say no.
    in_use = [0, *COCO_PANOPTIC.dataset_ids[list(COCO_PANOPTIC.thing_ids)].tolist()]
    unused = sorted(set(range(len(roi.box_predictor.cls_score.bias))) - set(in_use))
    roi.box_predictor.cls_score.bias.data[unused] = -1e4
    return model


def unnormalised(image: Tensor) -> Tensor:
    """(B, 3, H, W) RGB around [0, 1], as torchvision's models take it."""
    mean, deviation = (torch.tensor(values)[:, None, None] / 255 for values in (IMAGENET.mean, IMAGENET.std))
    return image * deviation + mean


@pytest.fixture(scope="module")
def from_torchvision(torchvision_model, import_weights) -> Path:
    return import_weights(torchvision_model.state_dict(), "torchvision")


@torch.no_grad()
def test_detections_are_torchvisions(from_torchvision, torchvision_model, image):
    network = build(from_torchvision, "bn", convention="torchvision", score_threshold=MIN_SCORE, max_detections=NUM_DETECTIONS)
    pyramid, features = network.pyramid(image), torchvision_model.backbone(image)
    assert all(torch.equal(*pair) for pair in zip(pyramid, features.values(), strict=True))
    (found,) = network.instance_head.detect(pyramid, [SIZE])
    proposals, _ = torchvision_model.rpn(ImageList(image, [SIZE]), features)
    results, _ = torchvision_model.roi_heads(features, proposals, [SIZE])
    (wanted,) = torchvision_model.transform.postprocess(results, [SIZE], [SIZE])
    assert len(found) == NUM_DETECTIONS
    assert len(set(found.train_ids.tolist())) > 2
    assert COCO_PANOPTIC.dataset_ids[found.train_ids.numpy()].tolist() == wanted["labels"].tolist()
    # Its matrices of the last layers have ten classes more, so that their sums are made in another order.
    torch.testing.assert_close(found.boxes, wanted["boxes"], rtol=0, atol=1e-3)
    torch.testing.assert_close(found.scores, wanted["scores"], rtol=1e-5, atol=1e-6)
    instances = dump(found)
    assert len(instances) == len(found)
    masks = wanted["masks"][:, 0]
    for ours, theirs in zip(full_masks(instances), masks, strict=True):
        assert (theirs > 0.5).any()
        is_close = (theirs - 0.5).abs() < 1e-3  # half a step of the float16 in which logits are kept
        assert not (torch.from_numpy(ours) != (theirs > 0.5))[~is_close].any()


def test_images_are_normalised_as_torchvision_does(torchvision_model):
    transform = torchvision_model.transform
    assert [255 * value for value in transform.image_mean] == pytest.approx(IMAGENET.mean)
    assert [255 * value for value in transform.image_std] == pytest.approx(IMAGENET.std)
