"""Whole files of data.panoptic_conversions: a panoptic JSON to instances, results or class maps, and back.

The JSON that is read is held in memory; of the pixels, the masks and what is written only those of one image are.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data.coco_json import read_entries, read_flag
from data.image_names import ImageNames
from data.images import MAX_PIXELS, unique_image_ids, write_image
from data.layouts.coco_derived import Track, track_nothing
from data.panoptic_conversions import (
    PixelValues,
    annotations_to_panoptic,
    as_things,
    panoptic_to_results,
    read_class_map_png,
    write_entries,
)
from data.panoptic_file import ImageId, PanopticFile, leaves_folder, read_panoptic_map, write_panoptic_json
from data.panoptic_png import Segment, write_segment_ids
from data.png_file import LARGEST_SIDE
from data.targets import panoptic_to_annotations, panoptic_to_semantic
from data.taxonomy import Taxonomy
from runtime.files import InputError, first_few, read_json, remove_partial_files, shorten, walk_files

LARGEST_SCORE = 1e9
"""Scores are mostly 0 to 1, but a logit will do."""
ADVICE = "give COCO annotations or results with masks"


@dataclass(frozen=True)
class ListedImage:
    """An entry of `images`; `name` is unique in the list, `size` is (height, width)."""

    key: ImageId
    name: str
    file_name: str
    size: tuple[int, int]


def write_instances(path: Path, file: PanopticFile, *, with_stuff: bool = False, track: Track = track_nothing) -> int:
    """Write the things of a panoptic JSON as COCO annotations, numbered from 1; return how many there are.

    Args:
        with_stuff: whether stuff segments are written, too, as panopticapi's converter does without --things_only.

    Raises:
        InputError: if an image's PNG is broken or does not fit the JSON, or `path` is the JSON itself.
    """
    _check_other(path, file.json_path)
    taxonomy = as_things(file.taxonomy) if with_stuff else file.taxonomy
    images: list[dict] = []

    def annotations() -> Iterator[dict]:
        number = 0
        for key, annotation in track(file.annotations.items(), len(file.annotations)):
            panoptic = read_panoptic_map(file, key)
            height, width = panoptic.segment_ids.shape
            file_name = file.image_files.get(key, annotation.file_name)
            images.append({"id": key, "file_name": file_name, "height": height, "width": width})
            for entry in panoptic_to_annotations(panoptic, taxonomy):
                number += 1
                yield {"id": number, "image_id": key} | entry

    def rest() -> str:
        classes = zip(file.taxonomy.to_coco_categories(), taxonomy.is_thing, strict=True)
        return f'], "images": {json.dumps(images)}, "categories": {json.dumps([c for c, is_written in classes if is_written])}}}'

    remove_partial_files(Path(path).parent)
    return write_entries(path, annotations(), '{"annotations": [', rest)


def write_results(path: Path, file: PanopticFile, *, with_stuff: bool = False, track: Track = track_nothing) -> int:
    """Write the things of a panoptic JSON as COCO results, which have no crowds; arguments and errors as write_instances."""
    _check_other(path, file.json_path)
    taxonomy = as_things(file.taxonomy) if with_stuff else file.taxonomy

    def results() -> Iterator[dict]:
        for key in track(file.annotations, len(file.annotations)):
            for entry in panoptic_to_results(read_panoptic_map(file, key), taxonomy):
                yield {"image_id": key} | entry

    remove_partial_files(Path(path).parent)
    return write_entries(path, results())


def write_class_maps(folder: Path, file: PanopticFile, kind: str, *, track: Track = track_nothing) -> PixelValues:
    """Write the class of each pixel, a PNG an image, named as the image or else as its panoptic PNG; return the values.

    Args:
        kind: see PixelValues.of.

    Raises:
        InputError: as write_instances, if an id fits no pixel, or an image's name leaves its folder.
    """
    _check_other(folder, file.folder)
    values = PixelValues.of(file.taxonomy, kind)
    names = _unique_names([file.image_files.get(key, a.file_name) for key, a in file.annotations.items()], file.json_path)
    for place in {(Path(folder) / name).parent for name in names}:
        remove_partial_files(place)
    for key, name in track(list(zip(file.annotations, names, strict=True)), len(names)):
        pixels = values.encode(panoptic_to_semantic(read_panoptic_map(file, key), file.taxonomy))
        write_image(Path(folder) / f"{name}.png", pixels)
    return values


def read_images(json_path: Path) -> list[ListedImage]:
    """The `images` of a COCO JSON.

    Raises:
        InputError: if there are none, one lacks something, is there twice, or its file name leaves its folder.
    """
    fields = {"id": int | str, "file_name": str, "height": int, "width": int}
    advice = "give a COCO JSON that lists the images with their sizes"
    entries = read_entries(json_path, read_json(json_path), "images", fields, advice)
    if not entries:
        raise InputError(f"{json_path}: `images` is empty; {advice}")
    for entry in entries:
        height, width = entry["height"], entry["width"]
        if min(height, width) < 1 or max(height, width) > LARGEST_SIDE or height * width > MAX_PIXELS:
            sizes = f"1 to {LARGEST_SIDE} a side and at most {MAX_PIXELS} in all"
            raise InputError(f"{json_path}: image {entry['id']!r} is {height}x{width} pixels, but {sizes} are needed; {advice}")
    images, seen = [], set()
    for entry, name in zip(entries, _unique_names([e["file_name"] for e in entries], json_path), strict=True):
        for what in (("id", entry["id"]), ("name", name)):
            if what in seen:
                raise InputError(f"{json_path}: {what[0]} {what[1]!r} is there twice in `images`; list each image once")
            seen.add(what)
        images.append(ListedImage(entry["id"], name, entry["file_name"], (entry["height"], entry["width"])))
    return images


def read_objects(json_path: Path, images: Iterable[ListedImage], taxonomy: Taxonomy) -> dict[ImageId, list[dict]]:
    """COCO annotations, or a list of results, by the id of their image; masks are looked at when they are drawn.

    Raises:
        InputError: if an entry is none, of no image that is listed, of no class of the taxonomy, or its score is no number.
    """
    content = read_json(json_path)
    fields = {"image_id": int | str, "category_id": int, "segmentation": dict | list}
    kind = "results" if isinstance(content, list) else "annotations"
    names = ImageNames({image.key: (image.key, image.file_name) for image in images})
    found: dict[ImageId, list[dict]] = {}
    keys: dict[ImageId, ImageId | None] = {}
    for k, entry in enumerate(read_entries(json_path, content, kind, fields, ADVICE)):
        score = entry.get("score")
        try:
            if entry["category_id"] not in taxonomy.dataset_id_to_train_id:
                known = first_few(taxonomy.dataset_ids.tolist())
                raise InputError(f"category id {entry['category_id']} is not in {taxonomy.name}, whose ids are {known}")
            if score is not None and (type(score) not in (int, float) or not abs(score) <= LARGEST_SCORE):
                raise InputError(f"score {shorten(repr(score), 40)} is no number, or far too large")
            is_crowd = read_flag(entry, "iscrowd", default=False)
            if entry["image_id"] not in keys:
                keys[entry["image_id"]] = names.find(entry["image_id"])
            if (key := keys[entry["image_id"]]) is None:
                raise InputError(f"image {entry['image_id']!r} is not in `images`")
        except InputError as error:
            raise InputError(f"{json_path}: entry {k} of `{kind}`, {error}; {ADVICE} of these images and classes") from None
        kept = {"category_id": entry["category_id"], "segmentation": entry["segmentation"], "iscrowd": is_crowd, "score": score}
        found.setdefault(key, []).append(kept)
    return found


def find_class_maps(folder: Path, images: list[ListedImage]) -> dict[ImageId, Path]:
    """The class map of each image, by the id of the image.

    Raises:
        InputError: if an image has none, or two.
    """
    files = walk_files(folder, (".png",)) if Path(folder).is_dir() else []
    if not files:
        raise InputError(f"{folder}: no PNG there; give the folder of the class maps")
    names, found = ImageNames({image.key: (image.key, image.file_name, image.name) for image in images}), {}
    for file in files:
        try:
            key = names.find(file)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None
        if key is not None and found.setdefault(key, file) != file:
            raise InputError(f"{folder}: {found[key]} and {file} are both of image {key!r}; keep one of them")
    missing = [image.name for image in images if image.key not in found]
    if missing:
        raise InputError(f"{folder}: {len(missing)} of {len(images)} images have no class map: {first_few(missing)}; add them")
    return {key: Path(folder) / file for key, file in found.items()}


def write_panoptic(
    path: Path,
    images: list[ListedImage],
    objects: Mapping[ImageId, list[dict]],
    class_maps: Mapping[ImageId, Path] | None,
    values: PixelValues,
    *,
    track: Track = track_nothing,
) -> int:
    """Write a panoptic JSON, and before it its folder of PNGs, of the same name; return the number of segments.

    Args:
        objects, class_maps: by the id of the image, of read_objects and find_class_maps; without class maps only objects.
        values: of the class maps' pixels.

    Raises:
        InputError: if a mask or a class map does not read, or is of another size than its image.
    """
    folder, taxonomy = Path(path).with_suffix(""), values.taxonomy
    for place in {(folder / image.name).parent for image in images} | {folder.parent}:
        remove_partial_files(place)
    entries: list[tuple[ImageId, str, str, tuple[int, int], tuple[Segment, ...]]] = []
    for image in track(images, len(images)):
        semantic = None if class_maps is None else read_class_map_png(class_maps[image.key], values, image.size)
        try:
            panoptic = annotations_to_panoptic(objects.get(image.key, []), semantic, image.size, taxonomy)
        except InputError as error:
            raise InputError(f"image {image.file_name}: {error}") from None
        write_segment_ids(folder / f"{image.name}.png", panoptic.segment_ids)
        entries.append((image.key, image.file_name, f"{image.name}.png", image.size, panoptic.segments))
    write_panoptic_json(path, taxonomy, entries)
    return sum(len(segments) for *_, segments in entries)


def _unique_names(file_names: list[str], json_path: Path) -> list[str]:
    """The images' names without suffix, with their folders where they need them; none leaves the folder it is written to."""
    outside = [name for name in file_names if not name or leaves_folder(name)]
    if outside:
        found = f"file_name {shorten(repr(outside[0]), 80)} leaves its folder or is no name"
        raise InputError(f"{json_path}: {found}; one relative to that folder was needed")
    return unique_image_ids(file_names)


def _check_other(output: Path, source: Path) -> None:
    """Refuse to write over what is read."""
    if Path(output).resolve() == Path(source).resolve():
        raise InputError(f"{output}: is what is to be converted; give another --output")
