"""The Cityscapes layout: find image and label pairs, read labels, convert them to panoptic PNG + JSON and to COCO instances.

The panoptic conversion equals cityscapesscripts/preparation/createPanopticImgs.py, the instance conversion mmdet's
tools/dataset_converters/cityscapes.py. Differs: images are in order of their ids, files are written whole or not at all,
and `annotations` stays in the instance JSON where it is empty.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path, PurePosixPath

import numpy as np
from cityscapesscripts.helpers.labels import id2label, labels, name2label

from data.derived_json import is_derived, read_info, write_derived
from data.images import IMAGE_SUFFIXES, check_size_of_truth, name_key, open_image, read_image_size, unique_image_ids, upright
from data.panoptic_png import PanopticMap, describe_runs, read_segment_ids, write_segment_ids
from data.png_file import GREY16, read_plain_png
from data.segment_runs import Runs, encode_masks, find_runs, look_up
from data.split import FileSplit
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID, Taxonomy
from runtime.files import InputError, digest_of, file_digest, is_hidden, walk_files
from runtime.threads import default_workers, in_threads

NAME = "cityscapes"
FORM = "leftImg8bit/ and gtFine/"
ENVIRONMENT = ("CITYSCAPES_DATASET", "CITYSCAPES_DIR")
TRAIN_SPLITS, VAL_SPLITS = ("train",), ("val",)
"""The usual names of both, of which the first that is there is taken."""
MADE_BY = "location-based-panoptic-segmentation: from gtFine_instanceIds.png"
IMAGE_ENDING = "_leftImg8bit"
LABEL_SUFFIX = "_gtFine_instanceIds.png"
OFFICIAL_SPLITS = ("train", "val", "test")

Track = Callable[[Iterable, int], Iterable]
"""Wraps an iterable of known length, for a progress bar."""


@dataclass(frozen=True)
class LabelledImage:
    """One image of the layout; `label_path` is its gtFine_instanceIds.png, None where there is none."""

    image_id: str
    image_path: Path
    label_path: Path | None


def recognises(root: Path) -> bool:
    """Whether a folder is of this layout."""
    return (Path(root) / "leftImg8bit").is_dir() and (Path(root) / "gtFine").is_dir()


def check_root(root: Path) -> None:
    """Refuse a folder of another layout.

    Raises:
        InputError: if it lacks leftImg8bit/ or gtFine/.
    """
    absent = [folder for folder in ("leftImg8bit", "gtFine") if not (Path(root) / folder).is_dir()]
    if absent:
        found = "no such folder" if not Path(root).is_dir() else f"no {'/ and no '.join(absent)}/ in it"
        raise InputError(f"{root}: {found}; the Cityscapes layout has leftImg8bit/ and gtFine/")


def find_splits(root: Path) -> list[str]:
    """The splits that hold images: train, val, test, then any others by name."""
    top = Path(root) / "leftImg8bit"
    names = sorted(place.name for place in top.iterdir() if place.is_dir() and not is_hidden(place.name)) if top.is_dir() else []
    found = [name for name in names if _image_names(root, name)]
    return sorted(found, key=lambda s: (OFFICIAL_SPLITS.index(s) if s in OFFICIAL_SPLITS else len(OFFICIAL_SPLITS), s))


def _image_names(root: Path, split: str) -> list[str]:
    """The images of a split, relative to its folder: `<city>/<city>_<sequence>_<frame>_leftImg8bit.png`, or another suffix."""
    folder = Path(root) / "leftImg8bit" / split
    names = walk_files(folder, IMAGE_SUFFIXES) if folder.is_dir() else []
    return [name for name in names if PurePosixPath(name).stem.endswith(IMAGE_ENDING) and "/" in name]


def find_images(root: Path, split: str, *, need_labels: bool = True) -> list[LabelledImage]:
    """The images of a split, sorted by id (`<city>_<sequence>_<frame>`), each with the label of the same id.

    Where two cities have an image of the same name, all ids are `<city>/<name>`.

    Raises:
        InputError: if the split is missing or empty, an image is there in two forms, or (need_labels) has no label.
    """
    root = Path(root)
    names = _image_names(root, split)
    if not names:
        known = ", ".join(find_splits(root)) or "none"
        place = root / "leftImg8bit" / split
        raise InputError(f"{place}: no <city>/*{IMAGE_ENDING}.png (or .jpg) there; splits with images: {known}")
    folder = root / "gtFine" / split
    labels = {name_key(name): name for name in walk_files(folder, (".png",))} if folder.is_dir() else {}
    forms: dict[str, str] = {}
    for name in names:
        other = forms.setdefault(str(PurePosixPath(name).with_suffix("")), name)
        if other != name:
            raise InputError(f"{root / 'leftImg8bit' / split}: {other} and {name} are one image in two forms; remove one of them")
    images: dict[str, LabelledImage] = {}
    for image_id, name in zip(unique_image_ids(names), names, strict=True):
        image_path = root / "leftImg8bit" / split / name
        label_name = name.removesuffix(PurePosixPath(name).suffix).removesuffix(IMAGE_ENDING) + LABEL_SUFFIX
        label = labels.get(name_key(label_name))
        if label is None and need_labels:
            raise InputError(f"{image_path}: its label {folder / label_name} is missing; add the label or remove the image")
        images[image_id] = LabelledImage(image_id, image_path, None if label is None else folder / label)
    return [images[image_id] for image_id in sorted(images)]


def read_instance_ids(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a gtFine_instanceIds.png as (H, W) int32: label id * 1000 + number for objects, the plain label id elsewhere.

    Pillow's modes I;16 and I are read, and 8-bit grey where no class with instances occurs, so that no number can be lost.
    65535 is a license plate (label id -1 in unsigned 16 bits) and stays as it is; it is not scored.

    Args:
        size: (height, width) that it must have.

    Raises:
        InputError: if the file is missing, broken, of another mode or size, or holds ids that Cityscapes does not know.
    """
    instance_ids, _ = _read_with_runs(path)
    if size is not None and instance_ids.shape != tuple(size):
        found, needed = (f"{h}x{w}" for h, w in (instance_ids.shape, size))
        raise InputError(f"{path}: {found} pixels, but its image has {needed}; use the label of the same image")
    return instance_ids


def _read_with_runs(path: Path) -> tuple[np.ndarray, Runs]:
    """As read_instance_ids, with the runs that tell which ids occur."""
    if plain := read_plain_png(path, GREY16):
        mode, instance_ids = "I;16", plain[0]
    else:
        with open_image(path) as image:
            mode = image.mode
            if mode not in ("I;16", "I", "L"):
                raise InputError(f"{path}: PNG mode {mode}, but instance ids are 16-bit grey; give the *{LABEL_SUFFIX} file")
            instance_ids = np.asarray(upright(image), dtype=np.int32)
    runs, is_known = find_runs(instance_ids), _known_values()
    values = runs.ids.tolist()
    strangers = [v for v in values if not (0 <= v < len(is_known) and is_known[v])]
    if strangers:
        raise InputError(f"{path}: ids {strangers[:5]} are of no Cityscapes label; give the *{LABEL_SUFFIX} file")
    if mode == "L" and any(id2label[v].hasInstances for v in values):
        raise InputError(f"{path}: 8-bit, so the instance numbers are lost (labelIds?); give the 16-bit *{LABEL_SUFFIX} file")
    return instance_ids, runs


@cache
def _known_values() -> np.ndarray:
    """(65536,) bool: whether a pixel value belongs to any label of the official table, scored or not."""
    table = _values_of(label.id for label in labels if label.id >= 0)
    table[65535] = True
    return table


@cache
def _train_ids_of_values() -> np.ndarray:
    """(65536,) uint8: pixel value -> train id, VOID_TRAIN_ID where the class is not scored."""
    table = np.full(65536, VOID_TRAIN_ID, dtype=np.uint8)
    for dataset_id, train_id in CITYSCAPES.dataset_id_to_train_id.items():
        table[_values_of([dataset_id])] = train_id
    return table


@cache
def _segment_ids_of_values() -> np.ndarray:
    """(65536,) uint32: pixel value -> the same number, 0 where the class is not scored."""
    values = np.arange(65536, dtype=np.uint32)
    return np.where(_train_ids_of_values() == VOID_TRAIN_ID, np.uint32(0), values)


def _values_of(label_ids: Iterable[int]) -> np.ndarray:
    """(65536,) bool: the pixel values of these labels, plain or with an instance number."""
    table = np.zeros(65536, dtype=bool)
    for label_id in label_ids:
        table[label_id] = True
        if label_id > 0:
            table[label_id * 1000 : (label_id + 1) * 1000] = True
    return table


def instance_ids_to_semantic(instance_ids: np.ndarray) -> np.ndarray:
    """(H, W) instance ids -> (H, W) uint8 train ids; groups keep their class, what is not scored is VOID_TRAIN_ID."""
    return look_up(_train_ids_of_values(), instance_ids)


def instance_ids_to_panoptic(instance_ids: np.ndarray, taxonomy: Taxonomy = CITYSCAPES) -> PanopticMap:
    """Segments as createPanopticImgs defines them: the pixel value is the segment id, a thing's value below 1000 is a crowd.

    Args:
        instance_ids: (H, W), as read_instance_ids gives them. Classes that are not scored become void.
        taxonomy: CITYSCAPES or CITYSCAPES.with_train_ids(); decides the category ids.
    """
    return _to_panoptic(instance_ids, find_runs(instance_ids), taxonomy)


def _to_panoptic(instance_ids: np.ndarray, runs: Runs, taxonomy: Taxonomy) -> PanopticMap:
    train_ids, segment_of = _train_ids_of_values(), _segment_ids_of_values()
    segments = describe_runs(
        replace(runs, ids=segment_of[runs.ids]),
        category_of=lambda value: int(taxonomy.dataset_ids[train_ids[value]]),
        is_crowd=lambda value: value < 1000 and bool(taxonomy.is_thing[train_ids[value]]),
    )
    return PanopticMap(look_up(segment_of, instance_ids), segments)


def read_truth(image: LabelledImage, taxonomy: Taxonomy = CITYSCAPES) -> PanopticMap:
    """The panoptic truth of an image.

    Raises:
        InputError: as read_instance_ids, and if the label is missing or of another size than the image.
    """
    return _to_panoptic(*_read_label(image), taxonomy)


def _read_label(image: LabelledImage) -> tuple[np.ndarray, Runs]:
    if image.label_path is None:
        raise InputError(f"{image.image_path}: has no *{LABEL_SUFFIX}, but its truth is needed")
    instance_ids, runs = _read_with_runs(image.label_path)
    # Only the header of the image: decoding it would take longer than the conversion.
    check_size_of_truth(image.label_path, instance_ids.shape, image.image_path)
    return instance_ids, runs


def panoptic_json_path(root: Path, split: str, *, use_train_ids: bool = False) -> Path:
    """Where createPanopticImgs puts its JSON; the folder of PNGs beside it has the same name without suffix."""
    return Path(root) / "gtFine" / f"cityscapes_panoptic_{split}{'_trainId' if use_train_ids else ''}.json"


def instances_json_path(root: Path, split: str) -> Path:
    """Where mmdet's configurations look for the instance JSON."""
    return Path(root) / "annotations" / f"instancesonly_filtered_gtFine_{split}.json"


def is_prepared(path: Path, images: list[LabelledImage], labels: str | None = None) -> bool:
    """Whether a JSON of write_panoptic or write_instances_json is whole and made from just these labels, as they are now.

    Args:
        labels: labels_digest of the images, where it is known.
    """
    if not is_derived(path, {"description": MADE_BY, "labels": labels or labels_digest(images)}):
        return False
    info = read_info(path)
    try:
        sizes = [read_image_size(image.image_path) for image in images]
        is_current = info.get("sizes") == digest_of(sizes)
        return is_current and ("pngs" not in info or info["pngs"] == _files_digest(_pngs(path, images)))
    except InputError:
        return False


def _pngs(path: Path, images: list[LabelledImage]) -> list[Path]:
    """The PNGs that belong to a panoptic JSON."""
    return [path.with_suffix("") / f"{image.image_id}_gtFine_panoptic.png" for image in images]


def _files_digest(paths: Iterable[Path]) -> str:
    """Changes with the content of any of the files."""
    return digest_of(list(in_threads(file_digest, paths, default_workers())))


def labels_digest(images: list[LabelledImage]) -> str:
    """Changes with the ids and names of the images and with the content of their labels."""
    digest = hashlib.sha256()
    found = in_threads(file_digest, [image.label_path for image in images], default_workers())
    for image, label in zip(images, found, strict=True):
        digest.update(f"{image.image_id} {image.image_path.name} {label}\n".encode())
    return digest.hexdigest()[:16]


def _track_nothing(items: Iterable, total: int) -> Iterable:
    return items


def write_panoptic(
    root: Path,
    split: str,
    *,
    use_train_ids: bool = False,
    track: Track = _track_nothing,
    workers: int | None = None,
    derived: Path | None = None,
) -> Path:
    """Write gtFine/cityscapes_panoptic_{split}[_trainId].json and its folder of PNGs, equal to the official tool's.

    The JSON comes last, and a PNG that already holds the right ids is kept, so that an interrupted run goes on.

    Args:
        workers: threads; None takes one a core, at most 8.
        derived: folder to write into, instead of the root.

    Raises:
        InputError: as find_images and read_truth.
    """
    path = panoptic_json_path(derived or root, split, use_train_ids=use_train_ids)
    taxonomy = CITYSCAPES.with_train_ids() if use_train_ids else CITYSCAPES
    labelled = find_images(root, split)
    work = partial(_write_panoptic_png, folder=path.with_suffix(""), taxonomy=taxonomy)
    images, annotations = [], []
    done = track(in_threads(work, labelled, workers or default_workers()), len(labelled))
    for image, (size, annotation) in zip(labelled, done, strict=True):
        # The official tool names an image that no download has; readers know it and strip "gtFine_".
        file_name = f"{image.image_id}_gtFine_leftImg8bit.png"
        images.append({"id": image.image_id, "width": size[1], "height": size[0], "file_name": file_name})
        annotations.append(annotation)
    categories = [c | {"supercategory": name2label[c["name"]].category} for c in taxonomy.to_coco_categories()]
    info = {"description": MADE_BY, "labels": labels_digest(labelled), "pngs": _files_digest(_pngs(path, labelled))}
    info["sizes"] = digest_of([(entry["height"], entry["width"]) for entry in images])
    write_derived(path, info, {"annotations": annotations, "categories": categories, "images": images})
    return path


def _write_panoptic_png(image: LabelledImage, folder: Path, taxonomy: Taxonomy) -> tuple[tuple[int, int], dict]:
    """Write one PNG; return (height, width) and the image's entry in `annotations`."""
    panoptic = read_truth(image, taxonomy)
    path = folder / f"{image.image_id}_gtFine_panoptic.png"
    if not _holds(path, panoptic.segment_ids):
        write_segment_ids(path, panoptic.segment_ids)
    segments = [segment.to_json() for segment in panoptic.segments]
    name = path.relative_to(folder).as_posix()
    return panoptic.segment_ids.shape, {"image_id": image.image_id, "file_name": name, "segments_info": segments}


def _holds(path: Path, segment_ids: np.ndarray) -> bool:
    if not path.is_file():
        return False
    try:
        return np.array_equal(read_segment_ids(path), segment_ids)
    except InputError:
        return False


def write_instances_json(
    root: Path, split: str, *, track: Track = _track_nothing, workers: int | None = None, derived: Path | None = None
) -> Path:
    """Write annotations/instancesonly_filtered_gtFine_{split}.json as mmdet's converter defines it.

    `category_id` is a dataset id, groups (ids below 1000) are `iscrowd`, masks are compressed RLE, images and annotations are
    numbered from 0.

    Args:
        workers: threads; None takes one a core, at most 8.
        derived: folder to write into, instead of the root.

    Raises:
        InputError: as find_images and read_truth.
    """
    path = instances_json_path(derived or root, split)
    labelled = find_images(root, split)
    done = track(in_threads(_coco_instances, labelled, workers or default_workers()), len(labelled))
    images, annotations = [], []
    for image, (size, found) in zip(labelled, done, strict=True):
        name = image.image_path.relative_to(Path(root) / "leftImg8bit" / split)
        stem = image.image_path.stem.removesuffix(IMAGE_ENDING)
        entry = {"file_name": name.as_posix(), "height": size[0], "width": size[1]}
        entry |= {"segm_file": (name.parent / f"{stem}_gtFine_labelIds.png").as_posix(), "id": len(images)}
        annotations += [a | {"image_id": entry["id"], "id": len(annotations) + k} for k, a in enumerate(found)]
        images.append(entry)
    categories = [{"id": c.dataset_id, "name": c.name} for c in CITYSCAPES.categories if c.is_thing]
    info = {"description": MADE_BY, "labels": labels_digest(labelled)}
    info["sizes"] = digest_of([(entry["height"], entry["width"]) for entry in images])
    write_derived(path, info, {"images": images, "categories": categories, "annotations": annotations})
    return path


def ensure_instances_json(root: Path, split: str, *, track: Track = _track_nothing, derived: Path | None = None) -> bool:
    """Write a split's COCO instance JSON where it is absent, broken, of other images or of other labels.

    Returns:
        Whether it was written now; it lies at instances_json_path.

    Raises:
        InputError: as write_instances_json.
    """
    if is_prepared(instances_json_path(derived or root, split), find_images(root, split)):
        return False
    write_instances_json(root, split, track=track, derived=derived)
    return True


def _coco_instances(image: LabelledImage) -> tuple[tuple[int, int], list[dict]]:
    """(height, width) and the annotations of one image, ascending by instance id, without `id` and `image_id`."""
    instance_ids, runs = _read_label(image)
    train_ids = _train_ids_of_values()[runs.ids]
    things = np.flatnonzero(np.isin(train_ids, CITYSCAPES.thing_ids)).tolist()
    areas, boxes = runs.areas().tolist(), runs.boxes().astype(float).tolist()
    annotations = []
    for k, counts in zip(things, encode_masks(instance_ids, runs, things), strict=True):
        annotation = {"iscrowd": int(runs.ids[k] < 1000), "category_id": int(CITYSCAPES.dataset_ids[train_ids[k]])}
        annotation |= {"bbox": boxes[k], "area": areas[k], "segmentation": {"size": list(runs.size), "counts": counts}}
        annotations.append(annotation)
    return instance_ids.shape, annotations


class CityscapesSplit(FileSplit):
    """A split of the Cityscapes layout, in order of the image ids.

    Args:
        need_labels: whether every image must have a label.
        derived: folder of what is made from the labels, instead of the root.

    Raises:
        InputError: as find_images.
    """

    def __init__(self, root: Path, split: str, *, need_labels: bool = False, derived: Path | None = None):
        self.name, self.taxonomy = f"{split} of {root}", CITYSCAPES
        self.root, self.split, self.derived = Path(root), split, Path(derived or root)
        self.images = find_images(root, split, need_labels=need_labels)

    def __len__(self) -> int:
        return len(self.images)

    def image_id(self, index: int) -> str:
        """See Split."""
        return self.images[index].image_id

    def image_path(self, index: int) -> Path:
        """Where the image lies."""
        return self.images[index].image_path

    def has_truth(self, index: int) -> bool:
        """See Split."""
        return self.images[index].label_path is not None

    def truth(self, index: int) -> PanopticMap | None:
        """See Split."""
        return read_truth(self.images[index]) if self.has_truth(index) else None

    def truth_digest(self, index: int) -> str:
        """See Split."""
        return file_digest(self.images[index].label_path) if self.has_truth(index) else super().truth_digest(index)

    def ensure_instances_json(self, track: Track = _track_nothing) -> bool:
        """Write the COCO instance JSON that mmdet reads, unless it is there; return whether it was written."""
        return ensure_instances_json(self.root, self.split, track=track, derived=self.derived)

    @property
    def instances_json(self) -> Path:
        """Where that JSON lies."""
        return instances_json_path(self.derived, self.split)

    @property
    def image_folder(self) -> str:
        """The folder, relative to the root, to which the file names of that JSON are relative."""
        return f"leftImg8bit/{self.split}/"


def split_taxonomy(root: Path, split: str) -> Taxonomy:
    """The classes of a split; in this layout they are the same for all."""
    return CITYSCAPES


def open_split(root: Path, split: str, *, need_labels: bool = False, derived: Path | None = None) -> CityscapesSplit:
    """See data.layouts.find.DataSet.split."""
    return CityscapesSplit(root, split, need_labels=need_labels, derived=derived)
