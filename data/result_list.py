"""A JSON list of a million entries, read one by one: what is held of each is where it stands in the file."""

import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from runtime.files import InputError, shorten

BLOCK = 1 << 20
"""Bytes that are read at once."""
LONGEST_ENTRY = 1 << 27
"""Bytes: the run lengths of a mask are far below."""
SPACE = b" \t\r\n"


class JsonList:
    """The entries of a JSON file whose content is a list of objects; the file must not change while it is used.

    Raises:
        InputError: on iteration, if it is missing, no such list, cut off, or holds what no other program would read.
    """

    def __init__(self, path: Path):
        self.path = Path(path)

    def __iter__(self) -> Iterator[tuple[int, dict]]:
        """Each entry, and the byte that it begins with."""
        try:
            file = self.path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"{self.path}: no such file; give the path of a JSON file") from None
        except IsADirectoryError:
            raise InputError(f"{self.path}: is a folder; give the path of a JSON file") from None
        with file:
            if file.read(3) != b"\xef\xbb\xbf":
                file.seek(0)
            yield from self._scan(file)

    def at(self, starts: array) -> list[dict]:
        """The entries that begin at these bytes, as iteration gave them."""
        with self.path.open("rb") as file:
            return [self._read_one(file, start) for start in starts]

    def _scan(self, file: BinaryIO) -> Iterator[tuple[int, dict]]:
        base, held = file.tell(), b""  # of what is held, which is not used yet
        is_first, wanted = True, b"["
        while True:
            held, skipped = _strip(held)
            base += skipped
            if not held:
                held = file.read(BLOCK)
                if not held:
                    raise self._broken("it is cut off" if not is_first or wanted != b"[" else "it is empty")
                continue
            if wanted == b"[":
                if not held.startswith(b"["):
                    raise InputError(f"{self.path}: holds no list of results; give a COCO result list with masks, not boxes")
                held, base, wanted = held[1:], base + 1, b"{"
            elif wanted == b"," or (is_first and held.startswith(b"]")):
                if held.startswith(b"]"):
                    self._expect_end(file, held[1:])
                    return
                if not held.startswith(b","):
                    raise self._broken(f"no comma at byte {base}")
                held, base, wanted = held[1:], base + 1, b"{"
            else:
                entry, length, held = self._parse(file, held, base)
                yield base, entry
                held, base, is_first, wanted = held[length:], base + length, False, b","

    def _parse(self, file: BinaryIO, held: bytes, base: int) -> tuple[dict, int, bytes]:
        """The value at the start of `held`, its length in bytes, and what is held now: more is read where it does not end."""
        while True:
            # A character may be cut at the end of a block; it belongs to a later entry, or to one that does not end yet.
            text = held.decode("utf-8", "replace")
            try:
                entry, end = _decode(text)
                length = end if text.isascii() else len(text[:end].encode())
                if length < len(held) or not (more := file.read(BLOCK)):
                    held[:length].decode("utf-8")
                    break
                held += more
            except (ValueError, RecursionError) as error:
                more = file.read(max(BLOCK, len(held))) if len(held) < LONGEST_ENTRY else b""
                if not more:
                    raise self._broken(f"entry at byte {base}: {shorten(error)}") from None
                held += more
        if not isinstance(entry, dict):
            raise InputError(f"{self.path}: entry at byte {base} is {shorten(repr(entry), 40)}, but an object was needed")
        return entry, length, held

    def _read_one(self, file: BinaryIO, start: int) -> dict:
        file.seek(start)
        return self._parse(file, file.read(1 << 14), start)[0]

    def _expect_end(self, file: BinaryIO, held: bytes) -> None:
        while held or (held := file.read(BLOCK)):
            held, _ = _strip(held)
            if held:
                raise self._broken("more follows after the end of the list")

    def _broken(self, why: str) -> InputError:
        return InputError(f"{self.path}: not valid JSON ({why}); write it again with the tool that made it")


def _strip(held: bytes) -> tuple[bytes, int]:
    """Without the white space in front, and how much of that there was."""
    rest = held.lstrip(SPACE)
    return rest, len(held) - len(rest)


def _decode(text: str) -> tuple[object, int]:
    """The value that a text begins with, and where it ends."""
    value, end = json.JSONDecoder().raw_decode(text)
    if "\\ud" in text[:end] or "\\uD" in text[:end]:
        json.dumps(value, ensure_ascii=False).encode()  # refuses half of a character that stands alone
    return value, end
