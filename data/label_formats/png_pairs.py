"""Plain pairs of PNGs: classes/ with class numbers, and, where objects are told apart, instances/ with object numbers.

Both have one channel of 8 or 16 bits, or a palette whose numbers count, and the names of the images in images/, which may lie in
folders train/ and val/. classes.txt has a line `NUMBER NAME` a class; 0 and 255 are unlabelled unless it lists them. An object
number is unique within its class; a thing's pixels with number 0 are part of a group that nobody told apart.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from data.images import IMAGE_SUFFIXES
from data.label_formats.labels import LabelClass, LabelledImage, LabelMap, LabelSet, MapEntry
from data.label_formats.source_files import Tally, image_size, read_grey_png, read_lines, split_name
from runtime.files import InputError, digest_of, file_digest, shorten, walk_files

NAME = "png-pairs"
FORM = "classes.txt (lines `NUMBER NAME`), images/, classes/NAME.png and instances/NAME.png"
SOURCE = "docs/labels.md of this repository"
UNLABELLED = (0, 255)
STEP = 2**16


def read(source: Path) -> LabelSet:
    """See labels.py.

    Raises:
        InputError: if a folder or file is missing or broken.
    """
    names = _read_names(source / "classes.txt")
    if not (source / "images").is_dir() or not (source / "classes").is_dir():
        raise InputError(f"{source}: no images/ or no classes/ there; {NAME} needs {FORM}")
    images, left_out = [], Tally()
    for name in walk_files(source / "images", IMAGE_SUFFIXES):
        image, png = source / "images" / name, PurePosixPath(name).with_suffix(".png")
        of_class, of_object = source / "classes" / png, source / "instances" / png
        if not of_class.is_file():
            left_out["images without labels"] += 1
            continue
        first, *rest = name.split("/")
        split = split_name(first) if rest else None
        split = split if split in ("train", "val", "test") else None
        objects = of_object if of_object.is_file() else None
        layers = partial(_layers, of_class, objects, image, names)
        digest = partial(_digest, of_class, objects, names)
        new_name = "/".join(rest) if split else name
        images.append(LabelledImage(new_name, image, image_size(image, None, of_class), digest, layers, split))
    if not images:
        raise InputError(f"{source / 'classes'}: no PNG there is named as an image of images/; {NAME} needs {FORM}")
    return LabelSet([LabelClass(name, dataset_id=k) for k, name in names.items()], images, left_out.without_zeros())


def _read_names(path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for position, line in enumerate(read_lines(path, f"{NAME} needs {FORM}"), 1):
        number, _, name = line.partition(" ")
        if not (number.isascii() and number.isdecimal()) or len(number) > 5 or not name.strip():
            raise InputError(f"{path}: line {position} is {shorten(repr(line), 60)}, but `NUMBER NAME` was needed; correct it")
        if int(number) in names or name.strip() in names.values():
            raise InputError(f"{path}: line {position} has a number or a name of another line; give each class its own")
        names[int(number)] = name.strip()
    return names


def _digest(of_class: Path, of_object: Path | None, names: Mapping[int, str]) -> str:
    return digest_of(file_digest(of_class), of_object and file_digest(of_object), names)


def _layers(of_class: Path, of_object: Path | None, image: Path, names: Mapping[int, str]) -> Iterator[LabelMap]:
    ids = read_grey_png(of_class, image).astype(np.int64) * STEP
    if of_object is not None:
        ids += read_grey_png(of_object, image)
    yield LabelMap(ids, partial(_entry, names, of_class))


def _entry(names: Mapping[int, str], png: Path, value: int) -> MapEntry | None:
    number, instance = divmod(value, STEP)
    if number in names:
        return MapEntry(names[number], instance or None)
    if number in UNLABELLED:
        return None
    raise InputError(f"{png}: holds class {number}, which classes.txt does not list; add it there")
