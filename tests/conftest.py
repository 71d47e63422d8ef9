"""What tests share: one thread, a tiny drawn data set, commands run as a user runs them, and processes that get killed."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.drawn.snapshots import SnapshotsSettings, ensure_snapshots
from data.drawn.streets import StreetsSettings, ensure_streets

REPOSITORY = Path(__file__).parents[1]
for name in ("CITYSCAPES_DATASET", "CITYSCAPES_DIR", "COCO_DATASET"):
    os.environ.pop(name, None)  # the tests draw their data, whatever the user works with
# Tiny tensors: more threads would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def write_checkpoint() -> Callable[..., Path]:
    """Write a small EfficientPS with random weights, as train_net.py does; further arguments are the module's."""
    from data.network_input import NetworkInput
    from data.taxonomy import CITYSCAPES, Taxonomy
    from efficientps.module import EfficientPSModule

    def write(path: Path, taxonomy: Taxonomy = CITYSCAPES, network_input: NetworkInput = NetworkInput(), **settings) -> Path:
        torch.manual_seed(0)
        module = EfficientPSModule(taxonomy, network_input, variant="b0", fpn_channels=32, norm_momentum=0.1, **settings)
        torch.save({"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}, path)
        return path

    return write


@pytest.fixture(scope="session")
def streets(tmp_path_factory) -> Path:
    """Streets with 2 training and 6 validation images of 128x256."""
    return ensure_streets(tmp_path_factory.mktemp("streets"), StreetsSettings(128, 256, num_train=2, num_val=6))


@pytest.fixture(scope="session")
def snapshots(tmp_path_factory) -> Path:
    """Snapshots with 10 training and 5 validation images, of all kinds of scenes."""
    return ensure_snapshots(tmp_path_factory.mktemp("snapshots"), SnapshotsSettings(num_train=10, num_val=5))


@pytest.fixture(scope="session")
def run_command() -> Callable[..., subprocess.CompletedProcess]:
    """Run `python SCRIPT ARGUMENTS...` from a folder that is not the repository."""

    def run(script: str, *arguments: str | Path, cwd: str = "/") -> subprocess.CompletedProcess:
        command = [sys.executable, str(REPOSITORY / script), *(str(a) for a in arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd)

    return run


@pytest.fixture
def fails_in_one_line(monkeypatch) -> Callable[..., str]:
    """Call a command's main() with arguments that must make it fail; return the line that a user would read.

    It runs in this process: starting Python and importing torch for every kind of bad input would take minutes.
    """

    def fail(main: Callable[[], None], *arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["command", *(str(a) for a in arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        line = stopped.value.code
        assert isinstance(line, str), f"exit code {line}, but a line on stderr was needed"
        assert line.startswith("error: ")
        assert "\n" not in line
        return line

    return fail


@pytest.fixture(scope="session")
def kill_at_random_moments() -> Callable[[Callable[[], None], float, int], int]:
    """Run a function in forked children, one after the other, kill -9 each within `seconds`; return how many still worked."""
    moments = random.Random(0)

    def run_killed(function: Callable[[], None], seconds: float, times: int) -> int:
        interrupted = 0
        for _ in range(times):
            child = os.fork()
            if child == 0:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                function()
                os._exit(0)
            time.sleep(moments.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
            interrupted += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        return interrupted

    return run_killed
