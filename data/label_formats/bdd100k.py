"""BDD100K's bitmasks of panoptic and of instance segmentation: RGBA, red the class, green four flags, blue and alpha the object.

The flags are truncated 8, occluded 4, crowd 2, ignore 1; what is to be ignored is unlabelled.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from data.label_formats.labels import LabelClass, LabelledImage, LabelMap, LabelSet, MapEntry
from data.label_formats.source_files import (
    find_image,
    image_name,
    image_size,
    pack_channels,
    read_color_png,
    split_folders,
    unpack,
)
from runtime.files import InputError, digest_of, file_digest, walk_files

NAME = "bdd100k"
FORM = "images/10k/SPLIT/*.jpg and labels/pan_seg/bitmasks/SPLIT/*.png (or labels/ins_seg/)"
SOURCE = "https://github.com/bdd100k/bdd100k/blob/9ac17c6c7c51d2fc83065fccd707cd5b1882a293/doc/source/format.rst"
IGNORED, CROWD = 1, 2
LISTED_STUFF = (
    "dynamic, ego vehicle, ground, static, parking, rail track, road, sidewalk, bridge, building, fence, garage, guard rail, "
    "tunnel, wall, banner, billboard, lane divider, parking sign, pole, polegroup, street light, traffic cone, "
    "traffic device, traffic light, traffic sign, traffic sign frame, terrain, vegetation, sky"
)
STUFF = tuple(LISTED_STUFF.split(", "))
THINGS = ("person", "rider", "bicycle", "bus", "car", "caravan", "motorcycle", "trailer", "train", "truck")
INSTANCES = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
TASKS = {
    "pan_seg": [LabelClass(name, name in THINGS, dataset_id=k) for k, name in enumerate(STUFF + THINGS, 1)],
    "ins_seg": [LabelClass(name, True, dataset_id=k) for k, name in enumerate(INSTANCES, 1)],
}
"""Folder of labels -> its classes, numbered from 1; panoptic segmentation goes first."""


def read(source: Path) -> LabelSet:
    """See labels.py.

    Raises:
        InputError: if a folder or file is missing or broken.
    """
    task = next((task for task in TASKS if (source / "labels" / task / "bitmasks").is_dir()), None)
    if task is None:
        raise InputError(f"{source}: no labels/pan_seg/bitmasks/ and no labels/ins_seg/bitmasks/ there; {NAME} needs {FORM}")
    classes, masks, images = TASKS[task], source / "labels" / task / "bitmasks", []
    for raw_split, split in split_folders(masks, f"{NAME} needs {FORM}").items():
        folders = [source / "images" / "10k" / raw_split, source / "images" / "100k" / raw_split, source / "images" / raw_split]
        for name in walk_files(masks / raw_split, (".png",)):
            png = masks / raw_split / name
            image = find_image(source, [name.removesuffix(".png")], folders, png)
            top = next(folder for folder in folders if image.is_relative_to(folder))
            layers = partial(_layers, png, image, classes)
            digest = partial(_digest, png, task)
            size = image_size(image, None, png)
            images.append(LabelledImage(image_name(top, image), image, size, digest, layers, split))
    return LabelSet(classes, images)


def _digest(png: Path, task: str) -> str:
    return digest_of(file_digest(png), task)


def _layers(png: Path, image: Path, classes: Sequence[LabelClass]) -> Iterator[LabelMap]:
    yield LabelMap(pack_channels(read_color_png(png, image, 4)), partial(_entry, png, classes))


def _entry(png: Path, classes: Sequence[LabelClass], value: int) -> MapEntry | None:
    number, flags, high, low = unpack(value, 4)
    if number > len(classes):
        raise InputError(f"{png}: holds class {number}, but there are 0 to {len(classes)}; copy the masks of one task")
    if number == 0 or flags & IGNORED:
        return None
    return MapEntry(classes[number - 1].name, 256 * high + low or None, bool(flags & CROWD))
