"""A file from the network, resumable, and under its own name only once it is known to be the one that was wanted."""

import re
import shutil
import socket
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from runtime.files import InputError, file_digest, shorten

TRIES, SECONDS_BETWEEN_TRIES, SECONDS_OF_SILENCE = 5, 2.0, 30.0
UNFINISHED = ".download"
"""Ends the name of a file that is not whole; the next call goes on with it."""
BLOCK = 1 << 20
DIGITS = 16
"""Of a SHA-256 are compared, as many as file_digest gives."""
BUSY = (408, 429)
"""Answers of a server that may give another one soon."""


def download(address: str, path: Path, sha256: str, largest: int, advance: Callable[[int, int | None], None]) -> bool:
    """Fetch a file unless it is there; return whether it was fetched.

    What a broken connection has left is gone on with, now, up to TRIES times, or by the same call later.

    Args:
        sha256: the digits with which the file's SHA-256 begins.
        largest: bytes that it may have.
        advance: gets the number of bytes so far, and of how many, where that is known.

    Raises:
        InputError: if it cannot be fetched, or is another file.
    """
    if path.exists():
        if file_digest(path).startswith(sha256[:DIGITS]):
            return False
        raise InputError(f"{path}: is not what was published, its SHA-256 does not begin with {sha256}; move it away")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + UNFINISHED)
    for number in range(TRIES):
        before = partial.stat().st_size if partial.exists() else 0
        try:
            _fetch(address, partial, largest, advance)
            break
        except HTTPError as error:
            problem = f"the server says {error.code} {shorten(error.reason)}"
            if error.code < 500 and error.code not in BUSY:
                raise InputError(f"{address}: {problem}; look whether it has moved") from None
        except (URLError, HTTPException, TimeoutError, ConnectionError, socket.gaierror) as error:
            problem = shorten(getattr(error, "reason", error) or type(error).__name__)
        there = partial.stat().st_size if partial.exists() else 0
        if number + 1 == TRIES or (not there and number):
            kept = f"{there / 1e6:.1f} MB are kept in {partial}; run the same command again to go on" if there else "try later"
            raise InputError(f"{address}: cannot be fetched ({problem}); {kept}")
        if there == before:
            time.sleep(SECONDS_BETWEEN_TRIES)
    found = file_digest(partial)
    if not found.startswith(sha256[:DIGITS]):
        partial.unlink()
        found = f"SHA-256 {found[:8]}... came, but {sha256}... was published"
        raise InputError(f"{address}: {found}; nothing was kept; run the same command again, or fetch it from elsewhere")
    partial.replace(path)
    return True


def _fetch(address: str, partial: Path, largest: int, advance: Callable[[int, int | None], None]) -> None:
    """Append what is missing; ConnectionError where the end did not come."""
    there = partial.stat().st_size if partial.exists() else 0
    request = Request(address, headers={"User-Agent": "panoptic-segmentation"} | ({"Range": f"bytes={there}-"} if there else {}))
    try:
        answer = urlopen(request, timeout=SECONDS_OF_SILENCE)
    except HTTPError as error:
        if error.code == 416:  # all is there, or more
            return
        raise
    with answer:
        begins = re.match(r"bytes (\d+)-(\d+)/", answer.headers.get("Content-Range", ""))
        if answer.status != 206 or begins is None or int(begins[1]) != there:
            there, begins = 0, None
        length = answer.headers.get("Content-Length")
        total = int(begins[2]) + 1 if begins else int(length) if length and length.isdecimal() else None
        if total is not None and total > largest:
            found = f"has {total / 1e6:.0f} MB, but at most {largest / 1e6:.0f} were expected"
            raise InputError(f"{address}: {found}; look whether it is this file")
        free = shutil.disk_usage(partial.parent).free
        if total is not None and total - there > free:
            needed = (total - there) / 1e6
            raise InputError(f"{partial.parent}: {free / 1e6:.0f} MB are free, but {needed:.0f} are needed; free some")
        with partial.open("r+b" if there else "wb") as file:
            file.seek(there)
            while block := answer.read1(BLOCK):
                file.write(block)
                there += len(block)
                advance(there, total)
                if there > largest:
                    raise InputError(f"{address}: does not end after {largest / 1e6:.0f} MB; look whether it is this file")
    if total is not None and there < total:
        raise ConnectionError(f"it ended after {there} of {total} bytes")
