"""Predictors that read what somebody else has predicted: folders of dumps, result files of other tools, the truth itself."""

from functools import cached_property
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from data import instance_dump, semantic_dump
from data.coco_json import read_entries
from data.images import path_to_image_id
from data.instance_dump import from_full_logits, read_instances
from data.semantic_dump import read_semantics
from data.split import Split
from data.targets import mask_to_logits, panoptic_to_instance_logits, panoptic_to_semantic_logits
from data.taxonomy import Taxonomy
from prediction.predictor import Prediction
from runtime.files import InputError, file_digest, read_json, shorten


class DumpedInstances:
    """A folder of instance dumps, or of a run that has kept instances.

    Raises:
        InputError: if it holds neither.
    """

    gives = ("instances",)

    def __init__(self, folder: Path, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        self.folder, self.min_score = _find_dumps(folder, "instances", instance_dump.SUFFIX)

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return file_digest(instance_dump.dump_path(self.folder, image_id))

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor."""
        return Prediction(instances=read_instances(self.folder, image_id, self.taxonomy, image.shape[:2]))


class DumpedSemantics:
    """A folder of semantic dumps or class maps, or of a run that has kept semantics.

    Raises:
        InputError: if it holds neither.
    """

    gives = ("semantic",)
    min_score = None

    def __init__(self, folder: Path, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        self.folder, _ = _find_dumps(folder, "semantic", semantic_dump.SUFFIX, semantic_dump.MAP_SUFFIX)

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        logits, map_ = semantic_dump.dump_path(self.folder, image_id), semantic_dump.map_path(self.folder, image_id)
        return file_digest(map_ if map_.exists() and not logits.exists() else logits)

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor."""
        return Prediction(semantic=read_semantics(self.folder, image_id, self.taxonomy, image.shape[:2]))


def _find_dumps(folder: Path, kind: str, *suffixes: str) -> tuple[Path, float | None]:
    """The folder that holds the dumps, and from which score on the instances of the run that wrote them are worth fusing."""
    folder = Path(folder)
    place = folder / kind if (folder / kind).is_dir() else folder
    if not any(next(place.rglob(f"*{suffix}"), None) for suffix in suffixes):
        raise InputError(f"{folder}: no {kind} dumps there; predict them first, or give another folder")
    folders = (
        (place, place.parent) if place.name == kind else (place,)
    )  # a folder of another name is no part of the run around it
    run = next((path / "run.json" for path in folders if (path / "run.json").is_file()), None)
    content = read_json(run) if run else {}
    if not isinstance(content, dict) or kind not in content.get("kept", [kind]):
        raise InputError(f"{place}: is of an earlier run, as {run} says; predict with --keep {kind}, or give another folder")
    min_score = content.get("instances_min_score")
    return place, min_score if isinstance(min_score, int | float) else None


class CocoResultInstances:
    """A COCO result JSON with RLE masks, as mmdet, detectron2, torchvision, Hugging Face and ultralytics tools write it.

    Args:
        images_json: the annotation file that the results were made for; it tells which image an integer `image_id` is.
            Not needed where `image_id` is the image's own id, a string.
    """

    gives = ("instances",)
    min_score = None

    def __init__(self, json_path: Path, taxonomy: Taxonomy, images_json: Path | None = None):
        self.json_path, self.taxonomy, self.images_json = json_path, taxonomy, images_json

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return f"{self._file_digest}-{self._images_digest}"

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor."""
        entries, size = self._by_image.get(image_id, []), image.shape[:2]
        instances = from_full_logits(
            (mask_to_logits(self._decode(entry, size)) for entry in entries),
            [self._train_id(entry) for entry in entries],
            [float(entry["score"]) for entry in entries],
            image_id=image_id,
            size=size,
            stride=1,
            taxonomy=self.taxonomy,
            producer=self.json_path.name,
        )
        return Prediction(instances=instances)

    @cached_property
    def _file_digest(self) -> str:
        return file_digest(self.json_path)

    @cached_property
    def _images_digest(self) -> str:
        return file_digest(self.images_json) if self.images_json and self.images_json.exists() else "none"

    @cached_property
    def _by_image(self) -> dict[str, list[dict]]:
        fields = {"image_id": int | str, "category_id": int, "score": int | float, "segmentation": dict | list}
        advice = "give a COCO result list with masks, not boxes"
        entries = read_entries(self.json_path, read_json(self.json_path), "results", fields, advice)
        by_image: dict[str, list[dict]] = {}
        for k, entry in enumerate(entries):
            if not 0 <= entry["score"] <= 1:
                raise InputError(f"{self.json_path}: entry {k} has score {entry['score']!r}, but 0 to 1 is needed")
            by_image.setdefault(self._image_id(entry["image_id"]), []).append(entry)
        return by_image

    @cached_property
    def _image_names(self) -> dict[int, str]:
        if self.images_json is None or not self.images_json.exists():
            raise InputError(
                f"{self.json_path}: image ids are numbers; give the annotation JSON they belong to with --instances-images"
            )
        fields, advice = {"id": int | str, "file_name": str}, "give a COCO annotation JSON"
        images = read_entries(self.images_json, read_json(self.images_json), "images", fields, advice)
        return {image["id"]: path_to_image_id(image["file_name"]) for image in images}

    def _image_id(self, found: str | int) -> str:
        if isinstance(found, str):
            return path_to_image_id(found)
        if found not in self._image_names:
            raise InputError(f"{self.json_path}: image id {found} is not in {self.images_json}; give the right annotation JSON")
        return self._image_names[found]

    def _train_id(self, entry: dict) -> int:
        category_id = entry["category_id"]
        train_id = self.taxonomy.dataset_id_to_train_id.get(category_id)
        if train_id is None or not self.taxonomy.is_thing[train_id]:
            things = [int(self.taxonomy.dataset_ids[i]) for i in self.taxonomy.thing_ids]
            raise InputError(f"{self.json_path}: category id {category_id!r}, but things are {things}")
        return train_id

    def _decode(self, entry: dict, size: tuple[int, int]) -> np.ndarray:
        rle = entry["segmentation"]
        if not isinstance(rle, dict) or rle.get("size") != list(size):
            found = rle.get("size") if isinstance(rle, dict) else type(rle).__name__
            raise InputError(f"{self.json_path}: mask is {found}, but an RLE of size {list(size)} was needed")
        try:
            if isinstance(rle["counts"], list):
                rle = coco_mask.frPyObjects(rle, *size)
            return coco_mask.decode(rle).astype(bool)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{self.json_path}: an RLE cannot be decoded ({shorten(error)}); export it again") from None


class Truth:
    """The truth of a split as a perfect model would say it: masks and classes as logits, and the map itself.

    Args:
        stride: of the logits, in pixels.
    """

    gives = ("panoptic", "instances", "semantic")
    min_score = None

    def __init__(self, split: Split, stride: int = 4):
        if split.taxonomy is None:
            raise InputError(f"{split.name}: has no truth; give dumps or a model instead of `truth`")
        self.split, self.stride, self.taxonomy = split, stride, split.taxonomy

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return f"truth-{self.stride}-{self.split.truth_digest(self._index_of[image_id])}"

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor."""
        truth = self.split.truth(self._index_of[image_id])
        about = {"image_id": image_id, "stride": self.stride, "producer": "truth"}
        return Prediction(
            truth,
            panoptic_to_instance_logits(truth, self.taxonomy, **about),
            panoptic_to_semantic_logits(truth, self.taxonomy, **about),
        )

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {self.split.image_id(index): index for index in range(len(self.split))}
