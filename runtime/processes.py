"""Several processes that train together: when one fails, one line says why, and the others end without a word."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed

from runtime.files import InputError, process_rank

PATIENCE = 3.0
"""Seconds that another process waits for the first, which may report the same error and end it."""


class PeerProcessFailed(SystemExit):
    """Another process of the training has ended; this one ends with code 1 and without a word."""


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
