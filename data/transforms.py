"""Augmentation (albumentations) and normalisation of street images: an image and its targets move together."""

import os
import random
from dataclasses import dataclass

import numpy as np

# albumentations asks PyPI for a newer version on import, which is AGPL and takes two seconds where there is no network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations
import cv2

from data.files import InputError
from data.taxonomy import VOID_TRAIN_ID


@dataclass(frozen=True)
class Normalization:
    """(value - mean) / std for each of R, G, B, in units of 0..255."""

    mean: tuple[float, float, float] = (106.433, 116.617, 119.559)
    """EfficientPS, configs/efficientPS_singlegpu_sample.py, img_norm_cfg."""
    std: tuple[float, float, float] = (65.496, 67.6, 74.123)
    """As `mean`."""


@dataclass(frozen=True)
class AugmentationSettings:
    """What a training image goes through; scale, crop and flip as EfficientPS trains, colour our own."""

    crop_height: int = 1024
    """Pixels; EfficientPS."""
    crop_width: int = 2048
    """Pixels; EfficientPS."""
    scale_range: tuple[float, float] = (0.5, 2.0)
    """Factors of the image's size, drawn uniformly; EfficientPS ratio_range."""
    flip_probability: float = 0.5
    """Left to right; EfficientPS."""
    brightness: float = 0.25
    """Largest relative change; about that of detectron2's ColorAugSSDTransform."""
    contrast: float = 0.25
    """Largest relative change; half of ColorAugSSDTransform's."""
    saturation: float = 0.25
    """As `contrast`."""
    hue: float = 0.05
    """Largest shift, in turns of the colour circle; half of ColorAugSSDTransform's."""

    def __post_init__(self):
        low, high = self.scale_range
        if not 0 < low <= high:
            raise InputError(f"scale_range {self.scale_range} must be two factors, 0 < smallest <= largest")
        if min(self.crop_height, self.crop_width) < 1:
            raise InputError(f"crop {self.crop_height}x{self.crop_width} must have at least one pixel")
        if not 0 <= self.flip_probability <= 1:
            raise InputError(f"flip_probability {self.flip_probability} must lie in 0..1")
        if min(self.brightness, self.contrast, self.saturation, self.hue) < 0 or max(self.brightness, self.contrast) > 1:
            raise InputError("brightness, contrast, saturation and hue must not be negative, the first two not above 1")


class TrainingAugmentation:
    """Random scale, crop (padded where the image is smaller), flip and colour; the seed alone decides which."""

    def __init__(self, settings: AugmentationSettings):
        s = settings
        low, high = s.scale_range
        self.compose = albumentations.Compose(
            [
                albumentations.RandomScale(
                    (low - 1, high - 1),
                    area_for_downscale="image",
                    # INTER_NEAREST takes a cell's corner, so that targets would shift against the image by up to half a pixel.
                    mask_interpolation=cv2.INTER_NEAREST_EXACT,
                    p=1,
                ),
                albumentations.PadIfNeeded(s.crop_height, s.crop_width, position="random", fill=0, fill_mask=0),
                albumentations.RandomCrop(s.crop_height, s.crop_width),
                albumentations.HorizontalFlip(p=s.flip_probability),
                albumentations.ColorJitter(
                    (1 - s.brightness, 1 + s.brightness),
                    (1 - s.contrast, 1 + s.contrast),
                    (max(0.0, 1 - s.saturation), 1 + s.saturation),
                    (-s.hue, s.hue),
                    p=1,
                ),
            ],
            additional_targets={"segments": "mask"},
        )

    def __call__(
        self, picture: np.ndarray, semantic: np.ndarray, segment_ids: np.ndarray | None = None, *, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Augment one image.

        Args:
            picture: (H, W, 3) uint8 RGB.
            semantic: (H, W) uint8 train ids; padding becomes VOID_TRAIN_ID.
            segment_ids: (H, W) uint32, at most 24 bits; padding becomes 0.

        Returns:
            The three at (crop_height, crop_width), same types, not normalised.
        """
        # One stream for all transforms: Compose.set_random_seed gives each the same seed, which would couple scale and crop.
        self.compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        # Padding is 0 in every target, so the semantic map travels shifted by one (uint8 wraps): its void is 0 too.
        assert VOID_TRAIN_ID == 255
        targets = {"mask": semantic + np.uint8(1)}
        if segment_ids is not None:
            targets["segments"] = segment_ids.astype(np.int32)
        moved = self.compose(image=picture, **targets)
        moved_ids = None if segment_ids is None else moved["segments"].astype(np.uint32)
        return moved["image"], moved["mask"] - np.uint8(1), moved_ids


def normalize(picture: np.ndarray, normalization: Normalization = Normalization()) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (3, H, W) float32."""
    scaled = (picture - np.float32(normalization.mean)) / np.float32(normalization.std)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def normalize_and_pad(picture: np.ndarray, normalization: Normalization = Normalization(), multiple: int = 32) -> np.ndarray:
    """What a picture of any size goes through before a network.

    Args:
        picture: (H, W, 3) uint8 RGB.

    Returns:
        (3, H', W') float32, padded at the bottom and on the right with zeros (the mean) to multiples of `multiple`.
    """
    return np.pad(normalize(picture, normalization), ((0, 0), *_padding(picture.shape[:2], multiple)))


def pad_semantic(semantic: np.ndarray, multiple: int = 32) -> np.ndarray:
    """(H, W) train ids -> (H', W'), padded as normalize_and_pad does, with VOID_TRAIN_ID."""
    return np.pad(semantic, _padding(semantic.shape, multiple), constant_values=VOID_TRAIN_ID)


def _padding(size: tuple[int, int], multiple: int) -> tuple[tuple[int, int], tuple[int, int]]:
    height, width = size
    return (0, -height % multiple), (0, -width % multiple)
