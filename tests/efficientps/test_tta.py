"""Test-time augmentation of the semantic model: scales and flips of the picture, averaged on its own grid."""

import weakref

import numpy as np
import pytest
import torch

from data.taxonomy import CITYSCAPES
from efficientps.network import SemanticEfficientPS
from efficientps.predictor import SemanticPredictor, load_semantic_predictor
from prediction.views import ViewSettings

SETTINGS = {"num_classes": 19, "variant": "b0", "fpn_channels": 32, "is_separable": True, "norm_momentum": 0.1}


@pytest.fixture(scope="module")
def network() -> SemanticEfficientPS:
    torch.manual_seed(0)
    return SemanticEfficientPS(**SETTINGS).eval()


@pytest.fixture
def predict(network):
    def run(picture: np.ndarray, *scales: float, flip: bool = False) -> np.ndarray:
        predictor = SemanticPredictor(network, CITYSCAPES, "test", ViewSettings(scales or (1.0,), flip))
        return predictor.predict("a", picture).logits

    return run


def draw_picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_flipping_a_picture_flips_what_is_predicted_with_flips(predict):
    picture = draw_picture(64, 96)
    flipped = np.ascontiguousarray(picture[:, ::-1])
    assert not np.array_equal(predict(flipped), predict(picture)[..., ::-1])
    expected = predict(picture, 0.75, 1.0, flip=True)[..., ::-1]
    # The two views of a scale are added in the other order, and reading between cells rounds.
    np.testing.assert_allclose(predict(flipped, 0.75, 1.0, flip=True), expected, rtol=1e-4, atol=1e-5)


def test_the_mean_is_that_of_the_views(predict):
    picture = draw_picture(64, 96)
    flipped = predict(np.ascontiguousarray(picture[:, ::-1]))[..., ::-1]
    np.testing.assert_allclose(predict(picture, flip=True), (predict(picture) + flipped) / 2, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [(45, 70), (33, 33), (1, 1), (64, 96)])
def test_one_plain_view_is_the_network_itself_and_more_keep_the_grid(predict, network, size):
    picture = draw_picture(*size)
    rows, columns = -(-size[0] // 4), -(-size[1] // 4)
    from data.normalization import normalize_and_pad

    image = torch.from_numpy(normalize_and_pad(picture))[None].contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = network(image)[0, :, :rows, :columns].numpy()
    assert np.array_equal(predict(picture), expected)
    assert predict(picture, 0.5, 1.0, 1.5, flip=True).shape == expected.shape


def test_only_one_view_is_held_at_a_time(predict, network):
    outputs, alive = [], []

    def watch(module, inputs, output):
        outputs.append(weakref.ref(output))
        alive.append(sum(ref() is not None for ref in outputs))

    handle = network.register_forward_hook(watch)
    predict(draw_picture(64, 64), 0.5, 0.75, 1.25, flip=True)
    handle.remove()
    assert alive == [1] * 6


def test_the_producer_changes_with_weights_and_views(network, tmp_path):
    weights = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    content = {"hyper_parameters": {"network": SETTINGS, "taxonomy": "cityscapes"}, "state_dict": weights}
    torch.save(content, tmp_path / "best.ckpt")
    plain, same, flipped, scaled = (
        load_semantic_predictor(tmp_path / "best.ckpt", views=views).producer
        for views in (ViewSettings(), ViewSettings((1,)), ViewSettings(flip=True), ViewSettings((0.75, 1)))
    )
    assert plain == same
    assert len({plain, flipped, scaled}) == 3
