"""Cuts crops around objects and counts the pixels that the foreground weights of the seed loss come from; see crops.py.

What exists is kept, so that an interrupted run goes on; the weights come last, and mark the folder as finished.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data.images import is_made_by, write_image
from data.panoptic_png import PanopticMap, Segment, describe_segments, read_panoptic_png, write_panoptic_png
from data.split import Split, truths_digest
from data.targets import panoptic_to_semantic
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from pan_secb.crops import TRUTH_SUFFIX, WEIGHTS_FILE, class_folder, truth_path
from pan_secb.erfnet import STRIDE
from runtime.files import InputError, read_json, remove_partial_files, write_json
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
    """Height and width, pixels; smaller where the image is. The ancestor's is 512 in images of 1024x2048."""
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
    """What an image holds; `counts` are those of the whole image."""

    index: int
    crops: tuple[Crop, ...]
    counts: PixelCounts


def survey(index: int, split: Split, settings: CropSettings) -> Survey:
    """Find an image's objects and count pixels; the image itself is not decoded.

    Raises:
        InputError: if its truth is missing or broken.
    """
    taxonomy, truth = split.taxonomy, split.truth(index)
    if truth is None:
        raise InputError(f"{split.image_id(index)}: has no truth, but crops are cut around its objects; add its label")
    semantic = panoptic_to_semantic(truth, taxonomy)
    objects = [s for s in truth.segments if taxonomy.is_thing[_train_id(s, taxonomy)] and not s.is_crowd]
    is_object = np.isin(truth.segment_ids, [s.segment_id for s in objects])
    crops = []
    for segment in objects:
        if segment.area < settings.min_area:
            continue
        x, y, width, height = segment.bbox
        pixels = np.argwhere(truth.segment_ids[y : y + height, x : x + width] == segment.segment_id)  # (area, 2)
        window = crop_window(pixels.mean(0) + (y, x), settings.crop_size, semantic.shape)
        part = np.s_[window[0] : window[2], window[1] : window[3]]
        counts = count_pixels(semantic[part], is_object[part], taxonomy)
        name = f"{split.image_id(index).replace('/', '__')}_{segment.segment_id}"
        crops.append(Crop(name, _train_id(segment, taxonomy), window, counts))
    return Survey(index, tuple(crops), count_pixels(semantic, is_object, taxonomy))


def _train_id(segment: Segment, taxonomy: Taxonomy) -> int:
    return taxonomy.dataset_id_to_train_id[segment.category_id]


def crop_window(center: np.ndarray, crop_size: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(y1, x1, y2, x2), end exclusive, around a centre (y, x) in pixels, shifted to stay inside an image of (height, width)."""
    starts, ends = [], []
    for middle, length in zip(center, size, strict=True):
        extent = min(crop_size, length)
        start = min(max(round(float(middle) + 0.5 - extent / 2), 0), length - extent)
        starts.append(start)
        ends.append(start + extent)
    return *starts, *ends


def count_pixels(semantic: np.ndarray, is_object: np.ndarray, taxonomy: Taxonomy) -> PixelCounts:
    """Count an (H, W) map of train ids, given where the pixels of objects are, which those of groups are not."""
    num_values = VOID_TRAIN_ID + 1
    totals = np.bincount(semantic.ravel(), minlength=num_values)
    of_objects = np.bincount(semantic[is_object], minlength=num_values)
    things = list(taxonomy.thing_ids)
    return PixelCounts(of_objects[things], semantic.size - totals[VOID_TRAIN_ID] - totals[things])


def foreground_weights(surveys: list[Survey], taxonomy: Taxonomy) -> dict[str, dict]:
    """By class name: dataset_id, num_crops, and the weights crops and full, see FORMULA; None where there is no object."""
    crops = [crop for found in surveys for crop in found.crops]
    on_crops = _weigh([crop.counts for crop in crops], taxonomy)
    on_full = _weigh([found.counts for found in surveys], taxonomy)
    rows = {}
    for k, train_id in enumerate(taxonomy.thing_ids):
        rows[taxonomy.categories[train_id].name] = {
            "dataset_id": int(taxonomy.dataset_ids[train_id]),
            "num_crops": sum(crop.train_id == train_id for crop in crops),
            "crops": on_crops[k],
            "full": on_full[k],
        }
    return rows


def _weigh(counts: list[PixelCounts], taxonomy: Taxonomy) -> list[float | None]:
    """The weight of each thing class."""
    shape = (len(counts), len(taxonomy.thing_ids))
    foreground = np.array([c.foreground for c in counts], np.int64).reshape(shape)
    background = np.array([c.background for c in counts], np.int64).reshape(shape) * (foreground > 0)
    # At least one pixel of background, so that no weight is 0.
    sums = zip(background.sum(0).tolist(), foreground.sum(0).tolist(), strict=True)
    return [max(outside, 1) / inside if inside else None for outside, inside in sums]


def prepare_folder(folder: Path, settings: CropSettings, surveys: list[Survey], taxonomy: Taxonomy) -> None:
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
    for train_id in taxonomy.thing_ids:
        place = class_folder(folder, taxonomy, train_id)
        remove_partial_files(place)
        for file in place.glob("*.png"):
            if (train_id, file.name.removesuffix(TRUTH_SUFFIX).removesuffix(".png")) not in names:
                raise InputError(f"{file}: is of no object of this data set; remove {folder} or choose another --output")
    remove_partial_files(folder)
    write_json(path, wanted)
    (folder / WEIGHTS_FILE).unlink(missing_ok=True)


def cut(found: Survey, split: Split, folder: Path) -> int:
    """Write those crops of an image that are missing or were cut from another image or truth; return how many were written.

    Raises:
        InputError: if the image cannot be read.
    """
    producer = f"crop-{split.digest(found.index)}-{split.truth_digest(found.index)}"
    missing = [crop for crop in found.crops if not _is_cut(_crop_path(folder, split.taxonomy, crop), producer)]
    if not missing:
        return 0
    image, truth = split.image(found.index), split.truth(found.index)
    by_id = {segment.segment_id: segment for segment in truth.segments}
    for crop in missing:
        y1, x1, y2, x2 = crop.window
        path, ids = _crop_path(folder, split.taxonomy, crop), np.ascontiguousarray(truth.segment_ids[y1:y2, x1:x2])
        segments = describe_segments(ids, lambda k: by_id[k].category_id, lambda k: by_id[k].is_crowd)
        write_panoptic_png(truth_path(path), PanopticMap(ids, segments), producer)
        write_image(path, np.ascontiguousarray(image[y1:y2, x1:x2]), producer)
    return len(missing)


def _crop_path(folder: Path, taxonomy: Taxonomy, crop: Crop) -> Path:
    return class_folder(folder, taxonomy, crop.train_id) / f"{crop.name}.png"


def _is_cut(path: Path, producer: str) -> bool:
    return is_made_by(path, producer) and read_panoptic_png(truth_path(path), producer) is not None


def _track_nothing(items: Iterable, **about: object) -> Iterable:
    return items


def default_crop_size(split: Split) -> int:
    """Half the height of the first image, in multiples of 8: the ancestor's 512 for Cityscapes."""
    height, _ = split.size(0)
    return max(STRIDE, height // 2 // STRIDE * STRIDE)


def generate(
    split: Split,
    name: str,
    folder: Path,
    settings: CropSettings,
    *,
    track: Callable[..., Iterable] = _track_nothing,
    workers: int = 1,
) -> dict[str, dict]:
    """Cut the crops of a split and write its weights; return them, see foreground_weights.

    Args:
        name: of the split, for messages.
        track: wraps an iterable, given its `total` and a `description`, for a progress bar.
        workers: threads.

    Raises:
        InputError: if the data set or the folder does not fit.
    """
    found = in_threads(partial(survey, split=split, settings=settings), range(len(split)), workers)
    surveys = list(track(found, total=len(split), description=f"{name}: finding objects"))
    prepare_folder(folder, settings, surveys, split.taxonomy)
    written = in_threads(partial(cut, split=split, folder=folder), surveys, workers)
    for _ in track(written, total=len(split), description=f"{name}: cutting crops"):
        pass
    weights = foreground_weights(surveys, split.taxonomy)
    about = {"split": name, "truth": truths_digest(split), **asdict(settings)}
    write_json(folder / WEIGHTS_FILE, {**about, "formula": FORMULA, "classes": weights})
    return weights
