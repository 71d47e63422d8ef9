"""Test-time augmentation of the semantic model: scales and flips of the image, averaged on its own grid."""

import weakref

import numpy as np
import pytest
import torch

from data.network_input import NetworkInput
from data.normalization import Normalization, normalize_and_pad
from data.taxonomy import CITYSCAPES
from efficientps.network import SemanticEfficientPS
from efficientps.predictor import EfficientPSPredictor, load_predictor
from prediction.views import ViewSettings

SETTINGS = {"num_classes": 19, "variant": "b0", "fpn_channels": 32, "is_separable": True, "norm_momentum": 0.1}


@pytest.fixture(scope="module")
def network() -> SemanticEfficientPS:
    torch.manual_seed(0)
    return SemanticEfficientPS(**SETTINGS).eval()


@pytest.fixture
def predict(network):
    def run(image: np.ndarray, *scales: float, flip: bool = False) -> np.ndarray:
        views = ViewSettings(scales or (1.0,), flip)
        predictor = EfficientPSPredictor(network, CITYSCAPES, "test", NetworkInput(), views=views)
        return predictor.predict("a", image).semantic.logits

    return run


def draw_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_flipping_a_picture_flips_what_is_predicted_with_flips(predict):
    image = draw_image(64, 96)
    flipped = np.ascontiguousarray(image[:, ::-1])
    assert not np.array_equal(predict(flipped), predict(image)[..., ::-1])
    expected = predict(image, 0.75, 1.0, flip=True)[..., ::-1]
    # The two views of a scale are added in the other order, and reading between cells rounds.
    np.testing.assert_allclose(predict(flipped, 0.75, 1.0, flip=True), expected, rtol=1e-4, atol=1e-5)


def test_the_mean_is_that_of_the_views(predict):
    image = draw_image(64, 96)
    flipped = predict(np.ascontiguousarray(image[:, ::-1]))[..., ::-1]
    np.testing.assert_allclose(predict(image, flip=True), (predict(image) + flipped) / 2, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [(45, 70), (33, 33), (1, 1), (64, 96)])
def test_one_plain_view_is_the_network_itself_and_more_keep_the_grid(predict, network, size):
    image = draw_image(*size)
    rows, columns = -(-size[0] // 4), -(-size[1] // 4)
    padded = torch.from_numpy(normalize_and_pad(image, Normalization(), 32))[None]
    with torch.inference_mode():
        expected = network(padded.contiguous(memory_format=torch.channels_last))[0, :, :rows, :columns].numpy()
    assert np.array_equal(predict(image), expected)
    assert predict(image, 0.5, 1.0, 1.5, flip=True).shape == expected.shape


def test_only_one_view_is_held_at_a_time(predict, network):
    outputs, alive = [], []

    def watch(module, inputs, output):
        outputs.append(weakref.ref(output[0]))  # the pyramid's finest level
        alive.append(sum(ref() is not None for ref in outputs))

    handle = network.two_way_fpn.register_forward_hook(watch)
    predict(draw_image(64, 64), 0.5, 0.75, 1.25, flip=True)
    handle.remove()
    assert alive == [1] * 6


def test_the_fingerprint_changes_with_weights_and_views(write_checkpoint, tmp_path):
    path = write_checkpoint(tmp_path / "best.ckpt")
    views = (ViewSettings(), ViewSettings((1,)), ViewSettings(flip=True), ViewSettings((0.75, 1)))
    plain, same, flipped, scaled = (load_predictor(path, views=v).fingerprint("a") for v in views)
    content = torch.load(path, weights_only=True)
    content["state_dict"]["network.semantic_head.classify.bias"] += 1
    torch.save(content, path)
    assert plain == same
    assert len({plain, flipped, scaled, load_predictor(path).fingerprint("a")}) == 4
