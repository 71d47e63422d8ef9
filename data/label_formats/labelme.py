"""labelme's JSON files, one beside each image: polygons, boxes, circles and masks.

Shapes of one label with the same `group_id` are one object, and later shapes lie on top, as in labelme's own converters.
Differs: polygons, boxes and circles are filled by pycocotools' rule, which leaves out the pixels that an outline only touches.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from data.label_formats.drawing import (
    Mask,
    box_polygon,
    decode_base64,
    fill_circle,
    fill_polygons,
    flat_polygon,
    place_bitmap,
    read_bitmap,
)
from data.label_formats.labels import LabelClass, LabelledImage, LabelSet, Shape
from data.label_formats.source_files import (
    Tally,
    image_name,
    image_size,
    named,
    need,
    path_inside,
    read_json_files,
    split_name,
    walk_json,
)
from runtime.files import InputError, file_digest, read_json, shorten

NAME = "labelme"
FORM = "images with one JSON each, which has `shapes` and `imagePath`"
SOURCE = "https://github.com/wkentaro/labelme/blob/51e50e43067e4963627513f8334d91f15b11ac48/labelme/_label_file.py"
VOID = ("__ignore__", "_background_")
"""Labels that labelme's converters take for none."""
WITHOUT_AREA = {"point": "points", "points": "points", "line": "lines", "linestrip": "lines"}


def read(source: Path) -> LabelSet:
    """See labels.py. A folder named train or val above a JSON is its split.

    Raises:
        InputError: if no JSON is of this form, or one is broken.
    """
    images, names, left_out = [], set(), Tally()
    for path, content in read_json_files(source, walk_json(source)):
        if not isinstance(content, dict) or "shapes" not in content:
            left_out["JSON files of another form"] += 1
            continue
        image = path_inside(source, need(content, "imagePath", str, path), path.parent, path)
        size = image_size(image, (content.get("imageHeight"), content.get("imageWidth")), path)
        kinds = [_kind(k, shape, path) for k, shape in enumerate(need(content, "shapes", list, path))]
        for kind, _ in kinds:
            left_out[WITHOUT_AREA.get(kind, "")] += 1
        labels = [label for kind, label in kinds if kind not in WITHOUT_AREA]
        if not labels:
            left_out["images without labels"] += 1
            continue
        names |= set(labels)
        folders = [split_name(part) for part in path.relative_to(source).parts[:-1]]
        split = next((name for name in folders if name in ("train", "val")), None)
        layers = partial(_shapes, path, size)
        images.append(LabelledImage(image_name(source, image), image, size, partial(file_digest, path), layers, split))
    del left_out[""]
    classes = [LabelClass(name, is_void=name in VOID) for name in sorted(names)]
    return LabelSet(classes, images, left_out.without_zeros())


def _kind(position: int, shape: object, path: Path) -> tuple[str, str]:
    """(shape type, label) of a shape; old files say no type and mean a polygon."""
    place = f"{path}: shape {position}"
    label = need(shape, "label", str, place)
    kind = shape.get("shape_type") or "polygon"
    if not isinstance(kind, str):
        raise InputError(f"{place}: has `shape_type` {shorten(repr(kind), 40)}, but a name was needed; save it again")
    return kind, label


def _shapes(path: Path, size: tuple[int, int]) -> Iterator[Shape]:
    for position, shape in enumerate(read_json(path)["shapes"]):
        kind, label = _kind(position, shape, path)
        place = f"{path}: shape {position} ({shorten(label, 40)})"
        if kind not in WITHOUT_AREA:
            group = shape.get("group_id")
            yield Shape(label, _mask(kind, shape, size, place), instance=None if group is None else str(group))


def _mask(kind: str, shape: dict, size: tuple[int, int], place: str) -> Mask:
    def draw() -> np.ndarray:
        with named(place):
            points = need(shape, "points", list, "it")
            if kind in ("polygon", "oriented_rectangle"):
                return fill_polygons([flat_polygon(points)], size)
            if kind not in ("rectangle", "circle", "mask"):
                raise InputError(f"shape type {shorten(repr(kind), 40)} is unknown; save it as a polygon")
            if len(points) != 2:
                raise InputError(f"{kind} of {len(points)} points, but two were needed; draw it again")
            x1, y1, x2, y2 = flat_polygon([*points, points[0]])[:4]  # also checks the numbers
            if kind == "circle":
                return fill_circle((x1, y1), (x2, y2), size)
            if kind == "rectangle":
                return fill_polygons([box_polygon(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))], size)
            bitmap = read_bitmap(decode_base64(need(shape, "mask", str, "it")), size)
            return place_bitmap(bitmap, round(x1), round(y1), size)

    return draw
