"""Test-time augmentation of SOLOv2: all views' candidates on the image's grid, one matrix NMS."""

import weakref

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from data.instance_dump import InstanceLogits
from prediction.views import PLAIN, ViewSettings
from runtime.files import InputError
from solov2.checkpoints import read_checkpoint
from solov2.pooled_views import select_from_views
from solov2.predictor import SOLOv2Predictor, load_predictor

FEW = {"model.test_cfg.nms_pre": 30}
"""Fewer candidates than the thousands of the eager class layer."""
TEST_CFG = dict(mask_thr=0.5, nms_pre=4, max_per_img=3, kernel="gaussian", sigma=2.0, filter_thr=0.05)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Of the config's test size, so that the network's grid is the image's."""
    return np.random.default_rng(0).integers(0, 256, (192, 384, 3), dtype=np.uint8)


@pytest.fixture
def predict(eager):
    def run(image: np.ndarray, *scales: float, flip: bool = False) -> InstanceLogits:
        predictor = load_predictor(eager, views=ViewSettings(scales or (1.0,), flip), options=FEW)
        return predictor.predict("a", image).instances

    return run


def assert_same(first: InstanceLogits, second: InstanceLogits) -> None:
    for name in ("train_ids", "scores", "boxes", "crop_boxes"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    for a, b in zip(first.crops, second.crops, strict=True):
        np.testing.assert_array_equal(a, b)


def flipped(instances: InstanceLogits) -> set[tuple]:
    """What identifies each instance, as seen in a mirror."""
    boxes = instances.boxes.copy()
    boxes[:, [0, 2]] = instances.width - boxes[:, [2, 0]]
    return described(instances, boxes)


def described(instances: InstanceLogits, boxes: np.ndarray | None = None) -> set[tuple]:
    boxes = instances.boxes if boxes is None else boxes
    return {
        (int(train_id), round(float(score), 4), *box)
        for train_id, score, box in zip(instances.train_ids, instances.scores, boxes.tolist(), strict=True)
    }


@torch.inference_mode()
def network_output(predictor: SOLOv2Predictor, image: np.ndarray) -> InstanceData:
    """What the predictor's network itself gives for the image as it is."""
    sample = predictor.pipelines[1.0]({"img": np.ascontiguousarray(image[..., ::-1]), "img_id": 0, "img_path": ""})
    sample["data_samples"].set_metainfo({"flip": False})
    batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
    return predictor.network.test_step(batch)[0].pred_instances


def test_candidates_of_the_plain_view_alone_give_the_plain_prediction(eager, image):
    plain = load_predictor(eager, options=FEW)
    several = load_predictor(eager, views=ViewSettings((0.75, 1.0)), options=FEW)
    candidates = network_output(several, image)
    found = select_from_views([lambda: candidates], several.network.mask_head.test_cfg)
    expected = network_output(plain, image)
    assert len(expected) > 5
    for name in ("scores", "labels", "mask_logits"):
        assert torch.equal(found[name], expected[name]), name


def test_settings_that_name_the_plain_view_give_the_plain_prediction(predict, image):
    assert_same(predict(image, 1.0, 1.0), predict(image))


def test_flipping_an_image_flips_what_is_predicted_with_flips(predict, image):
    mirrored = np.ascontiguousarray(image[:, ::-1])
    assert described(predict(mirrored)) != flipped(predict(image))
    assert described(predict(mirrored, flip=True)) == flipped(predict(image, flip=True))


def test_the_order_of_scales_does_not_matter_and_more_views_find_other_things(predict, image):
    assert_same(predict(image, 0.75, 1.25), predict(image, 1.25, 0.75))
    assert described(predict(image, 0.75, 1.25)) != described(predict(image))


@pytest.mark.parametrize("size", [(33, 47), (190, 401)])
def test_images_of_odd_sizes_keep_their_grid(predict, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = predict(image, 0.5, 1.0, flip=True)
    assert (found.height, found.width) == size
    assert len(found)
    assert (found.boxes[:, 2:] <= [size[1], size[0]]).all()


def candidates(*entries: tuple[float, int]) -> InstanceData:
    """One for each (class score, column): a mask of 8 x 2 cells from that column on."""
    logits = torch.full((len(entries), 8, 16), -5.0)
    for k, (_, column) in enumerate(entries):
        logits[k, :, column : column + 2] = 5.0
    return InstanceData(
        class_scores=torch.tensor([score for score, _ in entries]),
        labels=torch.zeros(len(entries), dtype=torch.int64),
        mask_logits=logits,
        smallest_areas=torch.full((len(entries),), 4.0),
    )


def test_what_two_views_both_find_is_kept_once_and_what_one_finds_is_kept():
    found = select_from_views([lambda: candidates((0.9, 0), (0.8, 4)), lambda: candidates((0.7, 0), (0.6, 8))], TEST_CFG)
    maskness = torch.tensor(5.0).sigmoid()
    # The second look's mask at column 0 has IoU 1 with a better one: its score falls by exp(-2).
    torch.testing.assert_close(found.scores, maskness * torch.tensor([0.9, 0.8, 0.6]))
    assert (found.mask_logits[:, 0] > 0).int().argmax(1).tolist() == [0, 4, 8]


@pytest.mark.parametrize("found", [[(), ()], [((0.9, 0),), ()], [(), ((0.9, 0),)]])
def test_views_may_find_nothing(found):
    looks = [lambda entries=entries: candidates(*entries) for entries in found]
    assert len(select_from_views(looks, TEST_CFG).scores) == sum(map(len, found))


def test_only_the_best_candidates_and_those_of_one_view_are_held():
    alive, refs = [], []

    def look() -> InstanceData:
        found = candidates(*[(0.9 - 0.1 * k, 3 * k) for k in range(5)])
        refs.append(weakref.ref(found.mask_logits))
        alive.append(sum(ref() is not None for ref in refs))
        return found

    assert len(select_from_views([look] * 4, TEST_CFG).scores) == 3
    assert max(alive) <= 2


def test_the_fingerprint_changes_with_the_views_and_the_settings(eager):
    views = (PLAIN, ViewSettings(flip=True), ViewSettings((0.5, 1)))
    names = [load_predictor(eager, views=v).fingerprint("a") for v in views]
    names.append(load_predictor(eager, options=FEW).fingerprint("a"))
    assert names[0] == load_predictor(eager).fingerprint("a")
    assert len(set(names)) == 4


def test_a_checkpoint_without_a_test_size_cannot_be_scaled(eager, tmp_path):
    content = read_checkpoint(eager)
    about = content["meta"]["panoptic"]
    about["pipeline"] = [t for t in about["pipeline"] if t["type"] != "Resize"]
    torch.save(content, tmp_path / "own_size.pth")
    with pytest.raises(InputError, match="test-time scales need a Resize"):
        load_predictor(tmp_path / "own_size.pth", views=ViewSettings((0.5,)))
