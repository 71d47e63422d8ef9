"""Labels become a data set in the COCO panoptic layout: splits, images, PNGs, JSON and a report.

Every file appears under its name when it is whole. A PNG says which labels, classes and smallest area it was made of, so that
the same command goes on where it was stopped, and makes anew only what has changed.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from data.images import name_key
from data.label_formats.compose import Losses, compose
from data.label_formats.labels import LabelledImage
from data.layouts.coco import panoptic_json_path
from data.panoptic_file import leaves_folder, write_panoptic_json
from data.panoptic_png import PRODUCER_CHUNK, SEGMENTS_CHUNK, Segment
from data.png_file import RGB8, read_plain_png, write_id_png
from data.taxonomy import Taxonomy
from runtime.files import (
    InputError,
    atomic_path,
    digest_of,
    file_digest,
    is_hidden,
    parse_json,
    read_json,
    remove_partial_files,
    shorten,
    write_json,
)
from runtime.threads import in_threads

REPORT = "import_report.json"
MADE_BY = "location-based-panoptic-segmentation: import_labels 1"
"""Part of what a PNG is made of; another number where the same labels would give another map."""
LOSSES_CHUNK = "import_losses"
Track = Callable[[Iterable, str, int], Iterable]
"""Wraps an iterable, with a name and its length, for a progress bar."""


@dataclass(frozen=True)
class ImportSettings:
    """What the user decides; kept in the report, so that another import does not go into the same folder."""

    format: str
    source: str
    val_share: float = 0.1
    """Of the images for which the source names no split."""
    seed: int = 0
    min_area: int = 1
    """In pixels; segments with fewer left become unlabelled."""

    def __post_init__(self):
        if not 0 <= self.val_share <= 1:
            raise InputError(f"--val-share {self.val_share}, but a number from 0 to 1 was needed")
        if self.min_area < 1:
            raise InputError(f"--min-area {self.min_area}, but 1 or more pixels were needed")


@dataclass
class Imported:
    """What was made."""

    losses: Losses = field(default_factory=Losses)
    splits: dict[str, int] = field(default_factory=dict)
    """Split -> images."""
    written: list[Path] = field(default_factory=list)
    """The panoptic JSONs."""
    num_made: int = 0
    """PNGs that were made now; the others were there."""
    placed: Counter[str] = field(default_factory=Counter)
    """"hard links", "copies" or "kept" -> images."""
    unlabelled: dict[str, float] = field(default_factory=dict)
    """`split/image` -> share of its pixels."""


def choose_splits(images: Sequence[LabelledImage], val_share: float, seed: int) -> dict[str, list[LabelledImage]]:
    """Split -> its images: as the source says it, else val by chance, which depends on an image's name and the seed alone.

    An image stays where it is when others are added, and the images of one sequence stay together.

    Raises:
        InputError: if two images of a split have one name, or a name is no file's name.
    """
    splits: dict[str, list[LabelledImage]] = {}
    for image in images:
        split = image.split
        if split is None:
            digest = hashlib.sha256(f"{seed}:{image.sequence or image.name}".encode()).hexdigest()
            split = "val" if int(digest[:13], 16) / 16**13 < val_share else "train"
        if leaves_folder(split) or "/" in split or is_hidden(split):
            raise InputError(f"split {shorten(repr(split), 60)} cannot be a folder's name; rename it")
        splits.setdefault(split, []).append(image)
    for split, of_split in splits.items():
        for image in of_split:
            if leaves_folder(image.name) or any(is_hidden(part) for part in PurePosixPath(image.name).parts):
                raise InputError(f"image name {shorten(repr(image.name), 80)} is hidden or leaves its folder; rename it")
        counts = Counter(name_key(_png_name(image)).lower() for image in of_split)
        twice = [image for image in of_split if counts[name_key(_png_name(image)).lower()] > 1]
        if twice:
            found = f"{twice[0].path} and {twice[1].path}"
            raise InputError(f"{found}: both would be {_image_id(twice[0])} of split {split}; give each image its own name")
        of_split.sort(key=lambda image: image.name)
    return dict(sorted(splits.items()))


def import_images(
    images: Sequence[LabelledImage],
    taxonomy: Taxonomy,
    output: Path,
    settings: ImportSettings,
    *,
    extra: Mapping[str, object] | None = None,
    copies: bool = False,
    workers: int = 1,
    track: Track = lambda items, name, total: items,
) -> Imported:
    """Write the data set and its report.

    Args:
        extra: goes into the report.
        copies: of the images, instead of hard links, which share the file with the source.
        workers: images at once.

    Raises:
        InputError: if the output holds something else, or an image or label is broken; what was finished stays.
    """
    splits = choose_splits(images, settings.val_share, settings.seed)
    before = _begin(output, settings)
    imported = Imported(splits={split: len(of_split) for split, of_split in splits.items()})
    rows: dict[str, dict[str, dict]] = {}
    entries: dict[str, list] = {}
    json_paths = {split: panoptic_json_path(output, split) for split in [*splits, *before]}
    for split, of_split in splits.items():
        work = partial(
            _import_image,
            taxonomy=taxonomy,
            output=output,
            split=split,
            json_paths=tuple(json_paths.values()),
            min_area=settings.min_area,
            copies=copies,
        )
        entries[split], rows[split] = [], {}
        for image, made in zip(of_split, track(in_threads(work, of_split, workers), split, len(of_split)), strict=True):
            entries[split].append((_image_id(image), image.name, _png_name(image), image.size, made.segments))
            imported.losses.add(made.losses)
            imported.num_made += made.is_new
            imported.placed[made.placed] += 1
            imported.unlabelled[f"{split}/{image.name}"] = made.losses.num_unlabelled / made.losses.num_pixels
            rows[split][image.name] = made.losses.to_json()
    for split, json_path in json_paths.items():
        if split in splits:
            write_panoptic_json(json_path, taxonomy, entries[split])
            imported.written.append(json_path)
        else:  # its images are no longer in the source
            json_path.unlink(missing_ok=True)
    report = {
        "is_complete": True,
        "settings": vars(settings),
        "categories": taxonomy.to_coco_categories(),
        "splits": imported.splits,
        **(extra or {}),
        "total": imported.losses.to_json(),
        "images": rows,
    }
    write_json(output / REPORT, report)
    return imported


def check_folders(source: Path, output: Path) -> None:
    """Refuse to write into the source, or around it.

    Raises:
        InputError: if the source is missing, or one of both lies in the other.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; --source must name the folder of an export (unpack an archive first)")
    inner, outer = Path(os.path.realpath(output)), Path(os.path.realpath(source))
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise InputError(f"{output}: lies in the source {source}, or around it, which must stay as it is; give another --output")


def _begin(output: Path, settings: ImportSettings) -> list[str]:
    """Make the folder ours, or find that it is, and give the splits that were made before."""
    report, splits = output / REPORT, []
    if report.exists():
        content = read_json(report)
        before = content.get("settings") if isinstance(content, dict) else None
        if before != vars(settings):
            known = before if isinstance(before, dict) else {}
            changed = [f"{k} {shorten(repr(known.get(k)), 60)}" for k, v in vars(settings).items() if known.get(k) != v]
            was = ", ".join(changed)
            raise InputError(f"{output}: holds an import of other settings ({was}); give another --output, or remove that folder")
        splits = [name for name in content.get("splits") or () if isinstance(name, str) and not leaves_folder(name)]
    elif output.exists() and (not output.is_dir() or any(not is_hidden(place.name) for place in output.iterdir())):
        raise InputError(f"{output}: is not empty, and no import was begun there; give a new folder as --output")
    else:
        write_json(report, {"is_complete": False, "settings": vars(settings)})
    for folder in [output, *(place for place in output.rglob("*") if place.is_dir())]:
        remove_partial_files(folder)
    return splits


@dataclass(frozen=True)
class _Made:
    segments: tuple[Segment, ...]
    losses: Losses
    placed: str
    is_new: bool


def _import_image(
    image: LabelledImage,
    *,
    taxonomy: Taxonomy,
    output: Path,
    split: str,
    json_paths: Sequence[Path],
    min_area: int,
    copies: bool,
) -> _Made:
    """Place one image and make its PNG, unless they are there. Before a PNG is replaced, the JSONs that speak of it go."""
    path = panoptic_json_path(output, split).with_suffix("") / _png_name(image)
    producer = digest_of(MADE_BY, image.digest(), image.size, taxonomy.to_coco_categories(), min_area)
    found = _read_made(path, producer, image.size)
    if found is None:
        panoptic, losses = compose(image.layers(), image.size, taxonomy, min_area)
        text = {
            PRODUCER_CHUNK: producer,
            SEGMENTS_CHUNK: json.dumps([segment.to_json() for segment in panoptic.segments]),
            LOSSES_CHUNK: json.dumps(losses.to_json()),
        }
        for json_path in json_paths if path.exists() else ():
            json_path.unlink(missing_ok=True)
        write_id_png(path, panoptic.segment_ids, text)
        segments = panoptic.segments
    else:
        segments, losses = found
    return _Made(segments, losses, _place_image(image.path, output / split / image.name, copies), found is None)


def _read_made(path: Path, producer: str, size: tuple[int, int]) -> tuple[tuple[Segment, ...], Losses] | None:
    """What was written into a whole PNG of the same labels."""
    read = read_plain_png(path, RGB8)
    if read is None or read[0].shape != tuple(size) or read[1].get(PRODUCER_CHUNK) != producer:
        return None
    try:
        segments = tuple(Segment.from_json(entry) for entry in parse_json(read[1][SEGMENTS_CHUNK]))
        return segments, Losses.from_json(parse_json(read[1][LOSSES_CHUNK]))
    except (KeyError, TypeError, ValueError):  # somebody else's chunk of this name
        return None


def _place_image(source: Path, target: Path, copies: bool) -> str:
    """Put an image into the data set, without a change of the source: neither its bytes nor its rights."""
    source = Path(os.path.realpath(source))  # a link of the source is not copied as a link
    is_there = target.is_file() and not target.is_symlink()
    is_linked = is_there and os.path.samefile(source, target)
    if is_linked and not copies:
        return "kept"
    if is_there and not is_linked and file_digest(target) == file_digest(source):
        return "kept"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if not copies:
        try:
            os.link(source, target)
            return "hard links"
        except OSError:  # another disk, a file system without links, or one that must not be linked
            pass
    with atomic_path(target) as partial_file:
        shutil.copyfile(source, partial_file)
    return "copies"


def _image_id(image: LabelledImage) -> str:
    return PurePosixPath(image.name).with_suffix("").as_posix()


def _png_name(image: LabelledImage) -> str:
    return f"{_image_id(image)}.png"
