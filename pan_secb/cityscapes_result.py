"""Predictions in the form of Cityscapes' own labels, which its tools take as they take the truth.

The official createPanopticImgs makes panoptic PNG + JSON of the gtFine_instanceIds.png, and its evaluators read those and the
gtFine_labelIds.png.
"""

from pathlib import Path

import numpy as np

from data.images import write_image
from data.layouts.cityscapes import LABEL_SUFFIX, Frame
from data.panoptic_png import PanopticMap
from data.taxonomy import CITYSCAPES, MAX_INSTANCES_PER_IMAGE, VOID_TRAIN_ID
from runtime.files import InputError

UNLABELED = 0
"""The label id of what is not scored; the official tools leave it out, so that it is void."""


def to_instance_ids(panoptic: PanopticMap) -> np.ndarray:
    """(H, W) uint16: label id * 1000 + k for things, the plain label id for stuff, UNLABELED for void.

    A thing never gets its plain label id, since that would say that it is a group.

    Raises:
        InputError: if a category is not of Cityscapes, or a segment id does not say its category.
    """
    for segment in panoptic.segments:
        train_id = CITYSCAPES.dataset_id_to_train_id.get(segment.category_id)
        if train_id is None:
            known = CITYSCAPES.dataset_ids.tolist()
            raise InputError(f"category id {segment.category_id} is not of Cityscapes, whose ids are {known}; give a map of it")
        first, last = (CITYSCAPES.segment_id(train_id, k) for k in (0, 0))
        if CITYSCAPES.is_thing[train_id]:
            first, last = (CITYSCAPES.segment_id(train_id, k) for k in (1, MAX_INSTANCES_PER_IMAGE))
        if not first <= segment.segment_id <= last:
            needed = f"a {CITYSCAPES.categories[train_id].name} has {first} to {last}"
            raise InputError(f"segment id {segment.segment_id} of category {segment.category_id}, but {needed}; number it so")
    return panoptic.segment_ids.astype(np.uint16)


def to_label_ids(semantic_train_ids: np.ndarray) -> np.ndarray:
    """(H, W) uint8 train ids, VOID_TRAIN_ID for void -> (H, W) uint8 label ids, UNLABELED for void."""
    return _label_ids()[semantic_train_ids]


def to_train_ids(label_ids: np.ndarray) -> np.ndarray:
    """The reverse of to_label_ids; what is not scored becomes VOID_TRAIN_ID."""
    table = np.full(256, VOID_TRAIN_ID, dtype=np.uint8)
    table[CITYSCAPES.dataset_ids] = np.arange(CITYSCAPES.num_classes)
    return table[label_ids]


def _label_ids() -> np.ndarray:
    table = np.full(256, UNLABELED, dtype=np.uint8)
    table[: CITYSCAPES.num_classes] = CITYSCAPES.dataset_ids
    return table


def label_folder(output: Path, split: str, frame: Frame) -> Path:
    """<output>/gtFine/<split>/<city>, as the official tools search it."""
    return Path(output) / "gtFine" / split / frame.image_path.parent.name


def instance_ids_path(output: Path, split: str, frame: Frame) -> Path:
    """Where the instance ids of a frame are written."""
    return label_folder(output, split, frame) / f"{frame.image_id}{LABEL_SUFFIX}"


def label_ids_path(output: Path, split: str, frame: Frame) -> Path:
    """Where the classes of all pixels of a frame are written."""
    return label_folder(output, split, frame) / f"{frame.image_id}{LABEL_SUFFIX.replace('instanceIds', 'labelIds')}"


def write_labels(output: Path, split: str, frame: Frame, panoptic: PanopticMap, semantic_train_ids: np.ndarray) -> None:
    """Write both PNGs of a frame, each atomically.

    Args:
        semantic_train_ids: (H, W) uint8, of all pixels, whether an object was found there or not.

    Raises:
        InputError: as to_instance_ids.
    """
    write_image(instance_ids_path(output, split, frame), to_instance_ids(panoptic))
    write_image(label_ids_path(output, split, frame), to_label_ids(semantic_train_ids))
