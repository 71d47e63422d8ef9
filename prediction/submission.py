"""Predictions in the forms that the evaluation servers of Cityscapes and COCO take: one zip, complete or not at all.

Cityscapes: the instructions at the top of cityscapesscripts 2.3.0, evaluation/evalPixelLevelSemanticLabeling.py,
evalInstanceLevelSemanticLabeling.py and evalPanopticSemanticLabeling.py, which its server runs. COCO: dataset/upload.htm and
dataset/format-results.htm of github.com/cocodataset/cocodataset.github.io. See docs/submit.md.
"""

import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data import instance_dump, semantic_dump
from data.coco_json import read_entries
from data.image_names import ImageNames
from data.images import existing_spelling, path_to_image_id
from data.instance_dump import full_masks
from data.layouts import cityscapes, coco
from data.layouts.cityscapes import CityscapesSplit
from data.layouts.coco_derived import Track, track_nothing
from data.panoptic_conversions import PixelValues
from data.panoptic_file import ImageId, PanopticFile, leaves_folder, read_panoptic_json, read_panoptic_map
from data.panoptic_png import PanopticMap, write_segment_ids
from data.semantic_dump import SemanticLogits
from data.targets import fill_void, panoptic_to_semantic
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, VOID_TRAIN_ID, Taxonomy
from prediction.run import Run
from runtime.files import InputError, first_few, read_json, remove_partial_files, walk_files
from runtime.progress import note
from runtime.zip_file import write_zip

CITYSCAPES_NAME = re.compile(r"[^_\s/]+_[0-9]{6}_[0-9]{6}")
"""<city>_123456_123456, by which the server finds the files of an image."""
MASK_VALUE = 255
"""Of the pixels of an object; the server takes any that is not 0."""


@dataclass(frozen=True)
class ExpectedImage:
    """An image that the server scores; `name` begins the names of its files, `size` is (height, width)."""

    name: str
    key: ImageId
    file_name: str
    size: tuple[int, int]


class Predictions:
    """What was predicted, from a run folder or another tool's panoptic JSON, read one image at a time.

    Args:
        file: panoptic maps; None where the run has kept none.
        run: the run folder; None for another tool's file.
    """

    def __init__(self, taxonomy: Taxonomy, place: Path, file: PanopticFile | None, run: Run | None = None):
        self.taxonomy, self.place, self.file, self.run = taxonomy, place, file, run
        self._own_ids: dict[str, dict[str, ImageId]] = {}

    @classmethod
    def of_run(cls, folder: Path) -> "Predictions":
        """Open a run folder.

        Raises:
            InputError: if it is none, or its last command has not come to its end.
        """
        run, file = Run.open(folder), None
        if "panoptic" in run.kept:
            if not run.panoptic_json.is_file():
                raise InputError(f"{run.panoptic_json}: not there, so the run has not come to its end; run its command again")
            file = read_panoptic_json(run.panoptic_json, run.place("panoptic"), run.taxonomy, is_prediction=True)
        return cls(run.taxonomy, run.folder, file, run)

    @classmethod
    def of_file(cls, json_path: Path, folder: Path | None = None, taxonomy: Taxonomy | None = None) -> "Predictions":
        """Open another tool's panoptic JSON; arguments and errors as of read_panoptic_json."""
        file = read_panoptic_json(json_path, folder, taxonomy, is_prediction=True)
        return cls(file.taxonomy, file.json_path, file)

    def source_of(self, part: str) -> str:
        """The part itself where the run has kept it, else panoptic.

        Raises:
            InputError: if neither is there.
        """
        if self.run is not None and part in self.run.kept:
            return part
        if self.file is None:
            kept = " and ".join(self.run.kept)
            raise InputError(f"{self.place}: the run has kept {kept}; predict with --keep {part}, or panoptic")
        return "panoptic"

    def pair(self, images: list[ExpectedImage], part: str) -> None:
        """Find the prediction of each image; what is of none of them is left out, with a note.

        Raises:
            InputError: if an image has none, or two, or a prediction could be of two images.
        """
        source = self.source_of(part)
        found = self._named(source)
        names = ImageNames({image.name: (image.name, image.key, image.file_name) for image in images})
        own_ids: dict[str, ImageId] = {}
        strangers = []
        for own_id, spellings in found.items():
            try:
                fitting = sorted({name for name in map(names.find, spellings) if name is not None})
            except InputError as error:
                raise InputError(f"{self.place}: {error}") from None
            if len(fitting) > 1:
                advice = "number the images as the server's data set does"
                raise InputError(f"{self.place}: image {own_id!r} could be {first_few(fitting)}; {advice}")
            if not fitting:
                strangers.append(own_id)
            elif own_ids.setdefault(fitting[0], own_id) != own_id:
                both = f"{own_ids[fitting[0]]!r} and {own_id!r} are both of image {fitting[0]!r}"
                raise InputError(f"{self.place}: {both}; keep one prediction of each image")
        missing = [image.name for image in images if image.name not in own_ids]
        if missing:
            lacking = f"{len(missing)} of {len(images)} images have no {source} prediction: {first_few(missing)}"
            raise InputError(f"{self.place}: {lacking}; predict these, too")
        if strangers:
            note(f"{len(strangers)} {source} predictions are of no image of the split and left out: {first_few(strangers)}")
        self._own_ids[source] = own_ids
        if source == "semantic" and self.file is not None:  # the maps fill what the semantics leave void
            self.pair(images, "panoptic")

    def _named(self, source: str) -> dict[ImageId, list[ImageId]]:
        """The predictions that are there, by their own image id, each with its names."""
        if source == "panoptic":
            there = {
                k: a for k, a in self.file.annotations.items() if existing_spelling(self.file.folder / a.file_name).is_file()
            }
            return {k: [k, self.file.image_files[k]] if k in self.file.image_files else [k] for k in there}
        suffixes = {"instances": (instance_dump.SUFFIX,), "semantic": (semantic_dump.SUFFIX, semantic_dump.MAP_SUFFIX)}[source]
        folder = self.run.place(source)
        names = walk_files(folder) if folder.is_dir() else []
        ids = {name.removesuffix(suffix) for name in names for suffix in suffixes if name.endswith(suffix)}
        return {image_id: [image_id] for image_id in sorted(ids)}

    def panoptic(self, image: ExpectedImage) -> PanopticMap:
        """The panoptic map of an image.

        Raises:
            InputError: as read_panoptic_map, and if it is of another size.
        """
        own_id = self._own_ids["panoptic"][image.name]
        found = read_panoptic_map(self.file, own_id)
        if found.segment_ids.shape != image.size:
            own, needed = (f"{h}x{w}" for h, w in (found.segment_ids.shape, image.size))
            path = self.file.folder / self.file.annotations[own_id].file_name
            raise InputError(f"{path}: {own} pixels, but image {image.name!r} has {needed}; predict at the size of the image")
        return found

    def semantic(self, image: ExpectedImage) -> np.ndarray:
        """(H, W) uint8 train ids; where the semantics name no class that of the panoptic map, where there is one.

        Raises:
            InputError: as `panoptic` and read_semantics.
        """
        if "semantic" not in self._own_ids:
            return panoptic_to_semantic(self.panoptic(image), self.taxonomy)
        from fusion.logit_fusion import semantic_argmax

        found = self.run.semantic(self._own_ids["semantic"][image.name], image.size)
        train_ids = semantic_argmax(found, self.taxonomy) if isinstance(found, SemanticLogits) else found.train_ids
        has_void = bool((train_ids == VOID_TRAIN_ID).any())
        return fill_void(train_ids, self.panoptic(image), self.taxonomy) if has_void and self.file is not None else train_ids

    def instances(self, image: ExpectedImage) -> Iterator[tuple[int, float, np.ndarray]]:
        """(train id, score, (H, W) bool mask) of each object, best first; of a panoptic map its things, 1 without a score.

        Raises:
            InputError: as `panoptic` and read_instances.
        """
        if "instances" in self._own_ids:
            found = self.run.instances(self._own_ids["instances"][image.name], image.size)
            yield from zip(found.train_ids.tolist(), found.scores.tolist(), full_masks(found), strict=True)
            return
        panoptic = self.panoptic(image)
        things = [s for s in panoptic.segments if self.taxonomy.is_thing[self._train_id(s.category_id)] and not s.is_crowd]
        scored = [(1.0 if thing.score is None else thing.score, thing) for thing in things]
        for score, thing in sorted(scored, key=lambda entry: -entry[0]):
            yield self._train_id(thing.category_id), score, panoptic.segment_ids == thing.segment_id

    def _train_id(self, category_id: int) -> int:
        return self.taxonomy.dataset_id_to_train_id[category_id]


def cityscapes_images(root: Path, name: str) -> list[ExpectedImage]:
    """The images of a split in the Cityscapes layout.

    Raises:
        InputError: if there is no such split, or an image's name is not of the form by which the server finds its files.
    """
    split = CityscapesSplit(root, name)
    names = [split.image_id(index) for index in range(len(split))]
    strangers = [name for name in names if not CITYSCAPES_NAME.fullmatch(name)]
    if strangers:
        found = f"{len(strangers)} of {len(names)} images are not named <city>_123456_123456: {first_few(strangers)}"
        raise InputError(f"{split.name}: {found}; the server finds files by such names, rename the images and predict again")
    return [ExpectedImage(name, name, split.file_name(k), split.size(k)) for k, name in enumerate(names)]


def coco_images(root: Path, split: str) -> list[ExpectedImage]:
    """The images of a split of COCO: annotations/panoptic_SPLIT.json, or image_info_SPLIT.json, as of the test splits.

    Raises:
        InputError: if neither is there, or an entry lacks something or is there twice.
    """
    folder = Path(root) / "annotations"
    choices = [folder / f"panoptic_{split}.json", folder / f"image_info_{split}.json"]
    path = next((path for path in choices if path.is_file()), None)
    if path is None:
        found = f"no {' and no '.join(path.name for path in choices)} there"
        raise InputError(f"{folder}: {found}; unpack COCO's testing image info, or give another --split")
    fields = {"id": int, "file_name": str, "height": int, "width": int}
    entries = read_entries(path, read_json(path), "images", fields, "give COCO's file, with the sizes of its images")
    if not entries:
        raise InputError(f"{path}: lists no image; give COCO's file")
    images = []
    for entry in entries:
        if not entry["file_name"] or leaves_folder(entry["file_name"]):
            raise InputError(f"{path}: file_name {entry['file_name']!r} leaves its folder or is no name; give COCO's file")
        name = path_to_image_id(entry["file_name"])
        images.append(ExpectedImage(name, entry["id"], entry["file_name"], (entry["height"], entry["width"])))
    for what, values in (("file names", [image.name.lower() for image in images]), ("ids", [image.key for image in images])):
        repeated = {value for value in values if values.count(value) > 1} if len(set(values)) < len(values) else set()
        if repeated:
            raise InputError(f"{path}: {what} {first_few(sorted(repeated))} are there twice; list each image once")
    return images


Members = Iterator[tuple[str, bytes]]
"""Names and contents of the files in a zip."""


def panoptic_members(predictions: Predictions, images: list[ExpectedImage], stem: str, track: Track) -> Members:
    """The folder STEM of PNGs and STEM.json; the servers count areas themselves, and read nothing but ids and classes."""
    annotations = []
    with tempfile.TemporaryDirectory() as folder:
        for image in track(images, len(images)):
            found, png = predictions.panoptic(image), Path(folder) / "segments.png"
            write_segment_ids(png, found.segment_ids)
            yield f"{stem}/{image.name}.png", png.read_bytes()
            segments = [{"id": segment.segment_id, "category_id": segment.category_id} for segment in found.segments]
            annotations.append({"image_id": image.key, "file_name": f"{image.name}.png", "segments_info": segments})
    yield f"{stem}.json", json.dumps({"annotations": annotations}).encode()


def semantic_members(predictions: Predictions, images: list[ExpectedImage], stem: str, track: Track) -> Members:
    """<city>_123456_123456_labelIds.png: 8-bit label ids, 0 (unlabeled) for void; just one file an image begins so."""
    values = PixelValues.of(predictions.taxonomy)
    for image in track(images, len(images)):
        yield f"{image.name}_labelIds.png", _png(values.encode(predictions.semantic(image)))


def instance_members(predictions: Predictions, images: list[ExpectedImage], stem: str, track: Track) -> Members:
    """<city>_123456_123456.txt with a line `mask labelID confidence` for each object, and the masks in a folder beside.

    The official text wants paths relative to the root, its code takes them relative to the text file: in the root both are one.
    """
    for image in track(images, len(images)):
        lines = []
        for number, (train_id, score, mask) in enumerate(predictions.instances(image)):
            mask_name = f"masks/{image.name}_{number:04d}.png"
            yield mask_name, _png(np.where(mask, np.uint8(MASK_VALUE), np.uint8(0)))
            lines.append(f"{mask_name} {predictions.taxonomy.dataset_ids[train_id]} {score:.9g}\n")
        yield f"{image.name}.txt", "".join(lines).encode()


def _png(pixels: np.ndarray) -> bytes:
    """(H, W) uint8 as a grey PNG."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


@dataclass(frozen=True)
class Server:
    """What one evaluation server takes.

    layout: of the data set. images: root, split -> those of the split. num_images: of the test split, None where it is not known.
    part: of a prediction: panoptic, semantic or instances; what a run has not kept is taken from its panoptic maps.
    zip_name, stem: of the zip and, where there is one, of the JSON and its folder, with {split} and {name}.
    """

    layout: str
    images: Callable[[Path, str], list[ExpectedImage]]
    taxonomy: Taxonomy
    test_split: str
    num_images: int | None
    part: str
    members: Callable[[Predictions, list[ExpectedImage], str, Track], Members]
    zip_name: str
    address: str
    stem: str = ""


_CITYSCAPES = {
    "layout": cityscapes.NAME,
    "images": cityscapes_images,
    "taxonomy": CITYSCAPES,
    "test_split": "test",
    "num_images": 1525,  # README of cityscapesscripts
    "address": "https://www.cityscapes-dataset.com/submit",
}
_COCO = {
    "layout": coco.NAME,
    "images": coco_images,
    "taxonomy": COCO_PANOPTIC,
    "test_split": "test-dev2017",
    "num_images": None,
    "address": "https://cocodataset.org/#upload",
}
SERVERS: Mapping[str, Server] = {
    "cityscapes-panoptic": Server(
        **_CITYSCAPES,
        part="panoptic",
        members=panoptic_members,
        zip_name="cityscapes_panoptic_{split}_{name}.zip",
        stem="cityscapes_panoptic_{split}",
    ),
    "cityscapes-semantic": Server(
        **_CITYSCAPES, part="semantic", members=semantic_members, zip_name="cityscapes_semantic_{split}_{name}.zip"
    ),
    "cityscapes-instance": Server(
        **_CITYSCAPES, part="instances", members=instance_members, zip_name="cityscapes_instance_{split}_{name}.zip"
    ),
    "coco-panoptic": Server(
        **_COCO,
        part="panoptic",
        members=panoptic_members,
        zip_name="panoptic_{split}_{name}_results.zip",
        stem="panoptic_{split}_{name}_results",
    ),
}
"""A new server is an entry here."""


def check_taxonomy(server: Server, predictions: Predictions) -> None:
    """Refuse other classes than the server's.

    Raises:
        InputError: if they differ.
    """
    difference = server.taxonomy.difference(predictions.taxonomy)
    if difference is None:
        return
    is_by_train_id = server.taxonomy.with_train_ids().difference(predictions.taxonomy) is None
    found = "its category ids are train ids" if is_by_train_id else f"has other classes, {difference}"
    advice = "write the ids of the data set" if is_by_train_id else "predict with a model of these classes"
    raise InputError(f"{predictions.place}: {found}, but the server takes those of {server.taxonomy.name}; {advice}")


def write_submission(
    path: Path,
    server: Server,
    predictions: Predictions,
    images: list[ExpectedImage],
    stem: str = "",
    track: Track = track_nothing,
) -> None:
    """Check everything and write the zip, atomically; the same predictions give the same bytes.

    Args:
        stem: name of the JSON and its folder, where the server takes them.

    Raises:
        InputError: if the classes differ, an image has no prediction, or one is broken or of another size than its image.
    """
    check_taxonomy(server, predictions)
    predictions.pair(images, server.part)
    remove_partial_files(Path(path).parent)
    with write_zip(path) as add:
        for name, content in server.members(predictions, images, stem, track):
            add(name, content)
