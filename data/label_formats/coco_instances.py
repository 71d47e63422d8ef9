"""COCO's instance JSONs, with class maps below them where there are any.

A source holds annotations/instances_SPLIT.json, or JSONs of this form right in it, and the images in SPLIT/, images/SPLIT/,
images/ or beside the JSON. Class maps of one channel, named as their images, lie in
  stuffthingmaps/SPLIT/   COCO-Stuff's: category id - 1, 255 is unlabelled
  semantic/SPLIT/         your own: category ids, 0 and 255 are unlabelled
and annotations/stuff_*.json, of which only the `categories` are read, names classes of stuff. Objects are drawn over the class
map in the order of the JSON; a thing's pixels in the map that no object covers are unlabelled.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data.coco_json import read_entries, read_flag
from data.label_formats.drawing import Mask, fill_polygons
from data.label_formats.labels import LabelClass, LabelledImage, LabelMap, LabelSet, MapEntry, Shape
from data.label_formats.source_files import Tally, find_image, image_size, named, read_grey_png, split_name, without_suffix
from data.run_lengths import decode_mask
from data.taxonomy import read_color
from runtime.files import InputError, digest_of, file_digest, read_json, shorten

NAME = "coco"
FORM = "annotations/instances_SPLIT.json and the images"
SOURCE = "https://cocodataset.org/#format-data and https://github.com/nightrome/cocostuff (class maps)"
ADVICE = "export it as COCO instances"
CLASS_MAPS = {"stuffthingmaps": 1, "semantic": 0}
"""Folder of class maps -> category id less value."""
UNLABELLED = 255
OTHER = (183, "other")
"""COCO-Stuff's class of all that is no stuff."""


def read(source: Path) -> LabelSet:
    """See labels.py.

    Raises:
        InputError: if there is no such JSON, or one or an image is broken or missing.
    """
    return read_instances(source, has_crowds=True)


def read_instances(source: Path, *, has_crowds: bool) -> LabelSet:
    """As read.

    Args:
        has_crowds: whether `iscrowd` 1 is a group that nobody told apart.
    """
    paths = sorted((source / "annotations").glob("instances_*.json")) or sorted(source.glob("*.json"))
    if not paths:
        raise InputError(f"{source}: no annotations/instances_SPLIT.json and no other JSON there; {NAME} needs {FORM}")
    classes: dict[int, LabelClass] = {}
    for path in _stuff_json(source):
        _add_classes(classes, path, read_json(path), is_stuff=True)
    images, left_out = [], Tally()
    for path in paths:
        raw_split = path.stem.removeprefix("instances_") if path.stem.startswith("instances_") else "default"
        content = read_json(path)
        listed = _add_classes(classes, path, content)
        images += _read_images(_InstanceFile(source, path, raw_split, classes, has_crowds), content, listed, left_out)
    return LabelSet(list(classes.values()), images, left_out.without_zeros())


@dataclass(frozen=True)
class _InstanceFile:
    """One JSON; `classes`, by category id, are those of all files, and complete when the first image is decoded."""

    source: Path
    path: Path
    raw_split: str
    classes: Mapping[int, LabelClass]
    has_crowds: bool

    def image_folders(self) -> list[Path]:
        split_folders = [self.source / self.raw_split, self.source / "images" / self.raw_split]
        return [*split_folders, self.source / "images", self.path.parent, self.source]

    def class_map(self, stem: str) -> tuple[Path, int] | None:
        """The class map of an image, and what its values are less than a category id."""
        found = ((self.source / folder / self.raw_split / f"{stem}.png", less) for folder, less in CLASS_MAPS.items())
        return next((item for item in found if item[0].is_file()), None)


def _stuff_json(source: Path) -> list[Path]:
    """COCO-Stuff's smallest JSON, all of which list the same classes; one has a gigabyte."""
    return sorted((source / "annotations").glob("stuff_*.json"), key=lambda path: path.stat().st_size)[:1]


def _add_classes(classes: dict[int, LabelClass], path: Path, content: object, is_stuff: bool = False) -> set[int]:
    """Add the classes of one JSON, and give their category ids; all JSONs must mean the same by an id."""
    listed: set[int] = set()
    for k, entry in enumerate(read_entries(path, content, "categories", {"id": int, "name": str}, ADVICE)):
        with named(f"{path}: category {k}"):
            is_thing = read_flag(entry, "isthing") if "isthing" in entry else False if is_stuff else None
            color = read_color(entry["color"], entry["id"]) if entry.get("color") else None
        is_void = is_stuff and (entry["id"], entry["name"]) == OTHER
        found = LabelClass(entry["name"], is_thing, is_void, entry["id"], color)
        known = classes.setdefault(entry["id"], found)
        if known.name != found.name or entry["id"] in listed:
            clash = f"category id {entry['id']} is {shorten(found.name, 40)}, but also {shorten(known.name, 40)}"
            raise InputError(f"{path}: {clash}; number the classes of all files alike")
        listed.add(entry["id"])
    return listed


def _read_images(file: _InstanceFile, content: dict, listed: set[int], left_out: Tally) -> Iterator[LabelledImage]:
    fields = {"id": int | str, "file_name": str, "height": int, "width": int}
    entries = read_entries(file.path, content, "images", fields, ADVICE)
    annotations: dict[int | str, list[tuple[int, dict]]] = {entry["id"]: [] for entry in entries}
    if len(annotations) < len(entries):
        raise InputError(f"{file.path}: two of its `images` have one id; number them again")
    fields = {"image_id": int | str, "category_id": int}
    for k, entry in enumerate(read_entries(file.path, content, "annotations", fields, ADVICE)):
        if entry["image_id"] not in annotations:
            found = f"annotation {k} is of image {shorten(repr(entry['image_id']), 40)}"
            raise InputError(f"{file.path}: {found}, which `images` does not list; export both together")
        if entry["category_id"] not in listed:
            found = f"annotation {k} has category id {shorten(entry['category_id'], 40)}"
            raise InputError(f"{file.path}: {found}, which `categories` does not list; export both together")
        if entry.get("segmentation"):
            annotations[entry["image_id"]].append((k, entry))
        else:
            left_out["boxes without a mask"] += 1
    for entry in entries:
        of_image, place = annotations[entry["id"]], f"{file.path}: image {shorten(repr(entry['id']), 40)}"
        stem = without_suffix(entry["file_name"], place)
        class_map = file.class_map(stem)
        if not of_image and class_map is None:
            left_out["images without labels"] += 1
            continue
        image = find_image(file.source, [entry["file_name"]], file.image_folders(), place)
        size = image_size(image, (entry["height"], entry["width"]), place)
        layers = partial(_layers, file, of_image, class_map, image, size)
        digest = partial(_digest, file, of_image, class_map)
        yield LabelledImage(f"{stem}{image.suffix}", image, size, digest, layers, split_name(file.raw_split))


def _digest(file: _InstanceFile, annotations: list[tuple[int, dict]], class_map: tuple[Path, int] | None) -> str:
    said = [(a["category_id"], a["segmentation"], a.get("iscrowd")) for _, a in annotations]
    names = sorted((k, c.name) for k, c in file.classes.items())
    return digest_of(said, class_map and (file_digest(class_map[0]), class_map[1]), names, file.has_crowds)


def _layers(
    file: _InstanceFile,
    annotations: list[tuple[int, dict]],
    class_map: tuple[Path, int] | None,
    image: Path,
    size: tuple[int, int],
) -> Iterator[Shape | LabelMap]:
    if class_map is not None:
        png, less = class_map
        yield LabelMap(read_grey_png(png, image), partial(_map_entry, file.classes, less, png), has_objects=False)
    for k, entry in annotations:
        name = file.classes[entry["category_id"]].name
        place = f"{file.path}: annotation {k} ({shorten(name, 40)})"
        with named(place):
            is_crowd = file.has_crowds and read_flag(entry, "iscrowd", default=False)
        yield Shape(name, _mask(entry["segmentation"], size, place), is_crowd=is_crowd)


def _mask(segmentation: object, size: tuple[int, int], place: str) -> Mask:
    def draw():
        with named(place):
            return fill_polygons(segmentation, size) if isinstance(segmentation, list) else decode_mask(segmentation, size)

    return draw


def _map_entry(classes: Mapping[int, LabelClass], less: int, png: Path, value: int) -> MapEntry | None:
    if value + less in classes and not (value == UNLABELLED and less):
        return MapEntry(classes[value + less].name)
    if value == UNLABELLED or value + less == 0:
        return None
    raise InputError(f"{png}: holds category id {value + less}, which no JSON lists; add annotations/stuff_SPLIT.json")
