"""The same little scene as each labelling tool exports it: tiny files of the tools' true forms."""

import base64
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

SCENE = (
    "rrrrrrrr",
    "raaarrrr",
    "raabbbbr",
    "raabbbbr",
    "rrrbbbbr",
    "........",
)
"""A road, and car b in front of car a; the last row is unlabelled."""
MEANING = {"r": "road", "a": "car", "b": "car"}
SIZE = (len(SCENE), len(SCENE[0]))
ROAD, CAR_A, CAR_B = (0, 0, 8, 5), (1, 1, 4, 4), (3, 2, 7, 5)
"""(left, top, right, bottom) of what is drawn, the last on top."""
OVERLAPS = {("car", "road"): 9 + 12 - 2, ("car", "car"): 2}
"""Of both cars 9 and 12 pixels lie on the road, but 2 of them car b hides of car a."""


def corners(box: tuple[int, int, int, int]) -> list[list[float]]:
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def flat(points: list[list[float]]) -> list[float]:
    return [value for point in points for value in point]


def filled(box: tuple[int, int, int, int]) -> np.ndarray:
    left, top, right, bottom = box
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def letters() -> np.ndarray:
    return np.array([list(row) for row in SCENE])


def paint(values: dict[str, object], dtype: type = np.uint8) -> np.ndarray:
    """(H, W) or (H, W, C): the scene with a value for each letter."""
    table = {letter: np.array(value, dtype=dtype) for letter, value in values.items()}
    return np.array([[table[letter] for letter in row] for row in SCENE], dtype=dtype)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def photo(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    return save(path, np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8))


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def png_bytes(mask: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def encode_brush(values: np.ndarray, literal: bool = False) -> list[int]:
    """Label Studio's run lengths of uint8 values, written down from the format's description.

    Args:
        literal: store values one by one instead of as runs.
    """
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1])).tolist()
    if literal:
        for at in range(0, len(values), 8):  # up to 8 values, kind 0, whose lengths have 3 bits
            part = values[at : at + 8].tolist()
            bits += f"000{len(part) - 1:03b}" + "".join(f"{value:08b}" for value in part)
    else:
        for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
            kind, size = next((k, size) for k, size in enumerate((3, 4, 8, 16)) if end - start <= 2**size)
            bits += f"1{kind:02b}{end - start - 1:0{size}b}{int(values[start]):08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def brush(mask: np.ndarray, literal: bool = False) -> list[int]:
    rgba = np.zeros((*mask.shape, 4), np.uint8)
    rgba[mask] = (10, 20, 30, 255)
    return encode_brush(rgba.ravel(), literal)


def labelme(root: Path, name: str = "a", seed: int = 0) -> None:
    photo(root / f"{name}.png", seed)
    left, top, right, bottom = CAR_B
    shapes = [
        {"label": "road", "points": corners(ROAD), "group_id": None, "shape_type": "polygon", "flags": {}},
        {"label": "car", "points": [[1, 1], [4, 4]], "group_id": None, "shape_type": "rectangle", "flags": {}},
        {
            "label": "car",
            "points": [[left, top], [right - 1, bottom - 1]],
            "group_id": 7,
            "shape_type": "mask",
            "flags": {},
            "mask": base64.b64encode(png_bytes(np.ones((bottom - top, right - left)))).decode(),
        },
        {"label": "corner", "points": [[1, 1]], "group_id": None, "shape_type": "point", "flags": {}},
    ]
    content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{name}.png", "imageData": None}
    write(root / f"{name}.json", content | {"imageHeight": SIZE[0], "imageWidth": SIZE[1]})


def supervisely(root: Path) -> None:
    titles = [{"title": "road", "shape": "polygon", "color": "#804080"}, {"title": "car", "shape": "any", "color": "#00008E"}]
    write(root / "meta.json", {"classes": titles, "tags": [], "projectType": "images"})
    photo(root / "ds0" / "img" / "a.png")
    data = base64.b64encode(zlib.compress(png_bytes(np.ones((3, 4))))).decode()
    empty = {"exterior": corners(CAR_A), "interior": []}
    objects = [
        {"classTitle": "road", "geometryType": "polygon", "points": {"exterior": corners(ROAD), "interior": []}},
        {"classTitle": "car", "geometryType": "polygon", "points": empty},
        {"classTitle": "car", "geometryType": "bitmap", "bitmap": {"data": data, "origin": [3, 2]}},
        {"classTitle": "car", "geometryType": "line", "points": {"exterior": [[0, 0], [3, 3]], "interior": []}},
    ]
    size = {"height": SIZE[0], "width": SIZE[1]}
    write(root / "ds0" / "ann" / "a.png.json", {"description": "", "tags": [], "size": size, "objects": objects})


def label_studio(root: Path) -> None:
    photo(root / "images" / "a.png")

    def region(kind: str, value: dict) -> dict:
        size = {"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0}
        return {"id": kind, "type": kind, "from_name": "tag", "to_name": "image", **size, "value": value}

    def percent(points: list[list[float]]) -> list[list[float]]:
        return [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in points]

    result = [
        region("polygonlabels", {"points": percent(corners(ROAD)), "polygonlabels": ["road"], "closed": True}),
        region("brushlabels", {"format": "rle", "rle": brush(filled(CAR_A)), "brushlabels": ["car"]}),
        region(
            "rectanglelabels",
            {"x": 37.5, "y": 100 / 3, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["car"]},
        ),
        {"type": "relation", "from_id": "a", "to_id": "b"},
    ]
    old = {"result": [], "was_cancelled": False, "updated_at": "2020-01-01T00:00:00Z"}
    new = {"result": result, "was_cancelled": False, "updated_at": "2021-01-01T00:00:00Z"}
    task = {"id": 1, "data": {"image": "/data/upload/2/0a1b2c3d-a.png"}, "annotations": [new, old], "predictions": []}
    write(root / "project.json", [task])


def coco_content(file_name: str = "a.png") -> dict:
    rle = coco_mask.encode(np.asfortranarray(filled(CAR_B).astype(np.uint8)))
    segmentations = [
        [flat(corners(ROAD))],
        [flat(corners(CAR_A))],
        {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()},
    ]
    return {
        "images": [{"id": 5, "file_name": file_name, "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [
            {"id": k, "image_id": 5, "category_id": 1 if k == 0 else 3, "segmentation": s, "iscrowd": 0}
            for k, s in enumerate(segmentations)
        ],
        "categories": [{"id": 1, "name": "road"}, {"id": 3, "name": "car"}],
    }


def coco(root: Path) -> None:
    photo(root / "train2017" / "a.png")
    write(root / "annotations" / "instances_train2017.json", coco_content())


def cvat_coco(root: Path) -> None:
    photo(root / "images" / "default" / "a.png")
    content = coco_content()
    content["annotations"][2]["iscrowd"] = 1  # what CVAT writes for every painted mask
    write(root / "annotations" / "instances_default.json", content)


def cvat_masks(root: Path) -> None:
    photo(root / "JPEGImages" / "a.png")
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:0,0,142::\nroad:128,64,128::\n")
    write(root / "ImageSets" / "Segmentation" / "default.txt", "a\n")
    car, road = (0, 0, 142), (128, 64, 128)
    save(root / "SegmentationClass" / "a.png", paint({"r": road, "a": car, "b": car, ".": (0, 0, 0)}))
    objects = paint({"r": (128, 0, 0), "a": (0, 128, 0), "b": (128, 128, 0), ".": (0, 0, 0)})
    save(root / "SegmentationObject" / "a.png", objects)


def segments_ai(root: Path) -> None:
    folder = root / "segments" / "jane_cars" / "v1"
    photo(folder / "a.png")
    rgba = {"r": (1, 0, 0, 255), "a": (2, 0, 0, 255), "b": (44, 1, 0, 255), ".": (0, 0, 0, 255)}  # object 300 is (44, 1, 0)
    save(folder / "a_label_ground-truth.png", paint(rgba))
    label = {
        "label_status": "LABELED",
        "attributes": {
            "format_version": "0.1",
            "annotations": [{"id": 1, "category_id": 1}, {"id": 2, "category_id": 2}, {"id": 300, "category_id": 2}],
            "segmentation_bitmap": {"url": "https://example.org/x.png"},
        },
    }
    categories = [
        {"name": "road", "id": 1, "color": [128, 64, 128], "has_instances": False},
        {"name": "car", "id": 2, "color": [0, 0, 142], "has_instances": True},
    ]
    samples = [
        {"name": "a.png", "attributes": {"image": {"url": "https://example.org/a.png"}}, "labels": {"ground-truth": label}},
        {"name": "b.png", "attributes": {"image": {"url": "https://example.org/b.png"}}, "labels": {"ground-truth": None}},
    ]
    task = {"task_type": "segmentation-bitmap", "task_attributes": {"format_version": "0.1", "categories": categories}}
    data_set = {"name": "cars", "owner": "jane", **task, "labelsets": [{"name": "ground-truth"}], "samples": samples}
    write(root / "cars-v1.json", {"name": "v1", "dataset": data_set})


def vistas(root: Path) -> None:
    labels = [
        {"name": "construction--flat--road", "readable": "Road", "instances": False, "evaluate": True, "color": [128, 64, 128]},
        {"name": "object--vehicle--car", "readable": "Car", "instances": True, "evaluate": True, "color": [0, 0, 142]},
        {"name": "void--unlabeled", "readable": "Unlabeled", "instances": False, "evaluate": False, "color": [0, 0, 0]},
    ]
    write(root / "config_v2.0.json", {"version": "2.0", "labels": labels})
    for split in ("training", "validation"):
        photo(root / split / "images" / f"{split}.jpg")
        ids = paint({"r": 0, "a": 256, "b": 257, ".": 512}, np.uint16)
        save(root / split / "v2.0" / "instances" / f"{split}.png", ids)
    photo(root / "testing" / "images" / "t.jpg")


def kitti_step(root: Path) -> None:
    for split, sequence in (("train", "0000"), ("val", "0002")):
        photo(root / "images" / split / sequence / "000000.png")
        values = {"r": (0, 0, 0), "a": (13, 0, 7), "b": (13, 1, 44), ".": (255, 0, 0)}  # car b is object 300
        save(root / "panoptic_maps" / split / sequence / "000000.png", paint(values))


def bdd100k(root: Path) -> None:
    for split in ("train", "val"):
        photo(root / "images" / "10k" / split / "a.jpg")
        values = {"r": (7, 0, 0, 7), "a": (35, 4, 0, 31), "b": (35, 8, 1, 44), ".": (0, 0, 0, 0)}
        save(root / "labels" / "pan_seg" / "bitmasks" / split / "a.png", paint(values))


def ade20k(root: Path) -> None:
    folder = root / "images" / "ADE" / "training" / "urban" / "street"
    photo(folder / "ADE_train_00000001.jpg")
    values = {"r": (80, 83, 5), "a": (10, 145, 10), "b": (10, 145, 15), ".": (0, 0, 0)}  # 8 * 256 + 83 and 256 + 145
    save(folder / "ADE_train_00000001_seg.png", paint(values))

    def entry(k: int, number: int, name: str, level: int) -> dict:
        parts = {"hasparts": [], "ispartof": [], "part_level": level}
        return {"id": k, "name": name, "name_ndx": number, "raw_name": name, "parts": parts, "polygon": {"x": [], "y": []}}

    objects = [entry(0, 2131, "road, route", 0), entry(1, 401, "car, auto", 0), entry(2, 401, "car, auto", 0)]
    objects.append(entry(3, 1279, "housing", 1))
    annotation = {"filename": "ADE_train_00000001.jpg", "imsize": [*SIZE, 3], "object": objects}
    write(folder / "ADE_train_00000001.json", {"annotation": annotation})


def ade20k_150(root: Path) -> None:
    photo(root / "images" / "validation" / "ADE_val_00000001.jpg")
    rows = ("Idx\tRatio\tTrain\tVal\tName", "7\t0.0398\t4023\t408\troad, route", "21\t0.0098\t5000\t500\tcar, auto ")
    write(root / "objectInfo150.txt", "\n".join(rows))
    write(root / "ade20k_instance_catid_mapping.txt", "Instacne100\tSceneParse150\tFullADE20K\n9\t\t21\t\t401\n")
    save(root / "annotations" / "validation" / "ADE_val_00000001.png", paint({"r": 7, "a": 21, "b": 21, ".": 0}))
    objects = {"r": (0, 0, 0), "a": (9, 1, 0), "b": (9, 2, 0), ".": (0, 0, 0)}
    save(root / "annotations_instance" / "validation" / "ADE_val_00000001.png", paint(objects))


def png_pairs(root: Path) -> None:
    photo(root / "images" / "val" / "a.png")
    write(root / "classes.txt", "7 road\n26 car\n")
    save(root / "classes" / "val" / "a.png", paint({"r": 7, "a": 26, "b": 26, ".": 255}))
    save(root / "instances" / "val" / "a.png", paint({"r": 0, "a": 1, "b": 300, ".": 0}, np.uint16))


EXPORTS: dict[str, Callable[[Path], None]] = {
    "ade20k": ade20k,
    "ade20k-150": ade20k_150,
    "bdd100k": bdd100k,
    "coco": coco,
    "cvat-coco": cvat_coco,
    "cvat-masks": cvat_masks,
    "kitti-step": kitti_step,
    "label-studio": label_studio,
    "labelme": labelme,
    "png-pairs": png_pairs,
    "segments-ai": segments_ai,
    "supervisely": supervisely,
    "vistas": vistas,
}
NAMES = {
    "ade20k": {"road": "road, route", "car": "car, auto"},
    "ade20k-150": {"road": "road, route", "car": "car, auto"},
    "vistas": {"road": "construction--flat--road", "car": "object--vehicle--car"},
}
"""What the road and the cars are called where it is something else."""
SPLITS = {
    "ade20k": ["train"],
    "ade20k-150": ["val"],
    "bdd100k": ["train", "val"],
    "coco": ["train2017"],
    "kitti-step": ["train", "val"],
    "png-pairs": ["val"],
    "vistas": ["train", "val"],
}
"""The split of each image of an export, where the format says it."""
DECLARED = {
    "ade20k-150",
    "bdd100k",
    "kitti-step",
    "segments-ai",
    "vistas",
}
"""The formats that say what is a thing."""
DRAWN_OVER_EACH_OTHER = {
    "coco",
    "cvat-coco",
    "label-studio",
    "labelme",
    "supervisely",
}
"""The formats that keep what lies below."""
