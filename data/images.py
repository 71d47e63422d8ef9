"""Image files: read with suspicion, written whole, and the image ids that their names give."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from data.png_file import has_end
from runtime.files import InputError, atomic_path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
PRODUCER_KEY = "producer"
MAX_PIXELS = 2**28
"""A header that promises more pixels than this (16384 x 16384) is refused before anything is decoded."""


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open and decode an image.

    Raises:
        InputError: if it is missing, no image, truncated, or its header promises more than MAX_PIXELS.
    """
    with _refusing_broken_images(path):
        image = _open_checked(path)
        image.load()
    with image:
        yield image


def read_image_size(path: Path) -> tuple[int, int]:
    """(height, width) as the header says, without decoding a pixel.

    Raises:
        InputError: as open_image, except that missing pixels go unnoticed.
    """
    with _refusing_broken_images(path), _open_checked(path) as image:
        return image.height, image.width


def _open_checked(path: Path) -> Image.Image:
    image = Image.open(path)
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.height}x{image.width}"
        raise InputError(f"{path}: header says {size} pixels, more than {MAX_PIXELS}; crop or shrink it")
    return image


@contextmanager
def _refusing_broken_images(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the path of an image") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, but an image was needed") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: header promises more than {MAX_PIXELS} pixels; crop or shrink it") from None
    # Pillow's readers answer damaged headers with any of these.
    except (OSError, SyntaxError, EOFError, ValueError, KeyError, IndexError, TypeError, struct.error, zlib.error) as error:
        if getattr(error, "errno", None):
            raise
        raise InputError(f"{path}: cannot be decoded ({error}); the file is truncated or no image, copy it again") from None


def read_image(path: Path) -> np.ndarray:
    """Read any 8-bit image as (H, W, 3) uint8 RGB; grey, palette and alpha are converted.

    Raises:
        InputError: as open_image, and for 16-bit, integer and float images, whose range is not known.
    """
    with open_image(path) as image:
        if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
            raise InputError(f"{path}: pixel mode {image.mode}, but an 8-bit image was needed; convert it to 8-bit RGB")
        return np.array(image.convert("RGB"))


def write_image(path: Path, pixels: np.ndarray, producer: str | None = None) -> None:
    """Write (H, W), (H, W, 3) uint8 or (H, W) uint16 atomically, in the format that the suffix names.

    Args:
        producer: what made it, for is_made_by; PNG only.
    """
    options = {}
    if producer is not None:
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text(PRODUCER_KEY, producer)
    with atomic_path(path) as partial:
        Image.fromarray(pixels).save(partial, **options)


def is_made_by(path: Path, producer: str) -> bool:
    """Whether a whole PNG that write_image wrote for this producer is there."""
    try:
        with open_image(path) as image:
            return getattr(image, "text", {}).get(PRODUCER_KEY) == producer and has_end(path)
    except InputError:
        return False


def path_to_image_id(path: str | Path) -> str:
    """An image's image id: its name without folder and suffix, and without Cityscapes' `_leftImg8bit`.

    The official panoptic JSON names images `<id>_gtFine_leftImg8bit.png`: that `_gtFine` goes too.
    """
    return Path(path).stem.removesuffix("_leftImg8bit").removesuffix("_gtFine")
