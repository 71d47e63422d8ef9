"""The truth of a split as other tools would write it: what each form loses, and something to read for the tests."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from data.panoptic_png import PanopticMap
from data.split import Split
from data.targets import panoptic_to_instances, panoptic_to_semantic
from data.taxonomy import VOID_TRAIN_ID
from prediction.fused import FusedPredictor, LogitRule
from prediction.run import predict_split
from prediction.score import score
from prediction.sources.find import Halves

VOID_PROBABILITY = 0.05
"""Of every class but the pixel's own, in probabilities."""


def things(split: Split) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """(index of the image, number of the object in it, train id, (H, W) bool mask) of each thing."""
    for index, truth in _truths(split):
        masks, train_ids, _ = panoptic_to_instances(truth, split.taxonomy)
        for number, (mask, train_id) in enumerate(zip(masks, train_ids.tolist(), strict=True)):
            yield index, number, train_id, mask


def write_results(path: Path, split: Split, *, has_box: bool = True, is_compressed: bool = True) -> Path:
    """A COCO result list: with boxes and compressed run lengths as of mmdet, detectron2 and ultralytics."""
    entries = []
    for index, _, train_id, mask in things(split):
        rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        counts = rle["counts"].decode() if is_compressed else run_lengths(mask)
        entry = {"image_id": split.image_id(index), "category_id": int(split.taxonomy.dataset_ids[train_id]), "score": 1.0}
        entry["segmentation"] = {"size": [int(side) for side in rle["size"]], "counts": counts}
        entries.append(entry | ({"bbox": [float(v) for v in coco_mask.toBbox(rle)]} if has_box else {}))
    path.write_text(json.dumps(entries))
    return path


def run_lengths(mask: np.ndarray) -> list[int]:
    """Uncompressed run lengths of an (H, W) bool mask, background first, down the columns."""
    flat = np.concatenate(([False], mask.ravel(order="F"), [False]))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate(([0], changes, [mask.size]))).tolist()[: len(changes) + (changes[-1] < mask.size)]


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """(N, 2) points (x, y) of each part of a mask, as tools draw polygons around it: holes are lost."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [part.reshape(-1, 2) for part in found if len(part) >= 3]


def write_polygons(path: Path, split: Split) -> Path:
    """A COCO result list of polygons."""
    entries = []
    for index, _, train_id, mask in things(split):
        if parts := [part.ravel().tolist() for part in outlines(mask)]:
            entry = {"image_id": split.image_id(index), "category_id": int(split.taxonomy.dataset_ids[train_id])}
            entries.append(entry | {"score": 1.0, "segmentation": parts})
    path.write_text(json.dumps(entries))
    return path


def write_yolo_polygons(folder: Path, split: Split) -> Path:
    """ultralytics' txt files with classes as train ids: of each object its largest part, as the tool does by default."""
    folder.mkdir(parents=True)
    for index, _, train_id, mask in things(split):
        parts = outlines(mask)
        if parts:
            height, width = mask.shape
            points = max(parts, key=len) / (width, height)
            line = " ".join(f"{value:g}" for value in (train_id, *points.ravel(), 1.0))
            with (folder / f"{split.image_id(index)}.txt").open("a") as file:
                file.write(line + "\n")
    return folder


def write_cityscapes_masks(folder: Path, split: Split) -> Path:
    """Cityscapes' txt files and PNGs."""
    (folder / "masks").mkdir(parents=True)
    for index in range(len(split)):
        (folder / f"{split.image_id(index)}.txt").touch()
    for index, number, train_id, mask in things(split):
        name = f"masks/{split.image_id(index)}_{number}.png"
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / name)
        with (folder / f"{split.image_id(index)}.txt").open("a") as file:
            file.write(f"{name} {split.taxonomy.dataset_ids[train_id]} 1.0\n")
    return folder


def write_class_maps(folder: Path, split: Split, numbering: str = "ids", *, has_palette: bool = False) -> Path:
    """8-bit PNGs of the data set's ids with 0 for void, or of train ids with 255 for void."""
    folder.mkdir(parents=True)
    table = np.full(256, VOID_TRAIN_ID if numbering == "places" else 0, np.uint8)
    own = range(split.taxonomy.num_classes) if numbering == "places" else split.taxonomy.dataset_ids
    table[: split.taxonomy.num_classes] = own
    for index, truth in _truths(split):
        image = Image.fromarray(table[panoptic_to_semantic(truth, split.taxonomy)])
        if has_palette:
            image.putpalette(np.arange(768, dtype=np.uint8).tobytes())
        image.save(folder / f"{split.image_id(index)}.png")
    return folder


def write_probabilities(folder: Path, split: Split, stride: int = 4, *, suffix: str = ".npy") -> Path:
    """(1, C, h, w) softmax shares at a stride, as a network's output is saved."""
    folder.mkdir(parents=True)
    for index, truth in _truths(split):
        train_ids = panoptic_to_semantic(truth, split.taxonomy)
        one_hot = (train_ids == np.arange(split.taxonomy.num_classes)[:, None, None]).astype(np.float32)
        size = tuple(-(-side // stride) for side in train_ids.shape[::-1])
        planes = np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in one_hot])
        shares = (planes + VOID_PROBABILITY) / (planes + VOID_PROBABILITY).sum(0)
        path = folder / f"{split.image_id(index)}{suffix}"
        (np.save if suffix == ".npy" else np.savez_compressed)(path, shares[None].astype(np.float16))
    return folder


INSTANCE_FORMS: dict[str, Callable[[Path, Split], Path]] = {
    "COCO results, run lengths (mmdet, detectron2, ultralytics predictions.json)": lambda f, s: write_results(f / "r.json", s),
    "COCO results, polygons": lambda f, s: write_polygons(f / "p.json", s),
    "ultralytics txt polygons": lambda f, s: write_yolo_polygons(f / "yolo", s),
    "Cityscapes txt + PNG": lambda f, s: write_cityscapes_masks(f / "city", s),
}
SEMANTIC_FORMS: dict[str, Callable[[Path, Split], Path]] = {
    "class-map PNG, the data set's ids": lambda f, s: write_class_maps(f / "ids", s),
    "class-map PNG, train ids": lambda f, s: write_class_maps(f / "train_ids", s, "places"),
    "probabilities, .npy at stride 4": lambda f, s: write_probabilities(f / "npy", s),
}


def _truths(split: Split) -> Iterator[tuple[int, PanopticMap]]:
    return ((index, split.truth(index)) for index in range(len(split)))


def measure(split: Split, folder: Path) -> Iterator[tuple[str, str, float]]:
    """(half, form, PQ) of the truth through each form, the other half as dumps; the first row is both as dumps.

    Args:
        folder: an empty one for what is written.
    """
    yield "both", "dumps of this project, stride 4", _quality(split, folder, "truth", "truth")
    for name, write in INSTANCE_FORMS.items():
        yield "instances", name, _quality(split, folder, write(folder, split), "truth")
    for name, write in SEMANTIC_FORMS.items():
        yield "semantics", name, _quality(split, folder, "truth", write(folder, split))


def _quality(split: Split, folder: Path, instances: str | Path, semantics: str | Path) -> float:
    predictor = FusedPredictor(*Halves(split, str(instances), str(semantics)).find(), LogitRule())
    return score(predict_split(split, predictor, folder / "run"), split).quality["All"]["pq"]
