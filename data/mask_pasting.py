"""Boxes and the small masks of Mask R-CNN -> the exchange format, on NumPy arrays: detection/instance_masks.py without torch."""

from collections.abc import Iterable, Iterator

import numpy as np

from data.dump_file import to_float16
from data.instance_dump import InstanceLogits
from data.resizing import Axis, sample
from data.taxonomy import Taxonomy
from runtime.files import InputError

CERTAIN = np.float32(1e-6)
"""Probabilities end this far from 0 and 1, so that a logit ends at 13.8."""
ONE, HALF = np.float32(1), np.float32(0.5)


def to_instance_logits(
    boxes: np.ndarray,
    scores: np.ndarray,
    train_ids: np.ndarray,
    mask_logits: np.ndarray,
    *,
    convention: str,
    image_id: str,
    size: tuple[int, int],
    taxonomy: Taxonomy,
    producer: str,
) -> InstanceLogits:
    """Detections of an image of `size` (height, width) -> masks at stride 1; one without a pixel in its mask is left out.

    Args:
        boxes: (N, 4) float32, (x1, y1, x2, y2) in pixels, inside the image; best first, as all that follow.
        scores: (N,) float32 in 0..1. train_ids: (N,) whole numbers.
        mask_logits: (N, m, m) float32, before the sigmoid; the grid fills the box.
        convention: torchvision or detectron2, as detection.instance_head.CONVENTIONS has them.

    Raises:
        InputError: if a number is NaN or infinite.
    """
    if not all(np.isfinite(values).all() for values in (boxes, scores, mask_logits)):
        raise InputError(f"{image_id}: NaN or infinite boxes, scores or masks; predict again with a model that works")
    bring = paste_masks if convention == "torchvision" else sample_masks
    about = {"image_id": image_id, "size": size, "taxonomy": taxonomy, "producer": producer}
    return cut_out_masks(bring(mask_logits, boxes, size), train_ids, scores, **about)


def cut_out_masks(
    masks: Iterable[tuple[int, int, np.ndarray]],
    train_ids: np.ndarray,
    scores: np.ndarray,
    *,
    image_id: str,
    size: tuple[int, int],
    taxonomy: Taxonomy,
    producer: str,
) -> InstanceLogits:
    """Logits at stride 1, each cut to its positive pixels; a mask without any is left out.

    Args:
        masks: (first row, first column, (h, w) logits) of each, as paste_masks and sample_masks give them.
        train_ids, scores: (N,), of all masks. size: (height, width) of the image.
    """
    kept, crop_boxes, crops = [], [], []
    for k, (top, left, logits) in enumerate(masks):
        positive = logits > 0
        ys, xs = np.flatnonzero(positive.any(1)), np.flatnonzero(positive.any(0))
        if len(ys) == 0:
            continue
        rows, columns = slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1)
        crop_boxes.append((top + rows.start, left + columns.start, top + rows.stop, left + columns.stop))
        crops.append(to_float16(logits[rows, columns]))
        kept.append(k)
    crop_boxes = np.array(crop_boxes, dtype=np.int32).reshape(-1, 4)
    return InstanceLogits(
        image_id=image_id,
        height=size[0],
        width=size[1],
        stride=1,
        taxonomy=taxonomy.name,
        producer=producer,
        train_ids=np.asarray(train_ids, dtype=np.int64)[kept],
        scores=np.asarray(scores, dtype=np.float32)[kept],
        boxes=crop_boxes[:, [1, 0, 3, 2]].astype(np.float32),
        crop_boxes=crop_boxes,
        crops=tuple(crops),
    )


def paste_masks(mask_logits: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[int, int, np.ndarray]]:
    """Bring each mask to the resolution of the image, one at a time, where its box is, as torchvision does.

    The probabilities, with a ring of zeros around them, are enlarged to whole pixels and turned back into logits.

    Args:
        mask_logits: (N, m, m). boxes: (N, 4), (x1, y1, x2, y2) in pixels.
        size: (height, width) of the image.

    Yields:
        top and left in pixels, and (h, w) float32 logits, cut at the image's edges.
    """
    side = mask_logits.shape[-1] + 2
    grown = np.float32(side / (side - 2))  # the boxes with the ring
    for probability, (x1, y1, x2, y2) in zip(_ringed(mask_logits), boxes.astype(np.float32), strict=True):
        x, y, half_width, half_height = (x2 + x1) * HALF, (y2 + y1) * HALF, (x2 - x1) * HALF * grown, (y2 - y1) * HALF * grown
        x1, y1, x2, y2 = (int(edge) for edge in (x - half_width, y - half_height, x + half_width, y + half_height))
        top, left = max(y1, 0), max(x1, 0)
        rows = _part(Axis.enlarged(side, max(y2 - y1 + 1, 1)), top - y1, size[0] - y1)
        columns = _part(Axis.enlarged(side, max(x2 - x1 + 1, 1)), left - x1, size[1] - x1)
        yield top, left, _logit(sample(probability[None], rows, columns)[0])


def sample_masks(mask_logits: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[int, int, np.ndarray]]:
    """The same as detectron2 and mmdet do: probabilities are read where the centre of each pixel falls into the box.

    Args, yields: as paste_masks.
    """
    side = mask_logits.shape[-1]
    for probability, (x1, y1, x2, y2) in zip(_ringed(mask_logits), boxes.astype(np.float32), strict=True):
        left, top = max(int(np.floor(x1)), 0), max(int(np.floor(y1)), 0)
        right, bottom = min(int(np.ceil(x2)), size[1]), min(int(np.ceil(y2)), size[0])
        axes = (_centres(top, bottom, y1, y2, side), _centres(left, right, x1, x2, side))
        yield top, left, _logit(sample(probability[None], *axes)[0])


def _ringed(mask_logits: np.ndarray) -> np.ndarray:
    """(N, m, m) logits -> (N, m + 2, m + 2) probabilities in a ring of zeros."""
    with np.errstate(over="ignore"):  # of a logit below -88 the probability is 0
        probabilities = ONE / (ONE + np.exp(-mask_logits.astype(np.float32)))
    return np.pad(probabilities, ((0, 0), (1, 1), (1, 1)))


def _centres(start: int, end: int, first: np.float32, last: np.float32, num_cells: int) -> Axis:
    """Of the pixels from `start` to `end`, in cells with a ring that fill a box's side from `first` to `last`."""
    pixels = np.arange(start, max(end, start), dtype=np.float32)  # a box without a pixel gives none
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (pixels + HALF - first) / (last - first) * 2 - ONE
        places = (shares + ONE) * np.float32(num_cells / 2) - HALF + ONE
    return Axis.at(np.where(np.isnan(places), 0, places).astype(np.float32), num_cells + 2)  # a side of 0: in the ring


def _part(axis: Axis, start: int, end: int) -> Axis:
    """The points of an axis from `start` to `end`, as far as there are any."""
    return Axis(*(values[start : max(end, 0)] for values in axis))


def _logit(probabilities: np.ndarray) -> np.ndarray:
    limited = np.clip(probabilities, CERTAIN, ONE - CERTAIN)
    return np.log(limited / (ONE - limited))
