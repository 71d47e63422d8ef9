"""Image files: read with suspicion, written whole, and the image ids that their names give."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

import numpy as np
from PIL import Image

from runtime.files import InputError, atomic_path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
MAX_PIXELS = 2**28
"""A header that promises more pixels than this (16384 x 16384) is refused before anything is decoded."""


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open and decode a picture.

    Raises:
        InputError: if it is missing, no picture, truncated, or its header promises more than MAX_PIXELS.
    """
    with _refusing_broken_pictures(path):
        image = _open_checked(path)
        image.load()
    with image:
        yield image


def read_image_size(path: Path) -> tuple[int, int]:
    """(height, width) as the header says, without decoding a pixel.

    Raises:
        InputError: as open_image, except that missing pixels go unnoticed.
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


def read_image(path: Path) -> np.ndarray:
    """Read any 8-bit picture as (H, W, 3) uint8 RGB; grey, palette and alpha are converted.

    Raises:
        InputError: as open_image, and for 16-bit, integer and float pictures, whose range is not known.
    """
    with open_image(path) as image:
        if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
            raise InputError(f"{path}: pixel mode {image.mode}, but an 8-bit picture was needed; convert it to 8-bit RGB")
        return np.array(image.convert("RGB"))


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W), (H, W, 3) uint8 or (H, W) uint16 atomically, in the format that the suffix names."""
    with atomic_path(path) as partial:
        Image.fromarray(pixels).save(partial)


def path_to_image_id(path: str | Path) -> str:
    """A picture's image id: its name without folder and suffix, and without Cityscapes' `_leftImg8bit`.

    The official panoptic JSON names pictures `<id>_gtFine_leftImg8bit.png`: that `_gtFine` goes too.
    """
    return Path(path).stem.removesuffix("_leftImg8bit").removesuffix("_gtFine")


def find_images(place: str | Path) -> list[Path]:
    """The pictures that a file, a folder (searched recursively) or a glob names, sorted.

    Raises:
        InputError: if there is none, or two would get the same image id.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    elif path.is_file():
        found = [path]
    else:
        found = [Path(p) for p in glob(str(path), recursive=True) if Path(p).is_file()]
    if not found:
        raise InputError(f"{place}: no pictures there; give a file, a folder or a glob with one of {', '.join(IMAGE_SUFFIXES)}")
    by_id: dict[str, Path] = {}
    for picture in sorted(found):
        other = by_id.setdefault(path_to_image_id(picture), picture)
        if other != picture:
            raise InputError(f"{other} and {picture}: both would be image id {path_to_image_id(picture)!r}; rename one")
    return sorted(found)
