"""The COCO panoptic layout on disk: SPLIT/ pictures, annotations/panoptic_SPLIT.json and annotations/panoptic_SPLIT/ PNGs.

Any data set of this form is read, with its own classes: they are the `categories` of its JSON.
"""

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from data.images import path_to_image_id, read_image
from data.panoptic_file import ImageId, PanopticFile, leaves_folder, read_panoptic_json, read_taxonomy
from data.panoptic_png import PanopticMap, describe_segments, read_segment_ids
from data.taxonomy import TAXONOMIES, Taxonomy
from runtime.files import InputError

ENVIRONMENT = "COCO_DATASET"
TRAIN_SPLIT, VAL_SPLIT = "train2017", "val2017"


def coco_root(given: str | Path | None = None) -> Path:
    """The data set's folder: `given`, else $COCO_DATASET, else the embedded Snapshots (drawn if absent).

    Prints one line where the embedded set is used.

    Raises:
        InputError: if the folder lacks annotations/.
    """
    chosen, source = given or os.environ.get(ENVIRONMENT), "--data-root" if given else f"${ENVIRONMENT}"
    if not chosen:
        return _embedded_root()
    root = Path(chosen).expanduser()
    if not (root / "annotations").is_dir():
        found = "no annotations/ in it" if root.is_dir() else "no such folder"
        raise InputError(f"{root}: {found}; {source} must name the folder that holds annotations/panoptic_SPLIT.json and SPLIT/")
    return root


@cache
def _embedded_root() -> Path:
    # Imported here, since drawing needs what reading real data does not; cached, so that a process says its line once.
    from data.drawn.snapshots import DEFAULT_ROOT, ensure_snapshots

    print(f"no --data-root given: using the embedded data set Snapshots in {DEFAULT_ROOT}", flush=True)
    return ensure_snapshots()


def panoptic_json_path(root: Path, split: str) -> Path:
    """Where a download has the panoptic JSON; the folder of PNGs beside it has the same name without suffix."""
    return Path(root) / "annotations" / f"panoptic_{split}.json"


def find_splits(root: Path) -> list[str]:
    """The splits that have a panoptic JSON and its folder of PNGs, by name."""
    paths = (Path(root) / "annotations").glob("panoptic_*.json")
    return sorted(path.stem.removeprefix("panoptic_") for path in paths if path.with_suffix("").is_dir())


def split_taxonomy(root: Path, split: str) -> Taxonomy:
    """The classes of a split: a known taxonomy where they are the same, else one that is named like the data set's folder.

    Raises:
        InputError: if there is no JSON of the split, or its `categories` are none of a panoptic data set.
    """
    return _named_after(root, read_taxonomy(_existing_json(root, split)))


def _existing_json(root: Path, split: str) -> Path:
    path = panoptic_json_path(root, split)
    if not path.is_file():
        known = ", ".join(find_splits(root)) or "none"
        raise InputError(f"{path}: no such file; splits with a panoptic JSON: {known}")
    return path


def _named_after(root: Path, taxonomy: Taxonomy) -> Taxonomy:
    return taxonomy if taxonomy.name in TAXONOMIES else replace(taxonomy, name=Path(root).resolve().name)


class CocoPictures:
    """A split of the COCO panoptic layout, in the order of its JSON. A picture's image id is its file name without suffix.

    Of a segment only its id, class and crowd flag are kept in memory, 16 bytes: COCO has more than a million.

    Raises:
        InputError: if the JSON does not read, a picture has no annotation or an annotation no picture, a picture's or a PNG's
            file is missing, or two pictures share an image id.
    """

    def __init__(self, root: Path, split: str):
        file = read_panoptic_json(_existing_json(root, split))
        self.json_path, self.folder = file.json_path, file.folder
        self.taxonomy = _named_after(root, file.taxonomy)
        self.picture_folder = Path(root) / split
        self.keys: list[ImageId] = list(file.annotations)
        """Image ids as the JSON has them, by index."""
        self.picture_files = _paired_pictures(file, self.picture_folder)
        self.png_files = [annotation.file_name for annotation in file.annotations.values()]
        _check_presence(self.folder, self.png_files, f"named in {file.json_path.name}")
        segments = [[(s.segment_id, s.category_id, s.is_crowd) for s in a.segments] for a in file.annotations.values()]
        self._ends = np.cumsum([len(of_image) for of_image in segments])
        self._segments = np.array([s for of_image in segments for s in of_image], dtype=np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self.keys)

    def image_id(self, index: int) -> str:
        """The id of a picture, by its place in the file."""
        return path_to_image_id(self.picture_files[index])

    def picture_path(self, index: int) -> Path:
        """Where the picture lies."""
        return self.picture_folder / self.picture_files[index]

    def png_path(self, index: int) -> Path:
        """The panoptic PNG."""
        return self.folder / self.png_files[index]

    def count_things(self) -> tuple[int, int]:
        """Number of counted things and of crowds in the JSON."""
        things = [self.taxonomy.dataset_ids[k] for k in self.taxonomy.thing_ids]
        is_thing = np.isin(self._segments[:, 1], things)
        num_crowds = int(self._segments[is_thing, 2].sum())
        return int(is_thing.sum()) - num_crowds, num_crowds

    def read(self, index: int) -> tuple[np.ndarray, PanopticMap]:
        """See LabelledPictures. Segments are in the order of the JSON, their areas and boxes counted from the PNG."""
        picture = read_image(self.picture_path(index))
        return picture, self.read_truth(index, picture.shape[:2])

    def read_truth(self, index: int, size: tuple[int, int] | None = None) -> PanopticMap:
        """The truth of one picture.

        Args:
            size: (height, width) that it must have.

        Raises:
            InputError: if the PNG does not read, is of another size, or does not hold just the ids that the JSON lists.
        """
        path = self.png_path(index)
        segment_ids = read_segment_ids(path, size)
        end = int(self._ends[index])
        rows = self._segments[int(self._ends[index - 1]) if index else 0 : end].tolist()
        drawn = {s.segment_id: s for s in describe_segments(segment_ids, category_of=lambda _: 0)}
        listed = [segment_id for segment_id, *_ in rows]
        if drawn.keys() != set(listed):
            different = sorted(drawn.keys() ^ set(listed))[:5]
            where = f"{path} and {self.json_path}"
            raise InputError(f"{where}: segment ids {different} are in only one of both; 0 is void; write both again")
        segments = tuple(replace(drawn[k], category_id=category, is_crowd=bool(crowd)) for k, category, crowd in rows)
        return PanopticMap(segment_ids, segments)


def _paired_pictures(file: PanopticFile, folder: Path) -> list[str]:
    """The picture's file of each annotation; they are paired by image id."""
    without_picture = [key for key in file.annotations if key not in file.image_files]
    if without_picture:
        found = f"image id {without_picture[0]!r} has an annotation, but is not in `images`"
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
