"""A kernel works where nothing can be written: in a read-only checkout of a user without a home."""

import os
import subprocess
import sys

CODE = """
from runtime.compiled import kernel
scope = {"kernel": kernel}
source = "@kernel\\ndef double(x):\\n    return 2 * x"
exec(compile(source, "/proc/nowhere/kernels.py", "exec"), scope)  # a place that even root cannot write to
print(scope["double"](21))
"""


def test_a_kernel_that_cannot_be_kept_is_compiled_all_the_same():
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")} | {
        "HOME": "/proc/nowhere"
    }
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["42"], done.stderr
