"""JSON files that are made from a data set's truth: their first line says of what, and whether they are whole.

{"info": {"description": ..., "content": digest of all that follows, ...},
...}
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from runtime.files import atomic_path, parse_json

START = b'{"info": '
LONGEST_INFO = 2000


def write_derived(path: Path, info: Mapping[str, str], content: Mapping[str, object]) -> None:
    """Write `content`, a JSON object, after an `info` with a digest of it, atomically; the same content gives the same bytes."""
    rest = json.dumps(content, indent=1)[1:].encode() + b"\n"
    about = json.dumps({**info, "content": hashlib.sha256(rest).hexdigest()[:16]})
    with atomic_path(path) as partial:
        partial.write_bytes(START + about.encode() + b"," + rest)


def read_info(path: Path) -> dict:
    """The `info` of a file of write_derived, whether whole or not; empty for any other file. Only the first line is read."""
    try:
        with open(path, "rb") as file:
            line = file.readline(LONGEST_INFO)
        info = parse_json(line.removeprefix(START).rstrip(b",\n").decode()) if line.startswith(START) else {}
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


def begins_as(path: Path, info: Mapping[str, str]) -> bool:
    """Whether a file begins as write_derived would with these first entries of `info`, as far as it goes."""
    wanted = START + json.dumps(info)[:-1].encode()
    try:
        with open(path, "rb") as file:
            return wanted.startswith(file.read(len(wanted)))
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_derived(path: Path, info: Mapping[str, str]) -> bool:
    """Whether a file of write_derived is there, whole, with these entries in its `info`."""
    found = read_info(path)
    if not info.items() <= found.items():
        return False
    with open(path, "rb") as file:
        line, digest = file.readline(LONGEST_INFO), hashlib.sha256()
        digest.update(line[line.rindex(b",") + 1 :])
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16] == found.get("content")
