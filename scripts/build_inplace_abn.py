"""Build and install inplace-abn, which the setting `norm: iabn` needs, for the torch that is installed.

    $ python scripts/build_inplace_abn.py

It is published as source only. With a visible GPU it is built with CUDA, by nvcc; without one for CPU alone, although torch has
CUDA. `make iabn` calls it. If the build fails, one line says what is missing, and the exit code is 1.
"""

import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from runtime.command_line import REPOSITORY, make_parser

LOG = Path(sys.prefix) / "inplace-abn.log"


def has_gpu() -> bool:
    """Whether torch sees one."""
    import torch

    return torch.cuda.is_available()


def pip(*arguments: str | Path) -> None:
    """Run pip with the pinned versions; what it prints goes to LOG."""
    command = [sys.executable, "-m", "pip", *arguments, "--constraint", REPOSITORY / "constraints.txt"]
    with open(LOG, "a") as log:
        subprocess.run(list(map(str, command)), stdout=log, stderr=log, check=True)


def build(folder: Path) -> None:
    """Download, unpack in `folder`, compile, install."""
    # Its set-up imports torch, so it cannot be built in isolation; what it needs to be built is installed first.
    pip("install", "setuptools_scm", "wheel")
    pip("download", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--dest", folder, "inplace-abn")
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    source = next(path for path in folder.iterdir() if path.is_dir())
    if not has_gpu():
        setup = source / "setup.py"
        setup.write_text(f"import torch\ntorch.has_cuda = False\n{setup.read_text()}")
    # Never from pip's cache: it does not know which torch a wheel was compiled for.
    pip("install", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--force-reinstall", source)
    # In another process: one that has already looked for the package in vain would not see it.
    subprocess.run([sys.executable, "-c", "import inplace_abn"], check=True, capture_output=True)


def main() -> None:
    """The command; see above."""
    make_parser("build_inplace_abn.py", __doc__, has_config=False).parse_args()
    kind = "CUDA" if has_gpu() else "CPU"
    print(f"building inplace-abn for {kind}: a minute or two", flush=True)
    start = time.monotonic()
    try:
        LOG.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder))
    except (subprocess.CalledProcessError, OSError, StopIteration, tarfile.TarError):
        needed = "a C++ compiler" if kind == "CPU" else "a C++ compiler and nvcc of torch's CUDA version"
        sys.exit(f"error: inplace-abn could not be built: it needs {needed} (see {LOG}); without it, use norm: bn")
    print(f"built inplace-abn in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
