"""Segments.ai's releases of image segmentation: the release file, and the images and bitmaps as the SDK saves them.

SegmentsDataset of the package segments-ai downloads SAMPLE.EXT and SAMPLE_label_LABELSET.png; a bitmap's pixel is its object's
id, r + 256 g + 65536 b, 0 is unlabelled.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from data.coco_json import read_entries
from data.image_names import ImageNames
from data.images import IMAGE_SUFFIXES
from data.label_formats.labels import LabelClass, LabelledImage, LabelMap, LabelSet, MapEntry
from data.label_formats.source_files import (
    Tally,
    image_size,
    named,
    need,
    read_color_png,
    read_json_files,
    walk_json,
    without_suffix,
)
from data.panoptic_png import rgb_to_ids
from data.taxonomy import read_color
from runtime.files import InputError, digest_of, file_digest, shorten, walk_files

NAME = "segments-ai"
FORM = "a release file (JSON with `dataset`), and SAMPLE.EXT and SAMPLE_label_ground-truth.png as its SDK saves them"
SOURCE = "https://docs.segments.ai/reference/label-types and https://docs.segments.ai/reference/categories-and-task-attributes"
TASKS = ("segmentation-bitmap", "segmentation-bitmap-highres")
LABEL_SET = "ground-truth"
UNFINISHED = ("PRELABELED", "SKIPPED", "REJECTED")


def read(source: Path) -> LabelSet:
    """See labels.py. `has_instances` of a category says whether it is a thing.

    Raises:
        InputError: if there is not one release of image segmentation, or a file is missing or broken.
    """
    found = [(path, c) for path, c in read_json_files(source, walk_json(source)) if isinstance(c, dict) and "dataset" in c]
    if len(found) != 1:
        raise InputError(f"{source}: {len(found)} release files there, but one was needed; {NAME} needs {FORM}")
    path, content = found[0]
    data_set = need(content, "dataset", dict, path)
    if need(data_set, "task_type", str, path) not in TASKS:
        raise InputError(f"{path}: is of task {shorten(data_set['task_type'], 40)}, but {TASKS[0]} was needed; export masks")
    classes = _read_classes(path, need(data_set, "task_attributes", dict, path))
    below = walk_files(source, IMAGE_SUFFIXES)
    names = ImageNames({name: (name,) for name in below})
    images, left_out = [], Tally()
    for k, sample in enumerate(need(data_set, "samples", list, path)):
        place = f"{path}: sample {k}"
        sample_name = need(sample, "name", str, place)
        label = need(sample, "labels", dict, place).get(LABEL_SET)
        if label is None or need(label, "label_status", str, place) in UNFINISHED:
            left_out["images without labels"] += 1
            continue
        attributes = need(label, "attributes", dict, place)
        entries = read_entries(place, attributes, "annotations", {"id": int, "category_id": int}, "export it again")
        objects = {entry["id"]: entry["category_id"] for entry in entries}
        strangers = sorted(set(objects.values()) - set(classes))
        if strangers:
            raise InputError(f"{place}: category id {strangers[0]} is not in `categories`; export the release again")
        stem = without_suffix(sample_name, place)
        image, png = (_find(source, names, name, place) for name in (stem, f"{stem}_label_{LABEL_SET}"))
        size = image_size(image, None, place)
        by_id = {k: classes[category].name for k, category in objects.items()}
        layers, digest = partial(_layers, png, image, by_id), partial(_digest, png, by_id)
        images.append(LabelledImage(f"{stem}{image.suffix}", image, size, digest, layers))
    return LabelSet(list(classes.values()), images, left_out.without_zeros())


def _read_classes(path: Path, attributes: dict) -> dict[int, LabelClass]:
    classes = {}
    for entry in read_entries(path, attributes, "categories", {"id": int, "name": str}, "export the release again"):
        has_instances = entry.get("has_instances")
        if has_instances is not None and not isinstance(has_instances, bool):
            raise InputError(
                f"{path}: category {entry['id']} has `has_instances` {shorten(repr(has_instances), 40)}; export it again"
            )
        with named(f"{path}: category {entry['id']}"):
            color = read_color(entry["color"], entry["id"]) if entry.get("color") else None
        classes[entry["id"]] = LabelClass(entry["name"], has_instances, dataset_id=entry["id"], color=color)
    return classes


def _find(source: Path, names: ImageNames[str], name: str, place: str) -> Path:
    with named(place):
        found = names.find(name)
    if found is None:
        raise InputError(f"{place}: {shorten(name, 80)} is not below {source}; download it with SegmentsDataset of segments-ai")
    return source / found


def _digest(png: Path, by_id: Mapping[int, str]) -> str:
    return digest_of(file_digest(png), sorted(by_id.items()))


def _layers(png: Path, image: Path, by_id: Mapping[int, str]) -> Iterator[LabelMap]:
    ids = rgb_to_ids(read_color_png(png, image, 4)[..., :3])
    yield LabelMap(ids.astype(np.int64), partial(_entry, by_id, png))


def _entry(by_id: Mapping[int, str], png: Path, value: int) -> MapEntry | None:
    if value in by_id:
        return MapEntry(by_id[value], value)
    if value == 0:
        return None
    raise InputError(f"{png}: holds object id {value}, which `annotations` does not list; export the release again")
