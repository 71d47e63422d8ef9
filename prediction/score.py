"""The scores of a run against the truth of its split, read from what the run has kept.

Each image is measured on its own, as a record of plain numbers, which a shard writes down; the records are summed up in the order
of the images. So neither the number of workers nor that of shards changes a bit.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data.panoptic_png import PanopticMap
from data.semantic_dump import SemanticLogits
from data.split import Split
from data.targets import fill_void, panoptic_to_annotations, panoptic_to_semantic
from data.taxonomy import Taxonomy
from evaluation.bootstrap import ImageCounts
from evaluation.instance_ap import (
    ClassDetections,
    InstanceAP,
    instances_to_detections,
    match_detections,
    panoptic_to_detections,
)
from evaluation.panoptic_quality import ImageMatches, PanopticQuality, match_segments
from evaluation.results_table import results_table, scores_line, write_results
from evaluation.semantic_iou import SemanticIoU
from evaluation.size_breakdown import SizeBreakdown, sizes_of
from fusion.logit_fusion import semantic_argmax
from prediction.parts import LEFT_OUT, Record, change_records, read_part
from prediction.run_folder import Run
from prediction.selection import Shard
from runtime.files import InputError, digest_of, file_digest
from runtime.progress import track
from runtime.threads import in_threads

SCORED = "scored"
"""In the line of an image in a part: what `measure` has found."""


@dataclass(frozen=True)
class Scores:
    """All fractions of 1. A part is None where the run has not kept what it needs.

    quality: PanopticQuality.scores. mask_ap: InstanceAP.scores. semantic: SemanticIoU.scores. sizes: SizeBreakdown.scores.
    per_image: image id -> PQ of that image alone, for ranking; None without segments.
    truth, prediction: what was compared, for evaluation.provenance.
    """

    quality: dict | None
    mask_ap: dict | None
    semantic: dict | None
    sizes: dict | None
    per_image: dict[str, float | None]
    num_images: int
    counts: ImageCounts
    """By image, for the intervals of evaluation.bootstrap."""
    truth: Mapping[str, object]
    prediction: Mapping[str, object]

    def to_json(self) -> dict:
        """The content of scores.json: groups and classes of panoptic quality at the top, as scripts/evaluate.py writes them."""
        parts = {"mask_ap": self.mask_ap, "semantic": self.semantic, "sizes": self.sizes, "per_image": self.per_image}
        return {**(self.quality or {}), **{name: part for name, part in parts.items() if part}}

    def table(self) -> str:
        """The results table for people, in percent."""
        line = scores_line(self.mask_ap, self.semantic)
        return line if self.quality is None else f"{results_table(self.quality)}\n\n{line}"

    def write(self, folder: Path, facts: Mapping[str, object], origin: Mapping[str, object] | None = None) -> list[Path]:
        """Write results.md, for people, and scores.json, with all digits; return the paths.

        Args:
            origin: of evaluation.provenance, for the JSON.
        """
        content = self.to_json() | ({} if origin is None else {"provenance": dict(origin)})
        return write_results(folder, self.quality, self.mask_ap, self.semantic, facts, content)


class ScoreSums:
    """What is counted of a run, image by image.

    Args:
        kept: of the run.
        truth_name: of the split.
    """

    def __init__(self, taxonomy: Taxonomy, kept: Iterable[str], truth_name: str):
        self.taxonomy, self.kept, self.truth_name = taxonomy, tuple(kept), truth_name
        self._quality, self._precision = PanopticQuality(), InstanceAP(taxonomy)
        self._iou, self._sizes = SemanticIoU(taxonomy), SizeBreakdown(taxonomy)
        self._counts, self._per_image = ImageCounts(taxonomy), {}
        self._digests: tuple[list[str], list[str]] = [], []
        self._have_detections = True

    def add(self, image_id: str, record: Record) -> None:
        """Count what `measure` says of an image; in the order of the split."""
        if record["matches"] is not None:
            matches = ImageMatches(tuple(map(tuple, record["matches"])), tuple(record["missed"]), tuple(record["invented"]))
            self._quality.add_matches(matches)
            self._sizes.add_things(record["sizes"])
            self._per_image[image_id] = matches.pq
            self._counts.add(image_id, matches)
            self._digests[1].append(record["digests"][1])
        self._digests[0].append(record["digests"][0])
        if record["detections"] is None:
            self._have_detections = False
        else:
            self._precision.add_matches({int(k): ClassDetections(**found) for k, found in record["detections"].items()})
        if record["confusion"] is not None:
            self._iou.confusion.reshape(-1)[record["confusion"][0]] += record["confusion"][1]

    def scores(self) -> Scores:
        """Of all images that were added.

        Raises:
            InputError: if there is none.
        """
        num_images = len(self._digests[0])
        if not num_images:
            raise InputError(f"{self.truth_name}: no image has a truth, so nothing can be scored")
        has_panoptic, has_precision = "panoptic" in self.kept, self._have_detections and len(self.taxonomy.thing_ids) > 0
        about = {"kept": list(self.kept)}
        if has_panoptic:
            about["panoptic_digest"] = digest_of(*self._digests[1])
        return Scores(
            quality=self._quality.scores(self.taxonomy) if has_panoptic else None,
            mask_ap=self._precision.scores() if has_precision else None,
            semantic=self._iou.scores() if "semantic" in self.kept else None,
            sizes=self._sizes.scores() if has_panoptic else None,
            per_image=self._per_image,
            num_images=num_images,
            counts=self._counts,
            truth=_describe_truth(self.truth_name, self._digests[0]),
            prediction=about,
        )


def score(run: Run, split: Split, *, workers: int = 2) -> Scores:
    """Score what a run has kept; images without truth are left out.

    Panoptic quality needs panoptic maps; mask AP needs instances, or panoptic maps with scores; mIoU needs semantics. A pixel
    for which the semantics name no class has that of the panoptic map, where there is one.

    Args:
        workers: threads; their number changes the time, never a bit of the result.

    Raises:
        InputError: if no image has a truth, the classes differ, or something is missing or broken.
    """
    check_classes(run, split)
    indices = [index for index in range(len(split)) if split.has_truth(index)]
    sums = ScoreSums(run.taxonomy, run.kept, split.name)
    records = track(in_threads(partial(measure, run, split), indices, workers), "scoring", len(indices))
    for record, index in zip(records, indices, strict=True):  # in this order: the bar ends when its iterator does
        sums.add(split.image_id(index), record)
    return sums.scores()


def score_part(run: Run, split: Split, shard: Shard, *, workers: int = 2) -> int:
    """Add to the part of a shard what is measured of its images; return how many have a truth.

    Raises:
        InputError: as score.
    """
    check_classes(run, split)
    part = read_part(run.folder, shard)
    num_scored = 0

    def measure_all(records: Iterator[Record]) -> Iterator[Record]:
        nonlocal num_scored
        measured = in_threads(lambda record: (record, _measure_line(run, split, record)), records, workers)
        for record, found in track(measured, "scoring", sum(shard.holds(split.image_id(k)) for k in range(len(split)))):
            num_scored += found is not None
            yield record if found is None else record | {SCORED: found}

    change_records(part, measure_all, {"truth": split.name})
    return num_scored


def _measure_line(run: Run, split: Split, record: Record) -> Record | None:
    return None if LEFT_OUT in record or not split.has_truth(record["index"]) else measure(run, split, record["index"])


def check_classes(run: Run, split: Split) -> None:
    """Refuse a run of other classes than the split's.

    Raises:
        InputError: if they differ, or the split has no truth.
    """
    if split.taxonomy is None:
        raise InputError(f"{split.name}: no image has a truth, so nothing can be scored")
    if difference := run.taxonomy.difference(split.taxonomy):
        raise InputError(f"{run.folder}: predicted with other classes than {split.name} has, {difference}; score it on its own")


def measure(run: Run, split: Split, index: int) -> Record:
    """All that is counted of one image, as what JSON can hold.

    matches, missed, invented: of ImageMatches, None where the run keeps no panoptic maps. sizes: see sizes_of. detections: of
    match_detections by category id, None where nothing has scores. confusion: places in SemanticIoU.confusion and their pixels.
    digests: of the truth and of the panoptic PNG.
    """
    image_id, truth = split.image_id(index), split.truth(index)
    size = truth.segment_ids.shape
    panoptic = run.panoptic(image_id) if "panoptic" in run.kept else None
    record = dict.fromkeys(("matches", "missed", "invented", "sizes", "detections", "confusion"))
    record["digests"] = [split.truth_digest(index), None if panoptic is None else file_digest(run.png(image_id))]
    try:
        if panoptic is not None:
            matches = match_segments(truth, panoptic)
            record |= asdict(matches) | {"sizes": sizes_of(truth, matches, run.taxonomy)}
        detections = None
        if "instances" in run.kept:
            detections = instances_to_detections(run.instances(image_id, size), run.taxonomy)
        elif panoptic is not None and _has_scores(panoptic, run):
            detections = panoptic_to_detections(panoptic)
        if detections is not None:
            found = match_detections(panoptic_to_annotations(truth, run.taxonomy), detections, size, run.taxonomy)
            record["detections"] = {str(category_id): asdict(of_class) for category_id, of_class in found.items()}
    except InputError as error:
        raise InputError(f"image {image_id!r}: {error}") from None
    if "semantic" in run.kept:
        semantic = _to_train_ids(run, image_id, size)
        if panoptic is not None:
            semantic = fill_void(semantic, panoptic, run.taxonomy)
        iou = SemanticIoU(run.taxonomy)
        iou.add(panoptic_to_semantic(truth, run.taxonomy), semantic)
        places = np.flatnonzero(iou.confusion)
        record["confusion"] = [places.tolist(), iou.confusion.ravel()[places].tolist()]
    return record


def _has_scores(panoptic: PanopticMap, run: Run) -> bool:
    """Whether the things of a map have scores; a map without things has them, too."""
    things = [s for s in panoptic.segments if run.taxonomy.is_thing[run.taxonomy.dataset_id_to_train_id[s.category_id]]]
    return all(segment.score is not None for segment in things)


def _to_train_ids(run: Run, image_id: str, size: tuple[int, int]) -> np.ndarray:
    semantic = run.semantic(image_id, size)
    return semantic_argmax(semantic, run.taxonomy) if isinstance(semantic, SemanticLogits) else semantic.train_ids


def describe_truth(split: Split) -> dict:
    """The images that were scored, for evaluation.provenance: how many, and a digest of their truth."""
    return _describe_truth(split.name, [split.truth_digest(index) for index in range(len(split)) if split.has_truth(index)])


def _describe_truth(name: str, digests: list[str]) -> dict:
    return {"split": name, "images": len(digests), "digest": digest_of(*digests)}
