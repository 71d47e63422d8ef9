"""Files that are read with suspicion and written whole: pictures, JSON, atomic writes, and how a command reports bad input."""

import json
import os
import struct
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

import numpy as np
from PIL import Image

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
MAX_PIXELS = 2**28
"""A header that promises more pixels than this (16384 x 16384) is refused before anything is decoded."""


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
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); write it again with the tool that made it") from None


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open and decode a picture.

    Raises:
        InputError: if it is missing, no picture, truncated, or its header promises more than MAX_PIXELS.
    """
    with _refusing_broken_pictures(path):
        image = _open_checked(path)
        image.load()
    with image:
        yield image


def read_picture_size(path: Path) -> tuple[int, int]:
    """(height, width) as the header says, without decoding a pixel.

    Raises:
        InputError: as open_picture, except that missing pixels go unnoticed.
    """
    with _refusing_broken_pictures(path), _open_checked(path) as image:
        return image.height, image.width


def _open_checked(path: Path) -> Image.Image:
    image = Image.open(path)
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.height}x{image.width}"
        raise InputError(f"{path}: header says {size} pixels, more than {MAX_PIXELS}; crop or shrink it")
    return image


@contextmanager
def _refusing_broken_pictures(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the path of a picture") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, but a picture was needed") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: header promises more than {MAX_PIXELS} pixels; crop or shrink it") from None
    # Pillow's readers answer damaged headers with any of these.
    except (OSError, SyntaxError, EOFError, ValueError, KeyError, IndexError, TypeError, struct.error, zlib.error) as error:
        if getattr(error, "errno", None):
            raise
        raise InputError(f"{path}: cannot be decoded ({error}); the file is truncated or no picture, copy it again") from None


def read_picture(path: Path) -> np.ndarray:
    """Read any 8-bit picture as (H, W, 3) uint8 RGB; grey, palette and alpha are converted.

    Raises:
        InputError: as open_picture, and for 16-bit, integer and float pictures, whose range is not known.
    """
    with open_picture(path) as image:
        if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
            raise InputError(f"{path}: pixel mode {image.mode}, but an 8-bit picture was needed; convert it to 8-bit RGB")
        return np.array(image.convert("RGB"))


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W), (H, W, 3) uint8 or (H, W) uint16 atomically, in the format that the suffix names."""
    with atomic_path(path) as partial:
        Image.fromarray(pixels).save(partial)


def picture_id(path: str | Path) -> str:
    """A picture's image id: its name without folder and suffix, and without Cityscapes' `_leftImg8bit`.

    The official panoptic JSON names pictures `<id>_gtFine_leftImg8bit.png`: that `_gtFine` goes too.
    """
    return Path(path).stem.removesuffix("_leftImg8bit").removesuffix("_gtFine")


def find_pictures(place: str | Path) -> list[Path]:
    """The pictures that a file, a folder (searched recursively) or a glob names, sorted.

    Raises:
        InputError: if there is none, or two would get the same image id.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".")]
    elif path.is_file():
        found = [path]
    else:
        found = [Path(p) for p in glob(str(path), recursive=True) if Path(p).is_file()]
    if not found:
        raise InputError(f"{place}: no pictures there; give a file, a folder or a glob with one of {', '.join(PICTURE_SUFFIXES)}")
    by_id: dict[str, Path] = {}
    for picture in sorted(found):
        other = by_id.setdefault(picture_id(picture), picture)
        if other != picture:
            raise InputError(f"{other} and {picture}: both would be image id {picture_id(picture)!r}; rename one")
    return sorted(found)
