"""PNGs of segment and instance ids, read and written without an image library. Such maps are mostly stretches of one value.

Read are only plain files: 8-bit RGB or 16-bit grey, not interlaced, every checksum and length right. All others, the damaged
ones too, are left to Pillow (data.images.open_image), so that it alone decides what is refused.
"""

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from zlib_ng import zlib_ng

from data.row_runs import AVERAGE, PAETH, SUB, UP, RowRuns, add_bytes, decode_runs, filtered_size, restore
from data.segment_runs import BLOCK, equal_until
from runtime.compiled import kernel
from runtime.files import InputError, atomic_path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = struct.Struct(">IIBBBBB")
RGB8, GREY16 = (8, 2), (16, 0)
"""(bits a sample, colour type) as in the header."""
BYTES_PER_PIXEL = {RGB8: 3, GREY16: 2}
ID_TYPES = {RGB8: np.uint32, GREY16: np.int32}
ANCILLARY_SIZES = {b"cHRM": 32, b"gAMA": 4, b"pHYs": 9, b"sRGB": 1, b"tIME": 7}
"""Chunks that change no id, in bytes."""
LARGEST_PLAIN = 2**26
"""Pixels; a larger image is left to Pillow and its limits."""
LARGEST_SIDE = 2**17
"""Pixels; a longer strip is refused."""
LARGEST_TEXT = 2**20
"""Bytes of all text chunks."""
MAX_SEGMENT_ID = 256**3 - 1
LEVEL = 2
"""Of zlib-ng: files of Pillow's size in a thirtieth of its time; level 1 doubles the size."""


class NotPlainError(Exception):
    """The file is not for this reader."""


UNREADABLE = (NotPlainError, OSError, struct.error, UnicodeDecodeError, zlib_ng.error)


def write_id_png(path: Path, segment_ids: np.ndarray, text: Mapping[str, str] | None = None) -> None:
    """Write (H, W) segment ids as 8-bit RGB, id = r + 256 g + 65536 b, atomically.

    Args:
        text: keyword -> text, stored before the pixels where other readers skip it.

    Raises:
        InputError: if an id is negative or needs more than 24 bits.
    """
    assert segment_ids.size, segment_ids.shape
    filtered = filter_up(segment_ids)
    height, width = segment_ids.shape
    header = HEADER.pack(width, height, *RGB8, 0, 0, 0)
    chunks = [(b"IHDR", header), *(_text_chunk(*item) for item in (text or {}).items())]
    chunks += [(b"IDAT", zlib_ng.compress(filtered, LEVEL)), (b"IEND", b"")]
    with atomic_path(path) as partial:
        partial.write_bytes(SIGNATURE + b"".join(_pack_chunk(*chunk) for chunk in chunks))


def _pack_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib_ng.crc32(content, zlib_ng.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _text_chunk(keyword: str, text: str) -> tuple[bytes, bytes]:
    key = keyword.encode("latin-1")
    try:
        return b"tEXt", key + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        return b"iTXt", key + b"\0\0\0\0\0" + text.encode()  # not compressed, no language, no translated keyword


def filter_up(segment_ids: np.ndarray) -> np.ndarray:
    """(H, W) segment ids -> (H, 1 + 3 W) uint8: RGB rows less the row above, each after the number of that filter.

    Raises:
        InputError: if an id is negative or needs more than 24 bits.
    """
    if segment_ids.dtype != np.uint32:
        segment_ids = check_segment_ids(segment_ids).astype(np.uint32)
    height, width = segment_ids.shape
    filtered = np.zeros((height, 1 + 3 * width), dtype=np.uint8)
    filtered[:, 0] = UP
    if not _filter_up(np.ascontiguousarray(segment_ids), filtered):
        check_segment_ids(segment_ids)
    return filtered


def check_segment_ids(segment_ids: np.ndarray) -> np.ndarray:
    """Give them back.

    Raises:
        InputError: if an id is negative or needs more than 24 bits.
    """
    if segment_ids.size and (int(segment_ids.min()) < 0 or int(segment_ids.max()) > MAX_SEGMENT_ID):
        raise InputError(f"segment ids {segment_ids.min()}..{segment_ids.max()}, but a panoptic PNG holds 0..{MAX_SEGMENT_ID}")
    return segment_ids


@kernel
def _filter_up(ids, filtered):
    """Write what is not 0; False if an id needs more than 24 bits."""
    height, width = ids.shape
    above = np.zeros(width, np.uint32)
    seen = np.uint32(0)
    for y in range(height):
        row, out = ids[y], filtered[y]
        x = 0
        while x < width:
            x = equal_until(row, above, x)
            end = min(x + BLOCK, width)
            for k in range(x, end):
                a, b = row[k], above[k]
                seen |= a
                out[1 + 3 * k] = (a & 255) - (b & 255)
                out[2 + 3 * k] = ((a >> 8) & 255) - ((b >> 8) & 255)
                out[3 + 3 * k] = ((a >> 16) & 255) - ((b >> 16) & 255)
            x = end
        above = row
    return seen >> 24 == 0


def read_plain_png(path: Path, kind: tuple[int, int]) -> tuple[np.ndarray, dict[str, str]] | None:
    """Read a plain PNG; None where Pillow must look at it.

    Args:
        kind: RGB8 or GREY16.

    Returns:
        (H, W) ids, uint32 of RGB8 and int32 of GREY16, and its texts by keyword.
    """
    try:
        shape, compressed, text = _read(path, kind)
        runs = decode_runs(compressed, shape, BYTES_PER_PIXEL[kind])
        ids = _to_ids(shape, compressed, kind) if runs is None else runs.to_ids(ID_TYPES[kind])
    except UNREADABLE:
        return None
    return ids, text


def read_plain_runs(path: Path, kind: tuple[int, int]) -> RowRuns | None:
    """As read_plain_png, without the pixels; None where Pillow must look at it, or where there are too many runs.

    Args:
        kind: RGB8 or GREY16.
    """
    try:
        shape, compressed, _ = _read(path, kind)
        return decode_runs(compressed, shape, BYTES_PER_PIXEL[kind])
    except UNREADABLE:
        return None


def read_chunks(path: Path, kinds: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of the chunks of some kinds, unchecked; nothing where it is no PNG."""
    with open(path, "rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in kinds:
                yield kind, file.read(length)
                length = 0
            file.seek(length + 4, os.SEEK_CUR)


def read_depths(path: Path) -> list[int]:
    """Bits a sample as the headers of a PNG say, of which there should be one; of 16 bits in RGB Pillow keeps eight."""
    return [content[8] if len(content) > 8 else 0 for _, content in read_chunks(path, (b"IHDR",))]


def has_end(path: Path) -> bool:
    """Whether a PNG goes on to its last chunk; Pillow decodes what is cut off behind the pixels."""
    end = _pack_chunk(b"IEND", b"")
    try:
        with open(path, "rb") as file:
            file.seek(-len(end), os.SEEK_END)
            return file.read() == end
    except OSError:  # absent, or shorter
        return False


def _read(path: Path, kind: tuple[int, int]) -> tuple[tuple[int, int], bytes, dict[str, str]]:
    """((height, width), the compressed rows, texts by keyword) of a file that is plain up to there."""
    with open(path, "rb") as file:
        start = file.read(len(SIGNATURE) + 8 + HEADER.size)
        width, height, *form = HEADER.unpack_from(start, len(SIGNATURE) + 8)
        _require(start.startswith(SIGNATURE) and form == [*kind, 0, 0, 0] and 0 < width * height <= LARGEST_PLAIN)
        _require(max(width, height) <= LARGEST_SIDE)
        size = filtered_size((height, width), BYTES_PER_PIXEL[kind])
        _require(os.fstat(file.fileno()).st_size <= size + size // 64 + LARGEST_TEXT)
        content = start + file.read()
    kinds, contents = zip(*_chunks(content), strict=True)
    _require(b"IDAT" in kinds)
    first = kinds.index(b"IDAT")
    _require(kinds[0] == b"IHDR" and len(contents[0]) == HEADER.size and kinds[-1] == b"IEND" and not contents[-1])
    _require(set(kinds[first:-1]) == {b"IDAT"} and all(contents[first:-1]))
    text = _read_ancillary(kinds[1:first], contents[1:first])
    compressed = contents[first] if first == len(kinds) - 2 else b"".join(contents[first:-1])
    return (height, width), compressed, text


def _to_ids(shape: tuple[int, int], compressed: bytes, kind: tuple[int, int]) -> np.ndarray:
    """(H, W) ids of any plain file."""
    size = filtered_size(shape, BYTES_PER_PIXEL[kind])
    inflater = zlib_ng.decompressobj()
    filtered = inflater.decompress(compressed, size + 1)  # never more than the header promises
    _require(len(filtered) == size and inflater.eof and not inflater.unused_data)
    ids = np.empty(shape, ID_TYPES[kind])
    _require(_unfilter(np.frombuffer(filtered, np.uint8), ids, BYTES_PER_PIXEL[kind]))
    return ids


def _require(is_plain: bool) -> None:
    if not is_plain:
        raise NotPlainError


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of all chunks, their checksums verified."""
    position = len(SIGNATURE)
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        found = content[position + 8 : end]
        _require(struct.unpack_from(">I", content, end) == (zlib_ng.crc32(found, zlib_ng.crc32(kind)),))
        yield kind, found
        position = end + 4


def _read_ancillary(kinds: tuple[bytes, ...], contents: tuple[bytes, ...]) -> dict[str, str]:
    """Texts by keyword; all other chunks must be harmless."""
    text, size = {}, 0
    for kind, content in zip(kinds, contents, strict=True):
        if kind in (b"tEXt", b"iTXt"):
            size += len(content)
            key, _, value = content.partition(b"\0")
            if kind == b"iTXt":
                _require(value.startswith(b"\0\0\0\0"))
                value = value[4:].decode()
            else:
                value = value.decode("latin-1")
            _require(len(key) > 0)
            text[key.decode("latin-1")] = value
        else:
            _require(ANCILLARY_SIZES.get(kind) == len(content))
    _require(size <= LARGEST_TEXT)
    return text


@kernel
def _unfilter(filtered, ids, size):
    """Undo the five filters of PNG on pixels of `size` bytes; False if a row names none of them.

    A pixel is one number whose bytes are computed side by side. Where the stored bytes are 0, pixels repeat the row above or
    the pixel to the left.
    """
    height, width = ids.shape
    above = np.zeros(width, ids.dtype)
    for y in range(height):
        begin = y * (1 + size * width) + 1
        method = filtered[begin - 1]
        if method > PAETH:
            return False
        row = ids[y]
        left = corner = 0  # the pixels to the left, in this row and in the one above
        x = 0
        while x < width:
            stop = x
            if method != AVERAGE:
                stop = (_zero_until(filtered, begin + x * size, begin + width * size) - begin) // size
            if method <= SUB:
                left = left if method == SUB else 0
                row[x:stop] = left
                x = stop
            elif stop > x:
                while method == PAETH and left != corner and x < stop:
                    up = np.int64(above[x])
                    left = restore(PAETH, 0, left, up, corner)
                    row[x] = left
                    corner = up
                    x += 1
                if x < stop:
                    row[x:stop] = above[x:stop]
                    left = corner = np.int64(above[stop - 1])
                    x = stop
            stop = min(x + BLOCK, width)
            if method == UP:  # no pixel waits for the one before
                for k in range(x, stop):
                    row[k] = add_bytes(_stored(filtered, begin + k * size, size), np.int64(above[k]))
                x = stop
                continue
            for k in range(x, stop):
                up = np.int64(above[k])
                left = restore(method, _stored(filtered, begin + k * size, size), left, up, corner)
                row[k] = left
                corner = up
            x = stop
        above = row
    return True


@kernel
def _zero_until(values, start, end):
    """The first index from `start` on that may be not 0: exact to 48, a multiple of both sizes of a pixel."""
    while start + 192 <= end and _is_zero(values, start, 192):
        start += 192
    while start + 48 <= end and _is_zero(values, start, 48):
        start += 48
    return start


@kernel
def _is_zero(values, start, length):
    part = values[start : start + length]
    found = np.uint8(0)
    for k in range(length):
        found |= part[k]
    return found == 0


@kernel
def _stored(filtered, at, size):
    if size == 3:
        return np.int64(filtered[at]) | np.int64(filtered[at + 1]) << 8 | np.int64(filtered[at + 2]) << 16
    return np.int64(filtered[at]) << 8 | np.int64(filtered[at + 1])
