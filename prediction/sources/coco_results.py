"""COCO result lists with masks: mmdet's *.segm.json, detectron2's coco_instances_results.json, ultralytics' predictions.json.

https://cocodataset.org/#format-results; RLE compressed or not, polygons of one or more parts, image ids as numbers or names.
"""

import math
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data.class_matching import ForeignClasses
from data.coco_json import read_entries
from data.image_names import names_of_split, read_number
from data.json_stream import JsonList
from data.run_lengths import decode_crop, read_segmentation
from data.split import Split
from prediction.sources.foreign import FoundObject
from runtime.files import InputError, file_digest, first_few, read_json, shorten

FIELDS = {"image_id": int | str, "category_id": int | float | str, "score": int | float | str, "segmentation": dict | list}
ADVICE = "give a COCO result list with masks, not boxes"


class CocoResults:
    """The entries of a result list, of which only places in the file are held.

    `notes` says how many entries and images fit nothing.

    Args:
        split: the images; see data.image_names on how a name in the file is taken for one of them.
        images_json: the annotation file that the results were made for; it tells which image a number is. Not needed where the
            file has the images' own ids.
        has_classes: whether it also says what the ids of classes are called: the data set's own says nothing of another tool's.

    Raises:
        InputError: if the file is no list of scored masks, or no image in it is one of the split.
    """

    min_score = None
    needs_pixels = False

    def __init__(self, json_path: Path, split: Split, images_json: Path | None = None, *, has_classes: bool = True):
        self.json_path = Path(json_path)
        self.images_json = images_json if images_json is not None and images_json.exists() else None
        self.name = self.json_path.name
        self._list = JsonList(self.json_path)
        starts: dict[str | int, array] = {}
        used: set[int] = set()
        for k, (start, entry) in enumerate(self._list):
            image_id, number = self._check(k, entry)
            starts.setdefault(image_id, array("q")).append(start)
            used.add(number)
        annotations = read_json(self.images_json) if self.images_json else None
        names = _read_class_names(annotations) if has_classes else {}
        self.classes = ForeignClasses(str(self.json_path), {number: names.get(number) for number in sorted(used)})
        self._digests = f"{file_digest(self.json_path)}-{file_digest(self.images_json) if self.images_json else 'none'}"
        self._starts, unknown = self._pair(starts, split, annotations)
        self.notes = []
        if unknown:
            named = f"{len(unknown)} images in {self.json_path} are none of {split.name}, such as {first_few(unknown)}"
            self.notes.append(f"{named}; left out")
        if num_without := len(split) - len(self._starts):
            self.notes.append(f"{num_without} of {len(split)} images of {split.name} have no result in {self.json_path}")

    def fingerprint(self, image_id: str) -> str:
        """See ForeignInstances."""
        return self._digests

    def objects(self, image_id: str, image: np.ndarray) -> Iterator[FoundObject]:
        """See ForeignInstances."""
        for entry in self._list.at(self._starts.get(image_id, array("q"))):
            found = self._located(entry, decode_crop, entry["segmentation"], image.shape[:2], 1)
            if found is not None:
                yield FoundObject(read_class_id(entry["category_id"]), float(entry["score"]), *found)

    def _check(self, k: int, entry: dict) -> tuple[str | int, int]:
        """The image id and the class of an entry; refused here, and not in the middle of a run."""
        for name, types in FIELDS.items():
            if name not in entry:
                raise InputError(f"{self.json_path}: entry {k} of `results` lacks `{name}`; {ADVICE}")
            if not isinstance(entry[name], types) or isinstance(entry[name], bool):
                raise InputError(
                    f"{self.json_path}: entry {k} of `results` has `{name}` {shorten(repr(entry[name]), 60)}; {ADVICE}"
                )
        number = read_class_id(entry["category_id"])
        if number is None:
            found = shorten(repr(entry["category_id"]), 60)
            raise InputError(f"{self.json_path}: entry {k} of `results` has `category_id` {found}; a whole number is needed")
        if not 0 <= read_score(entry["score"]) <= 1:
            raise InputError(f"{self.json_path}: entry {k} has score {entry['score']!r}, but 0 to 1 is needed")
        self._located(entry, read_segmentation, entry["segmentation"], None)
        return entry["image_id"], number

    def _pair(
        self, starts: dict[str | int, array], split: Split, annotations: object
    ) -> tuple[dict[str, array], list[str | int]]:
        """The places by image id of the split, and the image ids in the file that fit none."""
        names, listed = names_of_split(split), self._read_image_names(annotations)
        found: dict[str, array] = {}
        of_image: dict[str, str | int] = {}
        unknown = []
        for k, places in starts.items():
            try:
                image_id = names.find(listed.get(read_number(k), k))
            except InputError as error:
                raise InputError(f"{self.json_path}: {error}") from None
            if image_id is None:
                unknown.append(k)
                continue
            if image_id in of_image:
                both = f"{of_image[image_id]!r} and {k!r} would both be image {image_id!r}"
                raise InputError(f"{self.json_path}: {both}; give names that tell them apart")
            of_image[image_id], found[image_id] = k, places
        if starts and not found:
            what = f"none of its images is one of {split.name}: {first_few(unknown)} against {split.image_id(0)}"
            advice = "give the results of these images"
            if any(isinstance(k, int) for k in unknown):
                advice += f", or with --instances-images the JSON that its numbers are of (read was: {self.images_json})"
            raise InputError(f"{self.json_path}: {what}; {advice}")
        return found, unknown

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

    def _located(self, entry: dict, read: Callable, *given: object) -> object:
        """What a reader of a mask gives; its errors with the file and the image."""
        try:
            return read(*given)
        except InputError as error:
            raise InputError(f"{self.json_path}: image {entry['image_id']!r}, {error}") from None


def read_class_id(found: object) -> int | None:
    """A class id that may have become text or a fraction; None where it is none."""
    if isinstance(found, float) and found.is_integer():
        return int(found)
    return read_number(found) if isinstance(found, int | str) and not isinstance(found, bool) else None


def read_score(found: object) -> float:
    """A score that may have become text; NaN where it is none."""
    try:
        return float(found)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _read_class_names(annotations: object) -> dict[int | None, str]:
    """The names of an annotation file's categories by id."""
    listed = annotations.get("categories") if isinstance(annotations, dict) else None
    if isinstance(listed, dict):  # id -> name
        listed = [{"id": k, "name": name} for k, name in listed.items()]
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return {read_class_id(entry.get("id")): entry["name"] for entry in entries if isinstance(entry.get("name"), str)}
