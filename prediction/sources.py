"""Predictors that read what somebody else has predicted: folders of dumps, result files of other tools, the truth itself."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

from data import instance_dump, semantic_dump
from data.coco_json import read_entries
from data.image_names import names_of_split, read_number
from data.instance_dump import from_full_logits, read_instances
from data.run_lengths import decode_mask, read_counts
from data.semantic_dump import read_semantics
from data.split import Split
from data.targets import mask_to_logits, panoptic_to_instance_logits, panoptic_to_semantic_logits
from data.taxonomy import Taxonomy
from prediction.predictor import Prediction
from runtime.files import InputError, file_digest, first_few, read_json, shorten


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
    """A COCO result JSON with masks, as mmdet, detectron2, torchvision, Hugging Face and ultralytics tools write it.

    `notes` says in a line each what the ids in the file were taken for, and how many fit nothing.

    Args:
        split: the images; see data.image_names on how a name in the file is taken for one of them.
        images_json: the annotation file that the results were made for; it tells which image a number is, and what the ids of
            classes are called. Not needed where the file has the images' own ids.

    Raises:
        InputError: if the file is no list of scored masks, no image in it is one of the split, or a class is none of its things.
    """

    gives = ("instances",)
    min_score = None

    def __init__(self, json_path: Path, taxonomy: Taxonomy, split: Split, images_json: Path | None = None):
        self.json_path, self.taxonomy = Path(json_path), taxonomy
        self.images_json = images_json if images_json is not None and images_json.exists() else None
        fields = {"image_id": int | str, "category_id": int, "score": int | float, "segmentation": dict | list}
        advice = "give a COCO result list with masks, not boxes"
        entries = read_entries(self.json_path, read_json(self.json_path), "results", fields, advice)
        for k, entry in enumerate(entries):
            if not 0 <= entry["score"] <= 1:
                raise InputError(f"{self.json_path}: entry {k} has score {entry['score']!r}, but 0 to 1 is needed")
            if isinstance(entry["segmentation"], dict):  # here, and not in the middle of a run
                self._located(entry, read_counts, entry["segmentation"])
        annotations = read_json(self.images_json) if self.images_json else None
        self._digests = f"{file_digest(self.json_path)}-{file_digest(self.images_json) if self.images_json else 'none'}"
        self._by_image, unknown = self._pair(entries, split, annotations)
        used = sorted({entry["category_id"] for entry in entries})
        self._train_ids = self._read_classes(annotations, used)
        taken = first_few([f"{k} {taxonomy.categories[self._train_ids[k]].name}" for k in used])
        self.notes = [f"{self.json_path}: category ids taken for {taken}"] if used else []
        if unknown:
            named = f"{len(unknown)} images in {self.json_path} are none of {split.name}, such as {first_few(unknown)}"
            self.notes.append(f"{named}; left out")
        if num_without := len(split) - len(self._by_image):
            self.notes.append(f"{num_without} of {len(split)} images of {split.name} have no result in {self.json_path}")

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return self._digests

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor."""
        entries, size = self._by_image.get(image_id, []), image.shape[:2]
        instances = from_full_logits(
            (mask_to_logits(self._decode(entry, size)) for entry in entries),
            [self._train_ids[entry["category_id"]] for entry in entries],
            [float(entry["score"]) for entry in entries],
            image_id=image_id,
            size=size,
            stride=1,
            taxonomy=self.taxonomy,
            producer=self.json_path.name,
        )
        return Prediction(instances=instances)

    def _pair(self, entries: list[dict], split: Split, annotations: object) -> tuple[dict[str, list[dict]], list[str | int]]:
        """The entries by image id of the split, and the image ids in the file that fit none."""
        names, listed = names_of_split(split), self._read_image_names(annotations)
        found: dict[str | int, str | None] = {}
        of_image: dict[str, str | int] = {}
        for k in dict.fromkeys(entry["image_id"] for entry in entries):
            try:
                found[k] = names.find(listed.get(read_number(k), k))
            except InputError as error:
                raise InputError(f"{self.json_path}: {error}") from None
            if found[k] is not None and of_image.setdefault(found[k], k) != k:
                both = f"{of_image[found[k]]!r} and {k!r} would both be image {found[k]!r}"
                raise InputError(f"{self.json_path}: {both}; give names that tell them apart")
        unknown = [k for k, image_id in found.items() if image_id is None]
        if entries and len(unknown) == len(found):
            what = f"none of its images is one of {split.name}: {first_few(unknown)} against {split.image_id(0)}"
            advice = "give the results of these images"
            if any(isinstance(k, int) for k in unknown):
                advice += f", or with --instances-images the JSON that its numbers are of (read was: {self.images_json})"
            raise InputError(f"{self.json_path}: {what}; {advice}")
        by_image: dict[str, list[dict]] = {}
        for entry in entries:
            if (image_id := found[entry["image_id"]]) is not None:
                by_image.setdefault(image_id, []).append(entry)
        return by_image, unknown

    def _read_image_names(self, annotations: object) -> dict[int | None, str]:
        """File names by the numbers of the annotation file."""
        if self.images_json is None:
            return {}
        fields, advice = {"id": int | str, "file_name": str}, "give a COCO annotation JSON"
        images = read_entries(self.images_json, annotations, "images", fields, advice)
        names: dict[int | None, str] = {}
        for image in images:
            number = read_number(image["id"])
            if number is not None and names.setdefault(number, image["file_name"]) != image["file_name"]:
                raise InputError(f"{self.images_json}: image id {number} is {names[number]} and {image['file_name']}; keep one")
        return names

    def _read_classes(self, annotations: object, used: list[int]) -> dict[int, int]:
        """Category id -> train id; an id that the annotation file calls by another name than the data set is refused."""
        listed = annotations.get("categories") if isinstance(annotations, dict) else None
        if isinstance(listed, dict):  # id -> name
            listed = [{"id": k, "name": name} for k, name in listed.items()]
        entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
        names = {_read_id(entry.get("id")): entry.get("name") for entry in entries}
        train_ids = {}
        for category_id in used:
            train_id = self.taxonomy.dataset_id_to_train_id.get(category_id)
            if train_id is None or not self.taxonomy.is_thing[train_id]:
                things = ", ".join(f"{c.dataset_id} {c.name}" for c in self.taxonomy.categories if c.is_thing)
                advice = "write the data set's ids, which do not count the classes from 0 or 1"
                raise InputError(f"{self.json_path}: category id {category_id}, but things are {shorten(things)}; {advice}")
            own, other = self.taxonomy.categories[train_id].name, names.get(category_id)
            if other is not None and other != own:
                clash = f"category id {category_id} is {own!r} in the data set, but {shorten(repr(other), 40)}"
                raise InputError(f"{self.json_path}: {clash} in {self.images_json}; give results of the data set's classes")
            train_ids[category_id] = train_id
        return train_ids

    def _decode(self, entry: dict, size: tuple[int, int]) -> np.ndarray:
        return self._located(entry, decode_mask, entry["segmentation"], size)

    def _located(self, entry: dict, read: Callable, *given: object) -> object:
        """What a reader of a mask gives; its errors with the file and the image."""
        try:
            return read(*given)
        except InputError as error:
            raise InputError(f"{self.json_path}: image {entry['image_id']!r}, {error}") from None


def _read_id(found: object) -> int | None:
    """A class id that may have become text or a fraction."""
    if isinstance(found, float) and found.is_integer():
        return int(found)
    return read_number(found) if isinstance(found, int | str) else None


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
