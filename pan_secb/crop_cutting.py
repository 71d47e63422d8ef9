"""Cuts crops around objects and counts the pixels that the foreground weights of the seed loss come from; see crops.py.

What exists is kept, so that an interrupted run goes on; the weights come last, and mark the folder as finished.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from data.images import read_image, read_image_size
from data.layouts.cityscapes import (
    IMAGE_SUFFIX,
    LABEL_SUFFIX,
    Frame,
    find_frames,
    instance_ids_to_panoptic,
    instance_ids_to_semantic,
    read_instance_ids,
)
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from pan_secb.crops import WEIGHTS_FILE, class_folder
from pan_secb.erfnet import STRIDE
from runtime.files import InputError, atomic_path, read_json, remove_partial_files, write_json
from runtime.threads import in_threads

SETTINGS_FILE = "settings.json"
MIN_AREA = 16
"""As data.loading.datamodule.MIN_INSTANCE_AREA, whose import takes seconds."""
FORMULA = "pixels of other classes / pixels of the class's objects, over the crops or images that hold one of its objects"


@dataclass(frozen=True)
class CropSettings:
    """What is cut.

    Raises:
        InputError: if a value is out of range.
    """

    crop_size: int
    """Height and width, pixels; smaller where the picture is. The ancestor's is 512 in pictures of 1024x2048."""
    min_area: int = MIN_AREA
    """Pixels of an object that gets a crop: by default as many as one that is learned from."""

    def __post_init__(self):
        if self.crop_size < STRIDE or self.crop_size % STRIDE:
            raise InputError(f"crop size {self.crop_size}, but a multiple of {STRIDE} is needed, since the network halves it")
        if self.min_area < 1:
            raise InputError(f"min area {self.min_area}, but 1 pixel or more is needed")


@dataclass(frozen=True)
class PixelCounts:
    """foreground: (T,) int64, pixels of the objects of each thing class; background: (T,) int64, labelled pixels of others."""

    foreground: np.ndarray
    background: np.ndarray


@dataclass(frozen=True)
class Crop:
    """A crop around one object; `window` is (y1, x1, y2, x2) in pixels, end exclusive."""

    name: str
    train_id: int
    window: tuple[int, int, int, int]
    counts: PixelCounts


@dataclass(frozen=True)
class Survey:
    """What a frame holds; `counts` are those of the whole image."""

    frame: Frame
    crops: tuple[Crop, ...]
    counts: PixelCounts


def survey(frame: Frame, settings: CropSettings) -> Survey:
    """Find a frame's objects and count pixels; the picture is not decoded.

    Raises:
        InputError: as read_instance_ids.
    """
    instance_ids = read_instance_ids(frame.label_path, read_image_size(frame.image_path))
    semantic, is_object = instance_ids_to_semantic(instance_ids), instance_ids >= 1000
    crops = []
    for segment in instance_ids_to_panoptic(instance_ids).segments:
        train_id = CITYSCAPES.dataset_id_to_train_id[segment.category_id]
        if not CITYSCAPES.is_thing[train_id] or segment.is_crowd or segment.area < settings.min_area:
            continue
        x, y, width, height = segment.bbox
        pixels = np.argwhere(instance_ids[y : y + height, x : x + width] == segment.segment_id)  # (area, 2)
        window = crop_window(pixels.mean(0) + (y, x), settings.crop_size, instance_ids.shape)
        part = np.s_[window[0] : window[2], window[1] : window[3]]
        counts = count_pixels(semantic[part], is_object[part])
        crops.append(Crop(f"{frame.image_id}_{segment.segment_id}", train_id, window, counts))
    return Survey(frame, tuple(crops), count_pixels(semantic, is_object))


def crop_window(center: np.ndarray, crop_size: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(y1, x1, y2, x2), end exclusive, around a centre (y, x) in pixels, shifted to stay inside an image of (height, width)."""
    starts, ends = [], []
    for middle, length in zip(center, size, strict=True):
        extent = min(crop_size, length)
        start = min(max(round(float(middle) + 0.5 - extent / 2), 0), length - extent)
        starts.append(start)
        ends.append(start + extent)
    return *starts, *ends


def count_pixels(semantic: np.ndarray, is_object: np.ndarray) -> PixelCounts:
    """Count an (H, W) map of train ids, given where the pixels of objects are, which those of groups are not."""
    num_values = VOID_TRAIN_ID + 1
    totals = np.bincount(semantic.ravel(), minlength=num_values)
    of_objects = np.bincount(semantic[is_object], minlength=num_values)
    things = list(CITYSCAPES.thing_ids)
    return PixelCounts(of_objects[things], semantic.size - totals[VOID_TRAIN_ID] - totals[things])


def foreground_weights(surveys: list[Survey]) -> dict[str, dict]:
    """By class name: dataset_id, num_crops, and the weights crops and full, see FORMULA; None where there is no object."""
    crops = [crop for found in surveys for crop in found.crops]
    on_crops, on_full = _weigh([crop.counts for crop in crops]), _weigh([found.counts for found in surveys])
    rows = {}
    for k, train_id in enumerate(CITYSCAPES.thing_ids):
        rows[CITYSCAPES.categories[train_id].name] = {
            "dataset_id": int(CITYSCAPES.dataset_ids[train_id]),
            "num_crops": sum(crop.train_id == train_id for crop in crops),
            "crops": on_crops[k],
            "full": on_full[k],
        }
    return rows


def _weigh(counts: list[PixelCounts]) -> list[float | None]:
    """The weight of each thing class."""
    shape = (len(counts), len(CITYSCAPES.thing_ids))
    foreground = np.array([c.foreground for c in counts], np.int64).reshape(shape)
    background = np.array([c.background for c in counts], np.int64).reshape(shape) * (foreground > 0)
    # At least one pixel of background, so that no weight is 0.
    sums = zip(background.sum(0).tolist(), foreground.sum(0).tolist(), strict=True)
    return [max(outside, 1) / inside if inside else None for outside, inside in sums]


def prepare_folder(folder: Path, settings: CropSettings, surveys: list[Survey]) -> None:
    """Make sure that a folder holds nothing but crops of these settings and objects; mark it as unfinished.

    Raises:
        InputError: if it holds others.
    """
    wanted, path = asdict(settings), folder / SETTINGS_FILE
    if path.exists() and (found := read_json(path)) != wanted:
        raise InputError(
            f"{folder}: holds crops of {found}, but {wanted} was wanted; remove the folder or choose another --output"
        )
    names = {(crop.train_id, crop.name) for found in surveys for crop in found.crops}
    for train_id in CITYSCAPES.thing_ids:
        place = class_folder(folder, train_id)
        remove_partial_files(place)
        for file in place.glob("*.png"):
            if (train_id, file.name.removesuffix(IMAGE_SUFFIX).removesuffix(LABEL_SUFFIX)) not in names:
                raise InputError(f"{file}: is of no object of this data set; remove {folder} or choose another --output")
    remove_partial_files(folder)
    write_json(path, wanted)
    (folder / WEIGHTS_FILE).unlink(missing_ok=True)


def cut(found: Survey, folder: Path) -> int:
    """Write those crops of a frame that are missing or older than it; return how many were written.

    Raises:
        InputError: if the picture cannot be read.
    """
    changed = max(path.stat().st_mtime_ns for path in (found.frame.image_path, found.frame.label_path))
    missing = [crop for crop in found.crops if not all(_is_younger(p, changed) for p in _crop_paths(folder, crop))]
    if not missing:
        return 0
    picture = read_image(found.frame.image_path)
    instance_ids = read_instance_ids(found.frame.label_path, picture.shape[:2]).astype(np.uint16)
    for crop in missing:
        y1, x1, y2, x2 = crop.window
        image_path, label_path = _crop_paths(folder, crop)
        for path, pixels in ((label_path, instance_ids), (image_path, picture)):
            with atomic_path(path) as partial_path:
                # Level 1 takes a third of the time of Pillow's 6, and a tenth more space.
                Image.fromarray(np.ascontiguousarray(pixels[y1:y2, x1:x2])).save(partial_path, compress_level=1)
    return len(missing)


def _crop_paths(folder: Path, crop: Crop) -> tuple[Path, Path]:
    place = class_folder(folder, crop.train_id)
    return place / f"{crop.name}{IMAGE_SUFFIX}", place / f"{crop.name}{LABEL_SUFFIX}"


def _is_younger(path: Path, moment: int) -> bool:
    return path.is_file() and path.stat().st_mtime_ns >= moment


def _track_nothing(items: Iterable, **about: object) -> Iterable:
    return items


def default_crop_size(root: Path, split: str) -> int:
    """Half the height of the first image, in multiples of 8: the ancestor's 512 for Cityscapes."""
    height, _ = read_image_size(find_frames(root, split)[0].image_path)
    return max(STRIDE, height // 2 // STRIDE * STRIDE)


def generate(
    root: Path,
    split: str,
    folder: Path,
    settings: CropSettings,
    *,
    track: Callable[..., Iterable] = _track_nothing,
    workers: int = 1,
) -> dict[str, dict]:
    """Cut the crops of a split and write its weights; return them, see foreground_weights.

    Args:
        track: wraps an iterable, given its `total` and a `description`, for a progress bar.
        workers: threads.

    Raises:
        InputError: if the data set or the folder does not fit.
    """
    frames = find_frames(root, split)
    found = in_threads(partial(survey, settings=settings), frames, workers)
    surveys = list(track(found, total=len(frames), description=f"{split}: finding objects"))
    prepare_folder(folder, settings, surveys)
    written = in_threads(partial(cut, folder=folder), surveys, workers)
    for _ in track(written, total=len(frames), description=f"{split}: cutting crops"):
        pass
    weights = foreground_weights(surveys)
    write_json(folder / WEIGHTS_FILE, {"split": split, **asdict(settings), "formula": FORMULA, "classes": weights})
    return weights
