"""Test-time augmentation of SOLOv2: all views' candidates on the picture's grid, one matrix NMS."""

import weakref

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from data.instance_dump import InstanceLogits
from prediction.views import PLAIN, View, ViewSettings
from runtime.files import InputError
from solov2.pooled_views import select_from_views
from solov2.predictor import load_predictor, producer_name

TEST_CFG = dict(mask_thr=0.5, nms_pre=4, max_per_img=3, kernel="gaussian", sigma=2.0, filter_thr=0.05)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Of the config's test size, so that the network's grid is the picture's."""
    return np.random.default_rng(0).integers(0, 256, (192, 384, 3), dtype=np.uint8)


@pytest.fixture
def tiny_config(tiny_config):
    """Fewer candidates than the thousands of the eager class layer."""
    tiny_config.model.test_cfg.update(nms_pre=30)
    return tiny_config


@pytest.fixture
def predict(eager, tiny_config):
    def run(picture: np.ndarray, *scales: float, flip: bool = False) -> InstanceLogits:
        views = ViewSettings(scales or (1.0,), flip)
        predictor = load_predictor(tiny_config, eager, views=views)
        return predictor.predict("a", picture, "test")

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


def test_candidates_of_the_plain_view_alone_give_the_plain_prediction(eager, tiny_config, picture):
    plain = load_predictor(tiny_config, eager)
    several = load_predictor(tiny_config, eager, views=ViewSettings((0.75, 1.0)))
    look = several._predict_view(picture, View(1.0, False))
    found = select_from_views([lambda: look], several.network.mask_head.test_cfg)
    expected = plain._predict_view(picture, View(1.0, False))
    assert len(expected) > 5
    for name in ("scores", "labels", "mask_logits"):
        assert torch.equal(found[name], expected[name]), name


def test_settings_that_name_the_plain_view_give_the_plain_prediction(predict, picture):
    assert_same(predict(picture, 1.0, 1.0), predict(picture))


def test_flipping_a_picture_flips_what_is_predicted_with_flips(predict, picture):
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    assert described(predict(mirrored)) != flipped(predict(picture))
    assert described(predict(mirrored, flip=True)) == flipped(predict(picture, flip=True))


def test_the_order_of_scales_does_not_matter_and_more_views_find_other_things(predict, picture):
    assert_same(predict(picture, 0.75, 1.25), predict(picture, 1.25, 0.75))
    assert described(predict(picture, 0.75, 1.25)) != described(predict(picture))


@pytest.mark.parametrize("size", [(33, 47), (190, 401)])
def test_pictures_of_odd_sizes_keep_their_grid(predict, size):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = predict(picture, 0.5, 1.0, flip=True)
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


def test_the_producer_changes_with_the_views(eager, tiny_config):
    names = [producer_name(tiny_config, eager, views) for views in (PLAIN, ViewSettings(flip=True), ViewSettings((0.5, 1)))]
    assert names[0] == producer_name(tiny_config, eager)
    assert len(set(names)) == 3


def test_a_config_without_a_test_size_cannot_be_scaled(eager, tiny_config):
    tiny_config.test_dataloader.dataset.pipeline = [
        t for t in tiny_config.test_dataloader.dataset.pipeline if t["type"] != "Resize"
    ]
    with pytest.raises(InputError, match="test-time scales need a Resize"):
        load_predictor(tiny_config, eager, views=ViewSettings((0.5,)))
