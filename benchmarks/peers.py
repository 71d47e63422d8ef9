"""Panoptic quality from files against the fastest other evaluators: hotcoco and vernier, both compiled from Rust.

The eight images of benchmarks/pq.py, written by Pillow and by this project. Every side begins with two JSON files and two folders
of PNGs and ends with each class's sums, which are compared with those of cityscapesscripts' pq_compute_single_core in this run.
The peers add up the IoUs of an image before those of the images, so that the last bit may differ. All sides run in turns in one
process; the number of threads is set where it starts, since Rust's pool reads it once.

Two settings of the process's memory: "fresh" is what a process does that sets nothing; where memory is "kept", malloc is told not
to give pages back, which spares a reader that makes whole images of pixels much of its time. The promises are for the latter.
What kinds and the table of the images cost is promised in benchmarks/pq.py, on more images: one table is flushed to the disk.

    $ python scripts/benchmark.py peers
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.pq import FOLDER, full_scores, official_sums, perturbed_files, plain_scores, sums_of
from benchmarks.side_by_side import ONE_THREAD, REPOSITORY
from data.panoptic_file import PanopticFile, read_panoptic_json
from runtime.files import InputError, read_json, write_json

WRITERS = ("pillow", "ours")
MEMORY = {"fresh": {}, "kept": {"MALLOC_MMAP_THRESHOLD_": str(2**28), "MALLOC_TRIM_THRESHOLD_": str(2**30)}}
PEERS = ("hotcoco", "vernier")
PROMISED = {"pillow": 1.8, "ours": 1.5}
"""Of a peer's seconds to ours, by the writer of the files."""
PLAIN, FULL = "ours", "ours, with kinds and per-image table"
Sums = dict[int, tuple[float, int, int, int]]
"""Category id -> (sum of IoU, tp, fp, fn), of the classes that occur."""
Side = Callable[[], tuple[Sums, float]]
"""Gives the sums and PQ of all classes."""


@dataclass(frozen=True)
class Row:
    """One side in one setting.

    milliseconds: median. ratio: of it to that of ours without kinds. num_bit_equal: classes whose sums are the official ones.
    """

    side: str
    writer: str
    threads: int
    memory: str
    milliseconds: float
    ratio: float
    num_bit_equal: int
    num_classes: int
    pq: float

    @property
    def is_bit_equal(self) -> bool:
        """Whether all sums are the official ones."""
        return self.num_bit_equal == self.num_classes


def measure(repeats: int) -> list[Row]:
    """All rows, on one thread and on all, each setting in a process of its own.

    Raises:
        InputError: if a peer is not installed.
    """
    check_installed()
    for writer in WRITERS:
        _number_images(writer)
    rows = []
    for threads in dict.fromkeys((1, os.cpu_count() or 1)):
        for memory, settings in MEMORY.items():
            command = [sys.executable, "-m", "benchmarks.peers", str(threads), memory, str(repeats)]
            env = os.environ | ONE_THREAD | {"RAYON_NUM_THREADS": str(threads)} | settings
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=env)
            rows += [Row(**row) for row in json.loads(done.stdout)]
    return rows


def check_installed() -> None:
    """Raises InputError, with what to install, if a peer is missing."""
    for name in PEERS:
        try:
            __import__(f"{name}.panoptic")
        except ImportError as error:
            raise InputError(f"{name} does not load ({error}), which is measured against; pip install -e '.[peers]'") from None


def line(row: Row) -> str:
    """A row for people, with a mark where it falls short."""
    is_short = row.side in PEERS and row.memory == "kept" and row.ratio < PROMISED[row.writer]
    sums = f"sums of {row.num_bit_equal} of {row.num_classes} classes bit-equal"
    where = f"{row.threads} thread{'s' if row.threads > 1 else ''}, files of {row.writer}, memory {row.memory}"
    ratio = "" if row.side == PLAIN else f"  {row.ratio:5.2f} times{' SHORT' if is_short else ''}"
    return f"{where:46s} {row.side:40s} {row.milliseconds:8.1f} ms  PQ {100 * row.pq:.10f}, {sums}{ratio}"


def _json_paths(writer: str) -> tuple[Path, Path]:
    return tuple(FOLDER / writer / "numbered" / f"{name}.json" for name in ("truth", "prediction"))


def _number_images(writer: str) -> None:
    """Write both JSON files again with image ids that are numbers: the only ones that the peers read."""
    for file, path in zip(perturbed_files(writer), _json_paths(writer), strict=True):
        content = read_json(file.json_path)
        numbers = {image_id: k + 1 for k, image_id in enumerate(file.annotations)}
        for image in content["images"]:
            image["id"] = numbers[image["id"]]
        for annotation in content["annotations"]:
            annotation["image_id"] = numbers[annotation["image_id"]]
        write_json(path, content)


def _read(writer: str) -> tuple[PanopticFile, PanopticFile]:
    truth, prediction = _json_paths(writer)
    folder = FOLDER / writer
    return read_panoptic_json(truth, folder / "truth"), read_panoptic_json(prediction, folder / "prediction", is_prediction=True)


def _measure_ours(writer: str, threads: int, score: Callable[..., dict]) -> tuple[Sums, float]:
    scores = score(*_read(writer), threads)
    return sums_of(scores), scores["All"]["pq"]


def _of_seen(sums: Sums) -> Sums:
    return {category_id: found for category_id, found in sums.items() if any(found[1:])}


def _measure_hotcoco(writer: str) -> tuple[Sums, float]:
    from hotcoco.panoptic import PanopticEval

    truth, prediction = map(str, _json_paths(writer))
    folders = {"gt_folder": str(FOLDER / writer / "truth"), "pred_folder": str(FOLDER / writer / "prediction")}
    evaluation = PanopticEval(truth, prediction, **folders)
    evaluation.evaluate()
    found = evaluation.results()
    return _of_seen({k: (c["iou"], c["tp"], c["fp"], c["fn"]) for k, c in found["per_class"].items()}), found["All"]["pq"]


def _measure_vernier(writer: str, threads: int) -> tuple[Sums, float]:
    """vernier reads no folders: its own decoder of PNGs, on as many threads, stands before it."""
    from vernier.panoptic import Dataset, Evaluator, Predictions, decode_label_map_png

    sides = []
    for path, name in zip(_json_paths(writer), ("truth", "prediction"), strict=True):
        content = json.loads(path.read_text())
        infos = {a["image_id"]: a["segments_info"] for a in content["annotations"]}
        with ThreadPoolExecutor(threads) as pool:
            paths = [FOLDER / writer / name / a["file_name"] for a in content["annotations"]]
            maps = dict(zip(infos, pool.map(decode_label_map_png, paths), strict=True))
        sides.append((maps, json.dumps(infos).encode(), json.dumps(content["categories"]).encode()))
    truth, prediction = Dataset.from_arrays(*sides[0]), Predictions.from_arrays(*sides[1][:2])
    found = Evaluator(parity_mode="strict").evaluate(truth, prediction, num_threads=threads)
    return _of_seen({k: (c.iou_sum, c.n_tp, c.n_fp, c.n_fn) for k, c in found.per_class().items()}), found.pq


def _measure_here(threads: int, memory: str, repeats: int) -> list[Row]:
    """The rows of one setting, in this process."""
    rows = []
    for writer in WRITERS:
        sides: dict[str, Side] = {
            PLAIN: lambda writer=writer: _measure_ours(writer, threads, plain_scores),
            FULL: lambda writer=writer: _measure_ours(writer, threads, full_scores),
            "hotcoco": lambda writer=writer: _measure_hotcoco(writer),
            "vernier": lambda writer=writer: _measure_vernier(writer, threads),
        }
        expected = official_sums(*_read(writer))
        found = {name: side() for name, side in sides.items()}  # not timed: code is loaded and compiled
        times = {name: [] for name in sides}
        for _ in range(repeats):
            for name, side in sides.items():
                start = perf_counter()
                side()
                times[name].append(1000 * (perf_counter() - start))
        medians = {name: median(of_side) for name, of_side in times.items()}
        rows += [
            Row(
                name,
                writer,
                threads,
                memory,
                milliseconds=medians[name],
                ratio=medians[name] / medians[PLAIN],
                num_bit_equal=sum(sums.get(k) == of_class for k, of_class in expected.items()),
                num_classes=len(expected.keys() | sums.keys()),
                pq=pq,
            )
            for name, (sums, pq) in found.items()
        ]
    return rows


if __name__ == "__main__":
    print(json.dumps([asdict(row) for row in _measure_here(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))]))
