"""The labels of a split, or of a lone panoptic JSON, as files: what belongs to which image, and what is missing."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from data.image_names import ImageNames
from data.images import IMAGE_SUFFIXES, existing_spelling, name_key
from data.label_checks.cityscapes_checks import CityscapesFiles, check_instance_ids, find_files
from data.label_checks.findings import Finding
from data.label_checks.json_checks import Annotation, LabelFile, classes_of, read_label_file
from data.label_checks.png_checks import read_label_image
from data.layouts import cityscapes, coco
from data.layouts.find import DataSet
from data.layouts.image_files import find_image_files
from data.panoptic_file import ImageId
from data.taxonomy import CITYSCAPES
from runtime.files import InputError, shorten, walk_files
from runtime.threads import in_threads

Track = Callable[[Iterable, str, int], Iterable]
"""Wraps an iterable, with what is done and its length, for a progress bar."""


@dataclass(frozen=True)
class LabelItem:
    """What there is of one image."""

    image_id: ImageId
    annotation: Annotation | None
    picture: Path | None
    labels: CityscapesFiles | None = None


@dataclass
class Labels:
    """A split's files, and what is wrong with them as files."""

    name: str
    file: LabelFile
    items: list[LabelItem]
    findings: list[Finding] = field(default_factory=list)

    def count_categories(self, workers: int, track: Track) -> Counter:
        """Segments of each category id, as far as they can be read."""
        if any(item.annotation for item in self.items):
            infos = (info for item in self.items if item.annotation for info in item.annotation.infos)
            ids = (info.get("category_id") for info in infos if isinstance(info, dict))
            return Counter(k for k in ids if isinstance(k, int) and k in self.file.classes)
        paths = [item.labels.instance_ids for item in self.items if item.labels and item.labels.instance_ids]
        total: Counter = Counter()
        for counts in track(in_threads(_count_instances, paths, workers), f"counting classes of {self.name}", len(paths)):
            total.update(counts)
        return total


def open_labels(data_set: DataSet, split: str) -> Labels:
    """A split of a data set.

    Raises:
        InputError: if there is no truth of it that can be checked.
    """
    return _OPENERS[data_set.layout](data_set.root, split)


def open_other_labels(data_set: DataSet, split: str) -> Labels:
    """A split that another one is compared with; if it cannot be opened, that is one of its findings."""
    try:
        return open_labels(data_set, split)
    except InputError as error:
        broken = Finding("json-unreadable", None, text=f"split {split}: {shorten(error, 200)}")
        return Labels(split, _file_without_json(data_set.root), [], [broken])


def open_file(json_path: Path, folder: Path | None = None, images: str | Path | None = None) -> Labels:
    """A panoptic JSON without a data set.

    Raises:
        InputError: if it does not read, lists no image, or `images` names none.
    """
    file = read_label_file(json_path, folder)
    if not file.annotations:
        raise InputError(f"{json_path}: `annotations` holds no image that can be checked; give a JSON with at least one")
    found: list[Finding] = []
    pictures = _pair_pictures(file, images, found) if images is not None else {}
    return Labels(
        file.json_path.name, file, [LabelItem(a.image_id, a, pictures.get(a.image_id)) for a in file.annotations], found
    )


def _pair_pictures(file: LabelFile, images: str | Path, found: list[Finding]) -> dict[ImageId, Path]:
    files = {name: path for name, path in find_image_files(images).items() if path.suffix.lower() in IMAGE_SUFFIXES}
    names = ImageNames({name: (name, path.name) for name, path in files.items()})
    pictures: dict[ImageId, Path] = {}
    for annotation in file.annotations:
        image_id = annotation.image_id
        for known in (image_id, file.files.get(image_id, image_id)):
            try:
                name = names.find(known)
            except InputError:  # it could be several
                continue
            if name is not None:
                pictures[image_id] = files[name]
                break
        else:
            found.append(Finding("picture-missing", image_id, text=f"no picture in {images} is called so"))
    return pictures


def _open_coco(root: Path, split: str) -> Labels:
    path = coco.panoptic_json_path(root, split)
    if not path.is_file():
        known = ", ".join(coco.find_splits(root)) or "none"
        raise InputError(f"{path}: no such file; splits with a panoptic JSON: {known}")
    file = read_label_file(path, need_images=True)
    if not file.annotations:
        raise InputError(f"{path}: `annotations` holds no image that can be checked; give a JSON with at least one")
    folder, found, items = Path(root) / split, [], []
    there = walk_files(folder, IMAGE_SUFFIXES) if folder.is_dir() else []
    by_key = {name_key(name): name for name in there}
    for annotation in file.annotations:
        name = file.files.get(annotation.image_id)
        if name is None:
            items.append(LabelItem(annotation.image_id, annotation, None))
            continue
        picture = existing_spelling(folder / name)
        if not picture.is_file():
            found.append(Finding("picture-missing", annotation.image_id, text=f"its picture {name} is not in {folder}"))
            picture = None
        items.append(LabelItem(annotation.image_id, annotation, picture))
    named = {name_key(name) for name in file.files.values()}
    unlabelled = [name for key, name in by_key.items() if key not in named] if named else []
    found += [Finding("label-missing", name, text=f"is in {folder.name}/, but not in `images`") for name in unlabelled]
    return Labels(split, file, items, found)


def _open_cityscapes(root: Path, split: str) -> Labels:
    files = find_files(root, split)
    labelled = [f for f in files if f.instance_ids is not None]
    path = next((p for t in (False, True) if (p := cityscapes.panoptic_json_path(root, split, use_train_ids=t)).is_file()), None)
    if not labelled and path is None:
        known = ", ".join(cityscapes.find_splits(root)) or "none"
        raise InputError(f"{Path(root) / 'gtFine' / split}: no *_gtFine_instanceIds.png there; splits with images: {known}")
    file, found = _file_without_json(root), []
    if path is not None:
        try:
            file = read_label_file(path)
        except InputError as error:
            found.append(Finding("json-unreadable", None, text=shorten(error, 200)))
    annotations: dict[ImageId, Annotation] = {}
    for annotation in file.annotations:
        annotations.setdefault(annotation.image_id, annotation)
    items = []
    for f in files:
        items.append(LabelItem(f.image_id, annotations.pop(f.image_id, None), f.picture, f))
        has_label = f.instance_ids is not None or items[-1].annotation is not None
        if f.picture is None:
            found.append(Finding("picture-missing", f.image_id, text="its label has no picture in leftImg8bit/"))
        if not has_label or (f.instance_ids is None and f.label_ids is not None):
            found.append(Finding("label-missing", f.image_id, text="its picture has no *_gtFine_instanceIds.png"))
        if file.annotations and items[-1].annotation is None and f.instance_ids is not None:
            found.append(Finding("annotation-missing", f.image_id, text=f"has labels, but is not in {path.name}"))
    for image_id, annotation in annotations.items():
        found.append(Finding("picture-missing", image_id, text=f"is in {path.name}, but has no picture in leftImg8bit/{split}"))
        items.append(LabelItem(image_id, annotation, None))
    return Labels(split, file, items, found)


_OPENERS = {coco.NAME: _open_coco, cityscapes.NAME: _open_cityscapes}
"""By layout; a new layout is one entry."""


def _file_without_json(root: Path) -> LabelFile:
    """Of label images alone."""
    return LabelFile(Path(root), Path(root), "truth", classes_of(CITYSCAPES), numbers_things=True)


def _count_instances(path: Path) -> Counter:
    ids = read_label_image(path, lambda *_: None)
    known = None if ids is None else check_instance_ids(ids, lambda *_: None)
    return Counter() if known is None else Counter(s.category_id for s in cityscapes.instance_ids_to_panoptic(known).segments)
