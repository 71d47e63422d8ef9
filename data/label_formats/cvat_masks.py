"""CVAT's export "Segmentation mask 1.1", Pascal VOC's form: two PNGs an image whose colours are classes and objects.

Black, and a class named background, are unlabelled. CVAT itself has already drawn the shapes over each other.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from data.label_formats.labels import LabelClass, LabelledImage, LabelMap, LabelSet, MapEntry
from data.label_formats.source_files import (
    find_image,
    image_name,
    image_size,
    pack_channels,
    path_inside,
    read_color_png,
    read_lines,
    split_name,
)
from runtime.files import InputError, digest_of, file_digest, shorten

NAME = "cvat-masks"
FORM = "labelmap.txt, ImageSets/Segmentation/, SegmentationClass/, SegmentationObject/ and the images (JPEGImages/)"
SOURCE = "https://docs.cvat.ai/docs/dataset_management/formats/format-smask"
LINE = re.compile(r"(?P<name>.*?):(?P<r>\d{1,3}),(?P<g>\d{1,3}),(?P<b>\d{1,3}):[^:]*:[^:]*", re.ASCII)
BACKGROUND = "background"


def read(source: Path) -> LabelSet:
    """See labels.py.

    Raises:
        InputError: if a folder or file is missing or broken.
    """
    classes = _read_labelmap(source / "labelmap.txt")
    lists = sorted((source / "ImageSets" / "Segmentation").glob("*.txt"))
    if not lists:
        raise InputError(f"{source / 'ImageSets' / 'Segmentation'}: no lists of images there; {NAME} needs {FORM}")
    by_color = {pack_channels(np.array([[c.color]], np.uint8)).item(): c.name for c in classes}
    images = []
    for path in lists:
        for name in read_lines(path, f"{NAME} needs {FORM}"):
            image = find_image(source, [name], [source / "JPEGImages", source / "images", source], path)
            top = next(f for f in (source / "JPEGImages", source / "images", source) if image.is_relative_to(f))
            pngs = [path_inside(source, f"{name}.png", source / f, path) for f in ("SegmentationClass", "SegmentationObject")]
            for png in pngs:
                if not png.is_file():
                    raise InputError(f"{png}: no such file, but {path} lists it; export again with class and object masks")
            size = image_size(image, None, path)
            layers = partial(_layers, pngs, image, by_color)
            digest = partial(_digest, pngs, by_color)
            images.append(LabelledImage(image_name(top, image), image, size, digest, layers, split_name(path.stem)))
    return LabelSet(classes, images)


def _read_labelmap(path: Path) -> list[LabelClass]:
    classes: dict[tuple[int, int, int], LabelClass] = {}
    for number, line in enumerate(read_lines(path, f"{NAME} needs {FORM}"), 1):
        if line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        color = tuple(int(match[part]) for part in "rgb") if match else ()
        if not match or max(color) > 255:
            raise InputError(
                f"{path}: line {number} is {shorten(repr(line), 60)}, but `label:r,g,b:parts:actions` was needed; export it again"
            )
        if color in classes:
            raise InputError(
                f"{path}: line {number} gives {match['name']} the colour of {classes[color].name}; give each its own"
            )
        is_void = match["name"].lower() == BACKGROUND or not any(color)
        classes[color] = LabelClass(match["name"], is_void=is_void, color=color)
    return list(classes.values())


def _digest(pngs: list[Path], by_color: Mapping[int, str]) -> str:
    return digest_of([file_digest(png) for png in pngs], sorted(by_color.items()))


def _layers(pngs: list[Path], image: Path, by_color: Mapping[int, str]) -> Iterator[LabelMap]:
    of_class, of_object = (pack_channels(read_color_png(png, image)).astype(np.int64) for png in pngs)
    yield LabelMap(of_class << 24 | of_object, partial(_entry, by_color, pngs[0]))


def _entry(by_color: Mapping[int, str], png: Path, value: int) -> MapEntry | None:
    color, instance = value >> 24, value & 0xFFFFFF
    if color in by_color:
        return MapEntry(by_color[color], instance or None)
    if color == 0:
        return None
    red, green, blue = color >> 16, color >> 8 & 255, color & 255
    raise InputError(f"{png}: holds the colour {red},{green},{blue}, which labelmap.txt does not list; export both together")
