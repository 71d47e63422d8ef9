"""Predictions in the form of Cityscapes' own labels, which its tools take as they take the truth.

The official createPanopticImgs makes panoptic PNG + JSON of the gtFine_instanceIds.png, and its evaluators read those and the
gtFine_labelIds.png.
"""

from pathlib import Path

import numpy as np

from data.images import is_made_by, write_image
from data.layouts.cityscapes import LABEL_SUFFIX, CityscapesSplit
from data.panoptic_conversions import PixelValues
from data.panoptic_png import PanopticMap
from data.taxonomy import CITYSCAPES, MAX_INSTANCES_PER_IMAGE
from prediction.run import Run
from runtime.files import InputError, file_digest, remove_partial_files

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
        numbers = (1, MAX_INSTANCES_PER_IMAGE) if CITYSCAPES.is_thing[train_id] else (0, 0)
        first, last = (CITYSCAPES.segment_id(train_id, k) for k in numbers)
        if not first <= segment.segment_id <= last:
            needed = f"a {CITYSCAPES.categories[train_id].name} has {first} to {last}"
            raise InputError(f"segment id {segment.segment_id} of category {segment.category_id}, but {needed}; number it so")
    return panoptic.segment_ids.astype(np.uint16)


def to_label_ids(semantic_train_ids: np.ndarray) -> np.ndarray:
    """(H, W) uint8 train ids, VOID_TRAIN_ID for void -> (H, W) uint8 label ids, UNLABELED for void."""
    return PixelValues.of(CITYSCAPES).encode(semantic_train_ids)


def instance_ids_path(output: Path, split: CityscapesSplit, index: int) -> Path:
    """Where the instance ids of an image are written: <output>/gtFine/<split>/<city>, as the official tools search it."""
    city = split.image_path(index).parent.name
    return Path(output) / "gtFine" / split.split / city / f"{split.image_id(index)}{LABEL_SUFFIX}"


def label_ids_path(output: Path, split: CityscapesSplit, index: int) -> Path:
    """Where the classes of all pixels of an image are written."""
    path = instance_ids_path(output, split, index)
    return path.with_name(path.name.replace("instanceIds", "labelIds"))


def write_split(run: Run, split: CityscapesSplit) -> int:
    """Write both PNGs of each image of a run that has kept panoptic maps and semantics; those that are there are left.

    Returns:
        How many PNGs belong to the split.

    Raises:
        InputError: as to_instance_ids.
    """
    for index in range(len(split)):
        image_id = split.image_id(index)
        producer = file_digest(run.png(image_id))
        paths = instance_ids_path(run.folder, split, index), label_ids_path(run.folder, split, index)
        if all(is_made_by(path, producer) for path in paths):
            continue
        remove_partial_files(paths[0].parent)
        panoptic, semantic = run.panoptic(image_id), run.semantic(image_id)
        write_image(paths[0], to_instance_ids(panoptic), producer)
        write_image(paths[1], to_label_ids(semantic.train_ids), producer)
    return 2 * len(split)
