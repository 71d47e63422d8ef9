"""What is brought from a network's grid to the image without torch is what torch brings there."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data.input_size import InputSize
from data.instance_dump import from_full_logits, full_masks
from data.network_input import NetworkInput
from data.resizing import Axis, argmax_on_image, logits_on_image, sample
from data.taxonomy import CITYSCAPES

SIZES = [((64, 96), (64, 96)), ((48, 72), (65, 99)), ((33, 47), (20, 31)), ((200, 160), (23, 300))]


def padded_logits(net_size: tuple[int, int], net_stride: int) -> np.ndarray:
    """(7, h, w) of an input that is padded to multiples of 32."""
    rows, columns = (-(-side // 32) * 32 // net_stride for side in net_size)
    return 5 * np.random.default_rng(0).normal(size=(7, rows, columns)).astype(np.float32)


@pytest.mark.parity
@pytest.mark.parametrize("is_flipped", [False, True])
@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize(("net_size", "size"), SIZES)
def test_logits_on_the_image_are_those_of_torch(net_size, size, stride, is_flipped):
    logits = padded_logits(net_size, 4)
    expected = logits_on_image(torch.from_numpy(logits), net_size, size, 4, stride, is_flipped)
    found = logits_on_image(logits, net_size, size, 4, stride, is_flipped)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_no_logits_are_none_on_the_image():
    assert logits_on_image(np.zeros((0, 8, 8), np.float32), (32, 32), (50, 60), 4, 4).shape == (0, 13, 15)


@pytest.mark.parity
@pytest.mark.parametrize(("net_size", "size"), SIZES)
def test_the_largest_class_is_that_of_torch_but_for_ties(net_size, size):
    logits = padded_logits(net_size, 8)
    expected = argmax_on_image(torch.from_numpy(logits), net_size, size, 8).numpy()
    found = argmax_on_image(logits, net_size, size, 8)
    values = np.sort(logits_on_image(logits[:, : -(-net_size[0] // 8), : -(-net_size[1] // 8)], net_size, size, 8, 1), axis=0)
    assert np.array_equal(found[values[-1] - values[-2] > 1e-3], expected[values[-1] - values[-2] > 1e-3])
    assert found.dtype == np.uint8


def test_of_equal_logits_the_first_class_is_taken():
    assert not argmax_on_image(np.zeros((3, 4, 4), np.float32), (16, 16), (16, 16), 4).any()


@pytest.mark.parity
@pytest.mark.parametrize("size", [(7, 30), (21, 50), (3, 1)])
def test_enlarging_is_that_of_torch(size):
    cells = np.random.default_rng(0).normal(size=(2, 7, 10)).astype(np.float32)
    expected = F.interpolate(torch.from_numpy(cells)[None], size, mode="bilinear", align_corners=False)[0]
    found = sample(cells, Axis.enlarged(7, size[0]), Axis.enlarged(10, size[1]))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)  # values of 1, in float32


@pytest.mark.parity
@pytest.mark.parametrize("stride", [1, 3, 4, 5, 8])
def test_full_masks_are_those_of_torch(stride):
    size = 40 * stride - stride // 2, 50 * stride - stride // 3
    grids = np.random.default_rng(0).normal(size=(3, 40, 50)).astype(np.float16)
    about = {"image_id": "a", "size": size, "stride": stride, "taxonomy": CITYSCAPES, "producer": "test"}
    instances = from_full_logits(grids, [CITYSCAPES.thing_ids[0]] * 3, [0.9, 0.8, 0.7], **about)
    whole = F.interpolate(torch.from_numpy(grids).float()[None], scale_factor=stride, mode="bilinear")[0]
    for mask, expected in zip(full_masks(instances), whole.numpy(), strict=True):
        assert np.array_equal(mask, expected[: size[0], : size[1]] > 0)


@pytest.mark.parametrize("is_flipped", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_a_network_sees_the_same_with_and_without_torch(scale, is_flipped):
    image = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    network_input = NetworkInput(InputSize(30))
    seen, tensor = network_input.to_array(image, scale, is_flipped), network_input.apply(image, "cpu", scale, is_flipped)
    assert seen.size == tensor.size
    assert np.array_equal(seen.array, tensor.tensor.numpy())
