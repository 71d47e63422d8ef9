"""From 8-bit pixels to what a network reads: normalised values, padded to a size that it can halve."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Normalization:
    """(value - mean) / std for each of R, G, B, in units of 0..255."""

    mean: tuple[float, float, float] = (106.433, 116.617, 119.559)
    """EfficientPS, configs/efficientPS_singlegpu_sample.py, img_norm_cfg."""
    std: tuple[float, float, float] = (65.496, 67.6, 74.123)
    """As `mean`."""


IMAGENET = Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
"""What ResNets of torchvision, mmdet and detectron2 were trained with; detectron2 divides in its first convolution."""
LITE = Normalization(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
"""EfficientNet-Lite's, which was made to be run on integers."""
NORMALIZATIONS = {"efficientps": Normalization(), "imagenet": IMAGENET, "lite": LITE}


def normalize(picture: np.ndarray, normalization: Normalization = Normalization()) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (3, H, W) float32."""
    levels = np.arange(256, dtype=np.float32)[:, None]
    table = np.ascontiguousarray(((levels - np.float32(normalization.mean)) / np.float32(normalization.std)).T)  # (3, 256)
    image = np.empty((3, *picture.shape[:2]), dtype=np.float32)
    for channel, values, out in zip(cv2.split(np.ascontiguousarray(picture)), table, image, strict=True):
        cv2.LUT(channel, values, dst=out)  # looking up is ten times as fast as computing
    return image


def normalize_and_pad(picture: np.ndarray, normalization: Normalization = Normalization(), multiple: int = 32) -> np.ndarray:
    """What an image of any size goes through before a network.

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        (3, H', W') float32, padded at the bottom and on the right with zeros (the mean) to multiples of `multiple`.
    """
    return np.pad(normalize(picture, normalization), ((0, 0), *_padding(picture.shape[:2], multiple)))


def pad_segment_ids(segment_ids: np.ndarray, multiple: int = 32) -> np.ndarray:
    """(H, W) segment ids -> (H', W'), padded as normalize_and_pad does, with 0, which is void."""
    return np.pad(segment_ids, _padding(segment_ids.shape, multiple))


def _padding(size: tuple[int, int], multiple: int) -> tuple[tuple[int, int], tuple[int, int]]:
    height, width = size
    return (0, -height % multiple), (0, -width % multiple)
