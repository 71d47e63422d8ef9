"""The predictor: sizes before the network and back, classes of outputs, and checkpoints that are none."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data.panoptic_png import PanopticMap, describe_segments
from data.split import CityscapesPictures
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from detection.instance_head import Detections
from evaluation.panoptic_quality import match_segments
from fusion.settings import MergeSettings
from panoptic_fpn.predictor import InputSize, enlarge, fill_other, load_predictor, resize, to_train_ids
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


def test_pictures_stay_as_they_are_by_default():
    assert InputSize().of((37, 1201)) == (37, 1201)
    assert InputSize(400).of((200, 3000)) == (400, 6000)


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ((16, None), "shorter_side is 16, but at least 32"),
        ((None, 1333), "needs a shorter_side"),
        ((800, 640), "at most as much"),
    ],
)
def test_impossible_sizes_are_refused(sides, message):
    with pytest.raises(InputError, match=message):
        InputSize(*sides)


def test_a_picture_shrinks_by_means_and_grows_between_pixels():
    stripes = np.zeros((4, 4, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (resize(stripes, (2, 2)) == 100).all()
    assert resize(stripes, (4, 4)) is stripes
    assert resize(stripes, (8, 8)).shape == (8, 8, 3)


def test_boxes_return_to_the_picture_as_it_was():
    found = Detections(torch.tensor([[10.0, 20.0, 30.0, 40.0]]), torch.tensor([11]), torch.tensor([0.9]), torch.zeros(1, 28, 28))
    moved = enlarge(found, seen=(100, 200), size=(50, 400))
    assert moved.boxes.tolist() == [[20, 10, 60, 20]]


OUTPUTS = SimpleNamespace(train_id_of_output=torch.tensor([0, 2, 5, VOID_TRAIN_ID]))
"""What to_train_ids reads of a network."""


@pytest.mark.parametrize("size", [(64, 96), (61, 90), (33, 65)])
def test_without_resizing_train_ids_are_those_of_torchs_interpolation(size):
    torch.manual_seed(0)
    padded = [-(-side // 32) * 32 for side in size]
    logits = torch.randn(4, padded[0] // 4, padded[1] // 4)
    rows, columns = (-(-side // 4) for side in size)
    cells = logits[None, :, :rows, :columns]  # those of the image: padding must not colour its edge
    whole = F.interpolate(cells, scale_factor=4, mode="bilinear", align_corners=False)[0]
    expected = OUTPUTS.train_id_of_output[whole.argmax(0)][: size[0], : size[1]]
    np.testing.assert_array_equal(to_train_ids(logits, OUTPUTS, size, size), expected.numpy())


def test_a_border_between_classes_moves_with_the_size():
    """The left half of the image that the network saw is output 0, whatever size the picture has."""
    logits = torch.zeros(4, 16, 16)
    logits[0, :, :8], logits[1, :, 8:] = 1, 1
    found = to_train_ids(logits, OUTPUTS, seen=(64, 64), size=(100, 200))
    assert (found[:, :100] == 0).all()
    assert (found[:, 100:] == 2).all()


def test_other_is_filled_with_the_things_that_were_merged():
    ids = np.array([[26001, 7, 0]], dtype=np.uint32)
    panoptic = PanopticMap(ids, describe_segments(ids, lambda i: 26 if i > 1000 else i))
    road, car = (CITYSCAPES.dataset_id_to_train_id[k] for k in (7, 26))
    sky = CITYSCAPES.dataset_id_to_train_id[23]
    semantic = np.array([[VOID_TRAIN_ID, sky, VOID_TRAIN_ID]], dtype=np.uint8)
    assert fill_other(semantic, panoptic, CITYSCAPES).tolist() == [[car, sky, VOID_TRAIN_ID]]
    assert road != sky  # where the branch says a class, its word stands


@pytest.mark.slow
def test_what_was_learned_is_found_again(checkpoint, streets, street_picture):
    """Sky and road fill most of a street: they are matched in a picture that was learned by heart."""
    predictor = load_predictor(checkpoint)
    truth = CityscapesPictures(streets, "val").read(0)[1]
    matched = {category_id for _, _, category_id, _ in match_segments(truth, predictor.panoptic("a", street_picture)).matches}
    names = {c.name for c in CITYSCAPES.categories if c.dataset_id in matched}
    assert {"road", "sky"} <= names


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (37, 53), (200, 90)])
def test_pictures_of_any_size_get_a_map_of_theirs(checkpoint, size):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    predictor = load_predictor(checkpoint, merging=MergeSettings(min_score=0.05))
    instances, semantic = predictor.predict("a", picture)
    assert semantic.shape == predictor.panoptic("a", picture).segment_ids.shape == size
    assert (instances.height, instances.width) == size
    bounds = np.array([*size, *size])
    assert ((instances.crop_boxes >= 0) & (instances.crop_boxes <= bounds)).all()


@pytest.mark.slow
def test_a_result_is_of_the_weights_the_settings_and_the_file(checkpoint, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    names = [load_predictor(checkpoint).producer_of(file), load_predictor(checkpoint).producer_of(file)]
    assert names[0] == names[1]
    names.append(load_predictor(checkpoint, merging=MergeSettings(min_score=0.4)).producer_of(file))
    names.append(load_predictor(checkpoint, input_size=InputSize(64)).producer_of(file))
    file.write_bytes(b"three")
    names.append(load_predictor(checkpoint).producer_of(file))
    assert len(set(names[1:])) == 4


def test_what_is_no_checkpoint_is_named(tmp_path):
    path = tmp_path / "best.ckpt"
    with pytest.raises(InputError, match=r"no such checkpoint; train first: python panoptic_fpn/train\.py"):
        load_predictor(path)
    path.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="broken checkpoint"):
        load_predictor(path)
    torch.save({"hyper_parameters": {"network": {}}, "state_dict": {}}, path)
    with pytest.raises(InputError, match=r"no checkpoint of panoptic_fpn/train\.py"):
        load_predictor(path)
