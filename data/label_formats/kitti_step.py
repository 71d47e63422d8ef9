"""KITTI-STEP: images/SPLIT/SEQUENCE/FRAME.png and panoptic_maps/ of the same names: red the class, green and blue the object.

The classes are Cityscapes' 19, of which only persons and cars have objects: what else is countable there is stuff.
A person or car with object 0 is part of a group that nobody told apart.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from data.images import IMAGE_SUFFIXES
from data.label_formats.labels import LabelClass, LabelledImage, LabelMap, LabelSet, MapEntry
from data.label_formats.source_files import Tally, image_size, pack_channels, read_color_png, split_folders, unpack
from data.taxonomy import CITYSCAPES
from runtime.files import InputError, file_digest, walk_files

NAME = "kitti-step"
FORM = "images/SPLIT/SEQUENCE/FRAME.png and panoptic_maps/SPLIT/SEQUENCE/FRAME.png"
SOURCE = "https://github.com/google-research/deeplab2/blob/64bc1c1a6505b6cd1779b65f9127180840b8a4fa/g3doc/setup/kitti_step.md"
WITH_OBJECTS = ("person", "car")
VOID = 255
CLASSES = tuple(
    LabelClass(c.name, c.name in WITH_OBJECTS, dataset_id=train_id, color=c.color)
    for train_id, c in enumerate(CITYSCAPES.categories)
)


def read(source: Path) -> LabelSet:
    """See labels.py.

    Raises:
        InputError: if a folder or file is missing or broken.
    """
    images, left_out = [], Tally()
    for raw_split, split in split_folders(source / "images", f"{NAME} needs {FORM}").items():
        folder, labels = source / "images" / raw_split, source / "panoptic_maps" / raw_split
        names = walk_files(folder, IMAGE_SUFFIXES)
        if not labels.is_dir():
            left_out[f"images of {raw_split} without labels"] += len(names)
            continue
        for name in names:
            png = (labels / name).with_suffix(".png")
            if not png.is_file():
                raise InputError(f"{png}: no such file, but {folder / name} is an image; copy its label there")
            image = folder / name
            size, layers = image_size(image, None, png), partial(_layers, png, image)
            sequence = PurePosixPath(name).parent.as_posix()
            images.append(LabelledImage(name, image, size, partial(file_digest, png), layers, split, sequence))
    return LabelSet(CLASSES, images, left_out.without_zeros())


def _layers(png: Path, image: Path) -> Iterator[LabelMap]:
    yield LabelMap(pack_channels(read_color_png(png, image)), partial(_entry, png))


def _entry(png: Path, value: int) -> MapEntry | None:
    train_id, high, low = unpack(value, 3)
    if train_id == VOID:
        return None
    if train_id >= len(CLASSES):
        raise InputError(f"{png}: holds class {train_id}, but KITTI-STEP has 0 to {len(CLASSES) - 1} and {VOID}; copy it again")
    return MapEntry(CLASSES[train_id].name, 256 * high + low or None)
