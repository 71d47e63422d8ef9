"""What computes here, in words: part of every measured number."""

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
    """The number of cores and the model: `2 x AMD EPYC 9B14`."""
    return f"{os.cpu_count()} x {processor_model()}"
