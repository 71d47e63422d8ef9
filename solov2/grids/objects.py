"""The objects of a COCO instances JSON as SOLOv2's training sees them, at the size of the network's input."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from torch import Tensor

from data.coco_json import read_flag
from data.run_lengths import decode_mask
from runtime.files import InputError, read_json

PAD_DIVISOR = 32
MASK_THRESHOLD = 0.5
"""A pixel of a higher probability belongs to the mask; mmdet's mask_thr."""

Track = Callable[..., Iterable]
"""Wraps an iterable, with a `description`, for a progress bar."""


@dataclass(frozen=True)
class Resize:
    """The training's resize: scale (width, height) as mmdet's; None leaves images as they are."""

    scale: tuple[int, int] | None = None
    keep_ratio: bool = True

    def of(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of an image -> of the network's input, without padding."""
        if self.scale is None:
            return size
        width, height = mmcv.rescale_size(size[::-1], self.scale) if self.keep_ratio else self.scale
        return height, width


@dataclass(frozen=True)
class Objects:
    """The N objects of a data set as the training sees them: those of an image together, in the order of the file.

    images: (N,) int64, counted from 0. image_sizes: (N, 2) float32 height, width of the network's input with padding.
    boxes: (N, 4) float32 x1, y1, x2, y2 and centers: (N, 2) float32 y, x of mass, in pixels of the network's input.
    areas: (N,) pixels of the original image. classes: (N,) int64, index into class_names.
    has_pixel: (N,) bool, at the network's size. small_areas: (N,) int64, cells of the mask at the stride of the mask features,
    where it is learned; small_ious: (N,) IoU with the object of that mask, enlarged to the network's size again.
    """

    images: np.ndarray
    image_sizes: Tensor
    boxes: Tensor
    centers: Tensor
    areas: np.ndarray
    classes: np.ndarray
    has_pixel: np.ndarray
    small_areas: np.ndarray
    small_ious: np.ndarray
    class_names: tuple[str, ...]
    num_images: int

    def __len__(self) -> int:
        return len(self.images)

    @property
    def has_small_pixel(self) -> np.ndarray:
        """(N,) bool: something is left of the mask where it is learned."""
        return self.small_areas > 0

    @property
    def usual_size(self) -> tuple[int, int]:
        """The (height, width) with padding that most objects lie in."""
        sizes, counts = self.image_sizes.unique(dim=0, return_counts=True)
        return tuple(int(side) for side in sizes[counts.argmax()])


def read_objects(path: Path, resize: Resize, mask_stride: int, track: Track) -> Objects:
    """Read a COCO instances JSON; crowds and what mmdet's CocoDataset skips are left out.

    Raises:
        InputError: if it is missing, no such JSON, or without an object to learn from.
    """
    content = read_json(path)
    needed = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in needed):
        raise InputError(f"{path}: needs `images`, `annotations` and `categories`; give a COCO instances JSON")
    try:
        sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
        names = {category["id"]: category["name"] for category in content["categories"]}
        order = {image_id: k for k, image_id in enumerate(sizes)}
        kept = [a for a in content["annotations"] if _is_learned(a, names)]
        kept.sort(key=lambda a: order[a["image_id"]])  # stable: within an image the order of the file
        rows = [_measure(a, sizes[a["image_id"]], resize, mask_stride) for a in track(kept, description="reading masks")]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: no COCO instances JSON ({error!r}); write it with scripts/prepare_cityscapes.py") from None
    if not rows:
        raise InputError(f"{path}: {len(content['annotations'])} annotations, none of them an object to learn from; give others")
    boxes, sums, counts, small_areas, small_ious, padded = (np.array(column) for column in zip(*rows))
    counts = torch.from_numpy(counts)
    index_of = {category_id: k for k, category_id in enumerate(names)}
    return Objects(
        images=np.array([order[a["image_id"]] for a in kept]),
        image_sizes=torch.tensor(padded, dtype=torch.float32),
        boxes=torch.tensor(boxes, dtype=torch.float32),
        # Sums of whole numbers over a float32 count, as mmdet's center_of_mass divides them.
        centers=torch.from_numpy(sums) / counts.float().clamp(min=1e-6)[:, None],
        areas=np.array([a["area"] for a in kept], dtype=float),
        classes=np.array([index_of[a["category_id"]] for a in kept]),
        has_pixel=counts.numpy() > 0,
        small_areas=small_areas,
        small_ious=small_ious,
        class_names=tuple(names.values()),
        num_images=len(sizes),
    )


def _is_learned(annotation: dict, names: dict) -> bool:
    """As mmdet's CocoDataset.parse_data_info decides, and no crowd."""
    is_left_out = (
        read_flag(annotation, "iscrowd", default=False) or annotation.get("ignore") or annotation["category_id"] not in names
    )
    return not is_left_out and annotation["area"] > 0 and min(annotation["bbox"][2:]) >= 1


def _measure(annotation: dict, size: tuple[int, int], resize: Resize, mask_stride: int) -> tuple:
    """Box, sums of y and x over the pixels, pixels, cells at the mask stride, their IoU, padded size; of the network's input."""
    (height, width), network = size, resize.of(size)
    mask = decode_mask(annotation["segmentation"], size).T.astype(np.uint8)  # (W, H), which lies in memory row by row
    if network != tuple(size):
        mask = cv2.resize(mask, network, interpolation=cv2.INTER_NEAREST)  # as BitmapMasks.rescale
    top, left, high, wide = cv2.boundingRect(mask)  # its x is our y, as the mask is transposed
    crop = mask[left : left + wide, top : top + high]
    num_in_rows, num_in_columns = (crop.sum(axis, dtype=np.int64) for axis in (0, 1))
    sums = num_in_rows @ np.arange(top, top + high), num_in_columns @ np.arange(left, left + wide)
    padded = [-(-side // PAD_DIVISOR) * PAD_DIVISOR for side in network]
    below, right = (side - unpadded for side, unpadded in zip(padded, network))
    # The head shrinks padded masks: cells are then as wide as the stride, also at the border.
    whole = cv2.copyMakeBorder(mask, 0, right, 0, below, cv2.BORDER_CONSTANT, value=0)
    small = mmcv.imrescale(whole, scale=1 / mask_stride)
    x, y, w, h = annotation["bbox"]
    scale = np.float32([network[1] / width, network[0] / height] * 2)
    box = (np.float32([x, y, x + w, y + h]) * scale).clip(0, np.float32([network[1], network[0]] * 2))
    area = int(num_in_rows.sum())
    return box, sums, area, np.count_nonzero(small), _enlarged_iou(small, mask, area, mask_stride), padded


def _enlarged_iou(small: np.ndarray, mask: np.ndarray, area: int, stride: int) -> float:
    """IoU of a mask with its exact prediction at a stride, enlarged bilinearly as the head does."""
    x, y, w, h = cv2.boundingRect(small)
    if not h:
        return 0.0
    # With a cell around it: further away everything enlarged is background.
    top, left, bottom, right = max(y - 1, 0), max(x - 1, 0), y + h + 1, x + w + 1
    crop = small[top:bottom, left:right].astype(np.float32)
    enlarged = cv2.resize(crop, None, fx=stride, fy=stride, interpolation=cv2.INTER_LINEAR) > MASK_THRESHOLD
    window = mask[top * stride : bottom * stride, left * stride : right * stride]
    enlarged = enlarged[: window.shape[0], : window.shape[1]]
    shared = np.count_nonzero(window[: enlarged.shape[0], : enlarged.shape[1]] & enlarged)
    return shared / (area + np.count_nonzero(enlarged) - shared)
