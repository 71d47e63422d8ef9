"""From a panoptic map to what a network learns or a fusion reads: semantic map, instance masks, truth as logits."""

import numpy as np

from data.dump_file import grid_size
from data.instance_dump import InstanceLogits, from_full_logits
from data.panoptic_png import PanopticMap, Segment
from data.segment_runs import encode_masks, find_runs, look_up
from data.semantic_dump import SemanticLogits
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from runtime.files import InputError

TRUTH_CONFIDENCE = 3.0
"""Largest absolute logit of truth given as logits: see cell_logits."""
INSTANCE_GAIN = 2.5
"""Instance logits of truth are this much larger than semantic ones. Above 2, "not this object" outweighs "this class" in the
fusion, so that an object does not spread over the crowd of its class beside it; edges, where a logit is 0, stay."""


BINARY_CONFIDENCE = 10.0
"""Logit inside a binary mask, and minus that outside: near certain, and exactly representable in float16."""


def panoptic_to_semantic(panoptic: PanopticMap, taxonomy: Taxonomy) -> np.ndarray:
    """(H, W) uint8 train ids; crowds keep their class, void is VOID_TRAIN_ID.

    Raises:
        InputError: if a category is not in the taxonomy, or the map holds an id that no segment lists.
    """
    highest = max([int(panoptic.segment_ids.max(initial=0)), *(s.segment_id for s in panoptic.segments)])
    # 0 marks ids that nobody listed; of the pages of a large table only those that are used cost memory.
    table = np.zeros(highest + 1, dtype=np.uint16)
    table[0] = VOID_TRAIN_ID + 1
    for segment in panoptic.segments:
        table[segment.segment_id] = _train_id(segment, taxonomy) + 1
    found = look_up(table, panoptic.segment_ids)
    if not found.all():
        strangers = np.unique(panoptic.segment_ids[found == 0])[:5].tolist()
        raise InputError(f"segments {strangers} are in the panoptic map, but not in its list of segments; write both again")
    return (found - 1).astype(np.uint8)


def fill_void(semantic: np.ndarray, panoptic: PanopticMap, taxonomy: Taxonomy) -> np.ndarray:
    """(H, W) uint8 train ids -> the same with the classes of the panoptic map where they are VOID_TRAIN_ID.

    Raises:
        InputError: as panoptic_to_semantic.
    """
    return np.where(semantic == VOID_TRAIN_ID, panoptic_to_semantic(panoptic, taxonomy), semantic)


def panoptic_to_instances(
    panoptic: PanopticMap, taxonomy: Taxonomy, min_area: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The things of a map without its crowds.

    Args:
        min_area: smaller ones are left out, in pixels.

    Returns:
        masks (N, H, W) bool; train ids (N,) int64; boxes (N, 4) float32, (x1, y1, x2, y2) in pixels, end exclusive.

    Raises:
        InputError: if a category is not in the taxonomy.
    """
    things = [thing for thing in _things(panoptic, taxonomy) if thing.area >= min_area]
    masks = np.zeros((len(things), *panoptic.segment_ids.shape), dtype=bool)
    for mask, thing in zip(masks, things, strict=True):
        np.equal(panoptic.segment_ids, thing.segment_id, out=mask)
    boxes = [(x, y, x + width, y + height) for x, y, width, height in (thing.bbox for thing in things)]
    train_ids = np.array([_train_id(thing, taxonomy) for thing in things], dtype=np.int64)
    return masks, train_ids, np.array(boxes, dtype=np.float32).reshape(-1, 4)


def panoptic_to_instance_logits(
    panoptic: PanopticMap,
    taxonomy: Taxonomy,
    *,
    image_id: str,
    stride: int,
    producer: str,
    confidence: float = TRUTH_CONFIDENCE,
) -> InstanceLogits:
    """Truth as if an instance model had said it: every thing that is no crowd, score 1, INSTANCE_GAIN * cell_logits.

    A thing that fills no cell by more than half has no positive logit and is left out.

    Raises:
        InputError: if a category is not in the taxonomy.
    """
    things = _things(panoptic, taxonomy)
    return from_full_logits(
        (INSTANCE_GAIN * _thing_logits(panoptic.segment_ids, thing, stride, confidence) for thing in things),
        [_train_id(thing, taxonomy) for thing in things],
        [1.0] * len(things),
        image_id=image_id,
        size=panoptic.segment_ids.shape,
        stride=stride,
        taxonomy=taxonomy,
        producer=producer,
    )


def panoptic_to_annotations(panoptic: PanopticMap, taxonomy: Taxonomy) -> list[dict]:
    """The `annotations` of one image, crowds with `iscrowd` 1, without `id` and `image_id`; masks are compressed run lengths."""
    by_id = {s.segment_id: s for s in panoptic.segments if taxonomy.is_thing[taxonomy.dataset_id_to_train_id[s.category_id]]}
    runs = find_runs(panoptic.segment_ids)
    wanted = [k for k, segment_id in enumerate(runs.ids.tolist()) if segment_id in by_id]
    areas, boxes = runs.areas().tolist(), runs.boxes().astype(float).tolist()
    annotations = []
    for k, counts in zip(wanted, encode_masks(panoptic.segment_ids, runs, wanted), strict=True):
        segment = by_id[int(runs.ids[k])]
        annotation = {"category_id": segment.category_id, "iscrowd": int(segment.is_crowd), "area": areas[k], "bbox": boxes[k]}
        annotations.append(annotation | {"segmentation": {"size": list(runs.size), "counts": counts}})
    return annotations


def panoptic_to_scored_instances(panoptic: PanopticMap, taxonomy: Taxonomy, *, image_id: str, producer: str) -> InstanceLogits:
    """The things of a predicted map with their scores (1 where a segment has none), masks at stride 1, each pixel near certain.

    Raises:
        InputError: if a category is not in the taxonomy.
    """
    things = _things(panoptic, taxonomy)
    return from_full_logits(
        (mask_to_logits(panoptic.segment_ids == thing.segment_id) for thing in things),
        [_train_id(thing, taxonomy) for thing in things],
        [1.0 if thing.score is None else thing.score for thing in things],
        image_id=image_id,
        size=panoptic.segment_ids.shape,
        stride=1,
        taxonomy=taxonomy,
        producer=producer,
    )


def mask_to_logits(mask: np.ndarray, confidence: float = BINARY_CONFIDENCE) -> np.ndarray:
    """A binary mask as logits of one certainty, whatever its shape."""
    return np.where(mask, np.float32(confidence), np.float32(-confidence))


def panoptic_to_semantic_logits(
    panoptic: PanopticMap,
    taxonomy: Taxonomy,
    *,
    image_id: str,
    stride: int,
    producer: str,
    confidence: float = TRUTH_CONFIDENCE,
) -> SemanticLogits:
    """Truth as if a semantic model had said it: each class's logits as in cell_logits; where all is void, all are -confidence.

    Raises:
        InputError: as panoptic_to_semantic.
    """
    semantic = panoptic_to_semantic(panoptic, taxonomy)
    logits = semantic_to_logits(semantic, taxonomy, stride, confidence)
    return SemanticLogits(image_id, *semantic.shape, stride, taxonomy.name, producer, logits)


def semantic_to_logits(
    train_ids: np.ndarray, taxonomy: Taxonomy, stride: int, confidence: float = TRUTH_CONFIDENCE
) -> np.ndarray:
    """(H, W) train ids -> (C, ceil(H / stride), ceil(W / stride)) float32, as in cell_logits; of void all are -confidence."""
    logits = np.full((taxonomy.num_classes, *grid_size(*train_ids.shape, stride)), -confidence, dtype=np.float32)
    for train_id in np.unique(train_ids[train_ids != VOID_TRAIN_ID]):
        logits[train_id] = cell_logits(train_ids == train_id, stride, confidence)
    return logits


def cell_logits(mask: np.ndarray, stride: int, confidence: float) -> np.ndarray:
    """The share of each cell that a mask covers, as a logit clipped to +-confidence.

    Bilinear upsampling puts the edge of a half-covered cell, whose logit is 0, into its middle, where it belongs. Between a
    full cell and one that is covered by a quarter it errs by 0.1 pixel at stride 4 and confidence 3, by 0.6 at 10.

    Args:
        mask: (H, W) bool.

    Returns:
        (ceil(H / stride), ceil(W / stride)) float32. The share of a cell at the edge is of the pixels that exist.
    """
    height, width = mask.shape
    rows, columns = np.arange(0, height, stride), np.arange(0, width, stride)
    covered = np.add.reduceat(np.add.reduceat(mask, rows, axis=0, dtype=np.int32), columns, axis=1)
    existing = np.outer(np.minimum(stride, height - rows), np.minimum(stride, width - columns))
    lowest = 1 / (1 + np.exp(confidence))
    share = (covered / existing).clip(lowest, 1 - lowest)
    return np.log(share / (1 - share)).astype(np.float32)


def _things(panoptic: PanopticMap, taxonomy: Taxonomy) -> list[Segment]:
    return [s for s in panoptic.segments if taxonomy.is_thing[_train_id(s, taxonomy)] and not s.is_crowd]


def _train_id(segment: Segment, taxonomy: Taxonomy) -> int:
    train_id = taxonomy.dataset_id_to_train_id.get(segment.category_id)
    if train_id is None:
        stranger, known = f"category {segment.category_id}", taxonomy.dataset_ids.tolist()
        raise InputError(f"segment {segment.segment_id}: {stranger} is not in {taxonomy.name}, which has {known}")
    return train_id


def _thing_logits(segment_ids: np.ndarray, thing: Segment, stride: int, confidence: float) -> np.ndarray:
    """Full-frame logits of one thing; only the cells that its box touches are counted."""
    x, y, width, height = thing.bbox
    top, left = y // stride, x // stride
    bottom, right = grid_size(y + height, x + width, stride)
    logits = np.full(grid_size(*segment_ids.shape, stride), -confidence, dtype=np.float32)
    box = segment_ids[top * stride : bottom * stride, left * stride : right * stride]
    logits[top:bottom, left:right] = cell_logits(box == thing.segment_id, stride, confidence)
    return logits
