"""JSON files with a million entries, read one by one: what is held of each is where it stands in the file."""

import codecs
import json
import re
from array import array
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from runtime.files import InputError, read_json, shorten

BLOCK = 1 << 20
"""Bytes that are read at once."""
SMALL_BLOCK = 1 << 14
"""The same, of an entry alone."""
LONGEST_ENTRY = 1 << 27
"""Characters: the run lengths of a mask are far below."""
SPACE = re.compile(r"[ \t\r\n]*")
HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


class JsonList:
    """The entries of a JSON file whose content is a list of objects; the file must not change while it is used.

    Raises:
        InputError: on iteration, if it is missing, no such list, cut off, or holds what no other program would read.
    """

    def __init__(self, path: Path):
        self.path = Path(path)

    def __iter__(self) -> Iterator[tuple[int, dict]]:
        """Each entry, and the byte that it begins with."""
        with _open(self.path) as file:
            yield from self._scan(_Text(self.path, file, BLOCK))

    def at(self, starts: array) -> list[dict]:
        """The entries that begin at these bytes, as iteration gave them."""
        entries = []
        with self.path.open("rb") as file:
            for start in starts:
                file.seek(start)
                entries.append(self._entry(_Text(self.path, file, SMALL_BLOCK)))
        return entries

    def _scan(self, text: "_Text") -> Iterator[tuple[int, dict]]:
        if text.next_character() != "[":
            raise InputError(f"{self.path}: holds no list of results; give a COCO result list with masks, not boxes")
        for start in text.places("]"):
            yield start, self._entry(text)
        text.end()

    def _entry(self, text: "_Text") -> dict:
        start = text.offset
        entry = text.next_value()
        if not isinstance(entry, dict):
            raise InputError(f"{self.path}: entry at byte {start} is {shorten(repr(entry), 40)}, but an object was needed")
        return entry


class Member(NamedTuple):
    """What a member of an object is: its value, or one entry of its list; start, end: its bytes in the file.

    Both are -1 in a file that is not in UTF-8, which is read as a whole. `value` is [] of a list whose entries follow.
    """

    name: str
    is_entry: bool
    start: int
    end: int
    value: object


class JsonObject:
    """The members of a JSON file whose content is an object, with the entries of some lists one by one.

    Args:
        lists: names of these members; where one is no list, it is given as a whole, as the others are.

    Raises:
        InputError: on iteration, if the file is missing, no JSON, or holds what no other program would read.
    """

    def __init__(self, path: Path, lists: Collection[str]):
        self.path, self.lists = Path(path), lists

    def __iter__(self) -> Iterator[Member]:
        """In the order of the file; nothing where the content is no object. A name may be there twice: the last one counts."""
        with _open(self.path) as file:
            start = file.tell()
            is_utf8 = json.detect_encoding(file.read(4)).startswith("utf-8")
            if is_utf8:
                file.seek(start)
                yield from self._scan(_Text(self.path, file, BLOCK))
        if not is_utf8:
            yield from self._in_memory()

    def value_at(self, start: int, end: int) -> object:
        """The value at these bytes, as iteration gave them."""
        with self.path.open("rb") as file:
            file.seek(start)
            return json.loads(file.read(end - start))

    def _scan(self, text: "_Text") -> Iterator[Member]:
        if text.next_character() != "{":
            text.next_value()
            text.end()
            return
        for _ in text.places("}"):
            name = text.next_value()
            if not isinstance(name, str) or text.next_character() != ":":
                raise text.broken(f"no name and colon before byte {text.offset}")
            text.advance(1)
            if text.next_character() == "[" and name in self.lists:
                yield Member(name, False, -1, -1, [])
                for start in text.places("]"):
                    value = text.next_value()
                    yield Member(name, True, start, text.offset, value)
            else:
                start = text.offset
                value = text.next_value()
                yield Member(name, False, start, text.offset, value)
        text.end()

    def _in_memory(self) -> Iterator[Member]:
        content = read_json(self.path)
        for name, value in content.items() if isinstance(content, dict) else ():
            has_entries = name in self.lists and isinstance(value, list)
            yield Member(name, False, -1, -1, [] if has_entries else value)
            if has_entries:
                yield from (Member(name, True, -1, -1, entry) for entry in value)


def _open(path: Path) -> BinaryIO:
    """The file, behind its byte order mark."""
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file; give the path of a JSON file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give the path of a JSON file") from None
    if file.read(3) != codecs.BOM_UTF8:
        file.seek(0)
    return file


class _Text:
    """The text of a file from its position on, a block at a time. offset: the byte at which what is next begins."""

    def __init__(self, path: Path, file: BinaryIO, block: int):
        self.path, self.file, self.block, self.offset = path, file, block, file.tell()
        self.decoder, self.json = codecs.getincrementaldecoder("utf-8")(), json.JSONDecoder()
        self.text, self.position = "", 0

    def next_character(self) -> str:
        """The next one that is no white space, which is passed over; nothing at the end."""
        while True:
            self.advance(SPACE.match(self.text, self.position).end() - self.position)
            if self.position < len(self.text):
                return self.text[self.position]
            if not self._read(self.block):
                return ""

    def next_value(self) -> object:
        """The JSON value that is next.

        Raises:
            InputError: if there is none, or it is not whole.
        """
        while True:
            try:
                value, end = self.json.raw_decode(self.text, self.position)
                break
            except (ValueError, RecursionError) as error:
                held = len(self.text) - self.position
                if held > LONGEST_ENTRY or not self._read(max(self.block, held)):
                    reason = "lists in lists without end" if isinstance(error, RecursionError) else shorten(error)
                    raise self.broken(f"entry at byte {self.offset}: {reason}") from None
        if HALF_CHARACTER.search(self.text, self.position, end):
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except ValueError:
                raise self.broken(f"entry at byte {self.offset}: half of a character") from None
        self.advance(end - self.position)
        return value

    def places(self, closing: str) -> Iterator[int]:
        """The byte at which each element of a list or object begins, which is next and is to be read; it ends by `closing`."""
        self.advance(1)
        is_first = True
        while (character := self.next_character()) != closing:
            if not is_first:
                if character != ",":
                    raise self.broken(f"no comma at byte {self.offset}" if character else "it is cut off")
                self.advance(1)
                self.next_character()
            yield self.offset
            is_first = False
        self.advance(1)

    def end(self) -> None:
        """Refuse anything that follows."""
        if self.next_character():
            raise self.broken("more follows after the end")

    def advance(self, characters: int) -> None:
        """Pass over so many characters."""
        passed = self.text[self.position : self.position + characters]
        self.offset += len(passed) if passed.isascii() else len(passed.encode())
        self.position += characters

    def broken(self, why: str) -> InputError:
        """The error for what is no JSON."""
        return InputError(f"{self.path}: not valid JSON ({why}); write it again with the tool that made it")

    def _read(self, size: int) -> bool:
        """Read on; return whether there was anything."""
        content = self.file.read(size)
        try:
            more = self.decoder.decode(content, final=not content)
        except ValueError as error:
            raise self.broken(shorten(error)) from None
        self.text, self.position = self.text[self.position :] + more, 0
        return bool(content)
