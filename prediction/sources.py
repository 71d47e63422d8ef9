"""Where the two predictions of an image come from: dump folders, result files of other frameworks, a live model, the truth.

Every source reads one frame at a time, and gives a fingerprint that changes when what it would read changes, so that an
interrupted run can tell which results are still good.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np
from pycocotools import mask as coco_mask

from data import instance_dump, semantic_dump
from data.images import path_to_image_id, read_image
from data.instance_dump import InstanceLogits, from_full_logits, read_instances
from data.layouts.cityscapes import Frame, read_truth
from data.semantic_dump import SemanticLogits, read_semantic
from data.targets import panoptic_to_instance_logits, panoptic_to_semantic_logits
from data.taxonomy import Taxonomy
from runtime.files import InputError, read_json, shorten

RLE_CONFIDENCE = 10.0
"""Logit inside a binary mask, and minus that outside: near certain, and exactly representable in float16."""


class InstanceSource(Protocol):
    """Gives the scored masks of a frame."""

    def fingerprint(self, frame: Frame) -> str:
        """Another one whenever `read` would give something else."""

    def read(self, frame: Frame, size: tuple[int, int]) -> InstanceLogits:
        """The frame's instances.

        Args:
            size: (height, width) of the frame's image.

        Raises:
            InputError: if they are missing, broken, or of another size or taxonomy.
        """


class SemanticSource(Protocol):
    """Gives the semantic logits of a frame."""

    def fingerprint(self, frame: Frame) -> str:
        """As InstanceSource's."""

    def read(self, frame: Frame, size: tuple[int, int]) -> SemanticLogits:
        """The frame's logits; arguments and errors as InstanceSource's."""


class SemanticModel(Protocol):
    """A trained semantic model, such as efficientps.predictor.SemanticPredictor."""

    producer: str

    def predict(self, image_id: str, picture: np.ndarray) -> SemanticLogits:
        """The logits of a picture, (H, W, 3) uint8 RGB."""


class PanopticModel(Protocol):
    """A trained model of both, such as efficientps.panoptic_inference.PanopticPredictor."""

    producer: str

    def predict(self, image_id: str, picture: np.ndarray) -> tuple[InstanceLogits, SemanticLogits]:
        """Both predictions of a picture, (H, W, 3) uint8 RGB."""


@dataclass(frozen=True)
class DumpedInstances:
    """A folder of instance dumps."""

    folder: Path
    taxonomy: Taxonomy

    def fingerprint(self, frame: Frame) -> str:
        return _digest(instance_dump.dump_path(self.folder, frame.image_id))

    def read(self, frame: Frame, size: tuple[int, int]) -> InstanceLogits:
        return read_instances(self.folder, frame.image_id, self.taxonomy, size)


@dataclass(frozen=True)
class CocoResultInstances:
    """A COCO result JSON with RLE masks, as mmdet, detectron2, torchvision, Hugging Face and ultralytics tools write it.

    Args:
        images_json: the annotation file that the results were made for; it tells which image an integer `image_id` is.
            Not needed where `image_id` is the image's own id, a string.
    """

    json_path: Path
    taxonomy: Taxonomy
    images_json: Path | None = None

    def fingerprint(self, frame: Frame) -> str:
        return f"{self._file_digest}-{self._images_digest}"

    def read(self, frame: Frame, size: tuple[int, int]) -> InstanceLogits:
        entries = self._by_image.get(frame.image_id, [])
        return from_full_logits(
            (np.where(self._decode(entry, size), RLE_CONFIDENCE, -RLE_CONFIDENCE) for entry in entries),
            [self._train_id(entry) for entry in entries],
            [float(entry["score"]) for entry in entries],
            image_id=frame.image_id,
            size=size,
            stride=1,
            taxonomy=self.taxonomy,
            producer=self.json_path.name,
        )

    @cached_property
    def _file_digest(self) -> str:
        return _digest(self.json_path)

    @cached_property
    def _images_digest(self) -> str:
        return _digest(self.images_json) if self.images_json and self.images_json.exists() else "none"

    @cached_property
    def _by_image(self) -> dict[str, list[dict]]:
        entries = read_json(self.json_path)
        if not isinstance(entries, list):
            raise InputError(f"{self.json_path}: holds a {type(entries).__name__}, but a COCO result list was needed")
        by_image: dict[str, list[dict]] = {}
        for k, entry in enumerate(entries):
            if not isinstance(entry, dict) or not {"image_id", "category_id", "score", "segmentation"} <= set(entry):
                raise InputError(
                    f"{self.json_path}: entry {k} lacks image_id, category_id, score or segmentation; export masks, not boxes"
                )
            if not isinstance(entry["score"], int | float) or not 0 <= entry["score"] <= 1:
                raise InputError(f"{self.json_path}: entry {k} has score {entry['score']!r}, but 0 to 1 is needed")
            by_image.setdefault(self._image_id(entry["image_id"]), []).append(entry)
        return by_image

    @cached_property
    def _image_names(self) -> dict[int, str]:
        if self.images_json is None or not self.images_json.exists():
            raise InputError(
                f"{self.json_path}: image ids are numbers; give the annotation JSON they belong to with --instances-images"
            )
        try:
            return {image["id"]: path_to_image_id(image["file_name"]) for image in read_json(self.images_json)["images"]}
        except (KeyError, TypeError):
            raise InputError(
                f"{self.images_json}: has no `images` with `id` and `file_name`; give a COCO annotation JSON"
            ) from None

    def _image_id(self, found: str | int) -> str:
        if isinstance(found, str):
            return path_to_image_id(found)
        if found not in self._image_names:
            raise InputError(f"{self.json_path}: image id {found} is not in {self.images_json}; give the right annotation JSON")
        return self._image_names[found]

    def _train_id(self, entry: dict) -> int:
        category_id = entry["category_id"]
        train_id = self.taxonomy.dataset_id_to_train_id.get(category_id) if isinstance(category_id, int) else None
        if train_id is None or not self.taxonomy.is_thing[train_id]:
            things = [int(self.taxonomy.dataset_ids[i]) for i in self.taxonomy.thing_ids]
            raise InputError(f"{self.json_path}: category id {category_id!r}, but things are {things}")
        return train_id

    def _decode(self, entry: dict, size: tuple[int, int]) -> np.ndarray:
        rle = entry["segmentation"]
        if not isinstance(rle, dict) or tuple(rle.get("size", ())) != tuple(size):
            found = rle.get("size") if isinstance(rle, dict) else type(rle).__name__
            raise InputError(f"{self.json_path}: mask is {found}, but an RLE of size {list(size)} was needed")
        try:
            if isinstance(rle["counts"], list):
                rle = coco_mask.frPyObjects(rle, *size)
            return coco_mask.decode(rle).astype(bool)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.json_path}: an RLE cannot be decoded ({shorten(error)}); export it again") from None


@dataclass(frozen=True)
class TruthInstances:
    """The truth's own masks, as logits: what a perfect instance model would give."""

    taxonomy: Taxonomy
    stride: int = 4

    def fingerprint(self, frame: Frame) -> str:
        return f"truth-{self.stride}-{_digest(frame.label_path)}"

    def read(self, frame: Frame, size: tuple[int, int]) -> InstanceLogits:
        return panoptic_to_instance_logits(
            read_truth(frame), self.taxonomy, image_id=frame.image_id, stride=self.stride, producer="truth"
        )


@dataclass(frozen=True)
class TruthSemantics:
    """The truth's own classes, as logits: what a perfect semantic model would give."""

    taxonomy: Taxonomy
    stride: int = 4

    def fingerprint(self, frame: Frame) -> str:
        return f"truth-{self.stride}-{_digest(frame.label_path)}"

    def read(self, frame: Frame, size: tuple[int, int]) -> SemanticLogits:
        return panoptic_to_semantic_logits(
            read_truth(frame), self.taxonomy, image_id=frame.image_id, stride=self.stride, producer="truth"
        )


@dataclass(frozen=True)
class DumpedSemantics:
    """A folder of semantic dumps."""

    folder: Path
    taxonomy: Taxonomy

    def fingerprint(self, frame: Frame) -> str:
        return _digest(semantic_dump.dump_path(self.folder, frame.image_id))

    def read(self, frame: Frame, size: tuple[int, int]) -> SemanticLogits:
        return read_semantic(self.folder, frame.image_id, self.taxonomy, size)


@dataclass(frozen=True)
class LiveSemantics:
    """A trained model, run on one picture at a time as it is needed: it uses all cores, and its memory counts once."""

    model: SemanticModel
    turn: Lock = field(default_factory=Lock)

    def fingerprint(self, frame: Frame) -> str:
        return f"{self.model.producer}-{_digest(frame.image_path)}"

    def read(self, frame: Frame, size: tuple[int, int]) -> SemanticLogits:
        picture = read_image(frame.image_path)
        with self.turn:
            return self.model.predict(frame.image_id, picture)


class LivePanoptic:
    """A model that gives both predictions at once: `instances` and `semantics` are two sources that share its runs.

    Args:
        is_shared: whether both are read, each frame once; else nothing is kept for the other.
    """

    def __init__(self, model: PanopticModel, is_shared: bool = True):
        self.model, self.is_shared = model, is_shared
        self.instances, self.semantics = _Half(self, 0), _Half(self, 1)
        self._waiting: dict[str, tuple[InstanceLogits, SemanticLogits]] = {}  # by image id, what only one of the two has read
        self._turn = Lock()

    def take(self, frame: Frame, half: int) -> InstanceLogits | SemanticLogits:
        """One half of a frame's predictions, which is then forgotten."""
        picture = read_image(frame.image_path) if frame.image_id not in self._waiting else None
        with self._turn:
            if frame.image_id in self._waiting:
                return self._waiting.pop(frame.image_id)[half]
            both = self.model.predict(frame.image_id, picture)
            if self.is_shared:
                self._waiting[frame.image_id] = both
            return both[half]


@dataclass(frozen=True)
class _Half:
    """An InstanceSource (0) or a SemanticSource (1); one worker reads a frame from both."""

    shared: LivePanoptic
    half: int

    @property
    def model(self) -> PanopticModel:
        return self.shared.model

    def fingerprint(self, frame: Frame) -> str:
        return f"{self.model.producer}-{_digest(frame.image_path)}"

    def read(self, frame: Frame, size: tuple[int, int]) -> InstanceLogits | SemanticLogits:
        return self.shared.take(frame, self.half)


def _digest(path: Path | None) -> str:
    if path is None:
        raise InputError("these pictures have no truth; give dumps and a model instead of `truth`")
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; dump this image first") from None
