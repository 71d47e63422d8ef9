"""Scores of systems on the same images, and the tables and figures that say where they differ."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, median, stdev

import torch

from benchmarks.systems import System
from data.split import Split
from data.taxonomy import Taxonomy
from evaluation.bootstrap import Difference, paired_differences
from evaluation.panoptic_quality import GROUPS
from evaluation.report import Table
from evaluation.results_table import markdown_table, percent
from evaluation.size_breakdown import SIZES
from prediction.run import predict_split
from prediction.score import score
from runtime.files import read_json
from solov2.checkpoints import read_checkpoint

COLUMNS = ("", "PQ", "SQ", "RQ", "PQ things", "PQ stuff", "mask AP", "mIoU", "parameters (M)", "training (CPU s)", "ms an image")
NUM_TIMED, NUM_WARM_UP = 20, 3
"""Images that are timed, and that are predicted before."""
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Ends of the names of tensors that are no trained numbers."""


def score_system(system: System, split: Split, output: Path) -> dict:
    """All numbers of one system; qualities as fractions of 1, and `counts` by image. Predicts what is missing.

    Args:
        output: folder with a record <name>.json of each training.

    Raises:
        InputError: if a checkpoint is missing or does not fit the split.
    """
    run = predict_split(split, system.load(), system.run, system.keep)
    scores = score(run, split)
    records = [read_json(output / f"{name}.json") for name in system.trainings]
    return {
        "name": system.name,
        "scores": scores.quality,
        "mask_ap": None if scores.mask_ap is None else scores.mask_ap["AP"],
        "mask_ap_of": {} if scores.mask_ap is None else scores.mask_ap["per_class"],
        "miou": scores.semantic["miou"],
        "parameters": sum(count_parameters(path) for path in system.checkpoints()),
        "training_seconds": sum(record["seconds"] for record in records),
        "is_time_exact": all(record["is_exact"] for record in records),
        "milliseconds": measure_speed(system, split),
        "sizes": scores.sizes,
        "counts": scores.counts,
    }


def count_parameters(checkpoint: Path) -> int:
    """Parameters of the network in a checkpoint of any training command, frozen ones too; no running statistics."""
    weights = read_checkpoint(checkpoint)["state_dict"]
    return sum(w.numel() for name, w in weights.items() if not name.endswith(BUFFERS))


def measure_speed(system: System, split: Split) -> float:
    """Median milliseconds from the pixels of one image to its panoptic map, in CPU time of one thread on the CPU."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # CPU time of several would add up
    try:
        predictor = system.load()
        taken = []
        for k in range(NUM_WARM_UP + NUM_TIMED):
            index = k % len(split)
            image = split.image(index)
            start = time.process_time()
            predictor.predict(split.image_id(index), image)
            taken.append(1000 * (time.process_time() - start))
    finally:
        torch.set_num_threads(num_threads)
    return median(taken[NUM_WARM_UP:])


def percent_of(values: Iterable[float | None]) -> str:
    """Shares as a percentage: one as it is, several as their mean and what they spread by (sample standard deviation)."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return percent(known[0] if known else None)
    return f"{percent(mean(known))} ± {100 * stdev(known):.1f}"


def systems_table(results: Sequence[Sequence[dict]], note: str) -> Table:
    """One row a system, in percent.

    Args:
        results: of each system those of score_system, one a seed.
    """
    return Table("Systems", COLUMNS, tuple(_to_cells(seeds) for seeds in results), note)


def _to_cells(seeds: Sequence[dict]) -> tuple:
    qualities = [[s["scores"]["All"][key] for s in seeds] for key in ("pq", "sq", "rq")]
    qualities += [[s["scores"][group]["pq"] for s in seeds] for group in ("Things", "Stuff")]
    qualities += [[s[key] for s in seeds] for key in ("mask_ap", "miou")]
    exact = "" if all(s["is_time_exact"] for s in seeds) else "> "
    seconds = f"{exact}{mean(s['training_seconds'] for s in seeds):.0f}"
    milliseconds = f"{mean(s['milliseconds'] for s in seeds):.0f}"
    return (seeds[0]["name"], *map(percent_of, qualities), f"{seeds[0]['parameters'] / 1e6:.1f}", seconds, milliseconds)


def classes_table(results: Sequence[Sequence[dict]], taxonomy: Taxonomy) -> Table:
    """Panoptic quality and mask AP of each thing class, in percent: two columns a system."""
    rows = []
    for category in (c for c in taxonomy.categories if c.is_thing):
        pairs = [
            ([s["scores"]["per_class"][category.name]["pq"] for s in seeds], [s["mask_ap_of"].get(category.name) for s in seeds])
            for seeds in results
        ]
        rows.append((category.name, *(percent_of(values) for pair in pairs for values in pair)))
    columns = (f"{seeds[0]['name']}, {kind}" for seeds in results for kind in ("PQ", "mask AP"))
    return Table("Things by class", ("class", *columns), tuple(rows), "PQ and mask AP of each thing class, in percent.")


def sizes_table(results: Sequence[Sequence[dict]]) -> Table:
    """Share of the truth's things that were found, by size, in percent, and how many the truth has."""
    rows = []
    for size in SIZES:
        shares = [[s["sizes"][size]["recall"] for s in seeds] for seeds in results]
        rows.append((size, results[0][0]["sizes"][size]["total"], *map(percent_of, shares)))
    names = tuple(seeds[0]["name"] for seeds in results)
    note = (
        "Share of the truth's things found with IoU above 0.5, in percent. Sizes: areas of 16, 32, 96, 192 squared at 1024x2048."
    )
    return Table("Things found, by size", ("size", "things", *names), tuple(rows), note)


def gains_of(results: Sequence[Sequence[dict]]) -> dict[str, dict]:
    """What each system gains over the first one by group: name -> group -> fields of evaluation.bootstrap.Difference."""
    return {name: {group: vars(gain) for group, gain in gains.items()} for name, gains in _gains(results).items()}


def _gains(results: Sequence[Sequence[dict]]) -> dict[str, dict[str, Difference]]:
    """With the interval that the choice of images leaves; trainings averaged."""
    counts = [[s["counts"] for s in seeds] for seeds in results]
    return {seeds[0]["name"]: paired_differences(counts[0], own) for seeds, own in zip(results[1:], counts[1:], strict=True)}


def gains_table(results: Sequence[Sequence[dict]]) -> Table:
    """What each system gains over the first one in PQ, in words."""
    rows = [(name, *(gains[group].in_words() for group in GROUPS)) for name, gains in _gains(results).items()]
    title = f"Gain over {results[0][0]['name']}"
    return Table(title, ("", *GROUPS), tuple(rows), f"{title}, on the same images; paired bootstrap over images.")


def to_markdown(table: Table) -> str:
    """The table without its title and note."""
    return markdown_table(table.columns, [[str(cell) for cell in row] for row in table.rows])
