"""Several processes that train together: when one fails, one line says why, and the others end without a word."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed

from runtime.files import InputError, process_rank

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: the signal that the end of the parent gives."""
PATIENCE = 3.0
"""Seconds that another process waits for the first, which may report the same error and end it."""


class PeerProcessFailed(SystemExit):
    """Another process of the training has ended; this one ends with code 1 and without a word."""


def end_with_parent(parent: int) -> None:
    """Let this process end when its parent does, however that is ended, on Linux; elsewhere only if it has ended already.

    A DataLoader's worker looks for its parent now and then, but one that has just been started takes whoever is its parent then.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@contextmanager
def report_error_once() -> Iterator[None]:
    """Let only one of several processes report an error; goes inside one_line_errors. What all find wrong, the first reports.

    Raises:
        PeerProcessFailed: where nothing is wrong but that another process has ended.
    """
    try:
        yield
    except (InputError, OSError):
        if process_rank() > 0:
            time.sleep(PATIENCE)
        raise
    except RuntimeError as error:
        if not is_peer_failure(error):
            raise
        raise PeerProcessFailed(1) from None


def is_peer_failure(error: BaseException) -> bool:
    """Whether an exchange between processes failed, as when another one has ended."""
    # gloo has no exception class of its own.
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error) or "Connection closed by peer" in str(error)
