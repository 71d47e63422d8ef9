"""What is made from the panoptic truth of a COCO layout: stuff maps, instance JSON, list of classes; and the check of a download.

The stuff maps equal detectron2's datasets/prepare_panoptic_fpn.py: things are 0, stuff classes 1, 2, ... in the order of the
categories, void is 255. The instance JSON is what panopticapi's panoptic2detection_coco_format makes, with run lengths.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from data.images import write_image
from data.layouts.coco import CocoPictures
from data.panoptic_png import PanopticMap
from data.segment_runs import encode_masks, find_runs
from data.targets import panoptic_to_semantic
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from runtime.files import InputError, read_json, remove_partial_files, write_json
from runtime.threads import in_threads

Track = Callable[[Iterable, int], Iterable]
"""Wraps an iterable of known length, for a progress bar."""
MADE_BY = "location-based-panoptic-segmentation: from the panoptic truth"
"""`info.description` of an instance JSON that may be written anew; a downloaded one is left as it is."""


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


def panoptic_to_annotations(panoptic: PanopticMap, taxonomy: Taxonomy) -> list[dict]:
    """The `annotations` of one image, crowds with `iscrowd` 1, without `id` and `image_id`; masks are compressed run lengths."""
    by_id = {s.segment_id: s for s in panoptic.segments if taxonomy.is_thing[taxonomy.dataset_id_to_train_id[s.category_id]]}
    runs = find_runs(panoptic.segment_ids)
    wanted = [k for k, segment_id in enumerate(runs.ids.tolist()) if segment_id in by_id]
    areas, boxes = runs.areas().tolist(), runs.boxes().astype(float).tolist()
    annotations = []
    for k, counts in zip(wanted, encode_masks(panoptic.segment_ids, runs, wanted), strict=True):
        segment = by_id[int(runs.ids[k])]
        annotation = {"category_id": segment.category_id, "iscrowd": int(segment.is_crowd), "area": areas[k], "bbox": boxes[k]}
        annotations.append(annotation | {"segmentation": {"size": list(runs.size), "counts": counts}})
    return annotations


def write_categories(root: Path, taxonomy: Taxonomy) -> Path:
    """Write the list of classes."""
    write_json(categories_path(root), taxonomy.to_coco_categories())
    return categories_path(root)


def _track_nothing(items: Iterable, total: int) -> Iterable:
    return items


def prepare_split(
    pictures: CocoPictures,
    root: Path,
    split: str,
    *,
    again: bool = False,
    track: Track = _track_nothing,
    workers: int = 1,
) -> Prepared:
    """Read every picture and its truth, and write what is missing; an interrupted run goes on where it stopped.

    A stuff map is written only for an image without fault, and one that is younger than its truth is kept: such images are not
    read again, unless the instance JSON needs them. The JSON comes last, and only where no image is broken.

    Args:
        again: write anew what is there, but never an instance JSON that somebody else made.
        workers: threads.
    """
    stuff, instances = stuff_folder(root, split), instances_json_path(root, split)
    remove_partial_files(stuff)
    needs_instances = not instances.exists() or (again and _is_ours(instances))
    work = partial(_prepare_image, pictures, stuff, again, needs_instances)
    annotations, images, problems, num_written = [], [], [], 0
    results = in_threads(work, range(len(pictures)), workers)
    for index, result in enumerate(track(results, len(pictures))):
        if result.problem:
            problems.append(result.problem)
            continue
        num_written += result.has_written
        key, first = pictures.keys[index], len(annotations) + 1
        annotations += [{"id": first + k, "image_id": key} | a for k, a in enumerate(result.annotations)]
        images.append({"id": key, "file_name": pictures.picture_files[index], "height": result.size[0], "width": result.size[1]})
    written, kept = ([stuff], []) if num_written else ([], [stuff])
    if needs_instances and not problems:
        taxonomy = pictures.taxonomy
        things = [c for c, is_thing in zip(taxonomy.to_coco_categories(), taxonomy.is_thing, strict=True) if is_thing]
        content = {"info": {"description": MADE_BY}, "images": images, "annotations": annotations, "categories": things}
        write_json(instances, content)
        written.append(instances)
    elif not needs_instances:
        kept.append(instances)
    return Prepared(written, kept, problems)


@dataclass(frozen=True)
class _ImageResult:
    size: tuple[int, int] = (0, 0)
    annotations: tuple[dict, ...] = ()
    has_written: bool = False
    problem: str = ""


def _prepare_image(pictures: CocoPictures, stuff: Path, again: bool, needs_instances: bool, index: int) -> _ImageResult:
    truth_path = pictures.png_path(index)
    path = stuff / pictures.png_files[index]
    is_kept = not again and path.is_file() and path.stat().st_mtime >= truth_path.stat().st_mtime
    if is_kept and not needs_instances:
        return _ImageResult()
    try:
        _, panoptic = pictures.read(index)
    except InputError as error:
        return _ImageResult(problem=str(error))
    result = _ImageResult(panoptic.segment_ids.shape, has_written=not is_kept)
    if not is_kept:
        write_image(path, panoptic_to_stuff(panoptic, pictures.taxonomy))
    if needs_instances:
        result = replace(result, annotations=tuple(panoptic_to_annotations(panoptic, pictures.taxonomy)))
    return result


def _is_ours(path: Path) -> bool:
    content = read_json(path)
    info = content.get("info") if isinstance(content, dict) else None
    return isinstance(info, dict) and info.get("description") == MADE_BY
