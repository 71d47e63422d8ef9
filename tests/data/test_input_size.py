"""To what size an image is brought before a network, and what a checkpoint keeps of it."""

import numpy as np
import pytest
import torch

from data.input_size import InputSize, size_with_shorter_side
from data.network_input import NetworkInput
from data.normalization import IMAGENET, normalize_and_pad
from data.resizing import argmax_on_image, logits_on_image, resize_image, resize_segment_ids
from runtime.files import InputError, ItemError


@pytest.mark.parametrize(
    ("size", "shorter_side", "longer_side", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),  # 640 * 800 / 480 = 1066.7
        ((640, 480), 800, 1333, (1067, 800)),
        ((200, 640), 800, 1333, (417, 1333)),  # 800 would make 2560 of 640, so the longer side decides: 200 * 1333 / 640
        ((200, 640), 800, None, (800, 2560)),
        ((1280, 1921), 640, None, (640, 961)),  # 960.5: halves are rounded up
        ((1, 1000), 800, 1333, (1, 1333)),  # never less than a pixel
    ],
)
def test_sizes_are_those_of_detectron2(size, shorter_side, longer_side, expected):
    assert size_with_shorter_side(size, shorter_side, longer_side) == expected
    assert InputSize(shorter_side, longer_side).of(size) == expected


def test_by_default_an_image_stays_as_it_is():
    assert InputSize().of((375, 1242)) == (375, 1242)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((200, 300), (200, 300)), ((256, 300), (256, 300)), ((100, 150), (192, 288)), ((1024, 2048), (256, 512))],
)
def test_an_image_of_a_size_that_training_had_stays_and_others_come_to_the_nearest(size, expected):
    assert InputSize(trained_sides=(192, 256)).of(size) == expected


def test_a_view_scales_what_the_network_would_see():
    assert InputSize(100).of((200, 400), scale=0.5) == (50, 100)
    assert InputSize(trained_sides=(192, 256)).of((1024, 2048), scale=1.25) == (320, 640)
    assert InputSize().of((33, 47), 1.25) == (41, 59)
    assert InputSize().of((3, 3), 0.1) == (1, 1)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"shorter_side": 0}, "input_size.shorter_side is 0, but at least 1 pixel"),
        ({"longer_side": -1, "shorter_side": 5}, "input_size.longer_side is -1"),
        ({"longer_side": 900}, "longer_side 900 needs a shorter_side"),
        ({"shorter_side": 800, "longer_side": 700}, "longer_side 700 needs a shorter_side of at most as much"),
    ],
)
def test_sizes_that_cannot_be_are_refused(settings, complaint):
    with pytest.raises(InputError, match=complaint):
        InputSize(**settings)


def test_a_checkpoint_keeps_all_of_it():
    network_input = NetworkInput(InputSize(800, 1333, (480, 640)), IMAGENET)
    assert NetworkInput.from_plain(network_input.to_plain()) == network_input


@pytest.mark.parametrize("is_flipped", [False, True])
def test_a_network_sees_the_resized_image_normalised_and_padded(is_flipped):
    image = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    seen = NetworkInput(InputSize(20), IMAGENET).apply(image, torch.device("cpu"), scale=2.0, is_flipped=is_flipped)
    assert (seen.size, seen.tensor.shape) == ((40, 90), (1, 3, 64, 96))
    expected = normalize_and_pad(image[:, ::-1] if is_flipped else image, IMAGENET)
    assert torch.equal(seen.tensor[0], torch.from_numpy(expected))


def test_shrinking_takes_means_and_ids_their_middle():
    image = np.zeros((4, 6, 3), np.uint8)
    image[:2, :3] = 90
    assert resize_image(image, (2, 2))[..., 0].tolist() == [[90, 0], [0, 0]]
    assert resize_image(image, (4, 6)) is image
    ids = np.arange(36, dtype=np.uint32).reshape(6, 6) + 2**24 - 36
    assert np.array_equal(resize_segment_ids(ids, (2, 2)), ids[1::3, 1::3])


@pytest.mark.parametrize(("net_size", "size"), [((64, 96), (64, 96)), ((48, 72), (65, 99)), ((33, 47), (20, 31))])
def test_the_largest_class_on_the_image_is_that_of_the_logits_brought_there(net_size, size):
    rows, columns = (-(-side // 32) * 8 for side in net_size)
    logits = torch.randn(5, rows, columns, generator=torch.Generator().manual_seed(0))
    # Cells of the padding have no part in it.
    inside = logits[:, : -(-net_size[0] // 4), : -(-net_size[1] // 4)]
    expected = logits_on_image(inside, net_size, size, 4, 1).argmax(0)
    assert (argmax_on_image(logits, net_size, size, 4) == expected).float().mean() > 0.999  # where two are almost equal


@pytest.mark.parametrize("size", [(16000, 1), (1, 16000)])
def test_a_strip_that_would_be_seen_a_thousand_times_as_large_is_refused(size):
    with pytest.raises(ItemError, match=f"{size[0]}x{size[1]} pixels would be seen as .* cut a strip into parts"):
        InputSize(800).of(size)


def test_a_large_image_is_seen_as_it_is():
    assert InputSize().of((8000, 8000)) == (8000, 8000)
    assert InputSize(800, 1333).of((16000, 1)) == (1333, 1)
