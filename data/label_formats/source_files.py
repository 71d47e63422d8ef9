"""What all formats share in reading a folder of strangers: names that stay inside, files that pair, entries of the right type."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import UnionType

import numpy as np

from data.images import IMAGE_SUFFIXES, check_size_of_truth, existing_spelling, open_image, read_image_size, upright
from data.png_file import read_depths
from runtime.files import InputError, is_plain_name, read_json, shorten, walk_files

SPLIT_NAMES = {"training": "train", "validation": "val", "valid": "val", "default": None}
"""A source's name of a split -> the usual one; None: it is no split. Others stay."""


@contextmanager
def named(place: object) -> Iterator[None]:
    """Say where, before the message of an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def need(entry: object, name: str, kind: type | UnionType, place: object) -> object:
    """The value `name` of an entry of a JSON.

    Raises:
        InputError: if the entry lacks it or has it of another type; a bool is no number.
    """
    if not isinstance(entry, dict) or name not in entry:
        raise InputError(f"{place}: has no `{name}`; export it again")
    value = entry[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{place}: has `{name}` {shorten(repr(value), 60)}, which is of another type; export it again")
    return value


def split_name(given: str) -> str | None:
    """A source's name of a split, as the COCO layout usually has it; None where it is no split."""
    return SPLIT_NAMES.get(given.lower(), given.lower() if given.lower() in ("train", "val", "test") else given)


def split_folders(folder: Path, advice: str) -> dict[str, str | None]:
    """The folders of a folder, each with the split that it is.

    Raises:
        InputError: if there is none.
    """
    names = sorted(place.name for place in folder.iterdir() if place.is_dir()) if folder.is_dir() else []
    found = {name: split_name(name) for name in names if not name.startswith(".")}
    if not found:
        raise InputError(f"{folder}: no folders of splits there; {advice}")
    return found


def path_inside(source: Path, name: str, below: Path, place: object) -> Path:
    """The path of a file that is named relative to the folder `below`, which must lie in the source; `\\` counts as `/`.

    Raises:
        InputError: if it is absolute, leaves the source or is no name.
    """
    relative = PurePosixPath(str(name).replace("\\", "/"))
    path = Path(os.path.normpath(below / relative))
    if not is_plain_name(str(name)) or relative.is_absolute() or PureWindowsPath(name).drive or not path.is_relative_to(source):
        found = f"names {shorten(repr(name), 80)}, which leaves {source} or is no name"
        raise InputError(f"{place}: {found}; put the file there and name it relative to that")
    return existing_spelling(path)


def without_suffix(name: str, place: object) -> str:
    """A file's name, with its folders, without its suffix; `\\` counts as `/`.

    Raises:
        InputError: if it names no file.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.name in ("", ".."):
        raise InputError(f"{place}: names {shorten(repr(name), 80)}, which is no file; export it again")
    return path.with_suffix("").as_posix()


def find_image(source: Path, names: Sequence[str], folders: Sequence[Path], place: object) -> Path:
    """The first image that is there.

    Args:
        names: relative to a folder, each with its suffix, or without for any of an image.
        folders: of the source, in which it is looked for.

    Raises:
        InputError: if there is none, or a name leaves the source.
    """
    for folder in folders:
        for name in names:
            path = path_inside(source, name, folder, place)
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                return path
            for suffix in IMAGE_SUFFIXES:
                for candidate in (f"{path.name}{suffix}", f"{path.name}{suffix.upper()}"):
                    if path.with_name(candidate).is_file():
                        return path.with_name(candidate)
    where = " or ".join(sorted({str(folder) for folder in folders})[:4])
    raise InputError(f"{place}: image {shorten(repr(names[0]), 80)} is not in {where}; copy the images there")


def image_size(path: Path, said: tuple[object, object] | None, place: object) -> tuple[int, int]:
    """(height, width) of an upright image, in pixels.

    Args:
        said: (height, width) that the labels are for; None where they do not say.

    Raises:
        InputError: if the labels are for another size, or the image does not read.
    """
    size = read_image_size(path)
    if said is not None and None not in said and tuple(said) != size:
        found, needed = (" x ".join(shorten(side, 20) for side in sides) for sides in (said, size))
        raise InputError(f"{place}: is for {found} pixels, but {path} has {needed} (height x width); label the image as it is")
    return size


def read_json_files(source: Path, names: Sequence[str]) -> Iterator[tuple[Path, object]]:
    """(path, content) of JSON files named relative to the source."""
    for name in names:
        yield source / name, read_json(source / name)


def walk_json(source: Path) -> list[str]:
    """The JSON files below a folder, relative to it."""
    return walk_files(source, (".json",))


def read_lines(path: Path, advice: str) -> list[str]:
    """The lines of a text that are not empty, without the blanks around them.

    Raises:
        InputError: if it is missing or no UTF-8.
    """
    try:
        return [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file; {advice}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no UTF-8 text; write it again") from None


def image_name(source: Path, path: Path) -> str:
    """What an image is called in the new data set: its path in the source."""
    return path.relative_to(source).as_posix()


def read_grey_png(path: Path, image: Path) -> np.ndarray:
    """(H, W) int32 values of a label PNG: grey levels of 8 or 16 bits, or the numbers of a palette's colours.

    Args:
        image: whose size it must have.

    Raises:
        InputError: if it is missing, broken, of several channels, or of another size.
    """
    with open_image(path) as opened:
        if opened.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
            raise InputError(f"{path}: pixel mode {opened.mode}, but one channel of numbers was needed; export label numbers")
        if opened.format != "PNG":
            raise InputError(f"{path}: is a {opened.format}, which can change labels when it is written; write them as PNG")
        values = np.array(upright(opened)).astype(np.int32)
    check_size_of_truth(path, values.shape, image)
    return values


def read_color_png(path: Path, image: Path, num_channels: int = 3) -> np.ndarray:
    """(H, W, num_channels) uint8 of a label PNG of colours; a palette is looked up, and what lacks an alpha gets 255.

    Args:
        image: whose size it must have.

    Raises:
        InputError: as read_grey_png; also if it has 16 bits a channel.
    """
    with open_image(path) as opened:
        if opened.format != "PNG":
            raise InputError(f"{path}: is a {opened.format}, which can change labels when it is written; write them as PNG")
        allowed = ("RGBA",) if num_channels == 4 else ("RGB", "RGBA", "P")
        if opened.mode not in allowed or set(read_depths(path)) - {1, 2, 4, 8}:
            found = f"pixel mode {opened.mode}, {' and '.join(map(str, read_depths(path)))} bits"
            raise InputError(f"{path}: {found}, but {allowed[0]} of 8 bits was needed; export it again")
        values = np.array(upright(opened).convert("RGBA" if num_channels == 4 else "RGB"))
    check_size_of_truth(path, values.shape[:2], image)
    return values


def pack_channels(channels: np.ndarray) -> np.ndarray:
    """(H, W, C) uint8, C up to 4 -> (H, W) uint32, first channel highest."""
    packed = np.zeros(channels.shape[:2], np.uint32)
    for k in range(channels.shape[2]):
        packed = packed << np.uint32(8) | channels[..., k]
    return packed


def unpack(value: int, num_channels: int) -> tuple[int, ...]:
    """The channels of one value of pack_channels."""
    return tuple(value >> 8 * k & 255 for k in reversed(range(num_channels)))


class Tally(Counter):
    """Counts what is left out, by what it is."""

    def without_zeros(self) -> Mapping[str, int]:
        """As a plain mapping, sorted by name."""
        return {name: count for name, count in sorted(self.items()) if count}
