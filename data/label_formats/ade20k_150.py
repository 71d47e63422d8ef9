"""The 150 classes of ADE20K of the scene parsing challenges (ADEChallengeData2016), with the instance masks of 2017.

annotations/ has a class in each pixel, annotations_instance/ an object: red its class, green its number. That red counts 100
classes of its own, which are the things; ade20k_instance_catid_mapping.txt ties them to the 150. A thing's pixels in the class
map that no object covers are unlabelled.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from data.images import IMAGE_SUFFIXES
from data.label_formats.labels import LabelClass, LabelledImage, LabelMap, LabelSet, MapEntry
from data.label_formats.source_files import (
    Tally,
    image_size,
    pack_channels,
    read_color_png,
    read_grey_png,
    read_lines,
    split_folders,
    unpack,
)
from runtime.files import InputError, digest_of, file_digest, shorten, walk_files

NAME = "ade20k-150"
FORM = (
    "images/, annotations/ and annotations_instance/ with training/ and validation/, objectInfo150.txt, and "
    "ade20k_instance_catid_mapping.txt of github.com/CSAILVision/ADE20K (utils/)"
)
SOURCE = (
    "https://github.com/CSAILVision/sceneparsing, https://github.com/CSAILVision/placeschallenge (instancesegmentation) and "
    "https://github.com/CSAILVision/ADE20K/blob/df5ee67bfe143f3e0cbd5d3929aeeb817a256cbc/utils/ade20k_instance_catid_mapping.txt"
)
CLASS_LINE = re.compile(r"(\d{1,4})\t.*\t([^\t]+)", re.ASCII)
"""Of objectInfo150.txt: number, three counts, name."""
MAPPING_LINE = re.compile(r"(\d{1,4})\t+(\d{1,4})\t+\d+", re.ASCII)
"""Number of the instance masks, number of the 150, number of the full data set."""


def read(source: Path) -> LabelSet:
    """See labels.py. Things are the classes that have instance masks.

    Raises:
        InputError: if a folder or file is missing or broken.
    """
    names = {int(k): name for k, name in _read_table(source / "objectInfo150.txt", CLASS_LINE)}
    things = {int(k): int(of_150) for k, of_150 in _read_table(source / "ade20k_instance_catid_mapping.txt", MAPPING_LINE)}
    strangers = sorted(set(things.values()) - set(names))
    if strangers:
        raise InputError(
            f"{source}: the mapping names class {strangers[0]}, which objectInfo150.txt does not list; copy both again"
        )
    images, left_out = [], Tally()
    for raw_split, split in split_folders(source / "images", f"{NAME} needs {FORM}").items():
        folder = source / "images" / raw_split
        for name in walk_files(folder, IMAGE_SUFFIXES):
            png = PurePosixPath(name).with_suffix(".png")
            of_class, of_object = (source / kind / raw_split / png for kind in ("annotations", "annotations_instance"))
            if not of_class.is_file():
                left_out["images without labels"] += 1
                continue
            if not of_object.is_file():
                raise InputError(f"{of_object}: no such file, but {of_class} is there; unpack annotations_instance.tar, too")
            layers = partial(_layers, of_class, of_object, folder / name, names, things)
            digest = partial(_digest, of_class, of_object, names, things)
            size = image_size(folder / name, None, of_class)
            images.append(LabelledImage(name, folder / name, size, digest, layers, split))
    classes = [LabelClass(name, k in things.values(), dataset_id=k) for k, name in names.items()]
    return LabelSet(classes, images, left_out.without_zeros())


def _read_table(path: Path, form: re.Pattern) -> Iterator[tuple[str, ...]]:
    """What a pattern finds in each line after the heading."""
    for number, line in enumerate(read_lines(path, f"{NAME} needs {FORM}")[1:], 2):
        match = form.fullmatch(line)
        if not match:
            raise InputError(f"{path}: line {number} is {shorten(repr(line), 60)}, which is of another form; copy it again")
        yield match.groups()


def _digest(of_class: Path, of_object: Path, names: Mapping[int, str], things: Mapping[int, int]) -> str:
    return digest_of(file_digest(of_class), file_digest(of_object), names, things)


def _layers(
    of_class: Path, of_object: Path, image: Path, names: Mapping[int, str], things: Mapping[int, int]
) -> Iterator[LabelMap]:
    yield LabelMap(read_grey_png(of_class, image), partial(_class_entry, names, of_class), has_objects=False)
    objects = pack_channels(read_color_png(of_object, image)[..., :2])
    yield LabelMap(objects, partial(_object_entry, names, things, of_object))


def _class_entry(names: Mapping[int, str], png: Path, value: int) -> MapEntry | None:
    if value in names:
        return MapEntry(names[value])
    if value == 0:
        return None
    raise InputError(f"{png}: holds class {value}, which objectInfo150.txt does not list; copy both again")


def _object_entry(names: Mapping[int, str], things: Mapping[int, int], png: Path, value: int) -> MapEntry | None:
    number, instance = unpack(value, 2)
    if number == 0:
        return None
    if number not in things:
        raise InputError(f"{png}: holds instance class {number}, which the mapping does not list; copy both again")
    return MapEntry(names[things[number]], instance)
