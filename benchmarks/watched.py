"""A command of the repository as a process of its own, with the time and the memory that it takes. Needs Linux."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter, sleep


def run_watched(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[float, float]:
    """(seconds from its start to its end, peak resident memory in MB); its stdout is thrown away.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    start, peak = perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | dict(environment or {})) as process:
        while process.poll() is None:
            peak = max(peak, _peak_kib(process.pid))
            sleep(0.02)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return perf_counter() - start, peak / 1024


def _peak_kib(pid: int) -> int:
    """VmHWM of a process, 0 once it has ended; what wait4 gives begins with the memory of the parent."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
