"""The processor, in words: part of every number measured on a CPU."""

import os
import platform
import re
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
"""Linux's."""


def processor_model() -> str:
    """Such as `AMD EPYC 9B14`; the architecture where the system does not say."""
    text = CPU_INFO.read_text(errors="replace") if CPU_INFO.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return model[1].strip() if model else platform.processor() or platform.machine()


def describe_processor() -> str:
    """The number of cores that this process may use, and the model: `2 x AMD EPYC 9B14`."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{usable} x {processor_model()}"
