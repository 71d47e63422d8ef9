"""The COCO panoptic layout on disk: SPLIT/ images, annotations/panoptic_SPLIT.json and annotations/panoptic_SPLIT/ PNGs.

Any data set of this form is read, with its own classes: they are the `categories` of its JSON.
"""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.images import path_to_image_id
from data.layouts import coco_derived
from data.layouts.coco_derived import Track, track_nothing
from data.panoptic_file import ImageId, PanopticFile, leaves_folder, read_panoptic_json, read_taxonomy
from data.panoptic_png import PanopticMap, describe_segments, read_segment_ids
from data.split import FileSplit
from data.taxonomy import Taxonomy
from runtime.files import InputError, file_digest

NAME = "coco"
FORM = "annotations/panoptic_SPLIT.json with its folder of PNGs"
ENVIRONMENT = ("COCO_DATASET",)
TRAIN_SPLITS, VAL_SPLITS = ("train2017", "train"), ("val2017", "val")
"""The usual names of both, of which the first that is there is taken."""


def recognises(root: Path) -> bool:
    """Whether a folder is of this layout."""
    return bool(find_splits(root))


def check_root(root: Path) -> None:
    """Refuse a folder of another layout.

    Raises:
        InputError: if it lacks annotations/.
    """
    if not (Path(root) / "annotations").is_dir():
        found = "no annotations/ in it" if Path(root).is_dir() else "no such folder"
        raise InputError(f"{root}: {found}; the COCO layout has annotations/panoptic_SPLIT.json and SPLIT/")


def panoptic_json_path(root: Path, split: str) -> Path:
    """Where a download has the panoptic JSON; the folder of PNGs beside it has the same name without suffix."""
    return Path(root) / "annotations" / f"panoptic_{split}.json"


def find_splits(root: Path) -> list[str]:
    """The splits that have a panoptic JSON and its folder of PNGs, by name."""
    paths = (Path(root) / "annotations").glob("panoptic_*.json")
    return sorted(path.stem.removeprefix("panoptic_") for path in paths if path.with_suffix("").is_dir())


def split_taxonomy(root: Path, split: str) -> Taxonomy:
    """The classes of a split; see data.taxonomy.recognise for their name.

    Raises:
        InputError: if there is no JSON of the split, or its `categories` are none of a panoptic data set.
    """
    return read_taxonomy(_existing_json(root, split))


def _existing_json(root: Path, split: str) -> Path:
    path = panoptic_json_path(root, split)
    if not path.is_file():
        known = ", ".join(find_splits(root)) or "none"
        raise InputError(f"{path}: no such file; splits with a panoptic JSON: {known}")
    return path


class CocoSplit(FileSplit):
    """A split of the COCO panoptic layout, in the order of its JSON. An image id is the image's file name without suffix.

    Of a segment only its id, class and crowd flag are kept in memory, 16 bytes: COCO has more than a million.

    Raises:
        InputError: if the JSON does not read, an image has no annotation or an annotation no image, an image's or a PNG's
            file is missing, or two images share an image id.
    """

    def __init__(self, root: Path, split: str):
        file = read_panoptic_json(_existing_json(root, split))
        self.name, self.taxonomy = f"{split} of {root}", file.taxonomy
        self.root, self.split = Path(root), split
        self.json_path, self.folder = file.json_path, file.folder
        self.keys: list[ImageId] = list(file.annotations)
        """Image ids as the JSON has them, by index."""
        self.image_files = _paired_images(file, self.root / split)
        self.png_files = [annotation.file_name for annotation in file.annotations.values()]
        _check_presence(self.folder, self.png_files, f"named in {file.json_path.name}")
        segments = [[(s.segment_id, s.category_id, s.is_crowd) for s in a.segments] for a in file.annotations.values()]
        self._ends = np.cumsum([len(of_image) for of_image in segments])
        self._segments = np.array([s for of_image in segments for s in of_image], dtype=np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, index: int) -> ImageId:
        """See Split."""
        return self.keys[index]

    def image_id(self, index: int) -> str:
        """See Split."""
        return path_to_image_id(self.image_files[index])

    def file_name(self, index: int) -> str:
        """See Split."""
        return self.image_files[index]

    def image_path(self, index: int) -> Path:
        """Where the image lies."""
        return self.root / self.split / self.image_files[index]

    def png_path(self, index: int) -> Path:
        """The panoptic PNG."""
        return self.folder / self.png_files[index]

    def has_truth(self, index: int) -> bool:
        """See Split."""
        return True

    def truth_digest(self, index: int) -> str:
        """See Split."""
        classes = [(c.dataset_id, c.name, c.is_thing) for c in self.taxonomy.categories]
        parts = (file_digest(self.png_path(index)), self._rows(index), classes)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def count_things(self) -> tuple[int, int]:
        """Number of counted things and of crowds in the JSON."""
        things = [self.taxonomy.dataset_ids[k] for k in self.taxonomy.thing_ids]
        is_thing = np.isin(self._segments[:, 1], things)
        num_crowds = int(self._segments[is_thing, 2].sum())
        return int(is_thing.sum()) - num_crowds, num_crowds

    def truth(self, index: int) -> PanopticMap:
        """See Split. Segments are in the order of the JSON, their areas and boxes counted from the PNG.

        Raises:
            InputError: if the PNG does not read, is of another size than its image, or does not hold just the ids of the JSON.
        """
        path = self.png_path(index)
        segment_ids = read_segment_ids(path, self.size(index))
        rows = self._rows(index)
        drawn = {s.segment_id: s for s in describe_segments(segment_ids, category_of=lambda _: 0)}
        listed = [segment_id for segment_id, *_ in rows]
        if drawn.keys() != set(listed):
            different = sorted(drawn.keys() ^ set(listed))[:5]
            where = f"{path} and {self.json_path}"
            raise InputError(f"{where}: segment ids {different} are in only one of both; 0 is void; write both again")
        segments = tuple(replace(drawn[k], category_id=category, is_crowd=bool(crowd)) for k, category, crowd in rows)
        return PanopticMap(segment_ids, segments)

    def ensure_instances_json(self, track: Track = track_nothing) -> bool:
        """Write the COCO instance JSON that mmdet reads, unless it is there; return whether it was written."""
        return coco_derived.ensure_instances_json(self, track)

    @property
    def instances_json(self) -> Path:
        """Where that JSON lies."""
        return coco_derived.instances_json_path(self.root, self.split)

    @property
    def image_folder(self) -> str:
        """The folder, relative to the root, to which the file names of that JSON are relative."""
        return f"{self.split}/"

    def _rows(self, index: int) -> list[list[int]]:
        """Segment id, category id and crowd flag of an image's segments."""
        return self._segments[int(self._ends[index - 1]) if index else 0 : int(self._ends[index])].tolist()


def _paired_images(file: PanopticFile, folder: Path) -> list[str]:
    """The image file of each annotation; they are paired by image id."""
    without_image = [key for key in file.annotations if key not in file.image_files]
    if without_image:
        found = f"image id {without_image[0]!r} has an annotation, but is not in `images`"
        raise InputError(f"{file.json_path}: {found}; add it there, with its file_name")
    without_truth = [key for key in file.image_files if key not in file.annotations]
    if without_truth:
        found = f"image id {without_truth[0]!r} is in `images`, but has no annotation"
        raise InputError(f"{file.json_path}: {found}; annotate it or remove it there")
    names = [file.image_files[key] for key in file.annotations]
    outside = [name for name in names if leaves_folder(name)]
    if outside:
        raise InputError(f"{file.json_path}: file_name {outside[0]!r} leaves its folder; a name relative to {folder} was needed")
    by_id: dict[str, str] = {}
    for name in names:
        other = by_id.setdefault(path_to_image_id(name), name)
        if other is not name:
            raise InputError(
                f"{file.json_path}: {other} and {name} would both be image id {path_to_image_id(name)!r}; rename one"
            )
    _check_presence(folder, names, f"named in {file.json_path.name}")
    return names


def _check_presence(folder: Path, names: list[str], why: str) -> None:
    """One listing, since asking for each of a hundred thousand files takes long on a network drive."""
    present: set[str] = set()
    for place, _, found in os.walk(folder):
        below = os.path.relpath(place, folder)
        present.update(found if below == os.curdir else (os.path.join(below, name) for name in found))
    absent = [name for name in names if os.path.normpath(name) not in present]
    if absent:
        raise InputError(f"{folder / absent[0]}: no such file, but {why} ({len(absent)} of {len(names)} are missing); add them")


def open_split(root: Path, split: str, *, need_labels: bool = False) -> CocoSplit:
    """See data.layouts.find.DataSet.split; in this layout every image has a truth."""
    return CocoSplit(root, split)
