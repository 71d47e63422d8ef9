"""Peak memory of evaluating more and more small images, with kinds of errors and a table of the images, in fresh processes.

Each image is 128x256 pixels, and is compared with itself moved by three pixels. What a panoptic file lists of its images grows
with their number, and stands in the first number; what the evaluation adds must not.

    $ python scripts/benchmark.py growth
    $ python -m benchmarks.evaluation_memory 5000
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.pq import full_scores, repeated
from benchmarks.side_by_side import REPOSITORY, memory_status
from data.panoptic_file import PanopticFile, read_panoptic_json, write_panoptic_json
from data.panoptic_png import PanopticMap, describe_segments, write_panoptic_png
from data.taxonomy import Category, Taxonomy

NUM_IMAGES = (500, 5000)
NUM_FILES = 20
CLASSES = Taxonomy("memory", (Category("wall", 1, False, (90, 90, 90)), Category("box", 2, True, (200, 80, 0))))


def measure(num_images: int) -> tuple[float, float]:
    """(MB of the process when both files are read, MB at its peak)."""
    command = [sys.executable, "-m", "benchmarks.evaluation_memory", str(num_images)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    return tuple(json.loads(done.stdout))


def _draw(folder: Path, name: str, moved: int) -> PanopticFile:
    rng = np.random.default_rng(0)
    entries = []
    for k in range(NUM_FILES):
        ids = np.ones((128, 256), np.uint32)
        for number in range(2, 12):
            y, x = rng.integers(0, 100), rng.integers(0, 220)
            ids[y : y + 28, x + moved : x + moved + 30] = number
        panoptic = PanopticMap(ids, describe_segments(ids, lambda segment_id: min(segment_id, 2)))
        write_panoptic_png(folder / name / f"{k}.png", panoptic, "benchmark")
        entries.append((k, f"{k}.png", f"{k}.png", ids.shape, panoptic.segments))
    write_panoptic_json(folder / f"{name}.json", CLASSES, entries)
    return read_panoptic_json(folder / f"{name}.json")


def _measure_here(num_images: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        files = [repeated(_draw(Path(folder), name, moved), num_images) for name, moved in (("truth", 0), ("prediction", 3))]
        before = memory_status("VmRSS")
        full_scores(*files)
        return before / 1024, memory_status("VmHWM") / 1024


if __name__ == "__main__":
    print(json.dumps(_measure_here(int(sys.argv[1]))))
