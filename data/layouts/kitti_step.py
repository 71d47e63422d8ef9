"""Truth of KITTI-STEP and MOTChallenge-STEP: panoptic_maps/SPLIT/SEQUENCE/FRAME.png, 8-bit RGB: R class, G * 256 + B instance.

The form is that of google-research/deeplab2, g3doc/setup/kitti_step.md and data/build_step_data.py at 64bc1c1: classes are
Cityscapes' 19 train ids, 255 is void, and only persons and cars have instances, whose numbers stay through a sequence.
Instance 0 of a person or a car is a crowd, as evaluation/numpy/segmentation_and_tracking_quality.py there takes it.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.images import open_image
from data.panoptic_png import PanopticMap, describe_segments
from data.png_file import read_depths
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID, Taxonomy
from runtime.files import InputError, first_few, is_hidden, walk_files

FOLDER = "panoptic_maps"
WITH_TRACKS = ("person", "car")
KITTI_STEP = Taxonomy("kitti_step", tuple(replace(c, is_thing=c.name in WITH_TRACKS) for c in CITYSCAPES.categories))
"""Cityscapes' classes and ids, with persons and cars as the only things. Predictions of Cityscapes models have other things, too:
prediction.tracking.Tracker of this taxonomy joins these to stuff."""
MOTCHALLENGE_STEP = Taxonomy(
    "motchallenge_step",
    tuple(
        replace(c, is_thing=c.name == "person")
        for c in CITYSCAPES.categories
        if c.name in ("sidewalk", "building", "vegetation", "sky", "person", "rider", "bicycle")
    ),
)
"""The 7 classes of MOTChallenge-STEP in its order (g3doc/setup/motchallenge_step.md), with Cityscapes' ids."""
TRACKS_OF_CLASS = 2**16
"""A segment id is (train id + 1) * 65536 + instance: instances have 16 bits."""


def find_sequences(root: Path, split: str) -> dict[str, list[Path]]:
    """The sequences of a split by name, each with the PNGs of its frames in order of time.

    Raises:
        InputError: if the folder is missing, holds no PNG, or a frame's name is no number.
    """
    folder = Path(root) / FOLDER / split
    names = [name for name in walk_files(folder, (".png",)) if not is_hidden(name)] if folder.is_dir() else []
    if not names:
        needed = f"KITTI-STEP has {FOLDER}/{split}/0000/000000.png"
        raise InputError(f"{folder}: no PNGs there, but {needed}; give the folder that holds {FOLDER}/")
    sequences: dict[str, list[Path]] = {}
    for name in names:
        path = folder / name
        if not path.stem.isdecimal():
            raise InputError(f"{path}: the frames of a sequence are named by numbers, such as 000000.png; rename or remove it")
        sequences.setdefault(path.parent.relative_to(folder).as_posix(), []).append(path)
    return {name: sorted(paths, key=lambda path: int(path.stem)) for name, paths in sorted(sequences.items())}


def read_frame(path: Path, taxonomy: Taxonomy = KITTI_STEP) -> PanopticMap:
    """One frame; segment ids of things are tracks, and unique to their class.

    Args:
        taxonomy: its train ids are the file's classes. An object of a class that is stuff there is part of the stuff.

    Raises:
        InputError: if the file is missing, broken, no 8-bit RGB PNG, or holds a class outside of the taxonomy.
    """
    train_ids, instances = _read(path)
    strange = np.unique(train_ids[(train_ids >= taxonomy.num_classes) & (train_ids != VOID_TRAIN_ID)])
    if strange.size:
        known = f"{taxonomy.name} has 0 to {taxonomy.num_classes - 1} and {VOID_TRAIN_ID}"
        raise InputError(f"{path}: holds class {first_few(strange.tolist())}, but {known}; give the PNG of panoptic_maps/")
    is_thing = np.zeros(VOID_TRAIN_ID + 1, bool)
    is_thing[: taxonomy.num_classes] = taxonomy.is_thing
    segment_ids = (train_ids + np.uint32(1)) * np.uint32(TRACKS_OF_CLASS) + np.where(is_thing[train_ids], instances, 0)
    segment_ids[train_ids == VOID_TRAIN_ID] = 0

    def train_id_of(segment_id: int) -> int:
        return segment_id // TRACKS_OF_CLASS - 1

    segments = describe_segments(
        segment_ids,
        category_of=lambda k: int(taxonomy.dataset_ids[train_id_of(k)]),
        is_crowd=lambda k: k % TRACKS_OF_CLASS == 0 and bool(taxonomy.is_thing[train_id_of(k)]),
    )
    return PanopticMap(segment_ids, segments)


def read_sequences(
    root: Path, split: str, taxonomy: Taxonomy = KITTI_STEP
) -> Iterator[tuple[str, Iterator[tuple[str, PanopticMap]]]]:
    """(sequence, frames) of a split; frames are (frame name, such as `0002/000000`, map), read one at a time.

    Raises:
        InputError: as find_sequences, at once; as read_frame, when the frame is asked for.
    """
    for sequence, paths in find_sequences(root, split).items():
        yield sequence, ((f"{sequence}/{path.stem}", read_frame(path, taxonomy)) for path in paths)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """((H, W) uint32 train ids, (H, W) uint32 instances)."""
    with open_image(path) as image:
        depths = read_depths(path) if image.format == "PNG" else []
        if image.format != "PNG" or image.mode != "RGB" or depths != [8]:
            found = f"a {image.format} of mode {image.mode}"
            raise InputError(f"{path}: is {found}, but 8-bit RGB PNG was needed; give the file of {FOLDER}/")
        pixels = np.asarray(image).astype(np.uint32)
    return pixels[..., 0], pixels[..., 1] * np.uint32(256) + pixels[..., 2]
