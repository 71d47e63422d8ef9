"""An image and its targets move together; padding is void; the seed alone decides."""

import numpy as np
import pytest

from data.loading.augmentation import AugmentationSettings, TrainingAugmentation
from data.normalization import IMAGENET, LITE, NORMALIZATIONS, Normalization, normalize, normalize_and_pad, pad_segment_ids

GEOMETRY_ONLY = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
HEIGHT, WIDTH = 48, 60


def coordinates() -> tuple[np.ndarray, np.ndarray]:
    """An image whose red is 4y and green 4x, and an id map of 1000 y + x + 1."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack([4 * y, 4 * x, np.full_like(x, 99)], -1).astype(np.uint8)
    return picture, (1000 * y + x + 1).astype(np.uint32)


def augment(seed: int, **settings) -> tuple[np.ndarray, np.ndarray]:
    chosen = AugmentationSettings(**{"crop_height": 40, "crop_width": 48} | GEOMETRY_ONLY | settings)
    return TrainingAugmentation(chosen)(*coordinates(), seed=seed)


@pytest.mark.parametrize("seed", range(20))
def test_image_and_targets_move_together(seed):
    picture, ids = augment(seed)
    inside = ids > 0
    y, x = (ids.astype(int) - 1) // 1000, (ids.astype(int) - 1) % 1000
    # Targets are the nearest pixel, half a pixel off at most; rounding a colour costs an eighth.
    assert inside.sum() > 500
    assert np.abs(picture[..., 0] / 4 - y)[inside].max() <= 0.625
    assert np.abs(picture[..., 1] / 4 - x)[inside].max() <= 0.625


@pytest.mark.parametrize("scale", [1 / 3, 2.0])  # at 1/2 there is no nearest pixel
def test_targets_are_not_shifted_against_the_image(scale):
    picture, ids = augment(0, scale_range=(scale, scale), flip_probability=0, crop_height=24, crop_width=40)
    y, x = (ids.astype(int) - 1) // 1000, (ids.astype(int) - 1) % 1000
    inside = (ids > 0) & (y > 0) & (y < HEIGHT - 1) & (x > 0) & (x < WIDTH - 1)
    off = np.stack([picture[..., 0] / 4 - y, picture[..., 1] / 4 - x])[:, inside].mean(1)
    assert np.abs(off).max() < 0.1  # the corner instead of the middle of three pixels would be 1 off


def test_padding_is_void_and_black():
    picture, ids = augment(3, scale_range=(0.5, 0.5), flip_probability=0)
    padding = ids == 0
    assert padding.sum() == 40 * 48 - 24 * 30  # the image is 24x30 at half size
    assert (picture[padding] == 0).all()


def test_ids_of_24_bits_survive():
    picture, ids = coordinates()
    ids[:] = 2**24 - 1
    _, moved = TrainingAugmentation(AugmentationSettings(8, 8, scale_range=(1.3, 1.3)))(picture, ids, seed=0)
    assert moved.dtype == np.uint32
    assert set(np.unique(moved)) == {2**24 - 1}


def test_the_seed_alone_decides():
    augmentation = TrainingAugmentation(AugmentationSettings(40, 48))
    first = augmentation(*coordinates(), seed=5)
    augmentation(*coordinates(), seed=6)
    again = augmentation(*coordinates(), seed=5)
    other = TrainingAugmentation(AugmentationSettings(40, 48))(*coordinates(), seed=5)
    for a, b, c in zip(first, again, other, strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(a, c)


def test_scale_and_crop_and_flip_are_drawn_independently():
    drawn = []
    for seed in range(200):
        _, ids = augment(seed, scale_range=(1, 2), crop_height=8, crop_width=8)
        y, x = (ids.astype(int) - 1) // 1000, (ids.astype(int) - 1) % 1000
        drawn.append((np.ptp(y), y.min() / (HEIGHT - np.ptp(y)), x[0, 0] > x[0, -1]))
    correlation = np.corrcoef(np.array(drawn, dtype=float).T)[np.triu_indices(3, 1)]
    assert np.abs(correlation).max() < 0.25  # 3.5 standard deviations of 200 independent draws


def test_a_flip_with_probability_one_mirrors():
    picture, ids = coordinates()
    options = {"crop_height": HEIGHT, "crop_width": WIDTH, "scale_range": (1, 1), "flip_probability": 1}
    moved_picture, moved_ids = augment(0, **options)
    assert np.array_equal(moved_picture, picture[:, ::-1])
    assert np.array_equal(moved_ids, ids[:, ::-1])


def test_colour_changes_the_image_and_no_target():
    options = {"crop_height": HEIGHT, "crop_width": WIDTH, "scale_range": (1, 1), "flip_probability": 0}
    picture, ids = coordinates()
    moved = TrainingAugmentation(AugmentationSettings(**options))(picture, ids, seed=0)
    assert not np.array_equal(moved[0], picture)
    assert np.array_equal(moved[1], ids)


def test_resizing_draws_each_size_and_crops_nothing():
    drawn = set()
    for seed in range(20):
        picture, ids = augment(seed, shorter_sides=(24, 48, 72), longer_side=80)
        y, x = (ids.astype(int) - 1) // 1000, (ids.astype(int) - 1) % 1000
        scale = len(ids) / HEIGHT
        assert picture.shape[:2] == ids.shape
        assert y.min() <= 1 / scale
        assert x.min() <= 1 / scale
        assert y.max() >= HEIGHT - 1 - 1 / scale
        assert x.max() >= WIDTH - 1 - 1 / scale
        assert np.abs(picture[..., 0] / 4 - y).max() <= 0.5 + 0.5 / scale + 0.125  # half a pixel of either, and rounding
        assert np.abs(picture[..., 1] / 4 - x).max() <= 0.5 + 0.5 / scale + 0.125
        drawn.add(ids.shape)
    assert drawn == {(24, 30), (48, 60), (64, 80)}  # 72x90 is too long


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"scale_range": (2.0, 0.5)}, "scale_range"),
        ({"scale_range": (0.0, 1.0)}, "scale_range"),
        ({"crop_height": 0}, "crop 0x2048"),
        ({"flip_probability": 1.5}, "flip_probability"),
        ({"brightness": -0.1}, "must not be negative"),
        ({"longer_side": 1333}, "longer_side 1333 limits shorter_sides, but there are none"),
        ({"shorter_sides": ()}, "must be sizes in pixels"),
        ({"shorter_sides": (640, 800), "longer_side": 700}, "longer_side 700 is below 800"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        AugmentationSettings(**settings)


def test_what_networks_were_trained_with_stays():
    assert {"efficientps": Normalization(), "imagenet": IMAGENET, "lite": LITE} == NORMALIZATIONS
    assert (Normalization().mean, Normalization().std) == ((106.433, 116.617, 119.559), (65.496, 67.6, 74.123))
    assert (IMAGENET.mean, IMAGENET.std) == ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    assert (LITE.mean, LITE.std) == ((127,) * 3, (128,) * 3)


def test_the_mean_becomes_zero_and_one_deviation_one():
    normalization = Normalization(mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 4.0))
    picture = np.array([[[10, 20, 30], [11, 22, 34]]], dtype=np.uint8)
    found = normalize(picture, normalization)
    assert found.dtype == np.float32
    assert found.tolist() == [[[0, 1]], [[0, 1]], [[0, 1]]]


@pytest.mark.parametrize(("size", "padded"), [((375, 1242), (384, 1248)), ((800, 800), (800, 800)), ((1, 33), (32, 64))])
def test_any_size_is_padded_at_the_bottom_and_right(size, padded):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = normalize_and_pad(picture)
    assert image.shape == (3, *padded)
    assert np.array_equal(image[:, : size[0], : size[1]], normalize(picture))
    assert not image[:, size[0] :].any()
    assert not image[:, :, size[1] :].any()
    ids = pad_segment_ids(np.full(size, 7, np.uint32))
    assert ids.shape == padded
    assert (ids == 0).sum() == padded[0] * padded[1] - size[0] * size[1]
    assert (ids[: size[0], : size[1]] == 7).all()


def test_looking_up_equals_computing():
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    mean, std = np.float32(Normalization().mean), np.float32(Normalization().std)
    assert np.array_equal(normalize(picture), ((picture - mean) / std).transpose(2, 0, 1))
    assert np.array_equal(normalize(picture[:, ::-1]), normalize(picture)[..., ::-1])


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1)])
def test_images_of_a_few_pixels_are_padded(size):
    augment = TrainingAugmentation(AugmentationSettings(crop_height=32, crop_width=64))
    for seed in range(20):
        image, ids = augment(np.ones((*size, 3), np.uint8), np.ones(size, np.uint32), seed=seed)
        assert image.shape == (32, 64, 3)
        assert ids.shape == (32, 64)
