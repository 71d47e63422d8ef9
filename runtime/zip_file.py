"""Zip archives that are written member by member, whole or not at all, and whose bytes depend on nothing but the content."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.files import atomic_path

EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The first time that a zip can hold: that of every member, so that the same content gives the same bytes."""
UNIX, FILE_MODE = 3, 0o100644
STORED_SUFFIXES = (".png", ".jpg")
"""Of members that are compressed already."""

AddMember = Callable[[str, bytes], None]
"""Adds a member: its name, with `/` between folders, and its content."""


@contextmanager
def write_zip(path: Path) -> Iterator[AddMember]:
    """Yield what adds a member; on success the archive becomes `path`, on failure nothing is left."""
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w") as archive:

        def add(name: str, content: bytes) -> None:
            member = zipfile.ZipInfo(name, EARLIEST)
            member.create_system, member.external_attr = UNIX, FILE_MODE << 16  # Python's own say which system it runs on
            member.compress_type = zipfile.ZIP_STORED if name.endswith(STORED_SUFFIXES) else zipfile.ZIP_DEFLATED
            archive.writestr(member, content)

        yield add
