"""Files that are read with suspicion and written whole, and how a command reports bad input."""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """The user's input does not fit. The message says what came, what was needed and what to do, in one line."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn bad input and failing files into one line on stderr and exit code 1, for a command's main()."""
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {_last_line(error)}")
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or _last_line(error)
        sys.exit(f"error: {place}{reason}; nothing unfinished was kept, fix this and run the same command again")
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command again to go on")


def file_digest(path: Path) -> str:
    """16 hexadecimal digits that change with a file's content.

    Raises:
        InputError: if there is no such file.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: no such file; give the path of one that is there") from None
    return digest.hexdigest()[:16]


def digest_of(*parts: object) -> str:
    """16 hexadecimal digits that change with any of the parts, whose repr() must say all of them."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def shorten(error: object, length: int = 120) -> str:
    """A library's message as one line of bounded length, to stand in brackets in ours."""
    text = " ".join(str(error).split())
    return text if len(text) <= length else f"{text[:length]}..."


def _last_line(error: Exception) -> str:
    """A DataLoader worker's error arrives with the worker's traceback before its message; only the message is for the user."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].removeprefix(f"{InputError.__module__}.{InputError.__name__}: ")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with the same suffix; on success it becomes `path`, on failure it goes.

    The contents are flushed to disk before the rename, so a kill or a power cut leaves the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".partial-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Delete what a killed writer left in `folder`; no other process may be writing there."""
    for leftover in Path(folder).glob(".partial-*"):
        leftover.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` atomically; keys keep their order, so the same value gives the same bytes."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> object:
    """Parse a JSON file.

    Raises:
        InputError: if it is missing, or not JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the path of a JSON file") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); write it again with the tool that made it") from None
