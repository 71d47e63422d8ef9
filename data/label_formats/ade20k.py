"""The full ADE20K of 2021: IMAGE.jpg with IMAGE_seg.png, whose colours are classes and objects, and IMAGE.json, which names them.

A class is red / 10 * 256 + green, rounded down, and an object the value of blue. Parts of objects are left out.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from data.coco_json import is_whole
from data.label_formats.labels import LabelClass, LabelledImage, LabelMap, LabelSet, MapEntry
from data.label_formats.source_files import image_name, image_size, need, read_color_png, split_folders
from runtime.files import InputError, digest_of, file_digest, parse_json, shorten, walk_files

NAME = "ade20k"
FORM = "training/ and validation/ (as in ADE20K_2021_17_01/images/ADE) with IMAGE.jpg, IMAGE_seg.png and IMAGE.json"
SOURCE = "https://github.com/CSAILVision/ADE20K/blob/df5ee67bfe143f3e0cbd5d3929aeeb817a256cbc/utils/utils_ade20k.py"
SEGMENTATION = "_seg.png"


def read(source: Path) -> LabelSet:
    """See labels.py. The data do not say what is thing and what is stuff, and name more classes than a data set here can have.

    Raises:
        InputError: if a folder or file is missing or broken.
    """
    found: dict[int, str] = {}
    names: dict[int, str] = {}  # filled when all are known
    images = []
    root = next((source / below for below in ("images/ADE", "ADE") if (source / below).is_dir()), source)
    for raw_split, split in split_folders(root, f"{NAME} needs {FORM}").items():
        for name in walk_files(root / raw_split, (".png",)):
            if not name.endswith(SEGMENTATION):
                continue
            png = root / raw_split / name
            image, path = (Path(str(png).removesuffix(SEGMENTATION) + suffix) for suffix in (".jpg", ".json"))
            if not image.is_file():
                raise InputError(f"{image}: no such file, but {png} is its label; copy the image there")
            annotation = need(_read_json(path), "annotation", dict, path)
            _add_names(found, annotation, path)
            said = annotation.get("imsize")
            size = image_size(image, tuple(said[:2]) if isinstance(said, list) and len(said) >= 2 else None, path)
            layers, digest = partial(_layers, png, image, names), partial(_digest, png, path)
            new_name = image_name(root / raw_split, image)
            images.append(LabelledImage(new_name, image, size, digest, layers, split))
    if not images:
        raise InputError(f"{source}: no IMAGE{SEGMENTATION} there; {NAME} needs {FORM}")
    counts = Counter(found.values())
    names |= {k: name if counts[name] == 1 else f"{name} ({k})" for k, name in sorted(found.items())}
    return LabelSet([LabelClass(name, dataset_id=k) for k, name in names.items()], images)


def _read_json(path: Path) -> object:
    """A JSON; some of ADE20K's are no UTF-8."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, but it names the classes of its image; copy it there") from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    try:
        return parse_json(text)
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({shorten(error)}); copy it again") from None


def _add_names(names: dict[int, str], annotation: dict, path: Path) -> None:
    """The classes of the objects of one image that are no parts of others."""
    for k, entry in enumerate(need(annotation, "object", list, path)):
        place = f"{path}: object {k}"
        number, name = need(entry, "name_ndx", int, place), need(entry, "name", str, place)
        if not is_whole(need(need(entry, "parts", dict, place), "part_level", int, place)) or entry["parts"]["part_level"]:
            continue
        if names.setdefault(number, name) != name:
            found = f"class {number} is {shorten(name, 40)}, but {shorten(names[number], 40)} in another"
            raise InputError(f"{path}: {found}; copy one version of ADE20K")


def _digest(png: Path, path: Path) -> str:
    return digest_of(file_digest(png), file_digest(path))


def _layers(png: Path, image: Path, names: Mapping[int, str]) -> Iterator[LabelMap]:
    red, green, blue = (c.astype(np.int64) for c in np.moveaxis(read_color_png(png, image), -1, 0))
    yield LabelMap((red // 10 * 256 + green) << 8 | blue, partial(_entry, names, png))


def _entry(names: Mapping[int, str], png: Path, value: int) -> MapEntry | None:
    number, instance = value >> 8, value & 255
    if number in names:
        return MapEntry(names[number], instance or None)
    if number == 0:
        return None
    raise InputError(f"{png}: holds class {number}, which no JSON names; copy the JSONs of the same version")
