"""Average precision of instance masks, by pycocotools' COCOeval: it compares image by image, and sums up once in the end."""

import contextlib
import io
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as rle_codec
from pycocotools.cocoeval import COCOeval

from data.instance_dump import InstanceLogits, full_masks
from data.panoptic_png import PanopticMap
from data.segment_runs import encode_masks, find_runs
from data.taxonomy import Taxonomy
from runtime.files import InputError

Detection = tuple[int, float, "np.ndarray | dict"]
"""(category id of the file, score, mask): the mask is (H, W) bool or uint8, or a COCO run-length code."""
IMAGE = 1
"""The number of the only image that an evaluator holds at a time."""
MOST_DETECTIONS = 100
"""That count, of an image and a class; COCO's."""
AREAS = tuple(map(tuple, COCOeval(iouType="segm").params.areaRng))
"""Smallest and largest area in pixels: all, small, medium, large."""
IOUS = COCOeval(iouType="segm").params.iouThrs
BITS = 1 << np.arange(len(IOUS))


@dataclass(frozen=True)
class ClassDetections:
    """What became of one class's detections in one image; bit k of a number stands for the k-th of IOUS.

    scores: of each detection, the best first. matched, ignored: for each area of AREAS the number of each detection. num_truths:
    for each area how many objects count.
    """

    scores: tuple[float, ...]
    matched: tuple[tuple[int, ...], ...]
    ignored: tuple[tuple[int, ...], ...]
    num_truths: tuple[int, ...]


ImageDetections = dict[int, ClassDetections]
"""By category id, of the classes that the image or its detections show."""


def match_detections(
    truth: Sequence[dict], detections: Sequence[Detection], size: tuple[int, int], taxonomy: Taxonomy
) -> ImageDetections:
    """Compare the detections of one image with its objects, as COCOeval does.

    Args:
        truth: COCO annotations, such as panoptic_to_annotations makes.
        size: (height, width) of the image.

    Raises:
        InputError: if a detection is of no thing class, of another size, or has a score that is not finite.
    """
    things = taxonomy.dataset_ids[list(taxonomy.thing_ids)].tolist()
    evaluator = _new_evaluator()
    for category_id, score, mask in detections:
        if category_id not in things:
            raise InputError(f"category id {category_id}, but things are {things}")
        found = evaluator._dts[IMAGE, category_id]
        found.append(_to_annotation(len(found) + 1, category_id, score, mask, size))
    # Numbers start at 1: COCOeval takes a match with annotation 0 for none.
    for number, entry in enumerate(truth, start=1):
        own = {"id": number, "image_id": IMAGE, "segmentation": _to_code(entry["segmentation"], size), "ignore": entry["iscrowd"]}
        own = entry | own
        evaluator._gts[IMAGE, entry["category_id"]].append(own)
    shown = {category_id for side in (evaluator._gts, evaluator._dts) for (_, category_id), entries in side.items() if entries}
    return {category_id: _match_class(evaluator, category_id) for category_id in sorted(shown & set(things))}


class InstanceAP:
    """Collects images one by one; a detection keeps 24 bytes."""

    def __init__(self, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        self._classes: dict[int, _Class] = {}

    def add(self, truth: Sequence[dict], detections: Sequence[Detection], size: tuple[int, int]) -> None:
        """Count one image; an image in which nothing was found has no detections. Arguments and errors as match_detections."""
        self.add_matches(match_detections(truth, detections, size, self.taxonomy))

    def add_matches(self, image: ImageDetections) -> None:
        """Count an image that match_detections compared, perhaps in another thread."""
        for category_id, found in image.items():
            self._of(category_id).add(found)

    @classmethod
    def merged(cls, parts: Sequence["InstanceAP"]) -> "InstanceAP":
        """What several have collected, of different images."""
        whole = cls(parts[0].taxonomy)
        for part in parts:
            for category_id, found in part._classes.items():
                whole._of(category_id).extend(found)
        return whole

    def scores(self) -> dict:
        """Mask AP over IoU 0.5:0.95, as fractions of 1: {"AP", "AP50", "AP75", "APs", "APm", "APl", "per_class": {name: AP}}.

        Small, medium and large (s, m, l) are areas below 32^2, below 96^2 and above. None where the truth holds no object.
        """
        things = [c for c in self.taxonomy.categories if c.is_thing]
        precision = np.stack([self._of(c.dataset_id).precision() for c in things], axis=2)  # (IoU, recall, class, area)
        chosen = {"AP": precision[..., 0], "AP50": precision[:1, ..., 0], "AP75": precision[5:6, ..., 0]}
        chosen |= {f"AP{size}": precision[..., k] for k, size in enumerate("sml", start=1)}
        found = {name: float(values[values > -1].mean()) if (values > -1).any() else None for name, values in chosen.items()}
        per_class = {c.name: _mean_of_all(precision[:, :, k, 0]) for k, c in enumerate(things)}
        return found | {"per_class": per_class}

    def _of(self, category_id: int) -> "_Class":
        return self._classes.setdefault(category_id, _Class())


class _Class:
    """All detections of one class, image after image; see ClassDetections."""

    def __init__(self):
        self.scores = array("d")
        self.matched, self.ignored = ([array("H") for _ in AREAS] for _ in range(2))
        self.num_truths = [0] * len(AREAS)

    def add(self, found: ClassDetections) -> None:
        self.scores.extend(found.scores)
        for k in range(len(AREAS)):
            self.matched[k].extend(found.matched[k])
            self.ignored[k].extend(found.ignored[k])
            self.num_truths[k] += found.num_truths[k]

    def extend(self, other: "_Class") -> None:
        """What another has collected, behind this."""
        self.add(ClassDetections(other.scores, tuple(other.matched), tuple(other.ignored), tuple(other.num_truths)))

    def precision(self) -> np.ndarray:
        """(IoU, recall, area), -1 where the area has no object: all detections as if they were of one image."""
        evaluator = _new_evaluator()
        evaluator.params.catIds, evaluator.params.imgIds, evaluator.params.maxDets = [IMAGE], [IMAGE], [max(1, len(self.scores))]
        evaluator._paramsEval = evaluator.params
        evaluator.evalImgs = [
            {
                "dtScores": np.array(self.scores),
                "dtMatches": _to_flags(self.matched[k]),
                "dtIgnore": _to_flags(self.ignored[k]),
                "gtIgnore": np.zeros(self.num_truths[k]),
            }
            for k in range(len(AREAS))
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator.accumulate()
        return evaluator.eval["precision"][:, :, 0, :, 0]


def _new_evaluator() -> COCOeval:
    """Of no files: what it compares is put in, image by image, since its own reading holds all images."""
    return COCOeval(iouType="segm")


def _match_class(evaluator: COCOeval, category_id: int) -> ClassDetections:
    evaluator.ious = {(IMAGE, category_id): evaluator.computeIoU(IMAGE, category_id)}
    found = [evaluator.evaluateImg(IMAGE, category_id, area, MOST_DETECTIONS) for area in AREAS]
    return ClassDetections(
        scores=tuple(map(float, found[0]["dtScores"])),
        matched=tuple(_to_bits(of_area["dtMatches"] > 0) for of_area in found),
        ignored=tuple(_to_bits(of_area["dtIgnore"]) for of_area in found),
        num_truths=tuple(int((np.asarray(of_area["gtIgnore"]) == 0).sum()) for of_area in found),
    )


def _to_bits(flags: np.ndarray) -> tuple[int, ...]:
    """(IoU, N) flags -> a number each."""
    return tuple((np.asarray(flags, bool) * BITS[:, None]).sum(0).astype(int).tolist())


def _to_flags(numbers: array) -> np.ndarray:
    """The reverse of _to_bits."""
    return (np.array(numbers, np.int64)[None] & BITS[:, None]) > 0


def _mean_of_all(values: np.ndarray) -> float | None:
    return float(values.mean()) if (values > -1).all() else None


def instances_to_detections(instances: InstanceLogits, taxonomy: Taxonomy) -> list[Detection]:
    """Category id, score and run-length code of each instance, whose masks are held one at a time."""
    codes = (rle_codec.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in full_masks(instances))
    return list(zip(taxonomy.dataset_ids[instances.train_ids].tolist(), instances.scores.tolist(), codes, strict=True))


def panoptic_to_detections(panoptic: PanopticMap) -> list[Detection]:
    """The segments of a map that have a score."""
    runs = find_runs(panoptic.segment_ids)
    place = {segment_id: k for k, segment_id in enumerate(runs.ids.tolist())}
    things = [segment for segment in panoptic.segments if segment.score is not None]
    codes = encode_masks(panoptic.segment_ids, runs, [place[segment.segment_id] for segment in things])
    size = list(panoptic.segment_ids.shape)
    return [(s.category_id, s.score, {"size": size, "counts": code}) for s, code in zip(things, codes, strict=True)]


def _to_code(segmentation: list | dict, size: tuple[int, int]) -> dict:
    """Polygons or a run-length code as pycocotools wants them."""
    if isinstance(segmentation, list):
        return rle_codec.merge(rle_codec.frPyObjects(segmentation, *size))
    return rle_codec.frPyObjects(segmentation, *size) if isinstance(segmentation["counts"], list) else segmentation


def _to_annotation(number: int, category_id: int, score: float, mask: "np.ndarray | dict", image_size: tuple[int, int]) -> dict:
    is_code = isinstance(mask, dict)
    code = _to_code(mask, mask["size"]) if is_code else rle_codec.encode(np.asfortranarray(mask, dtype=np.uint8))
    if tuple(code["size"]) != tuple(image_size):
        found, needed = (f"{h}x{w}" for h, w in (code["size"], image_size))
        raise InputError(f"a mask is {found}, but the image is {needed}; give masks of the whole image")
    if not np.isfinite(score):
        raise InputError(f"a score is {score}; finite scores are needed")
    area = float(rle_codec.area(code))
    about = {"id": number, "image_id": IMAGE, "category_id": category_id, "iscrowd": 0}
    return about | {"score": float(score), "segmentation": code, "area": area, "bbox": rle_codec.toBbox(code).tolist()}
