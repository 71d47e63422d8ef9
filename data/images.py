"""Image files: read with suspicion and upright, written whole, and the image ids that their names give."""

import errno
import struct
import unicodedata
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePath

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from data.png_file import LARGEST_SIDE, has_end, read_chunks
from runtime.files import InputError, atomic_path, shorten

# Once for all threads: of large images, which have a limit of their own here, and of EXIF blocks that are broken.
warnings.filterwarnings("ignore", module="PIL")

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
"""Pillow's names of what is opened, whatever the suffix: it would start outside programs for some others."""
EXIF_KEYWORDS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0", b"Raw profile type APP1\0")
"""Of the texts of a PNG that can say how it is turned."""
PRODUCER_KEY = "producer"
MAX_PIXELS = 2**28
"""A header that promises more pixels than this (16384 x 16384) is refused before anything is decoded."""
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


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
    """(height, width) of the upright image as the header says, without decoding a pixel.

    Raises:
        InputError: as open_image, except that missing pixels go unnoticed.
    """
    return _read_header(path)[0]


def read_orientation(path: Path) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 is upright, and from 5 on width and height change places.

    Raises:
        InputError: as read_image_size.
    """
    return _read_header(path)[1]


def _read_header(path: Path) -> tuple[tuple[int, int], int]:
    """(height, width) of the upright image, and its orientation."""
    with _refusing_broken_images(path), _open_checked(path) as image:
        if image.format == "PNG" and not _may_have_exif(path):
            return (image.height, image.width), 1
        if image.format == "PNG":
            image.load()  # of several such chunks the last one counts
        turn = _orientation(image)
        # Pillow says the upright size of a TIFF itself.
        is_turned = turn >= 5 and image.format != "TIFF"
        return (image.width, image.height) if is_turned else (image.height, image.width), turn


def read_png_text(path: Path) -> dict[str, str]:
    """The texts that stand in front of a PNG's pixels, by keyword, without decoding one.

    Raises:
        InputError: as read_image_size.
    """
    with _refusing_broken_images(path), _open_checked(path) as image:
        return {name: text for name, text in image.info.items() if isinstance(text, str)}


def check_size_of_truth(truth_path: Path, size: tuple[int, int], image_path: Path) -> None:
    """Refuse a truth of another size (height, width) than its upright image has.

    Raises:
        InputError: if it differs, with the reason where the image's EXIF orientation is one; as read_image_size.
    """
    needed = read_image_size(image_path)
    if tuple(size) == needed:
        return
    found, wanted = (f"{h}x{w}" for h, w in (size, needed))
    if tuple(size) == needed[::-1] and (turn := read_orientation(image_path)) >= 5:
        reason = f"turned by its EXIF orientation {turn}; turn the truth as well, or remove that tag"
    else:
        reason = f"as {image_path} says; use the truth of the same image"
    raise InputError(f"{truth_path}: {found} pixels, but its image has {wanted}, {reason}")


def _may_have_exif(path: Path) -> bool:
    """Whether a PNG has a chunk that can say how it is turned; Pillow decodes all pixels before it answers."""
    found = read_chunks(path, (b"eXIf", b"iTXt", b"zTXt", b"tEXt"))
    return any(kind == b"eXIf" or text.startswith(EXIF_KEYWORDS) for kind, text in found)


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, struct.error, ValueError, KeyError, TypeError, OverflowError):  # an EXIF block of no known form
        return 1
    return found if found in UPRIGHT else 1


def upright(image: Image.Image) -> Image.Image:
    """A decoded image as its EXIF orientation says that it is to be seen; truth follows the same rule as images."""
    turn = UPRIGHT[_orientation(image)]
    return image if turn is None else image.transpose(turn)


UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what puts the image upright."""


def _open_checked(path: Path) -> Image.Image:
    image = Image.open(path, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS or max(image.size) > LARGEST_SIDE:
        size = f"{image.height}x{image.width}"
        raise InputError(f"{path}: header says {size} pixels, more than {MAX_PIXELS} or {LARGEST_SIDE} a side; crop or shrink it")
    return image


@contextmanager
def _refusing_broken_images(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the path of an image") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, but an image was needed") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: header promises more than {MAX_PIXELS} pixels; crop or shrink it") from None
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise InputError(f"{path}: cannot be decoded; it is no image of {known}, or its start is broken, copy it again") from None
    # Pillow's readers answer damaged headers with any of these.
    except (
        OSError,
        SyntaxError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        struct.error,
        zlib.error,
        MemoryError,
    ) as error:
        if getattr(error, "errno", None) not in (None, errno.EINVAL):  # EINVAL: it seeks before the start of a cut file
            raise
        raise InputError(
            f"{path}: cannot be decoded ({shorten(error) or 'out of memory'}); the file is truncated or no image, copy it again"
        ) from None


def read_image(path: Path) -> np.ndarray:
    """Read any 8-bit image as (H, W, 3) uint8 RGB, upright as its EXIF orientation says; grey, palette and alpha are converted.

    Raises:
        InputError: as open_image, and for 16-bit, integer and float images, whose range is not known.
    """
    with open_image(path) as image:
        if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
            raise InputError(f"{path}: pixel mode {image.mode}, but an 8-bit image was needed; convert it to 8-bit RGB")
        return np.array(upright(image).convert("RGB"))


def write_image(path: Path, pixels: np.ndarray, producer: str | None = None, *, is_quick: bool = False) -> None:
    """Write (H, W), (H, W, 3) uint8 or (H, W) uint16 atomically, in the format that the suffix names.

    Args:
        producer: what made it, for is_made_by; PNG only.
        is_quick: compress less, in a third of the time; PNG only.
    """
    options = {"compress_level": 1} if is_quick else {}
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

    The official panoptic JSON names images `<id>_gtFine_leftImg8bit.png`: that `_gtFine` goes too. Letters are composed ones,
    whatever file system the name comes from.
    """
    name = unicodedata.normalize("NFC", Path(path).name)
    stem, dot, suffix = name.rpartition(".")
    if dot + suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES:  # of a name without one, what stands behind a dot belongs to it
        name = stem
    return name.removesuffix("_leftImg8bit").removesuffix("_gtFine")


def unique_image_ids(paths: Sequence[str | PurePath]) -> list[str]:
    """The image ids of several files: as path_to_image_id gives them; where two would be equal, all keep their folders, and
    where even those are equal, their suffixes.

    Args:
        paths: relative to the folder that all share.
    """
    below = [PurePath(unicodedata.normalize("NFC", str(path))) for path in paths]
    choices = (
        [path_to_image_id(path) for path in below],
        [(path.parent / path_to_image_id(path)).as_posix() for path in below],
        [path.as_posix() for path in below],
    )
    # Compared without case, as some file systems do.
    return next(ids for ids in choices if len({i.lower() for i in ids}) == len(ids) or ids is choices[-1])


def name_key(name: str) -> str:
    """Equal for two spellings of one file name: composed and decomposed letters, and the suffix's case."""
    path = PurePath(unicodedata.normalize("NFC", name))
    return path.with_suffix(path.suffix.lower()).as_posix() if path.suffix else path.as_posix()


def existing_spelling(path: Path) -> Path:
    """The path, or where there is none a file beside it whose name is another spelling of the same: see name_key."""
    if path.exists() or not path.parent.is_dir():
        return path
    return path.with_name(_spellings(path.parent, path.parent.stat().st_mtime_ns).get(name_key(path.name), path.name))


@lru_cache(maxsize=8)
def _spellings(folder: Path, changed: int) -> dict[str, str]:
    """Name key -> file of a folder, listed once while it does not change."""
    return {name_key(other.name): other.name for other in folder.iterdir()}
