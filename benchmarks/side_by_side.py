"""Time two functions that do the same on the same input: in turns, in one process, on one thread, with equal results.

Peak memory is taken in a fresh process a side. VmHWM counts from the process's own start; `ru_maxrss` would be inherited from
the parent.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

REPOSITORY = Path(__file__).resolve().parents[1]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Contest:
    """One row of the table.

    at_least: the ratio of medians, theirs to ours, that is promised. same: whether the two results are equal; called once,
    in the run that is timed. memory_at_most: promised ratio of additional peak memory, ours to theirs.
    """

    name: str
    at_least: float
    ours: Callable[[], object]
    theirs: Callable[[], object]
    same: Callable[[object, object], bool]
    memory_at_most: float | None = None


@dataclass(frozen=True)
class Times:
    """Of one side, in milliseconds; `cpu` is the process's time in the median run."""

    smallest: float
    median: float
    cpu: float


def time_contest(contest: Contest, repeats: int = 7) -> tuple[Times, Times, bool]:
    """(ours, theirs, whether the results are equal); the first run of each side is not timed."""
    equal = bool(contest.same(contest.ours(), contest.theirs()))
    sides = {"ours": contest.ours, "theirs": contest.theirs}
    wall, cpu = {name: [] for name in sides}, {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            start, cpu_start = perf_counter(), process_time()
            side()
            wall[name].append(1000 * (perf_counter() - start))
            cpu[name].append(1000 * (process_time() - cpu_start))
    ours, theirs = (Times(min(wall[name]), median(wall[name]), median(cpu[name])) for name in sides)
    return ours, theirs, equal


def memory_in_fresh_processes(row: str) -> tuple[float, float]:
    """Additional peak memory of the two sides of a row, (ours, theirs) in MB."""
    return tuple(_memory_in_fresh_process(row, side) for side in ("ours", "theirs"))


def _memory_in_fresh_process(row: str, side: str) -> float:
    command = [sys.executable, str(REPOSITORY / "scripts/benchmark.py"), "--memory-of", row, side]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | ONE_THREAD)
    return json.loads(done.stdout.splitlines()[-1])


def additional_peak_memory(function: Callable[[], object]) -> float:
    """MB by which the process grows while `function` runs; once before it is measured, so that code is loaded and compiled."""
    function()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what the first run freed must not hide what the second needs
    before = memory_status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from VmRSS
    result = function()
    peak = memory_status("VmHWM")
    del result
    return (peak - before) / 1024


def memory_status(field: str) -> int:
    """A field of /proc/self/status, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}; memory is measured on Linux only")
