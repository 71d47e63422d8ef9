"""Files, here or far away: paths of this machine as they are, URLs by fsspec."""

import posixpath
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any


def is_url(path: str) -> bool:
    """Whether fsspec opens this, and not the file system of this machine."""
    return "://" in path or "::" in path


@contextmanager
def local_file(path: str) -> Iterator[Path]:
    """A file of fsspec as a file here.

    Raises:
        FileNotFoundError: of a URL whose file is not there.
    """
    if not is_url(path):
        yield Path(path)
        return
    import fsspec

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / ("file" + PurePosixPath(path).suffix)
        with fsspec.open(path, "rb") as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        yield copy


def write_file(path: str, write: Callable[[Path], None]) -> None:
    """Write a file, whole or not at all, by a function that does so here."""
    if not is_url(path):
        write(Path(path))
        return
    import fsspec

    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / PurePosixPath(path).name
        write(local)
        files, target = fsspec.core.url_to_fs(path)
        files.makedirs(posixpath.dirname(target), exist_ok=True)
        files.put_file(str(local), target)


def arrow_place(path: str) -> tuple[str, Any]:
    """A folder as pyarrow has it: its path, and the file system where it is not this machine's."""
    if not is_url(path):
        return path, None
    import fsspec
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    files, target = fsspec.core.url_to_fs(path)
    return target, PyFileSystem(FSSpecHandler(files))
