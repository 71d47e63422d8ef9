"""Scores of systems on the same images, and the tables and figures that say where they differ."""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from benchmarks.systems import System
from data.images import read_image
from data.layouts.cityscapes import Frame, instances_json_path, read_truth
from data.panoptic_file import read_panoptic_json, read_panoptic_map
from data.semantic_dump import read_semantic
from data.targets import panoptic_to_semantic
from data.taxonomy import CITYSCAPES
from evaluation.instance_ap import read_detections, score_instances
from evaluation.panoptic_quality import PanopticQuality
from evaluation.report import Table
from evaluation.semantic_iou import SemanticIoU
from evaluation.size_breakdown import SIZES, SizeBreakdown
from fusion.logit_fusion import semantic_argmax
from runtime.files import read_json
from solov2.checkpoints import read_checkpoint

COLUMNS = ("", "PQ", "SQ", "RQ", "PQ things", "PQ stuff", "mask AP", "mIoU", "parameters (M)", "training (CPU s)", "ms an image")
NUM_TIMED, NUM_WARM_UP = 20, 3
"""Pictures that are timed, and that are predicted before."""
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Ends of the names of tensors that are no trained numbers."""


def score(system: System, frames: list[Frame], root: Path, output: Path) -> dict:
    """All numbers of one system; qualities as fractions of 1.

    Args:
        output: folder with a record <name>.json of each training.

    Raises:
        InputError: if a file is missing or does not fit the truth.
    """
    prediction = read_panoptic_json(system.fused / "panoptic.json", system.fused / "panoptic")
    quality, sizes, iou = PanopticQuality(), SizeBreakdown(CITYSCAPES), SemanticIoU(CITYSCAPES)
    for frame in frames:
        truth = read_truth(frame)
        sizes.add(truth, quality.add(truth, read_panoptic_map(prediction, frame.image_id)))
        if system.semantics is not None:
            semantic = read_semantic(system.semantics, frame.image_id, CITYSCAPES, truth.segment_ids.shape)
            iou.add(panoptic_to_semantic(truth, CITYSCAPES), semantic_argmax(semantic, CITYSCAPES))
    others = {} if system.scores is None else read_json(system.scores)
    mask_ap, miou = others.get("mask_ap", {}).get("AP"), others.get("semantic", {}).get("miou")
    if system.semantics is not None:
        miou = iou.scores()["miou"]
    if system.instances is not None:
        found = read_detections(system.instances, [frame.image_id for frame in frames], CITYSCAPES)
        mask_ap = score_instances(instances_json_path(root, "val"), found)["AP"]
    records = [read_json(output / f"{name}.json") for name in system.trainings]
    return {
        "name": system.name,
        "scores": quality.scores(CITYSCAPES),
        "mask_ap": mask_ap,
        "miou": miou,
        "parameters": sum(count_parameters(path) for path in system.checkpoints()),
        "training_seconds": sum(record["seconds"] for record in records),
        "is_time_exact": all(record["is_exact"] for record in records),
        "milliseconds": measure_speed(system, frames),
        "sizes": {size: {"total": c.total, "recall": c.recall, "iou": c.iou} for size, c in sizes.counts.items()},
    }


def count_parameters(checkpoint: Path) -> int:
    """Trained numbers of the network in a checkpoint of any training command; no running statistics."""
    weights = read_checkpoint(checkpoint)["state_dict"]
    return sum(w.numel() for name, w in weights.items() if not name.endswith(BUFFERS))


def measure_speed(system: System, frames: list[Frame]) -> float:
    """Median milliseconds from the pixels of one picture to its panoptic map, in CPU time of one thread on the CPU."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # CPU time of several would add up
    try:
        predict = system.load()
        taken = []
        for frame in (frames * NUM_TIMED)[: NUM_WARM_UP + NUM_TIMED]:
            picture = read_image(frame.image_path)
            start = time.process_time()
            predict(frame.image_id, picture)
            taken.append(1000 * (time.process_time() - start))
    finally:
        torch.set_num_threads(num_threads)
    return median(taken[NUM_WARM_UP:])


def systems_table(results: Sequence[dict], note: str) -> Table:
    """One row a system, in percent."""
    return Table("Systems", COLUMNS, tuple(_to_cells(result) for result in results), note)


def _to_cells(result: dict) -> tuple:
    groups = result["scores"]
    qualities = [groups["All"][key] for key in ("pq", "sq", "rq")] + [groups["Things"]["pq"], groups["Stuff"]["pq"]]
    shares = [*qualities, result["mask_ap"], result["miou"]]
    cells = ["n/a" if share is None else f"{100 * share:.1f}" for share in shares]
    seconds = f"{'' if result['is_time_exact'] else '> '}{result['training_seconds']:.0f}"
    return (result["name"], *cells, f"{result['parameters'] / 1e6:.1f}", seconds, f"{result['milliseconds']:.0f}")


def sizes_table(results: Sequence[dict]) -> Table:
    """Share of the truth's things that were found, by size, in percent, and how many the truth has."""
    rows = []
    for size in SIZES:
        shares = [result["sizes"][size]["recall"] for result in results]
        rows.append((size, results[0]["sizes"][size]["total"], *("n/a" if s is None else f"{100 * s:.1f}" for s in shares)))
    names = tuple(result["name"] for result in results)
    note = (
        "Share of the truth's things found with IoU above 0.5, in percent. Sizes: areas of 16, 32, 96, 192 squared at 1024x2048."
    )
    return Table("Things found, by size", ("size", "things", *names), tuple(rows), note)


def to_markdown(table: Table) -> str:
    """The table without its title and note."""
    rows = (table.columns, ("---",) * len(table.columns), *table.rows)
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)
