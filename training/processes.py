"""Training in several processes: where one fails, all end, and one line says why."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from subprocess import Popen, TimeoutExpired
from typing import TypeVar

import pytorch_lightning as pl
import torch.distributed

from runtime.files import InputError
from runtime.processes import PeerProcessFailed, report_error_once

Value = TypeVar("Value")


@contextmanager
def all_processes_end(trainer: pl.Trainer) -> Iterator[None]:
    """Around trainer.fit: where one process fails, its line is the only one, and none is left running.

    Raises:
        InputError: if another process was killed and so could say nothing.
    """
    try:
        with report_error_once():
            yield
        for child in getattr(trainer.strategy.launcher, "procs", []):
            _wait(child)
    except BaseException as error:
        processes = getattr(trainer.strategy.launcher, "procs", [])  # those that Lightning has started; none in all but the first
        children = processes[:]
        processes.clear()  # Lightning's own watch over them kills this process as well, before it has spoken
        ends = [_wait(child) for child in children] if isinstance(error, PeerProcessFailed) else []
        for child in children:
            child.kill()
        killed = [(rank, signal.Signals(-code).name) for rank, code in enumerate(ends, 1) if code is not None and code < 0]
        if killed:
            what = ", ".join(f"process {rank} was ended by {name}" for rank, name in killed)
            raise InputError(f"{what} (by the system, if memory ran out); run the same command again to go on") from None
        raise


def _wait(child: Popen, seconds: float = 10.0) -> int | None:
    with suppress(TimeoutExpired):
        return child.wait(seconds)


def gather_objects(value: Value) -> list[Value]:
    """What every process of a training has, in their order; of one process its own."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    gathered: list[Value | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, value)
    return gathered
