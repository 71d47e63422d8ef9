"""Average precision of instance masks, by pycocotools' COCOeval."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.instance_dump import InstanceLogits, full_masks
from data.panoptic_png import PanopticMap
from data.segment_runs import encode_masks, find_runs
from data.taxonomy import Taxonomy
from runtime.files import InputError

Detection = tuple[int, float, "np.ndarray | dict"]
"""(category id of the file, score, mask): the mask is (H, W) bool or uint8, or a COCO run-length code."""
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class InstanceAP:
    """Collects the truth and the detections of images one by one; of each only run-length codes stay."""

    def __init__(self, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        self._images: list[dict] = []
        self._truth: list[dict] = []
        self._found: list[dict] = []

    def add(self, truth: Sequence[dict], detections: Sequence[Detection], size: tuple[int, int]) -> None:
        """Count one image; an image in which nothing was found has no detections.

        Args:
            truth: COCO annotations, such as panoptic_to_annotations makes.
            size: (height, width) of the image.

        Raises:
            InputError: if a detection is of no thing class, of another size, or has a score that is not finite.
        """
        image = {"id": len(self._images) + 1, "height": size[0], "width": size[1]}
        things = self.taxonomy.dataset_ids[list(self.taxonomy.thing_ids)].tolist()
        self._images.append(image)
        # Numbers start at 1: COCOeval takes a match with annotation 0 for none.
        first = len(self._truth) + 1
        self._truth += [entry | {"id": first + k, "image_id": image["id"]} for k, entry in enumerate(truth)]
        for category_id, score, mask in detections:
            if category_id not in things:
                raise InputError(f"image {image['id']}: category id {category_id}, but things are {things}")
            self._found.append(_to_annotation(image, len(self._found) + 1, category_id, score, mask))

    @classmethod
    def merged(cls, parts: Sequence["InstanceAP"]) -> "InstanceAP":
        """What several have collected, of different images."""
        whole = cls(parts[0].taxonomy)
        for part in parts:
            first = len(whole._images)
            for name in ("_images", "_truth", "_found"):
                key = "id" if name == "_images" else "image_id"
                own = getattr(whole, name)
                own += [entry | {key: entry[key] + first} for entry in getattr(part, name)]
        for entries in (whole._truth, whole._found):
            for number, entry in enumerate(entries, start=1):
                entry["id"] = number
        return whole

    def scores(self) -> dict:
        """Mask AP over IoU 0.5:0.95, as fractions of 1: {"AP", "AP50", "AP75", "APs", "APm", "APl", "per_class": {name: AP}}.

        Small, medium and large (s, m, l) are areas below 32^2, below 96^2 and above. None where the truth holds no object.
        """
        categories = [{"id": c.dataset_id, "name": c.name} for c in self.taxonomy.categories if c.is_thing]
        about = {"images": self._images, "categories": categories}
        # Not COCO.loadRes: it fails on an empty list, and a model that finds nothing has an AP too.
        return _evaluate(_to_coco(about | {"annotations": self._truth}), _to_coco(about | {"annotations": self._found}))


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


def _to_coco(content: dict) -> COCO:
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _to_annotation(image: dict, number: int, category_id: int, score: float, mask: "np.ndarray | dict") -> dict:
    code = mask if isinstance(mask, dict) else rle_codec.encode(np.asfortranarray(mask, dtype=np.uint8))
    if isinstance(code.get("counts"), list):
        code = rle_codec.frPyObjects(code, *code["size"])
    size = (image["height"], image["width"])
    if tuple(code["size"]) != size:
        found, needed = (f"{h}x{w}" for h, w in (code["size"], size))
        raise InputError(f"image {image['id']}: a mask is {found}, but the image is {needed}; give masks of the whole image")
    if not np.isfinite(score):
        raise InputError(f"image {image['id']}: a score is {score}; finite scores are needed")
    return {
        "id": number,
        "image_id": image["id"],
        "category_id": category_id,
        "score": float(score),
        "segmentation": code,
        "area": float(rle_codec.area(code)),
        "bbox": rle_codec.toBbox(code).tolist(),
        "iscrowd": 0,
    }


def _evaluate(truth: COCO, found: COCO) -> dict:
    evaluator = COCOeval(truth, found, "segm")
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]  # (IoU, recall, class), all areas, most detections
    per_class = {}
    for k, category_id in enumerate(evaluator.params.catIds):
        values = precision[:, :, k]
        per_class[truth.cats[category_id]["name"]] = float(values.mean()) if (values > -1).all() else None
    overall = {name: float(value) if value > -1 else None for name, value in zip(NAMES, evaluator.stats[:6], strict=True)}
    return overall | {"per_class": per_class}
