"""Average precision of instance masks: pycocotools' COCOeval on a COCO instances JSON."""

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.images import path_to_image_id
from data.instance_dump import full_masks, read_instances
from data.taxonomy import Taxonomy
from runtime.files import InputError, read_json

Detection = tuple[int, float, "np.ndarray | dict"]
"""(category id of the file, score, mask): the mask is (H, W) bool or uint8, or a COCO run-length code."""
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
NEEDED = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "area", "segmentation"),
    "categories": ("id", "name"),
}
"""What COCOeval and this module read of a COCO instances JSON."""


def score_instances(truth_path: Path, detections: Iterable[tuple[str, Sequence[Detection]]]) -> dict:
    """Mask AP over IoU 0.5:0.95, as fractions of 1: {"AP", "AP50", "AP75", "APs", "APm", "APl", "per_class": {name: AP}}.

    Small, medium and large (s, m, l) are areas below 32^2, below 96^2 and above. None where the truth holds no object.

    Args:
        truth_path: COCO instances JSON.
        detections: (image id, its detections), one for each image of the truth; a picture `city/x_leftImg8bit.png` has
            image id `x`. An image in which nothing was found has an empty list.

    Raises:
        InputError: if the JSON is none of COCO instances, an image has no entry, or an entry is of no image, an unknown
            category, or another size.
    """
    truth = _read_truth(truth_path)
    images = _images_by_id(truth_path, truth)
    annotations, scored = [], set()
    for image_id, found in detections:
        if image_id not in images:
            raise InputError(f"{truth_path}: has no image {image_id!r}; score the detections of its own images")
        if image_id in scored:
            raise InputError(f"image {image_id!r}: detections came twice; keep one list an image")
        scored.add(image_id)
        for category_id, score, mask in found:
            if category_id not in truth.cats:
                raise InputError(f"image {image_id!r}: category id {category_id}, but {truth_path} has {sorted(truth.cats)}")
            annotations.append(_to_annotation(image_id, images[image_id], len(annotations) + 1, category_id, score, mask))
    absent = sorted(images.keys() - scored)
    if absent:
        raise InputError(f"{truth_path}: no detections for image {absent[0]!r} ({len(absent)} in all); predict every image")
    # Not COCO.loadRes: it fails on an empty list, and a model that finds nothing has an AP too.
    return _evaluate(truth, _to_coco(truth.dataset | {"annotations": annotations}))


def read_detections(folder: Path, image_ids: Iterable[str], taxonomy: Taxonomy) -> Iterator[tuple[str, list[Detection]]]:
    """What score_instances takes, from a folder of instance dumps, image by image.

    Raises:
        InputError: as data.instance_dump.read_instances.
    """
    for image_id in image_ids:
        instances = read_instances(folder, image_id, taxonomy)
        category_ids = taxonomy.dataset_ids[instances.train_ids].tolist()
        codes = (rle_codec.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in full_masks(instances))
        yield image_id, list(zip(category_ids, instances.scores.tolist(), codes, strict=True))


def _read_truth(path: Path) -> COCO:
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(kind), list) for kind in NEEDED):
        raise InputError(f"{path}: needs `images`, `annotations` and `categories`; give a COCO instances JSON")
    for kind, names in NEEDED.items():
        for k, entry in enumerate(content[kind]):
            absent = [name for name in names if not isinstance(entry, dict) or name not in entry]
            if absent:
                advice = "write the JSON with scripts/prepare_cityscapes.py"
                raise InputError(f"{path}: entry {k} of `{kind}` has no {', '.join(absent)}; {advice}")
    return _to_coco(content)


def _to_coco(content: dict) -> COCO:
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _images_by_id(path: Path, truth: COCO) -> dict[str, dict]:
    images: dict[str, dict] = {}
    for image in truth.dataset["images"]:
        image_id = path_to_image_id(image["file_name"])
        if images.setdefault(image_id, image) is not image:
            raise InputError(f"{path}: two pictures have image id {image_id!r}; rename one")
    return images


def _to_annotation(image_id: str, image: dict, number: int, category_id: int, score: float, mask: "np.ndarray | dict") -> dict:
    code = mask if isinstance(mask, dict) else rle_codec.encode(np.asfortranarray(mask, dtype=np.uint8))
    if isinstance(code.get("counts"), list):
        code = rle_codec.frPyObjects(code, *code["size"])
    size = (image["height"], image["width"])
    if tuple(code["size"]) != size:
        found, needed = (f"{h}x{w}" for h, w in (code["size"], size))
        raise InputError(f"image {image_id!r}: a mask is {found}, but the image is {needed}; give masks of the whole image")
    if not np.isfinite(score):
        raise InputError(f"image {image_id!r}: a score is {score}; finite scores are needed")
    return {
        "id": number,
        "image_id": image["id"],
        "category_id": category_id,
        "score": float(score),
        "segmentation": code,
        "area": float(rle_codec.area(code)),
        "bbox": rle_codec.toBbox(code).tolist(),
        "iscrowd": 0,
    }


def _evaluate(truth: COCO, found: COCO) -> dict:
    evaluator = COCOeval(truth, found, "segm")
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]  # (IoU, recall, class), all areas, most detections
    per_class = {}
    for k, category_id in enumerate(evaluator.params.catIds):
        values = precision[:, :, k]
        per_class[truth.cats[category_id]["name"]] = float(values.mean()) if (values > -1).all() else None
    overall = {name: float(value) if value > -1 else None for name, value in zip(NAMES, evaluator.stats[:6], strict=True)}
    return overall | {"per_class": per_class}
