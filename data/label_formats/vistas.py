"""Mapillary Vistas 1.x and 2.0: SPLIT/images, and SPLIT/[VERSION/]instances of 16 bits: 256 times the class, plus the object.

The config lists the classes; of one with `instances` the objects are told apart, one without `evaluate` is void.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from data.coco_json import read_entries, read_flag
from data.images import IMAGE_SUFFIXES
from data.label_formats.labels import LabelClass, LabelledImage, LabelMap, LabelSet, MapEntry
from data.label_formats.source_files import Tally, image_size, named, read_grey_png, split_folders
from data.taxonomy import read_color
from runtime.files import InputError, digest_of, file_digest, read_json, walk_files

NAME = "vistas"
FORM = "config.json or config_vN.json, and training/ and validation/ with images/ and instances/ (or vN/instances/)"
SOURCE = (
    "https://github.com/mapillary/mapillary_vistas/blob/a64822981e4ed951394fb4943adde7b1dee8931d/mapillary_vistas/evaluation/"
    "evaluation.py and https://openvinotoolkit.github.io/datumaro/latest/docs/data-formats/formats/mapillary_vistas.html"
)
CLASS_STEP = 256


def read(source: Path) -> LabelSet:
    """See labels.py. Of several versions the newest is taken.

    Raises:
        InputError: if the config or the images are missing or broken.
    """
    config, version = _find_config(source)
    classes = _read_classes(config)
    images, left_out = [], Tally()
    for raw_split, split in split_folders(source, f"{NAME} needs {FORM}").items():
        folder = source / raw_split / "images"
        labels = source / raw_split / version / "instances"
        if not labels.is_dir():
            left_out[f"images of {raw_split} without labels"] += len(walk_files(folder, IMAGE_SUFFIXES)) if folder.is_dir() else 0
            continue
        for name in walk_files(folder, IMAGE_SUFFIXES) if folder.is_dir() else []:
            png = (labels / name).with_suffix(".png")
            if not png.is_file():
                raise InputError(f"{png}: no such file, but {folder / name} is an image; copy its label there")
            image = folder / name
            layers, digest = partial(_layers, png, image, classes), partial(_digest, png, classes)
            images.append(LabelledImage(name, image, image_size(image, None, png), digest, layers, split))
    return LabelSet(classes, images, left_out.without_zeros())


def _find_config(source: Path) -> tuple[Path, str]:
    """The config, and the folder of its version below a split."""
    versions = sorted(source.glob("config_v*.json"))
    if versions:
        return versions[-1], versions[-1].stem.removeprefix("config_")
    if (source / "config.json").is_file():
        return source / "config.json", "."
    raise InputError(f"{source}: no config.json and no config_vN.json there; {NAME} needs {FORM}")


def _read_classes(config: Path) -> list[LabelClass]:
    classes = []
    for k, entry in enumerate(read_entries(config, read_json(config), "labels", {"name": str}, "copy the config again")):
        with named(f"{config}: label {k}"):
            is_thing, is_scored = read_flag(entry, "instances"), read_flag(entry, "evaluate")
            color = read_color(entry.get("color"), k)
        classes.append(LabelClass(entry["name"], is_thing, not is_scored, k, color))
    return classes


def _digest(png: Path, classes: Sequence[LabelClass]) -> str:
    return digest_of(file_digest(png), [(c.name, c.is_thing) for c in classes])


def _layers(png: Path, image: Path, classes: Sequence[LabelClass]) -> Iterator[LabelMap]:
    yield LabelMap(read_grey_png(png, image), partial(_entry, classes, png))


def _entry(classes: Sequence[LabelClass], png: Path, value: int) -> MapEntry | None:
    number, instance = divmod(value, CLASS_STEP)
    if not 0 <= number < len(classes):
        raise InputError(f"{png}: holds class {number}, but the config lists {len(classes)}; copy both of one version")
    return MapEntry(classes[number].name, instance)  # the first object of a class is number 0
