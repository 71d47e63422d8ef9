"""The scores of a run against the truth of its split, read from what the run has kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.panoptic_png import PanopticMap
from data.semantic_dump import SemanticLogits
from data.split import Split
from data.targets import fill_void, panoptic_to_annotations, panoptic_to_semantic
from evaluation.bootstrap import ImageCounts
from evaluation.instance_ap import Detection, InstanceAP, instances_to_detections, panoptic_to_detections
from evaluation.panoptic_quality import ImageMatches, PanopticQuality, match_segments
from evaluation.results_table import results_table, scores_line, write_results
from evaluation.semantic_iou import SemanticIoU
from evaluation.size_breakdown import SizeBreakdown
from fusion.logit_fusion import semantic_argmax
from prediction.run import Run
from runtime.files import InputError, digest_of, file_digest
from runtime.progress import track
from runtime.threads import in_threads


@dataclass(frozen=True)
class Scores:
    """All fractions of 1. A part is None where the run has not kept what it needs.

    quality: PanopticQuality.scores. mask_ap: InstanceAP.scores. semantic: SemanticIoU.scores. sizes: SizeBreakdown.scores.
    per_image: image id -> PQ of that image alone, for ranking; None without segments.
    """

    quality: dict | None
    mask_ap: dict | None
    semantic: dict | None
    sizes: dict | None
    per_image: dict[str, float | None]
    num_images: int
    counts: ImageCounts
    """By image, for the intervals of evaluation.bootstrap."""

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


class _Image(NamedTuple):
    """What is counted of one image."""

    image_id: str
    truth: PanopticMap
    annotations: list[dict]
    matches: ImageMatches | None
    detections: list[Detection] | None
    semantic: np.ndarray | None


def score(run: Run, split: Split, *, workers: int = 2) -> Scores:
    """Score what a run has kept; images without truth are left out.

    Panoptic quality needs panoptic maps; mask AP needs instances, or panoptic maps with scores; mIoU needs semantics. A pixel
    for which the semantics name no class has that of the panoptic map, where there is one.

    Args:
        workers: threads; their number changes the time, never a bit of the result.

    Raises:
        InputError: if no image has a truth, the classes differ, or something is missing or broken.
    """
    indices = [index for index in range(len(split)) if split.has_truth(index)]
    if not indices:
        raise InputError(f"{split.name}: no image has a truth, so nothing can be scored")
    if difference := run.taxonomy.difference(split.taxonomy):
        raise InputError(f"{run.folder}: predicted with other classes than {split.name} has, {difference}; score it on its own")
    quality, precision = PanopticQuality(), InstanceAP(run.taxonomy)
    iou, sizes = SemanticIoU(run.taxonomy), SizeBreakdown(run.taxonomy)
    per_image, counts, has_scores = {}, ImageCounts(run.taxonomy), True
    for image in track(in_threads(partial(_compare, run, split), indices, workers), "scoring", len(indices)):
        if image.matches is not None:
            quality.add_matches(image.matches)
            sizes.add(image.truth, image.matches)
            per_image[image.image_id] = image.matches.pq
            counts.add(image.image_id, image.matches)
        has_scores &= image.detections is not None
        if image.detections is not None:
            precision.add(image.annotations, image.detections, image.truth.segment_ids.shape)
        if image.semantic is not None:
            iou.add(panoptic_to_semantic(image.truth, run.taxonomy), image.semantic)
    has_panoptic = "panoptic" in run.kept
    return Scores(
        quality=quality.scores(run.taxonomy) if has_panoptic else None,
        mask_ap=precision.scores() if has_scores and run.taxonomy.thing_ids else None,
        semantic=iou.scores() if "semantic" in run.kept else None,
        sizes=sizes.scores() if has_panoptic else None,
        per_image=per_image,
        num_images=len(indices),
        counts=counts,
    )


def _compare(run: Run, split: Split, index: int) -> _Image:
    """All the work on one image, so that workers can do several at once."""
    image_id, truth = split.image_id(index), split.truth(index)
    size = truth.segment_ids.shape
    panoptic = run.panoptic(image_id) if "panoptic" in run.kept else None
    detections = None
    if "instances" in run.kept:
        detections = instances_to_detections(run.instances(image_id, size), run.taxonomy)
    elif panoptic is not None and _has_scores(panoptic, run):
        detections = panoptic_to_detections(panoptic)
    semantic = None
    if "semantic" in run.kept:
        semantic = _to_train_ids(run, image_id, size)
        if panoptic is not None:
            semantic = fill_void(semantic, panoptic, run.taxonomy)
    try:
        matches = None if panoptic is None else match_segments(truth, panoptic)
    except InputError as error:
        raise InputError(f"image {image_id!r}: {error}") from None
    return _Image(image_id, truth, panoptic_to_annotations(truth, run.taxonomy), matches, detections, semantic)


def _has_scores(panoptic: PanopticMap, run: Run) -> bool:
    """Whether the things of a map have scores; a map without things has them, too."""
    things = [s for s in panoptic.segments if run.taxonomy.is_thing[run.taxonomy.dataset_id_to_train_id[s.category_id]]]
    return all(segment.score is not None for segment in things)


def _to_train_ids(run: Run, image_id: str, size: tuple[int, int]) -> np.ndarray:
    semantic = run.semantic(image_id, size)
    return semantic_argmax(semantic, run.taxonomy) if isinstance(semantic, SemanticLogits) else semantic.train_ids


def describe_truth(split: Split) -> dict:
    """The images that were scored, for evaluation.provenance: how many, and a digest of their truth."""
    indices = [index for index in range(len(split)) if split.has_truth(index)]
    return {"split": split.name, "images": len(indices), "digest": digest_of(*(split.truth_digest(index) for index in indices))}


def describe_run(run: Run, split: Split) -> dict:
    """What was scored of them, for evaluation.provenance: what is kept, and a digest of the panoptic PNGs."""
    about = {"kept": list(run.kept)}
    if "panoptic" not in run.kept:
        return about
    paths = [run.png(split.image_id(index)) for index in range(len(split)) if split.has_truth(index)]
    return about | {"panoptic_digest": digest_of(*map(file_digest, paths))}
