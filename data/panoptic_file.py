"""The COCO panoptic layout: one JSON (images, annotations, categories) and a folder of panoptic PNGs."""

import json
import shutil
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from data.coco_json import check_entry
from data.images import existing_spelling
from data.json_stream import JsonObject, Member
from data.panoptic_png import PanopticMap, PanopticRuns, Segment, check_listed, read_segment_ids, read_segment_runs, read_segments
from data.row_runs import RowRuns
from data.segment_runs import find_runs
from data.taxonomy import CITYSCAPES, TAXONOMIES, Taxonomy, recognise
from runtime.files import InputError, atomic_path, first_few, is_plain_name, shorten, walk_files

ImageId = str | int
PANOPTIC_ENDING = "_panoptic"
"""Behind the image id in the name of a panoptic PNG of a run folder."""
FIELDS = {"image_id": int | str, "file_name": str, "segments_info": list}
"""Of an annotation."""
LISTS = ("annotations", "images")
"""Of a file, which may be long."""
ADVICE = "give a COCO panoptic JSON"


@dataclass(frozen=True)
class PanopticAnnotation:
    """One entry of `annotations`. `file_name` is the PNG, relative to the folder.

    Areas and boxes of `segments` are what the JSON says (0 where it says nothing); read_panoptic_map counts the areas.
    """

    image_id: ImageId
    file_name: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class PanopticFile:
    """A panoptic JSON and its folder; annotations by image id, in the order of the file.

    `image_files` holds the images' file names by image id where the JSON has `images`. `moved` is what read_panoptic_map does to
    each map, such as a class map, after which it is of the taxonomy.
    """

    json_path: Path
    folder: Path
    taxonomy: Taxonomy
    annotations: Mapping[ImageId, PanopticAnnotation]
    image_files: dict[ImageId, str] = field(default_factory=dict)
    moved: Callable[[PanopticMap], PanopticMap] | None = None


def read_panoptic_json(
    json_path: Path, folder: Path | None = None, taxonomy: Taxonomy | None = None, *, is_prediction: bool = False
) -> PanopticFile:
    """Read and check a panoptic JSON; PNGs are read later, one by one.

    Args:
        folder: where the PNGs lie; default is the JSON's path without `.json`.
        taxonomy: the classes of a file that has no `categories`. Default: Cityscapes train ids or Cityscapes ids,
            whichever the file's category ids are.
        is_prediction: some models number segments from 0, which the official evaluators take as they are; in a truth 0 is void.

    Raises:
        InputError: if the file is missing or no JSON, lacks a key, repeats an image id or a segment id of an image, uses
            a category outside the taxonomy, names a PNG outside the folder, or if the folder is missing.
    """
    json_path = Path(json_path)
    folder = json_path.with_suffix("") if folder is None else Path(folder)
    annotations = ListedAnnotations(json_path, is_prediction)
    if not annotations:
        raise InputError(f"{json_path}: `annotations` is empty; give a JSON with at least one image")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, but the PNGs of {json_path.name} were looked for there; name their folder")
    if annotations.categories:
        taxonomy = _read_taxonomy(json_path, annotations.categories)
    elif taxonomy is None:
        taxonomy = annotations.guess_taxonomy()
    annotations.check_taxonomy(taxonomy)
    return PanopticFile(json_path, folder, taxonomy, annotations, annotations.image_files)


class ListedAnnotations(Mapping[ImageId, PanopticAnnotation]):
    """The annotations of a panoptic JSON by image id, in the order of the file, which must not change while they are used.

    All are checked once; an image keeps its id, the file name of its image, and 16 bytes on where its entry is read again.

    Args:
        is_prediction: see read_panoptic_json.

    Raises:
        InputError: as read_panoptic_json, of a single entry.
    """

    def __init__(self, json_path: Path, is_prediction: bool = False):
        self.json_path, self.is_prediction = json_path, is_prediction
        self.categories: object = None
        self.image_files: dict[ImageId, str] = {}
        self._json = JsonObject(json_path, LISTS)
        self._places: dict[ImageId, int] = {}
        self._bytes = array("q")  # start and end of each
        self._in_memory: list[PanopticAnnotation] = []  # of a file that is not in UTF-8
        self._first_use: dict[int, ImageId] = {}
        """The first image that uses a category."""
        self._has_own_ids = False
        """Whether a segment's id says its category neither as it is nor by its thousands."""
        self._read()

    def __getitem__(self, image_id: ImageId) -> PanopticAnnotation:
        place = self._places[image_id]
        if self._in_memory:
            return self._in_memory[place]
        return self._annotation(place, self._json.value_at(self._bytes[2 * place], self._bytes[2 * place + 1]))

    def __iter__(self) -> Iterator[ImageId]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._places

    def guess_taxonomy(self) -> Taxonomy:
        """Cityscapes ids or train ids. Ids such as 7 and 8 can be either; then the segment ids tell: 26 or 26001 is a car."""
        used, by_train_id = self._first_use.keys(), CITYSCAPES.with_train_ids()
        are_dataset_ids = used <= CITYSCAPES.dataset_id_to_train_id.keys()
        are_train_ids = used <= by_train_id.dataset_id_to_train_id.keys()
        if are_dataset_ids and are_train_ids:
            are_train_ids = self._has_own_ids
        if are_train_ids:
            return TAXONOMIES[by_train_id.name]
        if are_dataset_ids:
            return CITYSCAPES
        found = f"has no `categories`, and category ids {first_few(sorted(used))} are not Cityscapes'"
        raise InputError(f"{self.json_path}: {found}; give a taxonomy ({', '.join(TAXONOMIES)}, or a JSON with `categories`)")

    def check_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Refuse a taxonomy that lacks a category that is used."""
        strangers = sorted(self._first_use.keys() - taxonomy.dataset_id_to_train_id.keys())
        if strangers:
            unknown = f"category ids {first_few(strangers)} of image {self._first_use[strangers[0]]!r}"
            needed = f"not in taxonomy {taxonomy.name}, whose ids are {first_few(taxonomy.dataset_ids.tolist())}"
            raise InputError(f"{self.json_path}: {unknown} are {needed}; add them there")

    def _read(self) -> None:
        has_list = False
        for member in self._json:
            if member.is_entry and member.name == "images":
                self._add_image(member.value)
            elif member.is_entry:
                self._add(member)
            elif member.name == "annotations":
                has_list = member.value == []
                self._places.clear()
                del self._bytes[:], self._in_memory[:]
            elif member.name == "categories":
                self.categories = member.value
        if not has_list:
            raise InputError(f"{self.json_path}: holds no list of `annotations`; {ADVICE}")

    def _add_image(self, entry: object) -> None:
        """Entries without names are no harm, since only images in a report need them."""
        if isinstance(entry, dict) and isinstance(entry.get("file_name"), str) and isinstance(entry.get("id"), str | int):
            self.image_files[entry["id"]] = entry["file_name"]

    def _add(self, member: Member) -> None:
        place = len(self._places)
        check_entry(self.json_path, place, "annotations", member.value, FIELDS, ADVICE)
        annotation = self._annotation(place, member.value)
        if self._places.setdefault(annotation.image_id, place) != place:
            raise InputError(f"{self.json_path}: image id {annotation.image_id!r} occurs twice; keep one annotation an image")
        if member.start < 0:
            self._in_memory.append(annotation)
        self._bytes.extend((member.start, member.end))
        for segment in annotation.segments:
            self._first_use.setdefault(segment.category_id, annotation.image_id)
            self._has_own_ids |= segment.category_id not in (segment.segment_id, segment.segment_id // 1000)

    def _annotation(self, place: int, entry: dict) -> PanopticAnnotation:
        return _read_annotation(f"{self.json_path}: annotation {place}", entry, self.is_prediction)


def read_panoptic_folder(folder: Path, taxonomy: Taxonomy) -> PanopticFile:
    """Panoptic PNGs that list their own segments, as write_panoptic_png writes them, without a JSON.

    Args:
        taxonomy: whose dataset ids the segments' category ids are.

    Raises:
        InputError: if there is none, one lists no segments, or a category is none of the taxonomy's.
    """
    annotations: dict[ImageId, PanopticAnnotation] = {}
    for name in walk_files(Path(folder), (".png",)):
        segments = read_segments(Path(folder) / name)
        if segments is None:
            raise InputError(f"{Path(folder) / name}: lists no segments; write it with save_panoptic, or give a panoptic JSON")
        strangers = sorted({s.category_id for s in segments} - taxonomy.dataset_id_to_train_id.keys())
        if strangers:
            found = f"category ids {first_few(strangers)} are not in {taxonomy.name}"
            known = first_few(taxonomy.dataset_ids.tolist())
            raise InputError(f"{Path(folder) / name}: {found}, which has {known}; write these, or give a JSON with `categories`")
        image_id = name.removesuffix(".png").removesuffix(PANOPTIC_ENDING)
        annotations[image_id] = PanopticAnnotation(image_id, name, segments)
    if not annotations:
        raise InputError(f"{folder}: no PNGs there; give the folder that save_panoptic wrote, or a panoptic JSON")
    return PanopticFile(Path(folder), Path(folder), taxonomy, annotations)


def read_taxonomy(json_path: Path) -> Taxonomy:
    """The classes of a panoptic JSON; a known taxonomy, with its name, where they are the same.

    Raises:
        InputError: if the file does not read, or has no `categories` with `isthing`.
    """
    categories = None
    for member in JsonObject(json_path, LISTS):
        if member.name == "categories":
            categories = member.value
    if not categories:
        raise InputError(f"{json_path}: has no `categories`; a COCO panoptic JSON lists its classes there")
    return _read_taxonomy(Path(json_path), categories)


def read_panoptic_map(file: PanopticFile, image_id: ImageId) -> PanopticMap:
    """Read the PNG of one image.

    Segments keep the order of the JSON, on which the crowd rule of panoptic quality depends. Areas are counted from the
    PNG; boxes are the JSON's. Of a prediction a listed 0 is a segment.

    Raises:
        InputError: if the image is not in the file, its PNG does not read, or PNG and JSON name different ids.
    """
    listed, path = _read_as_listed(file, image_id)
    areas = count_ids(listed.segment_ids)
    check_listed(areas, (s.segment_id for s in listed.segments), f"{path} and {file.json_path}")
    found = PanopticMap(listed.segment_ids, tuple(replace(s, area=areas[s.segment_id]) for s in listed.segments))
    return found if file.moved is None else file.moved(found)


def read_listed_map(file: PanopticFile, image_id: ImageId) -> tuple[PanopticMap, Path]:
    """The PNG of one image with the segments as the JSON lists them, areas and all unchecked, and the PNG's path.

    Of a file with another taxonomy than its own it is as read_panoptic_map, since what is moved must be right.

    Raises:
        InputError: if the image is not in the file, or its PNG does not read.
    """
    listed, path = _read_as_listed(file, image_id)
    return (listed if file.moved is None else read_panoptic_map(file, image_id)), path


def read_listed_runs(file: PanopticFile, image_id: ImageId) -> tuple[PanopticMap | PanopticRuns, Path]:
    """As read_listed_map, with the runs of the rows instead of pixels where these are few, as they are in nearly every map.

    Raises:
        InputError: as read_listed_map.
    """
    if file.moved is not None:
        return read_listed_map(file, image_id)
    annotation, path = _find_annotation(file, image_id)
    segment_ids = read_segment_runs(path)
    found = PanopticRuns if isinstance(segment_ids, RowRuns) else PanopticMap
    return found(segment_ids, annotation.segments), path


def _read_as_listed(file: PanopticFile, image_id: ImageId) -> tuple[PanopticMap, Path]:
    annotation, path = _find_annotation(file, image_id)
    return PanopticMap(read_segment_ids(path), annotation.segments), path


def _find_annotation(file: PanopticFile, image_id: ImageId) -> tuple[PanopticAnnotation, Path]:
    annotation = file.annotations.get(image_id)
    if annotation is None:
        raise InputError(f"{file.json_path}: no annotation for image {image_id!r}; add one")
    return annotation, existing_spelling(file.folder / annotation.file_name)


def write_panoptic_json(
    path: Path,
    taxonomy: Taxonomy,
    entries: Iterable[tuple[ImageId, str, str, tuple[int, int], Sequence[Segment]]],
) -> None:
    """Write a COCO panoptic JSON atomically, in memory that does not grow; the same entries give the same bytes.

    Args:
        entries: (image id, file name of the image, file name of the PNG, (height, width), segments) of each image.
    """
    with atomic_path(path) as partial, partial.open("w") as file, tempfile.TemporaryFile("w+", dir=partial.parent) as later:
        file.write('{\n "images": [')
        later.write(' "annotations": [')
        separator = "\n"
        for image_id, image_file, png_file, (height, width), segments in entries:
            image = {"id": image_id, "file_name": image_file, "height": int(height), "width": int(width)}
            infos = [segment.to_json() for segment in segments]
            file.write(separator + _indented(image, 2))
            later.write(separator + _indented({"image_id": image_id, "file_name": png_file, "segments_info": infos}, 2))
            separator = ",\n"
        end = "" if separator == "\n" else "\n "  # of a list
        file.write(f"{end}],\n")
        later.write(f'{end}],\n "categories": {_indented(taxonomy.to_coco_categories(), 1).lstrip()}\n}}\n')
        later.seek(0)
        shutil.copyfileobj(later, file, 1 << 20)


def _indented(value: object, depth: int) -> str:
    """JSON as json.dumps(indent=1) has it at this depth."""
    return "\n".join(" " * depth + line for line in json.dumps(value, indent=1).split("\n"))


def count_ids(segment_ids: np.ndarray) -> dict[int, int]:
    """Pixels of each id that occurs in an (H, W) map, ascending by id."""
    runs = find_runs(segment_ids)
    return dict(zip(runs.ids.tolist(), runs.areas().tolist(), strict=True))


def _read_annotation(place: str, entry: dict, is_prediction: bool) -> PanopticAnnotation:
    image_id, file_name, infos = entry["image_id"], entry["file_name"], entry["segments_info"]
    if not file_name or leaves_folder(file_name):
        found = f"file_name {shorten(repr(file_name), 80)} leaves its folder or is no name"
        raise InputError(f"{place}: {found}; one relative to that folder was needed")
    try:
        segments = tuple(Segment.from_json(info, may_be_zero=is_prediction) for info in infos)
    except InputError as error:
        raise InputError(f"{place} (image {image_id!r}): {error}") from None
    repeated = sorted(k for k, count in Counter(s.segment_id for s in segments).items() if count > 1)
    if repeated:
        found = f"segment ids {first_few(repeated)} occur twice in image {image_id!r}"
        raise InputError(f"{place}: {found}; each segment needs its own")
    return PanopticAnnotation(image_id, file_name, segments)


def _read_taxonomy(json_path: Path, categories: object) -> Taxonomy:
    """The file's classes; a known taxonomy, with its name, where they are the same."""
    if not isinstance(categories, list):
        raise InputError(f"{json_path}: `categories` is no list; each class needs `id`, `name` and `isthing`")
    try:
        taxonomy = Taxonomy.from_coco_categories(json_path.stem, categories)
    except InputError as error:
        raise InputError(f"{json_path}: `categories` do not read, {error}") from None
    return recognise(taxonomy)


def leaves_folder(file_name: str) -> bool:
    """Whether a name points outside of its folder, here or under Windows, or cannot be a file's name."""
    paths = (PurePosixPath(file_name), PureWindowsPath(file_name))
    is_outside = any(path.is_absolute() or path.drive or path.root or ".." in path.parts for path in paths)
    return is_outside or not is_plain_name(file_name)
