"""A folder of .npy or .npz arrays, one an image: (C, h, w) logits or probabilities of any stride."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data.class_map import ClassMap
from data.class_matching import ForeignClasses
from data.split import Split
from data.taxonomy import Taxonomy
from prediction.sources.foreign import FolderOfFiles, probabilities_to_logits
from runtime.files import InputError, digest_of, file_digest, first_few, shorten

SUFFIXES = (".npy", ".npz")
NUM_LOOKED_AT = 8
"""Arrays that decide whether all are probabilities."""
MOST_CLASSES = 10_000


class LogitArrays:
    """The arrays of such a folder; a leading axis of 1, as networks give it, is dropped.

    Values of which none is below 0 or above 1 are probabilities, and become log-odds.

    Args:
        names: of the channels, where somebody says them.

    Raises:
        InputError: as FolderOfFiles, and if an array is none of (C, h, w).
    """

    needs_pixels = False

    def __init__(
        self,
        folder: Path,
        split: Split,
        taxonomy: Taxonomy,
        matching: ClassMap | str | None = None,
        names: dict[int, str] | None = None,
    ):
        self._files = FolderOfFiles(folder, SUFFIXES, split)
        if not self._files.files:
            raise InputError(f"{folder}: no arrays there; give a folder of .npy or .npz files, named like the images")
        self.name, self.notes = str(folder), list(self._files.notes)
        paths = list(self._files.files.values())
        looked_at = [read_array(path) for path in paths[:: max(1, len(paths) // NUM_LOOKED_AT)][:NUM_LOOKED_AT]]
        self._are_probabilities = all(array.min() >= 0 and array.max() <= 1 for array in looked_at)
        if self._are_probabilities:
            self.notes.append(f"{folder}: values are taken for probabilities, and become log-odds")
        num_channels = len(looked_at[0])
        if matching is None and names is None and num_channels != taxonomy.num_classes:
            found = (
                f"arrays have {num_channels} classes, but {taxonomy.num_classes} of {taxonomy.name} were needed, in their order"
            )
            raise InputError(f"{folder}: {found}; give a class map by number: --semantics-classes FILE")
        self.classes = ForeignClasses(str(folder), {k: (names or {}).get(k) for k in range(num_channels)}, "places")

    def fingerprint(self, image_id: str) -> str:
        """See ForeignSemantics."""
        return digest_of(file_digest(self._path(image_id)), self._are_probabilities)

    def scores(self, image_id: str, image: np.ndarray) -> np.ndarray:
        """See ForeignSemantics."""
        path = self._path(image_id)
        array = read_array(path, image.shape[:2])
        if len(array) != len(self.classes.names):
            raise InputError(f"{path}: has {len(array)} classes, but {len(self.classes.names)} in other files; write all alike")
        if self._are_probabilities:
            if array.min() < 0 or array.max() > 1:
                found = f"holds {array.min():g} to {array.max():g}, but other files hold probabilities"
                raise InputError(f"{path}: {found}; write logits or probabilities, not both")
            return probabilities_to_logits(array)
        return array.astype(np.float32)

    def _path(self, image_id: str) -> Path:
        path = self._files.files.get(image_id)
        if path is None:
            raise InputError(f"{self._files.folder}: no array of image {image_id!r}; write one, or leave the image out")
        return path


def read_array(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """(C, h, w) floating-point numbers, all finite; nothing pickled is executed.

    Args:
        size: (height, width) of the image, which no side may exceed.

    Raises:
        InputError: if the file is broken, or holds anything else.
    """
    advice = "write (C, h, w) logits or probabilities with numpy.save"
    try:
        with _opened(path) as file:
            shape, dtype = _read_header(file)
            shape = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
            highest = (MOST_CLASSES, *(size or (1 << 16, 1 << 16)))
            fits = len(shape) == 3 and all(0 < side <= most for side, most in zip(shape, highest, strict=True))
            if not fits or dtype.kind != "f" or np.prod(shape, dtype=float) > 2**31:
                limit = "" if size is None else f", at most {size[0]}x{size[1]}"
                raise InputError(f"{path}: is {dtype} {shape}, but floating-point (C, h, w) was needed{limit}; {advice}")
            file.seek(0)
            array = np.lib.format.read_array(file, allow_pickle=False).reshape(shape)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {advice}") from None
    except InputError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, MemoryError) as error:
        raise InputError(f"{path}: broken array ({shorten(error)}); {advice}") from None
    if not np.isfinite(array).all():
        raise InputError(f"{path}: holds NaN or infinite values; predict again with a model that works")
    return array


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The .npy file, or the only one in an .npz."""
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        if len(archive.namelist()) != 1:
            raise InputError(f"{path}: holds {first_few(archive.namelist())}, but one array was needed; write that alone")
        with archive.open(archive.namelist()[0]) as file:
            yield file


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"format {version}")
    shape, _, dtype = read(file)
    return shape, dtype
