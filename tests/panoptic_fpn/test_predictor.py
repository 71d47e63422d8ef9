"""The predictor: sizes before the network and back, classes of outputs, and checkpoints that are none."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data.input_size import InputSize
from data.layouts.cityscapes import CityscapesSplit
from data.network_input import NetworkInput
from data.normalization import IMAGENET, normalize_and_pad
from data.panoptic_png import PanopticMap, describe_segments
from data.resizing import argmax_on_image, resize_image
from data.targets import fill_void
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from evaluation.panoptic_quality import match_segments
from fusion.settings import MergeSettings
from panoptic_fpn.network import LOGIT_STRIDE, build_network, to_plain
from panoptic_fpn.predictor import load_predictor
from prediction.views import ViewSettings
from runtime.files import InputError


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((480, 640), (800, 1067)),  # x 800 / 480
        ((640, 427), (1199, 800)),  # x 800 / 427, below 1333
        ((500, 1500), (444, 1333)),  # x 1333 / 1500, as 800 / 500 would be 2400 long
        ((1600, 1600), (800, 800)),
    ],
)
def test_cocos_sizes(size, seen):
    assert InputSize(800, 1333).of(size) == seen


def test_images_stay_as_they_are_where_the_training_had_such_ones():
    assert InputSize().of((37, 1201)) == (37, 1201)
    assert InputSize(400).of((200, 3000)) == (400, 6000)
    trained = InputSize(trained_sides=(100, 200))
    assert [trained.of((side, 2 * side)) for side in (50, 150, 400)] == [(100, 200), (150, 300), (200, 400)]


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ((0, None), "shorter_side is 0, but at least 1"),
        ((None, 1333), "needs a shorter_side"),
        ((800, 640), "at most as much"),
    ],
)
def test_impossible_sizes_are_refused(sides, message):
    with pytest.raises(InputError, match=message):
        InputSize(*sides)


def test_an_image_shrinks_by_means_and_grows_between_pixels():
    stripes = np.zeros((4, 4, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (resize_image(stripes, (2, 2)) == 100).all()
    assert resize_image(stripes, (4, 4)) is stripes
    assert resize_image(stripes, (8, 8)).shape == (8, 8, 3)


@pytest.mark.parametrize("size", [(64, 96), (61, 90), (33, 65)])
def test_without_resizing_classes_are_those_of_torchs_interpolation(size):
    torch.manual_seed(0)
    padded = [-(-side // 32) * 32 for side in size]
    logits = torch.randn(4, padded[0] // 4, padded[1] // 4)
    rows, columns = (-(-side // 4) for side in size)
    cells = logits[None, :, :rows, :columns]  # those of the image: padding must not colour its edge
    whole = F.interpolate(cells, scale_factor=4, mode="bilinear", align_corners=False)[0]
    expected = whole.argmax(0)[: size[0], : size[1]]
    assert torch.equal(argmax_on_image(logits, size, size, LOGIT_STRIDE), expected)


def test_a_border_between_classes_moves_with_the_size():
    """The left half of the image that the network saw is output 0, whatever size the image has."""
    logits = torch.zeros(4, 16, 16)
    logits[0, :, :8], logits[1, :, 8:] = 1, 1
    found = argmax_on_image(logits, net_size=(64, 64), size=(100, 200), net_stride=LOGIT_STRIDE)
    assert (found[:, :100] == 0).all()
    assert (found[:, 100:] == 1).all()


def test_other_is_filled_with_the_things_that_were_merged():
    ids = np.array([[26001, 7, 0]], dtype=np.uint32)
    panoptic = PanopticMap(ids, describe_segments(ids, lambda i: 26 if i > 1000 else i))
    road, car = (CITYSCAPES.dataset_id_to_train_id[k] for k in (7, 26))
    sky = CITYSCAPES.dataset_id_to_train_id[23]
    semantic = np.array([[VOID_TRAIN_ID, sky, VOID_TRAIN_ID]], dtype=np.uint8)
    assert fill_void(semantic, panoptic, CITYSCAPES).tolist() == [[car, sky, VOID_TRAIN_ID]]
    assert road != sky  # where the branch says a class, its word stands


@pytest.mark.slow
def test_what_was_learned_is_found_again(checkpoint, streets, street_image):
    """Sky and road fill most of a street: they are matched in an image that was overfitted."""
    predicted = load_predictor(checkpoint).predict("a", street_image)
    truth = CityscapesSplit(streets, "val").truth(0)
    matched = {category_id for _, _, category_id, _ in match_segments(truth, predicted.panoptic).matches}
    names = {c.name for c in CITYSCAPES.categories if c.dataset_id in matched}
    assert {"road", "sky"} <= names


@pytest.mark.slow
@pytest.mark.parametrize("views", [ViewSettings(), ViewSettings((0.5, 1.0), flip=True)], ids=["plain", "views"])
@pytest.mark.parametrize("size", [(1, 1), (37, 53), (200, 90)])
def test_images_of_any_size_get_a_map_of_theirs(checkpoint, size, views):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    predicted = load_predictor(checkpoint, views=views, merging={"min_score": 0.05}).predict("a", image)
    instances = predicted.instances
    assert predicted.semantic.train_ids.shape == predicted.panoptic.segment_ids.shape == size
    assert (instances.height, instances.width) == size
    bounds = np.array([*size, *size])
    assert ((instances.crop_boxes >= 0) & (instances.crop_boxes <= bounds)).all()


def test_settings_are_the_checkpoints_unless_told_otherwise(small, save_checkpoint, tmp_path):
    size, merging = InputSize(96, 200), MergeSettings(min_score=0.3, min_stuff_area=100)
    network = build_network(to_plain(small, CITYSCAPES))
    path = save_checkpoint(tmp_path / "best.ckpt", network, CITYSCAPES, size, merging)
    predictor = load_predictor(path)
    assert predictor.network_input == NetworkInput(size, IMAGENET)
    assert (predictor.merging, predictor.min_score) == (merging, 0.3)
    other = load_predictor(path, input_size={"shorter_side": 64}, merging={"min_score": 0.2})
    assert other.network_input.size == InputSize(64, 200)
    assert asdict(other.merging) == asdict(merging) | {"min_score": 0.2}


def test_the_network_sees_an_image_at_the_size_and_normalised_as_the_checkpoint_says(small, save_checkpoint, tmp_path):
    network = build_network(to_plain(small, CITYSCAPES))
    predictor = load_predictor(save_checkpoint(tmp_path / "best.ckpt", network, CITYSCAPES, InputSize(48)))
    seen = []
    predictor.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    image = np.random.default_rng(0).integers(0, 256, (96, 140, 3)).astype(np.uint8)
    predictor.predict("a", image)
    expected = torch.from_numpy(normalize_and_pad(resize_image(image, (48, 70)), IMAGENET, 32))[None]
    assert expected.shape[-2:] == (64, 96)
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=0)


def test_a_fingerprint_is_of_the_weights_and_of_every_setting(small, save_checkpoint, tmp_path):
    torch.manual_seed(0)
    network = build_network(to_plain(small, CITYSCAPES))
    path = save_checkpoint(tmp_path / "best.ckpt", network, CITYSCAPES)
    first, again = (load_predictor(path).fingerprint("a") for _ in range(2))
    assert first == again
    assert first.startswith("panoptic-fpn-resnet18-")
    names = [first]
    names.append(load_predictor(path, merging={"min_score": 0.4}).fingerprint("a"))
    names.append(load_predictor(path, input_size={"shorter_side": 64}).fingerprint("a"))
    names.append(load_predictor(path, views=ViewSettings(flip=True)).fingerprint("a"))
    network.semantic_head.classify.bias.data += 1
    names.append(load_predictor(save_checkpoint(tmp_path / "other.ckpt", network, CITYSCAPES)).fingerprint("a"))
    assert len(set(names)) == 5


def test_what_is_no_checkpoint_is_named(small, save_checkpoint, tmp_path):
    path = tmp_path / "best.ckpt"
    with pytest.raises(InputError, match=r"no such checkpoint; train first: python panoptic_fpn/train\.py"):
        load_predictor(path)
    path.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="broken checkpoint"):
        load_predictor(path)
    torch.save({"hyper_parameters": {"network": {}}, "state_dict": {}}, path)
    with pytest.raises(InputError, match="no checkpoint of a training of this project"):
        load_predictor(path)
    save_checkpoint(path, build_network(to_plain(small, CITYSCAPES)), CITYSCAPES)
    content = torch.load(path, weights_only=True)
    for absent in ("merging", "input_size", "normalization", "network"):
        settings = {name: value for name, value in content["hyper_parameters"].items() if name != absent}
        torch.save(content | {"hyper_parameters": settings}, path)
        with pytest.raises(InputError, match=rf"no checkpoint of panoptic_fpn/train\.py \('{absent}'\)"):
            load_predictor(path)


def test_logits_that_overflow_are_refused(small, save_checkpoint, tmp_path):
    network = build_network(to_plain(small, CITYSCAPES))
    predictor = load_predictor(save_checkpoint(tmp_path / "best.ckpt", network, CITYSCAPES))
    with torch.no_grad():
        predictor.network.semantic_head.classify.bias.fill_(torch.inf)
    with pytest.raises(InputError, match="a: the model gives NaN or infinite logits"):
        predictor.predict("a", np.zeros((32, 32, 3), np.uint8))
