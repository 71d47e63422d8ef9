"""What is made from the panoptic truth of a COCO layout: stuff maps, instance JSON, list of classes; and the check of a download.

The stuff maps equal detectron2's datasets/prepare_panoptic_fpn.py: things are 0, stuff classes 1, 2, ... in the order of the
categories, void is 255. The instance JSON is what panopticapi's panoptic2detection_coco_format makes, with run lengths.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from data.coco_json import read_entries
from data.derived_json import begins_as, is_derived, write_derived
from data.images import check_size_of_truth, is_made_by, read_image_size, write_image
from data.panoptic_file import ImageId
from data.panoptic_png import PanopticMap
from data.run_lengths import check_polygons, read_counts
from data.split import Split, truths_digest
from data.targets import panoptic_to_annotations, panoptic_to_semantic
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from runtime.files import InputError, read_json, remove_partial_files, shorten, write_json
from runtime.threads import in_threads

Track = Callable[[Iterable, int], Iterable]
"""Wraps an iterable of known length, for a progress bar."""
MADE_BY = "location-based-panoptic-segmentation: from the panoptic truth"
"""`info.description` of an instance JSON that may be written anew; a downloaded one is left as it is."""


class PanopticSplit(Split, Protocol):
    """A split for which an instance JSON is derived; `json_path` and `png_files` are of its truth, in the COCO layout."""

    root: Path
    derived: Path
    json_path: Path
    png_files: list[str]
    instances_json: Path
    image_folder: str

    def image_path(self, index: int) -> Path: ...


NUM_MEASURED = 1000
"""Images whose listed sizes are compared, at most twice as many."""


@dataclass(frozen=True)
class Prepared:
    """What became of a split: files and folders by what happened to them, and one line for each broken image."""

    written: list[Path]
    kept: list[Path]
    problems: list[str]


def stuff_folder(root: Path, split: str) -> Path:
    """Where the stuff maps lie, one 8-bit PNG an image, named as the panoptic PNG."""
    return Path(root) / "annotations" / f"panoptic_stuff_{split}"


def instances_json_path(root: Path, split: str) -> Path:
    """Where a download has the instance JSON."""
    return Path(root) / "annotations" / f"instances_{split}.json"


def categories_path(root: Path) -> Path:
    """Where the list of classes is written, in the form of panopticapi's panoptic_coco_categories.json."""
    return Path(root) / "annotations" / "panoptic_categories.json"


def panoptic_to_stuff(panoptic: PanopticMap, taxonomy: Taxonomy) -> np.ndarray:
    """(H, W) uint8: 0 for things, 1, 2, ... for stuff in the order of the classes, 255 for void.

    Raises:
        InputError: if there are more stuff classes than fit, and as panoptic_to_semantic.
    """
    num_stuff = len(taxonomy.stuff_ids)
    if num_stuff >= VOID_TRAIN_ID:
        raise InputError(f"taxonomy {taxonomy.name}: {num_stuff} stuff classes, but at most {VOID_TRAIN_ID - 1} fit 8 bits")
    table = np.zeros(256, dtype=np.uint8)
    table[list(taxonomy.stuff_ids)] = np.arange(1, num_stuff + 1)
    table[VOID_TRAIN_ID] = VOID_TRAIN_ID
    return table[panoptic_to_semantic(panoptic, taxonomy)]


def write_categories(root: Path, taxonomy: Taxonomy) -> Path:
    """Write the list of classes."""
    write_json(categories_path(root), taxonomy.to_coco_categories())
    return categories_path(root)


def track_nothing(items: Iterable, total: int) -> Iterable:
    """The items as they are."""
    return items


def prepare_split(
    split: PanopticSplit,
    *,
    again: bool = False,
    track: Track = track_nothing,
    workers: int = 1,
) -> Prepared:
    """Read every image and its truth, and write what is missing; an interrupted run goes on where it stopped.

    A stuff map is written only for an image without fault, and one that was made from the same truth is kept: such images are
    not read again, unless the instance JSON needs them. The JSON comes last, and only where no image is broken.

    Args:
        again: write anew what is there, but never an instance JSON that somebody else made.
        workers: threads.
    """
    stuff, instances = stuff_folder(split.derived, split.split), split.instances_json
    for folder in (stuff, instances.parent, categories_path(split.derived).parent):
        remove_partial_files(folder)
    is_made, is_current = is_ours(instances), is_prepared(split)
    needs_instances = not instances.exists() or (is_made and (again or not is_current))
    work = partial(_prepare_image, split, stuff, again, needs_instances)
    annotations, images, problems, num_written = [], [], [], 0
    results = in_threads(work, range(len(split)), workers)
    for index, result in enumerate(track(results, len(split))):
        if result.problem:
            problems.append(result.problem)
            continue
        num_written += result.has_written
        _append(images, annotations, split, index, result.size, result.annotations)
    written, kept = ([stuff], []) if num_written else ([], [stuff])
    if needs_instances and not problems:
        _write_instances(split, images, annotations)
        written.append(instances)
    elif not needs_instances:
        kept.append(instances)
    return Prepared(written, kept, problems)


def ensure_instances_json(split: PanopticSplit, track: Track = track_nothing) -> bool:
    """Write a split's instance JSON where it is absent, or was made from another truth; return whether it was written.

    Raises:
        InputError: if an image's truth is broken, or somebody else's instance JSON has other classes than the panoptic truth.
    """
    if split.instances_json.exists() and not is_ours(split.instances_json):
        _check_downloaded(split)
        return False
    if is_prepared(split):
        return False
    images, annotations = [], []
    for index in track(range(len(split)), len(split)):
        truth = split.truth(index)
        found = panoptic_to_annotations(truth, split.taxonomy)
        _append(images, annotations, split, index, truth.segment_ids.shape, found)
    _write_instances(split, images, annotations)
    return True


def is_prepared(split: PanopticSplit) -> bool:
    """Whether the instance JSON is whole and was made from the truth as it is now."""
    return is_derived(split.instances_json, {"description": MADE_BY, "truth": truths_digest(split)})


def _append(
    images: list, annotations: list, split: PanopticSplit, index: int, size: tuple[int, int], found: Iterable[dict]
) -> None:
    first = len(annotations) + 1
    annotations += [{"id": first + k, "image_id": split.key(index)} | entry for k, entry in enumerate(found)]
    file_name = split.image_path(index).relative_to(split.root / split.image_folder).as_posix()
    entry = {"id": split.key(index), "file_name": file_name, "height": size[0], "width": size[1]}
    images.append(entry)


def _write_instances(split: PanopticSplit, images: list[dict], annotations: list[dict]) -> None:
    taxonomy = split.taxonomy
    things = [c for c, is_thing in zip(taxonomy.to_coco_categories(), taxonomy.is_thing, strict=True) if is_thing]
    info = {"description": MADE_BY, "truth": truths_digest(split)}
    content = {"images": images, "annotations": annotations, "categories": things}
    write_derived(split.instances_json, info, content)


def _check_downloaded(split: PanopticSplit) -> None:
    """Whether somebody else's instance JSON has the things of the panoptic truth, and nothing that pycocotools would crash on."""
    path, advice = split.instances_json, "move it away, and it will be made from the truth"
    content = read_json(path)
    entries = read_entries(path, content, "images", {"id": int | str, "height": int, "width": int}, advice)
    sizes = {entry["id"]: (entry["height"], entry["width"]) for entry in entries}
    _check_sizes(split, sizes)
    fields = {"image_id": int | str, "category_id": int, "segmentation": dict | list}
    for k, entry in enumerate(read_entries(path, content, "annotations", fields, advice)):
        mask, size = entry["segmentation"], sizes.get(entry["image_id"])
        try:
            if size is None:
                raise InputError(f"image {entry['image_id']!r} is not in `images`")
            if entry.get("iscrowd", 0) not in (0, 1):  # mmdet takes any text for true
                raise InputError(f"has `iscrowd` {shorten(repr(entry['iscrowd']), 40)}, but the number 0 or 1 is needed")
            if isinstance(mask, dict):
                read_counts(mask, size)
            else:
                check_polygons(mask, size)
        except InputError as error:
            raise InputError(f"{path}: annotation {k}, {error}; {advice}") from None
    found = read_entries(path, content, "categories", {"id": int, "name": str}, advice)
    own = {(c.dataset_id, c.name) for c in split.taxonomy.categories if c.is_thing}
    others = {(entry["id"], entry["name"]) for entry in found}
    if own != others:
        stranger = sorted(own ^ others, key=str)[0]
        found = f"its classes are not the things of {split.json_path}, {stranger} is in only one of both"
        raise InputError(f"{path}: {found}; {advice}")


def _check_sizes(split: PanopticSplit, sizes: Mapping[ImageId, tuple[int, int]]) -> None:
    """Whether the images are listed as large as they are upright; of many those of a sample, as each must be opened.

    Raises:
        InputError: if one is not.
    """
    for index in range(0, len(split), max(1, len(split) // NUM_MEASURED)):
        listed, size = sizes.get(split.key(index)), split.size(index)
        if listed not in (None, size):
            found, wanted = (f"{h}x{w}" for h, w in (listed, size))
            advice = "move it away, and it will be made from the truth"
            raise InputError(f"{split.instances_json}: {split.file_name(index)} is {found}, but upright {wanted}; {advice}")


@dataclass(frozen=True)
class _ImageResult:
    size: tuple[int, int] = (0, 0)
    annotations: tuple[dict, ...] = ()
    has_written: bool = False
    problem: str = ""


def _prepare_image(split: PanopticSplit, stuff: Path, again: bool, needs_instances: bool, index: int) -> _ImageResult:
    path, producer = stuff / split.png_files[index], split.truth_digest(index)
    is_kept = not again and is_made_by(path, producer)
    try:
        if is_kept and not needs_instances:
            check_size_of_truth(path, read_image_size(path), split.image_path(index))
            return _ImageResult()
        split.image(index)  # the check of a download decodes the images, too
        panoptic = split.truth(index)
    except InputError as error:
        return _ImageResult(problem=str(error))
    result = _ImageResult(panoptic.segment_ids.shape, has_written=not is_kept)
    if not is_kept:
        write_image(path, panoptic_to_stuff(panoptic, split.taxonomy), producer)
    if needs_instances:
        result = replace(result, annotations=tuple(panoptic_to_annotations(panoptic, split.taxonomy)))
    return result


def is_ours(path: Path) -> bool:
    """Whether an instance JSON was made here, and so may be written anew; also one that was cut off, to nothing at all."""
    return begins_as(path, {"description": MADE_BY})
