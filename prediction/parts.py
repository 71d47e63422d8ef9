"""What each shard has done of a whole, as files of one JSON line an image, and all of them in the order of the images.

parts/part-00003.jsonl
  {"format": "panoptic-part", "kind": "prediction", "shard": [3, 7], "images": 20000, "list": "93ab...", "about": {...}}
  {"index": 12, "image_id": "aachen_000012_000019", ...}
  ...
  {"end": 2857}

A part is there when it is done, and not before. `images` and `list` are of the whole, so that parts of different images are not
joined. Reading holds one line of each part.
"""

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prediction.selection import Shard
from runtime.files import InputError, atomic_path, first_few, shorten

FOLDER = "parts"
FORMAT = "panoptic-part"
LEFT_OUT = "left_out"
"""In the line of an image that could not be done: why."""
Record = dict
AGAIN = "run the shard again"
BLOCK = 1 << 14
"""Bytes that are read of a part at once."""


@dataclass(frozen=True)
class Whole:
    """The images that the shards share: how many, and a digest of their ids in order."""

    num_images: int
    digest: str

    @classmethod
    def of(cls, image_ids: Iterable[str]) -> "Whole":
        """Of the ids in the order of the indices."""
        digest, num_images = hashlib.sha256(), 0
        for image_id in image_ids:
            digest.update(image_id.encode("utf-8", "surrogateescape") + b"\0")
            num_images += 1
        return cls(num_images, digest.hexdigest()[:16])


@dataclass(frozen=True)
class Part:
    """The head of a part: whose shard it is, and what its maker says about itself."""

    path: Path
    kind: str
    shard: Shard
    whole: Whole
    about: Mapping[str, object]


def part_path(folder: Path, shard: Shard) -> Path:
    """Where the part of a shard lies."""
    return Path(folder) / FOLDER / f"part-{shard.number:05d}.jsonl"


@contextmanager
def write_part(
    folder: Path, kind: str, shard: Shard, whole: Whole, about: Mapping[str, object]
) -> Iterator[Callable[[Record], None]]:
    """Write a part line by line, whole or not at all; the lines must ascend by `index`, which each has beside `image_id`.

    Parts of other images, or of another cut, are of no use any more and go first.

    Raises:
        InputError: if parts of another kind are there.
    """
    head = {"format": FORMAT, "kind": kind, "shard": list(shard), "images": whole.num_images, "list": whole.digest}
    _remove_others(folder, head)
    with atomic_path(part_path(folder, shard)) as partial, partial.open("w", encoding="utf-8") as file:
        number = 0

        def write(record: Record) -> None:
            nonlocal number
            file.write(_line(record))
            number += 1

        file.write(_line(head | {"about": dict(about)}))
        yield write
        file.write(_line({"end": number}))


def open_parts(folder: Path, kind: str | None = None) -> list[Part]:
    """All parts of a folder, by shard.

    Args:
        kind: that they must be of.

    Raises:
        InputError: if there is none, one is missing, or they do not belong together.
    """
    paths = sorted((Path(folder) / FOLDER).glob("part-*.jsonl"))
    parts = [_read_head(path) for path in paths]
    if not parts:
        raise InputError(f"{folder}: has no {FOLDER}/part-*.jsonl; run a command with --shard i/n and this --output first")
    first = parts[0]
    for part in parts:
        differing = [
            name
            for name, own, other in (
                ("kind", part.kind, first.kind if kind is None else kind),
                ("number of shards", part.shard.count, first.shard.count),
                ("images", part.whole, first.whole),
                ("settings", part.about.get("settings"), first.about.get("settings")),
            )
            if own != other
        ]
        if differing:
            raise InputError(f"{part.path}: is of other {' and '.join(differing)} than {first.path.name}; {AGAIN} or delete it")
    found = [part.shard.number for part in parts]
    missing = sorted(set(range(1, first.shard.count + 1)) - set(found))
    if missing:
        names = first_few([f"{number}/{first.shard.count}" for number in missing])
        raise InputError(f"{folder}: the parts of --shard {names} are missing; run these shards first")
    return parts


def read_records(parts: Iterable[Part]) -> Iterator[Record]:
    """The lines of all parts by index, each image once.

    Raises:
        InputError: if a line or the end of a part is broken, an image is missing, or is there twice.
    """
    parts, expected, before = list(parts), 0, None
    for index, _, record in heapq.merge(*map(_lines, parts), key=lambda entry: entry[:2]):
        if index != expected:
            where = "at the beginning" if before is None else f"behind {before['image_id']!r}"
            found = f"{record['image_id']!r} is there twice" if index < expected else f"an image is missing {where}"
            raise InputError(f"{parts[0].path.parent}: {found}; {AGAIN}")
        yield record
        expected, before = index + 1, record
    if parts and expected < parts[0].whole.num_images:
        where = "" if before is None else f", all behind {before['image_id']!r}"
        raise InputError(f"{parts[0].path.parent}: {parts[0].whole.num_images - expected} images are missing{where}; {AGAIN}")


def change_records(part: Part, change: Callable[[Iterator[Record]], Iterable[Record]], about: Mapping[str, object]) -> None:
    """Write a part anew, with other lines of the same images.

    Args:
        change: is given its lines.
        about: what is added to what the part says about itself.
    """
    records = (record for _, _, record in _lines(part))
    with write_part(part.path.parent.parent, part.kind, part.shard, part.whole, {**part.about, **about}) as write:
        for record in change(records):
            write(record)


def read_part(folder: Path, shard: Shard) -> Part:
    """The part of a shard; errors as open_parts, of this part alone."""
    return _read_head(part_path(folder, shard))


def remove_parts(folder: Path) -> None:
    """Remove all parts, when what they say stands elsewhere."""
    for path in (Path(folder) / FOLDER).glob("part-*.jsonl"):
        path.unlink()
    if (Path(folder) / FOLDER).is_dir() and not any((Path(folder) / FOLDER).iterdir()):
        (Path(folder) / FOLDER).rmdir()


def _line(record: Mapping) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"


def _remove_others(folder: Path, head: Mapping) -> None:
    for path in (Path(folder) / FOLDER).glob("part-*.jsonl"):
        try:
            part = _read_head(path)
        except InputError:
            path.unlink(missing_ok=True)
            continue
        if part.kind != head["kind"]:
            raise InputError(
                f"{path}: is a part of another command, of kind {part.kind}; collect it first, or give another --output"
            )
        is_of_this = (part.shard.count, part.whole) == (head["shard"][1], Whole(*_whole_of(head)))
        if not is_of_this:
            path.unlink(missing_ok=True)


def _whole_of(head: Mapping) -> tuple[int, str]:
    return head["images"], head["list"]


def _read_head(path: Path) -> Part:
    try:
        with path.open("rb") as file:
            head = json.loads(file.readline())
        if head["format"] != FORMAT:
            raise KeyError("format")
        shard = Shard.parse("/".join(map(str, head["shard"])))
        if path.name != part_path(path.parent, shard).name:
            raise InputError(f"--shard {shard}")
        return Part(path, head["kind"], shard, Whole(*_whole_of(head)), dict(head["about"]))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {AGAIN}") from None
    except (ValueError, KeyError, TypeError, InputError) as error:
        raise InputError(f"{path}: is no part of a run, or one of another name ({shorten(error, 60)}); {AGAIN}") from None


def _lines(part: Part) -> Iterator[tuple[int, int, Record]]:
    """(index, number of the shard, record) of each line; the second one only keeps records from being compared."""
    number, before, has_end = 0, -1, False
    lines = _blocks(part.path)
    next(lines)
    for place, line in enumerate(lines, start=2):
        try:
            record = json.loads(line)
            if has_end:
                raise ValueError("behind the end")
            if "end" in record:
                has_end = True
                if record["end"] != number:
                    raise ValueError(f"{number} lines")
                continue
            index = record["index"]
            record["image_id"]
            if type(index) is not int or index <= before:
                raise ValueError(f"index {index} behind {before}")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{part.path}: line {place} is broken ({shorten(error, 60)}); {AGAIN}") from None
        yield index, part.shard.number, record
        number, before = number + 1, index
    if not has_end:
        raise InputError(f"{part.path}: is cut off behind {number} images; {AGAIN}")


def _blocks(path: Path) -> Iterator[bytes]:
    """The lines of a file, which is open only while it is read on: a thousand shards are more than a process may have open."""
    position = 0
    while True:
        with path.open("rb") as file:
            file.seek(position)
            lines = file.readlines(BLOCK)
            position = file.tell()
        if not lines:
            return
        yield from lines
