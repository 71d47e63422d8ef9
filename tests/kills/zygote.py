"""Run commands in forked processes that have imported what is heavy: a kill then costs a command's own time, not its imports'.

`Zygote` is for the harness; run as a module, this is the process behind it:

    $ python -m tests.kills.zygote MODULE...

Each line of stdin is a request, {"command": [SCRIPT, ARGUMENT...], "log": STEM}: it runs in a child with a process group of its
own, as in a terminal, and with STEM.out and STEM.err as stdout and stderr. Two lines answer it: the child's process id when the
script starts, and how the child ended, as subprocess has it: the exit code, or minus the signal.

A child ends after its own exit functions: taking hundreds of inherited modules apart would double its time.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int | None
    """Minus the signal where one ended it; None where it hung."""
    stderr: list[str]
    """Its lines."""
    seconds: float
    landed: bool
    """Whether the signal met it running."""
    is_group_gone: bool
    """Whether it left no process running."""


class Zygote:
    """A process that runs commands, one at a time; see zygote.py."""

    def __init__(self, modules: Sequence[str]):
        environment = {k: v for k, v in os.environ.items() if k not in ("CITYSCAPES_DATASET", "CITYSCAPES_DIR", "COCO_DATASET")}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-m", "tests.kills.zygote", *modules]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0, "start_new_session": True}
        self.process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, **pipes)

    def run(self, command: Sequence[str], log: Path, seconds: float, kill: tuple[signal.Signals, float] | None = None) -> Ended:
        """Run a command; a signal comes after the given seconds, as Ctrl-C to the whole group, else to the process alone."""
        self.process.stdin.write(json.dumps({"command": list(command), "log": str(log)}).encode() + b"\n")
        child = self._answer(None)
        start, code = time.monotonic(), None
        if kill is not None:
            code = self._answer(kill[1])
            if code is None:
                with suppress(ProcessLookupError):
                    (os.killpg if kill[0] == signal.SIGINT else os.kill)(child, kill[0])
        landed = kill is not None and code is None
        code = self._answer(seconds) if code is None else code
        taken = time.monotonic() - start
        is_gone = _wait_for_group(child) if code is not None else True
        if code is None or not is_gone:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            if code is None:
                self._answer(None)
        lines = Path(f"{log}.err").read_text(errors="replace").replace("\r", "\n").splitlines()
        return Ended(code, [line for line in lines if line.strip()], taken, landed, is_gone)

    def _answer(self, seconds: float | None) -> int | None:
        """The next number that it says; None where it says none within so many seconds."""
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the zygote has ended; its message is above")
        return int(line)

    def close(self) -> None:
        """End it; a child that still runs is for `run`."""
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def open_zygotes(number: int, modules: Sequence[str]) -> Iterator[list[Zygote]]:
    """Some zygotes, which import while the caller goes on."""
    zygotes = [Zygote(modules) for _ in range(number)]
    try:
        yield zygotes
    finally:
        for zygote in zygotes:
            zygote.close()


def _wait_for_group(group: int, seconds: float = 10.0) -> bool:
    """Whether all processes of a group end; DataLoader's workers look for their parent every 5 seconds."""
    deadline = time.monotonic() + seconds
    while _is_alive(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    for path in Path("/proc").glob("[0-9]*/stat"):  # a zombie that nobody waits for is no process
        with suppress(OSError):
            state, _, of_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                return True
    return False


def serve() -> list[str] | None:
    """Answer requests until stdin ends; returns None then, and in each child the command that the child is to run."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            become_command(request["log"])
            return request["command"]
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return None


def become_command(log: str) -> None:
    """Turn this child into what a shell would have started, and tell its process id."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the harness runs in the background
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    answers = os.dup(1)
    new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for target, source in enumerate((os.open(os.devnull, os.O_RDONLY), os.open(f"{log}.out", new), os.open(f"{log}.err", new))):
        os.dup2(source, target)
        os.close(source)
    os.write(answers, f"{os.getpid()}\n".encode())
    os.close(answers)


def end_at_once() -> None:
    """The last exit function."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    exit_code = 1
    atexit.register(end_at_once)  # before all others, so it is called after them
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.freeze()
    # Here, and not in serve(): what the script raises, the interpreter itself must handle.
    if (command := serve()) is not None:
        sys.argv = command
        sys.path[0] = os.path.dirname(command[0])
        try:
            runpy.run_path(command[0], run_name="__main__")
            exit_code = 0
        except SystemExit as end:
            exit_code = end.code or 0 if isinstance(end.code, int | None) else 1
            raise
        finally:  # what comes now is not the command's
            for ignored in (signal.SIGINT, signal.SIGTERM):
                signal.signal(ignored, signal.SIG_IGN)
