"""Augmentation (albumentations) and normalisation: an image and the segments of its truth move together."""

import math
import os
import random
from dataclasses import dataclass

import numpy as np

# albumentations asks PyPI for a newer version on import, which is AGPL and takes two seconds where there is no network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations

from data.input_size import size_with_shorter_side
from data.resizing import MASK_INTERPOLATION, resize_image, resize_segment_ids
from runtime.files import InputError


@dataclass(frozen=True)
class AugmentationSettings:
    """What a training image goes through; scale, crop and flip as EfficientPS trains, colour our own.

    With `shorter_sides` it is resized as detectron2 and mmdet do for COCO instead, and neither scaled nor cropped.
    """

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
    shorter_sides: tuple[int, ...] | None = None
    """Pixels; one is drawn for the shorter side of each image, such as 640 to 800. None: scale_range and crops."""
    longer_side: int | None = None
    """Pixels that the longer side has at most, with `shorter_sides`; COCO's is 1333. None: no limit."""

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
        if self.shorter_sides is None:
            if self.longer_side is not None:
                raise InputError(f"longer_side {self.longer_side} limits shorter_sides, but there are none; give both or neither")
        elif not self.shorter_sides or min(self.shorter_sides) < 1:
            raise InputError(f"shorter_sides {self.shorter_sides} must be sizes in pixels, such as 640, 672 and 704")
        elif self.longer_side is not None and self.longer_side < max(self.shorter_sides):
            largest = max(self.shorter_sides)
            raise InputError(f"longer_side {self.longer_side} is below {largest}, the largest of shorter_sides; raise it")


class TrainingAugmentation:
    """Random scale, crop (padded where the image is smaller), flip and colour; the seed alone decides which.

    With `shorter_sides`, a random size instead of scale and crop, and no padding.
    """

    def __init__(self, settings: AugmentationSettings):
        s = settings
        self.shorter_sides, self.longer_side = s.shorter_sides, s.longer_side
        low, high = s.scale_range
        self.smallest = math.ceil(1 / low) if self.is_cropping else 1
        scale_and_crop = [
            albumentations.RandomScale(
                (low - 1, high - 1), area_for_downscale="image", mask_interpolation=MASK_INTERPOLATION, p=1
            ),
            albumentations.PadIfNeeded(s.crop_height, s.crop_width, position="random", fill=0, fill_mask=0),
            albumentations.RandomCrop(s.crop_height, s.crop_width),
        ]
        self.compose = albumentations.Compose(
            [
                *(scale_and_crop if self.is_cropping else []),
                albumentations.HorizontalFlip(p=s.flip_probability),
                albumentations.ColorJitter(
                    (1 - s.brightness, 1 + s.brightness),
                    (1 - s.contrast, 1 + s.contrast),
                    (max(0.0, 1 - s.saturation), 1 + s.saturation),
                    (-s.hue, s.hue),
                    p=1,
                ),
            ]
        )

    @property
    def is_cropping(self) -> bool:
        """Whether all images get the size of the crop."""
        return self.shorter_sides is None

    def __call__(self, image: np.ndarray, segment_ids: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Augment one image.

        Args:
            image: (H, W, 3) uint8 RGB.
            segment_ids: (H, W) uint32, at most 24 bits; padding becomes 0, which is void.

        Returns:
            Both at (crop_height, crop_width), or with `shorter_sides` at the size drawn; same types, not normalised.
        """
        # One stream for all transforms: Compose.set_random_seed gives each the same seed, which would couple scale and crop.
        numbers = np.random.default_rng(seed)
        self.compose.set_random_state(numbers, random.Random(seed))
        mask = segment_ids.astype(np.int32)
        if self.shorter_sides is not None:
            size = size_with_shorter_side(mask.shape, int(numbers.choice(self.shorter_sides)), self.longer_side)
            image = resize_image(image, size)
            mask = resize_segment_ids(mask, size).astype(np.int32)
        if short := max(0, self.smallest - min(mask.shape)):  # scaling would leave nothing of it
            image, mask = (np.pad(a, [(0, short), (0, short)] + [(0, 0)] * (a.ndim - 2)) for a in (image, mask))
        moved = self.compose(image=image, mask=mask)
        return moved["image"], moved["mask"].astype(np.uint32)
