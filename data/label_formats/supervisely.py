"""Supervisely's projects: meta.json, and for each data set img/ and ann/ with one JSON an image; polygons with holes and bitmaps.

Later objects lie on top.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from data.label_formats.drawing import (
    Mask,
    box_polygon,
    decode_base64,
    fill_polygons,
    flat_polygon,
    inflate,
    place_bitmap,
    read_bitmap,
)
from data.label_formats.labels import LabelClass, LabelledImage, LabelSet, Shape
from data.label_formats.source_files import Tally, find_image, image_name, image_size, named, need, split_name, walk_json
from data.taxonomy import read_color
from runtime.files import InputError, file_digest, read_json, shorten

NAME = "supervisely"
FORM = "meta.json, and DATASET/ann/IMAGE.json beside DATASET/img/IMAGE"
SOURCE = "https://docs.supervisely.com/data-organization/00_ann_format_navi/04_supervisely_format_objects"
WITHOUT_AREA = {"point": "points", "line": "lines", "graph": "keypoints", "cuboid_2d": "cuboids", "cuboid": "cuboids"}


def read(source: Path) -> LabelSet:
    """See labels.py. A data set named train or val is that split.

    Raises:
        InputError: if meta.json or the annotations are missing or broken.
    """
    if not (source / "meta.json").is_file():
        raise InputError(f"{source / 'meta.json'}: no such file; {NAME} needs {FORM}")
    classes = {}
    for k, entry in enumerate(need(read_json(source / "meta.json"), "classes", list, source / "meta.json")):
        name = need(entry, "title", str, f"{source / 'meta.json'}: class {k}")
        with named(f"{source / 'meta.json'}: class {k}"):
            classes[name] = LabelClass(name, color=read_color(entry.get("color"), k) if entry.get("color") else None)
    images, left_out = [], Tally()
    for name in walk_json(source):
        *folders, ann, file = PurePosixPath(name).parts if "/" in name else ("", name)
        if ann != "ann":
            continue
        path = source / name
        image_file = file.removesuffix(".json")
        image = find_image(source, [image_file], [path.parent.parent / "img"], path)
        content = read_json(path)
        said = need(content, "size", dict, path)
        size = image_size(image, (said.get("height"), said.get("width")), path)
        num_drawn = 0
        for k, entry in enumerate(need(content, "objects", list, path)):
            title, kind = (need(entry, key, str, f"{path}: object {k}") for key in ("classTitle", "geometryType"))
            if title not in classes:
                raise InputError(
                    f"{path}: object {k} is a {shorten(repr(title), 60)}, which meta.json does not list; export both"
                )
            num_drawn += kind not in WITHOUT_AREA
            left_out[WITHOUT_AREA.get(kind, "")] += 1
        if not num_drawn:
            left_out["images without labels"] += 1
            continue
        split = next((found for part in folders if (found := split_name(part)) in ("train", "val")), None)
        data_set = PurePosixPath(*(part for part in folders if part != "datasets"))  # nested ones lie in a folder of that name
        layers = partial(_shapes, path, size)
        digest = partial(file_digest, path)
        new_name = (data_set / image_name(path.parent.parent / "img", image)).as_posix()
        images.append(LabelledImage(new_name, image, size, digest, layers, split))
    del left_out[""]
    return LabelSet(list(classes.values()), images, left_out.without_zeros())


def _shapes(path: Path, size: tuple[int, int]) -> Iterator[Shape]:
    for k, entry in enumerate(read_json(path)["objects"]):
        title, kind = entry["classTitle"], entry["geometryType"]
        if kind not in WITHOUT_AREA:
            yield Shape(title, _mask(kind, entry, size, f"{path}: object {k} ({shorten(title, 40)})"))


def _mask(kind: str, entry: dict, size: tuple[int, int], place: str) -> Mask:
    def draw() -> np.ndarray:
        with named(place):
            if kind == "bitmap":
                stored = need(entry, "bitmap", dict, "it")
                origin = need(stored, "origin", list, "its bitmap")
                if len(origin) != 2 or not all(type(v) is int for v in origin):
                    raise InputError(
                        f"bitmap has origin {shorten(origin, 40)}, but whole pixels [x, y] were needed; export it again"
                    )
                bitmap = read_bitmap(inflate(decode_base64(need(stored, "data", str, "its bitmap")), size), size)
                return place_bitmap(bitmap, *origin, size)
            if kind not in ("polygon", "rectangle"):
                raise InputError(f"geometry {shorten(repr(kind), 40)} has no mask of yes and no; convert it to a bitmap")
            points = need(entry, "points", dict, "it")
            exterior, interior = need(points, "exterior", list, "it"), points.get("interior") or []
            if kind == "rectangle":
                if len(exterior) != 2:
                    raise InputError(f"rectangle of {len(exterior)} points, but two were needed; draw it again")
                left, top, right, bottom = flat_polygon([*exterior, exterior[0]])[:4]
                return fill_polygons([box_polygon(left, top, right + 1, bottom + 1)], size)  # its corners are pixels, both inside
            mask = fill_polygons([flat_polygon(exterior)], size)
            for hole in need({"interior": interior}, "interior", list, "it"):
                mask &= ~fill_polygons([flat_polygon(hole)], size)
            return mask

    return draw
