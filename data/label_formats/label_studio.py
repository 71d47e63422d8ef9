"""Label Studio's JSON export: brush strokes in its own run lengths, polygons and boxes, in percent of the image.

Later regions lie on top. The run lengths are those of the JavaScript package rle-pack: bits, highest first. 32 of them are the
number of values, 5 the bits of a value less one, 4 x 4 the bits of four kinds of lengths less one. Then follow blocks: one bit
that says whether a value is repeated, two for the kind of length, the length less one, and one value, or as many as the length.
The values are an image's pixels as RGBA, of which the alpha says what was painted.
"""

import math
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from data.image_names import ImageNames
from data.images import IMAGE_SUFFIXES
from data.label_formats.drawing import Mask, box_polygon, fill_polygons, flat_polygon
from data.label_formats.labels import LabelClass, LabelledImage, LabelSet, Shape
from data.label_formats.source_files import Tally, image_name, image_size, named, need, read_json_files, walk_json
from runtime.compiled import kernel
from runtime.files import InputError, digest_of, shorten, walk_files

NAME = "label-studio"
FORM = "a JSON export (a list of tasks with `annotations`) and the images"
SOURCE = (
    "https://labelstud.io/guide/task_format and https://github.com/HumanSignal/label-studio-converter/blob/"
    "2ef54005fca6eee30f0676ed16e7c71846efe22f/label_studio_converter/brush.py"
)
HEADER_BITS = 32 + 5 + 4 * 4
LABEL_KEYS = ("brushlabels", "polygonlabels", "rectanglelabels", "labels")
WITHOUT_AREA = {"keypointlabels": "points", "ellipselabels": "ellipses", "vectorlabels": "lines", "bitmasklabels": "bitmasks"}
UPLOAD_PREFIX = re.compile("^[0-9a-f]{8}-")
"""Goes before the name of an uploaded image."""


def read(source: Path) -> LabelSet:
    """See labels.py. Of several annotations of one task, the one marked as ground truth counts, else the newest.

    Raises:
        InputError: if no JSON is of this form, one is broken, or an image is missing.
    """
    below = walk_files(source, IMAGE_SUFFIXES)
    names = ImageNames({name: (name,) for name in below})
    images, classes, left_out = [], set(), Tally()
    for path, content in read_json_files(source, walk_json(source)):
        tasks = content if isinstance(content, list) else [content]
        if not all(isinstance(task, dict) and "data" in task and "annotations" in task for task in tasks):
            left_out["JSON files of another form"] += 1
            continue
        for k, task in enumerate(tasks):
            place = f"{path}: task {shorten(task.get('id', k), 20)}"
            results = _newest_results(task, place, left_out)
            regions = [
                region for n, result in enumerate(results) if (region := _region(result, f"{place}, region {n}", left_out))
            ]
            if not regions:
                left_out["images without labels"] += 1
                continue
            image = source / _find_image(need(task, "data", dict, place), names, place)
            size = image_size(image, (regions[0][1].get("original_height"), regions[0][1].get("original_width")), place)
            classes |= {label for label, _, _ in regions}
            name, layers = image_name(source, image), partial(_shapes, regions, size)
            images.append(LabelledImage(name, image, size, partial(_digest, regions), layers))
    return LabelSet([LabelClass(name) for name in sorted(classes)], images, left_out.without_zeros())


def _newest_results(task: dict, place: str, left_out: Tally) -> list:
    annotations = [a for a in need(task, "annotations", list, place) if isinstance(a, dict) and not a.get("was_cancelled")]
    if not annotations:
        return []
    if len(annotations) > 1:
        left_out["annotations beside the one that counts"] += len(annotations) - 1
    best = max(annotations, key=lambda a: (a.get("ground_truth") is True, str(a.get("updated_at", ""))))
    return need(best, "result", list, place)


def _region(result: object, place: str, left_out: Tally) -> tuple[str, dict, str] | None:
    """(label, result, place) of what has a mask."""
    if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
        return None  # a relation between regions
    value = result["value"]
    for key, what in WITHOUT_AREA.items():
        if key in value:
            left_out[what] += 1
            return None
    labels = next((value[key] for key in LABEL_KEYS if key in value), None)
    if labels is None:
        if "rle" in value or "points" in value:
            left_out["regions without a label"] += 1
        return None
    if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
        raise InputError(f"{place}: has labels {shorten(labels, 60)}, but a pixel has one class; give each region one label")
    if result.get("image_rotation") not in (None, 0):
        raise InputError(
            f"{place}: its image was turned by {shorten(result['image_rotation'], 20)} degrees; turn the image itself"
        )
    return labels[0], result, place


def _digest(regions: list[tuple[str, dict, str]]) -> str:
    return digest_of([(label, result["value"]) for label, result, _ in regions])


def _find_image(data: Mapping, names: ImageNames[str], place: str) -> str:
    """The image of a task: named by a path, an address, or a storage's path behind `?d=`."""
    for key in sorted(data, key=lambda key: (key not in ("image", "img"), key)):
        if not isinstance(data[key], str):
            continue
        address = urlsplit(data[key])
        given = unquote(parse_qs(address.query).get("d", [address.path])[0]).replace("\\", "/")
        if not given.lower().endswith(IMAGE_SUFFIXES):
            continue
        file = given.rpartition("/")[2]
        with named(place):
            for name in (given.lstrip("/"), file, UPLOAD_PREFIX.sub("", file)):
                found = names.find(name)
                if found is not None:
                    return found
        raise InputError(f"{place}: image {shorten(repr(data[key]), 100)} is not below the source; copy it there under its name")
    raise InputError(f"{place}: its `data` names no image; export tasks of images")


def _shapes(regions: list[tuple[str, dict, str]], size: tuple[int, int]) -> Iterator[Shape]:
    for label, result, place in regions:
        yield Shape(label, _mask(result, size, f"{place} ({shorten(label, 40)})"))


def _mask(result: dict, size: tuple[int, int], place: str) -> Mask:
    def draw() -> np.ndarray:
        with named(place):
            said = result.get("original_height"), result.get("original_width")
            if None not in said and said != size:
                raise InputError(f"is for {said[0]}x{said[1]} pixels, but its image has {size[0]}x{size[1]}; export it again")
            value, scale = result["value"], (size[1] / 100, size[0] / 100)
            if "rle" in value:
                if value.get("format", "rle") != "rle":
                    raise InputError(
                        f"brush has format {shorten(repr(value['format']), 40)}, but rle was needed; export it again"
                    )
                return decode_brush(value["rle"], size)
            if "points" in value:
                return fill_polygons([flat_polygon(value["points"], scale)], size)
            numbers = [value.get(name) for name in ("x", "y", "width", "height")] + [value.get("rotation", 0)]
            if not all(type(v) in (int, float) and math.isfinite(v) for v in numbers):
                raise InputError("has neither run lengths nor points nor a box; export it again")
            x, y, width, height, degrees = numbers
            left, top = x * scale[0], y * scale[1]
            box = box_polygon(left, top, left + width * scale[0], top + height * scale[1], degrees)
            return fill_polygons([box], size)

    return draw


def decode_brush(rle: object, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: where the alpha of a brush mask is not 0.

    Args:
        rle: the bytes, as whole numbers.
        size: (height, width) that it must have.

    Raises:
        InputError: if these are no bytes, are cut off or hold another number of values.
    """
    if not isinstance(rle, list) or not all(type(byte) is int and 0 <= byte < 256 for byte in rle):
        raise InputError(f"run lengths {shorten(rle, 40)}, but a list of bytes (0 to 255) was needed; export it again")
    data, num_wanted = np.array(rle, dtype=np.uint8), 4 * size[0] * size[1]
    if 8 * len(data) < HEADER_BITS:
        raise InputError("run lengths end before they begin; export it again")
    num_values = int.from_bytes(data[:4].tobytes(), "big")
    if num_values != num_wanted:
        found = f"run lengths of {num_values} values"
        raise InputError(f"{found}, but {size[0]}x{size[1]} pixels of RGBA are {num_wanted}; export it at the image's size")
    mask = np.zeros(size[0] * size[1], dtype=np.bool_)
    if not _decode(data, mask):
        raise InputError("run lengths are cut off, or go on behind the image; export it again")
    return mask.reshape(size)


@kernel
def _read_bits(data, at, num):
    """The `num` bits from bit `at` on as a number; -1 where the data end before."""
    if at + num > 8 * len(data):
        return -1
    value = 0
    for k in range(at, at + num):
        value = value << 1 | (data[k >> 3] >> (7 - (k & 7)) & 1)
    return value


@kernel
def _decode(data, mask):
    """Write the alphas into the mask; False where the data do not give just these values."""
    bits = _read_bits(data, 32, 5) + 1
    sizes = np.zeros(4, np.int64)
    for k in range(4):
        sizes[k] = _read_bits(data, 37 + 4 * k, 4) + 1
    at = 53
    position, end = 0, 4 * len(mask)
    while position < end:
        is_run = _read_bits(data, at, 1)
        kind = _read_bits(data, at + 1, 2)
        if is_run < 0 or kind < 0:
            return False
        length = _read_bits(data, at + 3, sizes[kind])
        at += 3 + sizes[kind]
        if length < 0 or position + length + 1 > end:
            return False
        value = 0
        for k in range(position, position + length + 1):
            if k == position or is_run == 0:
                value = _read_bits(data, at, bits)
                at += bits
                if value < 0:
                    return False
            if k & 3 == 3:
                mask[k >> 2] = value != 0
        position += length + 1
    return True
