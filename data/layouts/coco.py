"""The COCO panoptic layout on disk: SPLIT/ images, annotations/panoptic_SPLIT.json and annotations/panoptic_SPLIT/ PNGs.

Any data set of this form is read, with its own classes: they are the `categories` of its JSON.
"""

import hashlib
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.images import check_size_of_truth, name_key, unique_image_ids
from data.layouts import coco_derived
from data.layouts.coco_derived import Track, track_nothing
from data.panoptic_file import ImageId, PanopticFile, leaves_folder, read_panoptic_json, read_taxonomy
from data.panoptic_png import PanopticMap, check_listed, describe_segments, read_segment_ids
from data.split import FileSplit
from data.taxonomy import Taxonomy
from runtime.files import InputError, file_digest, shorten, walk_files

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
    """A split of the COCO panoptic layout, in the order of its JSON. Image ids are those of unique_image_ids.

    Of a segment only its id, class and crowd flag are kept in memory, 16 bytes: COCO has more than a million.

    Args:
        derived: folder of what is made from the truth, instead of the root; an instance JSON of a download is read where it is.

    Raises:
        InputError: if the JSON does not read, an image has no annotation or an annotation no image, an image's or a PNG's
            file is missing, or one is named twice.
    """

    def __init__(self, root: Path, split: str, *, derived: Path | None = None):
        file = read_panoptic_json(_existing_json(root, split))
        self.name, self.taxonomy = f"{split} of {root}", file.taxonomy
        self.root, self.split, self.derived = Path(root), split, Path(derived or root)
        self.json_path, self.folder = file.json_path, file.folder
        self.keys: list[ImageId] = list(file.annotations)
        """Image ids as the JSON has them, by index."""
        self.image_files = _paired_images(file, self.root / split)
        """As they are on disk, relative to the split's folder."""
        self.image_ids = unique_image_ids(self.image_files)
        named = [annotation.file_name for annotation in file.annotations.values()]
        self.png_files = _find_named(self.folder, named, f"named in {file.json_path.name}")
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
        return self.image_ids[index]

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
        segment_ids = read_segment_ids(path)
        check_size_of_truth(path, segment_ids.shape, self.image_path(index))
        rows = self._rows(index)
        drawn = {s.segment_id: s for s in describe_segments(segment_ids, category_of=lambda _: 0)}
        check_listed(drawn, (segment_id for segment_id, *_ in rows), f"{path} and {self.json_path}")
        segments = tuple(replace(drawn[k], category_id=category, is_crowd=bool(crowd)) for k, category, crowd in rows)
        return PanopticMap(segment_ids, segments)

    def ensure_instances_json(self, track: Track = track_nothing) -> bool:
        """Write the COCO instance JSON that mmdet reads, unless it is there; return whether it was written."""
        return coco_derived.ensure_instances_json(self, track)

    @property
    def instances_json(self) -> Path:
        """Where that JSON lies."""
        own = coco_derived.instances_json_path(self.root, self.split)
        is_downloaded = own.exists() and not coco_derived.is_ours(own)
        return own if is_downloaded else coco_derived.instances_json_path(self.derived, self.split)

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
        found = f"file_name {shorten(repr(outside[0]), 80)} leaves its folder or is no name"
        raise InputError(f"{file.json_path}: {found}; one relative to {folder} was needed")
    repeated = [name for name, count in Counter(map(name_key, names)).items() if count > 1]
    if repeated:
        found = f"{len(repeated)} files are named by more than one image, first {repeated[0]!r}"
        raise InputError(f"{file.json_path}: {found}; list each image once")
    return _find_named(folder, names, f"named in {file.json_path.name}")


def _find_named(folder: Path, names: list[str], why: str) -> list[str]:
    """The names as they are on disk: letters may be composed or not there, and suffixes in upper case.

    One listing, since asking for each of a hundred thousand files takes long on a network drive.
    """
    there = walk_files(folder) if folder.is_dir() else []
    exact, by_key = set(there), {name_key(name): name for name in there}
    found = [os.path.normpath(name) for name in names]
    found = [name if name in exact else by_key.get(name_key(name), name) for name in found]
    absent = [name for name in found if name not in exact and not (folder / name).is_file()]
    if absent:
        raise InputError(f"{folder / absent[0]}: no such file, but {why} ({len(absent)} of {len(names)} are missing); add them")
    return found


def open_split(root: Path, split: str, *, need_labels: bool = False, derived: Path | None = None) -> CocoSplit:
    """See data.layouts.find.DataSet.split; in this layout every image has a truth."""
    return CocoSplit(root, split, derived=derived)
