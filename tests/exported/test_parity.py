"""An exported model says of an image what its checkpoint says in torch; onnxruntime adds sums up in another order."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data.images import read_image
from data.panoptic_png import PanopticMap
from data.semantic_dump import SemanticLogits
from fusion.settings import FusionSettings
from prediction.fused import FusedPredictor, LogitRule, with_panoptic
from prediction.models import load_predictor
from prediction.onnx_export import check_operators
from prediction.predictor import Prediction, Predictor

pytestmark = pytest.mark.slow  # torch's exporter takes ten seconds or more for any network
WHOLE = (*(pytest.param(name, marks=pytest.mark.everything) for name in ("efficientps", "panoptic_fpn")), "pan_secb")
"""The first two take the exporter most of a minute each, so that only CI and `make test-all` compare them, and SOLOv2."""
NAMES = ("efficientps", "panoptic_fpn", "pan_secb")
LARGEST_LOGIT_DIFFERENCE = 1e-3
LARGEST_SHARE = 1e-4
"""Of the pixels of panoptic maps: a pixel between two segments of equal logits may go to either."""


def images(root: Path) -> list[np.ndarray]:
    """Images of the training's size, cut, and enlarged by repetition: the last two are resized and padded."""
    paths = sorted((root / "leftImg8bit" / "val").rglob("*.png"))[:3]
    whole = [read_image(path) for path in paths]
    return [whole[0], whole[1][:101, :190], whole[2].repeat(2, 0).repeat(2, 1)]


def fused(*halves: Predictor) -> Predictor:
    """Something that gives panoptic maps, whatever the halves' scores."""
    rule = LogitRule(FusionSettings(min_score=0.0, min_stuff_area=0))
    return with_panoptic(halves[0], rule) if len(halves) == 1 else FusedPredictor(*halves, rule)


def differing(one: PanopticMap, other: PanopticMap) -> float:
    """Share of the pixels."""
    return float((one.segment_ids != other.segment_ids).mean())


def assert_same(found: Prediction, wanted: Prediction) -> None:
    assert (found.instances is None) == (wanted.instances is None)
    if wanted.instances is not None:
        assert len(wanted.instances) > 0
        np.testing.assert_array_equal(found.instances.train_ids, wanted.instances.train_ids)
        np.testing.assert_allclose(found.instances.scores, wanted.instances.scores, atol=1e-5)
        np.testing.assert_allclose(found.instances.boxes, wanted.instances.boxes, atol=found.instances.stride)
    if isinstance(wanted.semantic, SemanticLogits):
        np.testing.assert_allclose(found.semantic.logits, wanted.semantic.logits, atol=LARGEST_LOGIT_DIFFERENCE)
    else:
        assert (found.semantic.train_ids != wanted.semantic.train_ids).mean() <= LARGEST_SHARE


@pytest.mark.parametrize("name", WHOLE)
def test_whole_systems_predict_as_in_torch(exported, streets, name):
    checkpoint, folder = exported(name)
    in_torch, in_onnx = (fused(load_predictor(path)) for path in (checkpoint, folder))
    assert in_onnx.taxonomy == in_torch.taxonomy
    assert in_onnx.gives == in_torch.gives
    assert in_onnx.min_score == in_torch.min_score
    for image in images(streets):
        wanted, found = in_torch.predict("a", image), in_onnx.predict("a", image)
        assert_same(found, wanted)
        assert differing(found.panoptic, wanted.panoptic) <= LARGEST_SHARE


@pytest.mark.everything
def test_solov2_gives_the_same_masks_as_in_torch(exported, streets):
    checkpoint, folder = exported("solov2")
    in_torch, in_onnx = load_predictor(checkpoint), load_predictor(folder)
    assert in_onnx.min_score == in_torch.min_score
    for image in images(streets):
        wanted, found = (predictor.predict("a", image).instances for predictor in (in_torch, in_onnx))
        assert len(wanted) > 0
        np.testing.assert_array_equal(found.train_ids, wanted.train_ids)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
        np.testing.assert_array_equal(found.crop_boxes, wanted.crop_boxes)
        for crop, wanted_crop in zip(found.crops, wanted.crops, strict=True):
            # Dumps are in float16, of 11 bits.
            np.testing.assert_allclose(crop, wanted_crop, rtol=2**-10, atol=LARGEST_LOGIT_DIFFERENCE)


@pytest.mark.parametrize("name", [pytest.param("solov2", marks=pytest.mark.everything), *WHOLE])
def test_every_operator_is_of_onnx_itself_and_norms_are_in_the_convolutions(exported, name):
    import onnx

    model = onnx.load(exported(name)[1] / "model.onnx")
    check_operators(model)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]
    convolved = {output for node in model.graph.node if node.op_type == "Conv" for output in node.output}
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert not [norm.name for norm in norms if norm.input[0] in convolved]


@pytest.mark.everything  # one network more to export
def test_in_half_precision_the_file_is_half_as_large_and_classes_stay(exported, streets):
    checkpoint, folder = exported("pan_secb", is_half=True)
    whole = exported("pan_secb")[1] / "model.onnx"
    # The graph itself stays, beside the weights.
    assert (folder / "model.onnx").stat().st_size < 0.7 * whole.stat().st_size
    image = images(streets)[0]
    wanted, found = (load_predictor(path).predict("a", image).semantic.train_ids for path in (checkpoint, folder))
    assert (wanted == found).mean() > 0.98


@pytest.mark.everything  # 20 images through ten networks on two cores
def test_twenty_images_are_the_same_in_all_systems(exported, tmp_path):
    from data.drawn.streets import StreetsSettings, ensure_streets

    root = ensure_streets(tmp_path, StreetsSettings(128, 256, num_train=2, num_val=20))
    paths = sorted((root / "leftImg8bit" / "val").rglob("*.png"))
    systems = [[exported(name)] for name in NAMES] + [[exported("solov2"), exported("semantics")]]
    assert len(paths) == 20
    for halves in systems:
        in_torch, in_onnx = (fused(*(load_predictor(pair[k]) for pair in halves)) for k in (0, 1))
        shares = []
        for path in paths:
            wanted, found = (predictor.predict("a", read_image(path)) for predictor in (in_torch, in_onnx))
            assert_same(found, wanted)
            shares.append(differing(found.panoptic, wanted.panoptic))
        assert np.mean(shares) <= LARGEST_SHARE, halves


@pytest.mark.parametrize("num_boxes", [0, 2])
@torch.inference_mode()
def test_an_image_without_objects_has_no_masks(num_boxes):
    from detection.exported_head import DetectionGraph
    from detection.instance_head import InstanceHead, InstanceHeadSettings

    torch.manual_seed(0)
    settings = InstanceHeadSettings((8, 16, 32, 64), 8, 8, num_proposals=20, score_threshold=0.0, max_detections=2)
    head = InstanceHead(4, (1, 3), settings).eval()
    head.roi.score_thresh = 0.0 if num_boxes else 1.0
    pyramid = [torch.randn(1, 4, 32 // s, 64 // s) for s in (1, 2, 4, 8)]
    boxes, scores, train_ids, masks = DetectionGraph(head)(pyramid, torch.tensor([120, 250]))
    (wanted,) = head.detect(pyramid, [(120, 250)])
    assert len(boxes) == len(masks) == num_boxes
    torch.testing.assert_close(boxes, wanted.boxes)
    torch.testing.assert_close(scores, wanted.scores)
    torch.testing.assert_close(masks, wanted.mask_logits)
    assert train_ids.tolist() == wanted.train_ids.tolist()
