"""Which image somebody else's file means: result files, annotation JSONs and folders name the same image in many ways."""

import unicodedata
from collections.abc import Hashable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Generic, TypeVar

from data.images import path_to_image_id
from data.panoptic_file import ImageId, PanopticFile
from data.split import Split
from runtime.files import InputError, first_few

Own = TypeVar("Own", bound=Hashable)
FEWEST_DIGITS = 6
"""Of a file's name that counts as a number: 000000000139.jpg is image 139, but 1.png may be the first image or the second."""


class ImageNames(Generic[Own]):
    """The names of known images. A name is taken for an image if it is one of its names; if both are the same without suffix and
    with the folders that both have; or if both are the same number, as 139, "139" and "000000000139.jpg" are.

    Args:
        names: the images by what they are to be called, each with its names.
    """

    def __init__(self, names: Mapping[Own, Iterable[ImageId]]):
        self._exact: dict[tuple[type, ImageId], Own] = {}
        self._paths: dict[str, dict[Own, list[PurePosixPath]]] = {}
        self._numbers: dict[int, set[Own]] = {}
        for own, others in names.items():
            for name in others:
                self._exact[type(name), name] = own
                if isinstance(name, int):
                    self._numbers.setdefault(name, set()).add(own)
                    continue
                path = _without_suffix(name)
                self._paths.setdefault(path.name, {}).setdefault(own, []).append(path)
                if len(path.name) >= FEWEST_DIGITS and (number := read_number(path.name)) is not None:
                    self._numbers.setdefault(number, set()).add(own)

    def find(self, name: ImageId) -> Own | None:
        """The image that is meant; None where none is.

        Raises:
            InputError: if it could be more than one.
        """
        exact, number = self._exact.get((type(name), name)), read_number(name)
        if exact is not None and (isinstance(name, int) or number is None):
            return exact
        fitting = {exact} - {None} | self._numbers.get(number, set())
        if isinstance(name, str):
            path = _without_suffix(name)
            fitting |= {own for own, known in self._paths.get(path.name, {}).items() if all(_agree(path, k) for k in known)}
        if len(fitting) > 1:
            raise InputError(f"{name!r} could be {first_few(sorted(fitting, key=str))}; give names that tell them apart")
        return next(iter(fitting), None)


def _without_suffix(name: str) -> PurePosixPath:
    path = PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/")))
    return path.parent / path_to_image_id(path)


def _agree(first: PurePosixPath, second: PurePosixPath) -> bool:
    """Whether two paths are one as far as both go, from their end."""
    shared = min(len(first.parts), len(second.parts))
    return first.parts[-shared:] == second.parts[-shared:]


def read_number(name: ImageId) -> int | None:
    """An image id as a number, also one that a tool has turned into text; None where it is none."""
    if isinstance(name, int):
        return name
    return int(name) if name.isascii() and name.isdecimal() and len(name) < 19 else None


def names_of_split(split: Split) -> ImageNames[str]:
    """The image ids of a split, each also by its id in a panoptic JSON and its file name."""
    return ImageNames({split.image_id(k): (split.image_id(k), split.key(k), split.file_name(k)) for k in range(len(split))})


def pair_images(truth: PanopticFile, prediction: PanopticFile) -> dict[ImageId, ImageId]:
    """Image ids of a truth -> those of a prediction, which are the same ids, or else are paired by file name.

    Images that only one of both has are left out.

    Raises:
        InputError: if a name could be more than one image, two truths would have one prediction, or an id is another image's.
    """
    ids, files = prediction.annotations, prediction.image_files
    names = ImageNames({k: (k, files[k]) if k in files else (k,) for k in ids})
    pairs: dict[ImageId, ImageId] = {}
    of_prediction: dict[ImageId, ImageId] = {}
    for k in truth.annotations:
        name = truth.image_files.get(k)
        if k in ids and name is not None and k in files and path_to_image_id(name) != path_to_image_id(files[k]):
            clash = f"image {k!r} is {files[k]!r}, but {name!r} in {truth.json_path}"
            raise InputError(f"{prediction.json_path}: {clash}; number the images of both alike")
        try:
            other = k if k in ids else None if name is None else names.find(name)
            other = names.find(k) if other is None else other
        except InputError as error:
            raise InputError(f"{prediction.json_path}: {error}") from None
        if other is None:
            continue
        if of_prediction.setdefault(other, k) != k:
            found = f"image {other!r} could be {of_prediction[other]!r} and {k!r} of {truth.json_path}"
            raise InputError(f"{prediction.json_path}: {found}; give names that tell them apart")
        pairs[k] = other
    return pairs
