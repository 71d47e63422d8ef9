"""Panoptic segmentation from Python: images in, panoptic maps out.

from prediction.pipeline import load_pipeline
pipeline = load_pipeline(instances="outputs/solov2/streets_lite0", semantics="outputs/efficientps/streets_lite0")
panoptic = pipeline("street.png")
print(panoptic.segment_ids.shape, [(s.segment_id, s.category_id, s.score) for s in panoptic.segments])
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

from data.image_names import names_of_split
from data.images import path_to_image_id, read_image
from data.layouts.image_files import ImageFiles
from data.panoptic_file import PANOPTIC_ENDING, leaves_folder
from data.panoptic_png import PanopticMap, Segment, describe_segments, write_panoptic_png
from data.split import FileSplit, Split
from data.taxonomy import Taxonomy
from fusion.settings import RULES as RULE_SETTINGS
from prediction.fused import RULES, FusedPredictor, with_panoptic
from prediction.models import load_predictor
from prediction.predictor import Predictor
from prediction.sources.find import Halves, HalvesSettings
from runtime.device import check_device, default_device
from runtime.files import InputError


class Pipeline:
    """Panoptic segmentation of one image after the other. `taxonomy` says what the category ids of segments are."""

    def __init__(self, predictor: Predictor, split: Split | None = None):
        self.predictor, self.taxonomy = predictor, predictor.taxonomy
        self._names = None if split is None else names_of_split(split)

    def __call__(self, image: str | Path | np.ndarray, image_id: str | None = None) -> PanopticMap:
        """Segment an image.

        Args:
            image: a file, or (H, W, 3) uint8 RGB.
            image_id: by which files of predictions name it; default: the name of its file.

        Raises:
            InputError: if the image does not read, or there is no prediction of it.
        """
        if isinstance(image, str | Path):
            image_id = path_to_image_id(image) if image_id is None else image_id
            image = read_image(Path(image))
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"image is {image.dtype} {image.shape}, but uint8 (H, W, 3), RGB, was needed; convert it")
        name = image_id if self._names is None or image_id is None else self._names.find(image_id)
        if name is None and self._names is not None:
            raise InputError(f"image {image_id!r} is none of `images`; give its file, or its id there")
        return self.predictor.predict(name or "image", image).panoptic


def load_pipeline(
    model: str | Path | None = None,
    *,
    instances: str | Path | None = None,
    semantics: str | Path | None = None,
    images: str | Path | None = None,
    rule: str = "logit",
    settings: Mapping[str, object] | None = None,
    device: str | None = None,
    **halves: object,
) -> Pipeline:
    """Load one system, or join two halves.

    Args:
        model: a checkpoint of a system that gives everything, or the output folder of its training; or the folder of an exported
            model, which needs no torch.
        instances: instead: anything that the command's flag takes (docs/joint.md), or the output folder of a training.
        semantics: the same.
        images: the images, where a half is a file or folder of predictions: a folder or glob.
        rule: logit, heuristic or argmax.
        settings: of the rule, by the names of fusion/settings.py.
        device: default: cuda if there is one.
        halves: fields of HalvesSettings, such as instances_classes.

    Raises:
        InputError: if something is missing, or does not fit.
    """
    if (model is None) == (semantics is None):
        raise InputError("load_pipeline needs `model`, or `semantics` with or without `instances`; give one of both")
    if rule not in RULES:
        raise InputError(f"rule {rule!r} is unknown; choose one of {', '.join(RULES)}")
    for what, given, known in (
        ("settings", settings or {}, [f.name for f in fields(RULE_SETTINGS[rule][1])]),
        ("argument", halves, [f.name for f in fields(HalvesSettings)]),
    ):
        if strangers := sorted(set(given) - set(known)):
            raise InputError(f"{what} {', '.join(strangers)} unknown; choose of {', '.join(known)}")
    device = check_device(device or default_device())
    joined = RULES[rule](RULE_SETTINGS[rule][1](**(settings or {})), device)
    if model is not None:
        return Pipeline(with_panoptic(load_predictor(Path(model), device), joined))
    split = NoImages() if images is None else ImageFiles(str(images))
    given = HalvesSettings(device=device, **halves)
    found = Halves(split, "none" if instances is None else str(instances), str(semantics), given).find()
    return Pipeline(FusedPredictor(*found, joined), None if images is None else split)


def save_panoptic(
    folder: str | Path,
    image_id: str,
    segment_ids: np.ndarray,
    segments: Iterable[Segment | Mapping],
) -> Path:
    """Write one panoptic map, of any code, so that `scripts/evaluate.py --prediction FOLDER` reads it; return the PNG's path.

    Args:
        segment_ids: (H, W) whole numbers below 2**24; 0 is void.
        segments: of each id its class: Segment, or COCO's `id`, `category_id`, and where there is one `score`. Areas and boxes
            are counted from the pixels.

    Raises:
        InputError: if an id of the map is not listed, or listed but not in the map, or does not fit a PNG.
    """
    ids = np.asarray(segment_ids)
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or (ids.size and not 0 <= ids.min() <= ids.max() < 2**24):
        raise InputError(f"image {image_id!r}: segment ids are {ids.dtype} {ids.shape}, but (H, W) of 0 to 2**24 - 1 was needed")
    if leaves_folder(f"{image_id}.png"):
        raise InputError(f"image id {image_id!r} leaves the folder or is no name; give another one")
    listed = [s if isinstance(s, Segment) else Segment.from_json(_plain(s)) for s in segments]
    by_id = {s.segment_id: s for s in listed}
    there = set(np.unique(ids).tolist()) - {0}
    if len(by_id) < len(listed) or there != by_id.keys():
        wrong = sorted(there ^ by_id.keys()) or [s.segment_id for s in listed]
        raise InputError(f"image {image_id!r}: segments {wrong[:5]} are not once in the list and in the map; list what is there")
    counted = describe_segments(ids.astype(np.uint32), lambda k: by_id[k].category_id, lambda k: by_id[k].is_crowd)
    scored = tuple(Segment(c.segment_id, c.category_id, c.area, c.bbox, c.is_crowd, by_id[c.segment_id].score) for c in counted)
    path = Path(folder) / f"{image_id}{PANOPTIC_ENDING}.png"
    write_panoptic_png(path, PanopticMap(ids.astype(np.uint32), scored), "save_panoptic")
    return path


def _plain(entry: Mapping) -> dict:
    """An entry of `segments_info` whose ids are Python's whole numbers, also where they were NumPy's."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in entry.items()}


class NoImages(FileSplit):
    """A split of nothing, for models that are asked image by image."""

    name = "no images"
    taxonomy: Taxonomy | None = None

    def __len__(self) -> int:
        return 0

    def image_id(self, index: int) -> str:
        """Asked for where files of predictions want the names of images."""
        raise InputError("a half is files of predictions, whose images nothing names; give images=FOLDER")
