"""Panoptic quality of eight 1024x2048 images: cityscapesscripts' pq_compute_single_core against ours, every sum bit-equal.

Prediction: a perturbed truth. The official function always reads both PNGs from files; ours is timed from files, with the
prediction in memory (as while predicting), and with both in memory (as while training). The files are those that this project
writes; the last row has files that Pillow wrote, as createPanopticImgs does.
"""

import contextlib
import io
import shutil
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import pq_compute_single_core
from PIL import Image

from benchmarks.scenes import REPOSITORY, street_images
from benchmarks.side_by_side import Contest
from data.images import read_image_size
from data.layouts.cityscapes import read_truth
from data.panoptic_file import PanopticFile, read_listed_map, read_panoptic_json, read_panoptic_map, write_panoptic_json
from data.panoptic_png import PanopticMap, describe_segments, ids_to_rgb, write_panoptic_png
from data.taxonomy import CITYSCAPES
from evaluation.file_scores import evaluate_files
from evaluation.panoptic_quality import PanopticQuality
from evaluation.per_image import write_per_image
from evaluation.run_scores import score_runs

FOLDER = REPOSITORY / "outputs" / "benchmark" / "pq"


def _perturbed(truth: PanopticMap, rng: np.random.Generator) -> PanopticMap:
    """Every outline moved by up to six pixels, every sixth segment lost."""
    ids = np.roll(truth.segment_ids, rng.integers(-6, 7, 2), (0, 1))
    lost = [s.segment_id for s in truth.segments if rng.random() < 1 / 6]
    ids = np.where(np.isin(ids, lost), 0, ids).astype(np.uint32)
    category_of = {s.segment_id: s.category_id for s in truth.segments}
    return PanopticMap(ids, describe_segments(ids, category_of.__getitem__))


@cache
def perturbed_files(writer: str) -> tuple[PanopticFile, PanopticFile]:
    """(truth, prediction), written by `ours` or `pillow`."""
    rng = np.random.default_rng(0)
    places = {"truth": [], "prediction": []}
    folder = FOLDER / writer
    shutil.rmtree(folder, ignore_errors=True)
    for frame in street_images():
        truth = read_truth(frame)
        for name, panoptic in (("truth", truth), ("prediction", _perturbed(truth, rng))):
            png = folder / name / f"{frame.image_id}.png"
            png.parent.mkdir(parents=True, exist_ok=True)
            if writer == "ours":
                write_panoptic_png(png, panoptic, "benchmark")
            else:
                Image.fromarray(ids_to_rgb(panoptic.segment_ids)).save(png)
            size = read_image_size(frame.image_path)
            places[name].append((frame.image_id, frame.image_path.name, png.name, size, panoptic.segments))
    return tuple(_read(folder, name, entries) for name, entries in places.items())


def _read(folder: Path, name: str, entries: list) -> PanopticFile:
    write_panoptic_json(folder / f"{name}.json", CITYSCAPES, entries)
    return read_panoptic_json(folder / f"{name}.json", folder / name)


def repeated(file: PanopticFile, num: int) -> PanopticFile:
    """So many images, the same ones again and again."""
    known = list(file.annotations.values())
    return replace(file, annotations={f"image {k}": known[k % len(known)] for k in range(num)})


def official_sums(truth: PanopticFile, prediction: PanopticFile) -> dict:
    """{category id: (sum of IoU, tp, fp, fn)} of the classes that occur."""

    def annotation(file: PanopticFile, image_id: str) -> dict:
        found = file.annotations[image_id]
        return {"image_id": image_id, "file_name": found.file_name, "segments_info": [s.to_json() for s in found.segments]}

    pairs = [(annotation(truth, image_id), annotation(prediction, image_id)) for image_id in truth.annotations]
    categories = {c["id"]: c for c in CITYSCAPES.to_coco_categories()}
    with contextlib.redirect_stdout(io.StringIO()):
        stat = pq_compute_single_core(0, pairs, str(truth.folder), str(prediction.folder), categories)
    return {c: (s.iou, s.tp, s.fp, s.fn) for c, s in stat.pq_per_cat.items() if s.tp + s.fp + s.fn}


def sums_of(scores: dict) -> dict:
    """As official_sums, of PanopticQuality.scores."""
    counts = {c.dataset_id: scores["per_class"][c.name] for c in CITYSCAPES.categories}
    return {i: (c["iou_sum"], c["tp"], c["fp"], c["fn"]) for i, c in counts.items() if c["tp"] + c["fp"] + c["fn"]}


def plain_scores(truth: PanopticFile, prediction: PanopticFile, workers: int = 1) -> dict:
    """PanopticQuality.scores from files, and nothing else."""
    return evaluate_files(truth, prediction, workers, with_kinds=False).scores


def full_scores(truth: PanopticFile, prediction: PanopticFile, workers: int = 1) -> dict:
    """The same with all that scripts/evaluate.py counts: kinds of errors, mIoU, PQ-dagger, and a table of the images."""
    with write_per_image(truth.json_path.with_name("per_image.csv")) as write:
        return score_runs(truth, {"prediction": prediction}, workers=workers, write_row=write)[0].scores


def _ours_from_files(truth: PanopticFile, prediction: PanopticFile) -> dict:
    return sums_of(plain_scores(truth, prediction))


def _ours_in_memory(truth: PanopticFile, predictions: list[PanopticMap], truths: list[PanopticMap] | None) -> dict:
    quality = PanopticQuality()
    for k, image_id in enumerate(truth.annotations):
        quality.add(truths[k] if truths else read_listed_map(truth, image_id)[0], predictions[k])
    return {i: (c.iou_sum, c.tp, c.fp, c.fn) for i, c in quality.counts.items() if c.is_seen}


def _contest(name: str, at_least: float, writer: str, in_memory: str) -> Contest:
    truth, prediction = perturbed_files(writer)
    predictions = [read_panoptic_map(prediction, image_id) for image_id in truth.annotations]
    truths = [read_panoptic_map(truth, image_id) for image_id in truth.annotations] if in_memory == "both" else None
    ours = partial(_ours_from_files, truth, prediction)
    if in_memory != "none":
        ours = partial(_ours_in_memory, truth, predictions, truths)
    return Contest(name, at_least, ours, partial(official_sums, truth, prediction), same=dict.__eq__)


def _cost_of_kinds() -> Contest:
    files = [repeated(file, 80) for file in perturbed_files("ours")]  # the table is flushed to the disk once
    ours, plain = partial(full_scores, *files), partial(plain_scores, *files)
    return Contest(KINDS_ROW, 1 / MOST_OF_PLAIN, ours, plain, same=dict.__eq__)


MOST_OF_PLAIN = 1.5
"""Of the time of panoptic quality alone, with the kinds and a table of the images."""
KINDS_ROW = "panoptic quality with kinds and per-image table"
ROWS = {
    name: partial(_contest, name, at_least, writer, in_memory)
    for name, at_least, writer, in_memory in (
        ("panoptic quality from files", 8, "ours", "none"),
        ("panoptic quality, prediction in memory", 15, "ours", "prediction"),
        ("panoptic quality, both in memory", 25, "ours", "both"),
        ("panoptic quality from files that Pillow wrote", 8, "pillow", "none"),
    )
}
ROWS[KINDS_ROW] = _cost_of_kinds
