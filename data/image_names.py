"""Which image somebody else's file means: result files, annotation JSONs and folders name the same image in many ways."""

import unicodedata
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Generic, TypeVar

from data.images import path_to_image_id
from data.panoptic_file import ImageId, PanopticFile
from data.split import Split
from runtime.files import InputError

Own = TypeVar("Own", bound=Hashable)
MOST_DIGITS = 18


class ImageNames(Generic[Own]):
    """The names of known images. A name is taken for an image if it is one of its names, letter by letter; else if it is one
    without folder and suffix; else if both are the same number, as 139, "139" and "000000000139.jpg" are.

    Args:
        names: the images by what they are to be called, each with its names.
    """

    def __init__(self, names: Mapping[Own, Iterable[ImageId]]):
        self._found: dict[Hashable, list[Own]] = {}
        for own, others in names.items():
            for form in {form for name in others for form in _forms(name)}:
                self._found.setdefault(form, []).append(own)

    def find(self, name: ImageId) -> Own | None:
        """The image that is meant; None where none is.

        Raises:
            InputError: if it fits more than one image and none alone.
        """
        fitting = [found for form in _forms(name) if (found := self._found.get(form))]
        alone = next((found[0] for found in fitting if len(found) == 1), None)
        if alone is None and fitting:
            raise InputError(f"{name!r} could be {fitting[0][0]} and {fitting[0][1]}; give names that tell them apart")
        return alone


def _forms(name: ImageId) -> Iterator[Hashable]:
    """What is compared of a name, closest first."""
    yield "exact", type(name), name
    if isinstance(name, str):
        path = PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/")))
        stem = path_to_image_id(path)
        yield "path", (path.parent / stem).as_posix()
        yield "stem", stem
        if stem.isascii() and stem.isdecimal() and len(stem) <= MOST_DIGITS:
            yield "number", int(stem)
    else:
        yield "number", name


def names_of_split(split: Split) -> ImageNames[str]:
    """The image ids of a split, each also by its id in a panoptic JSON and its file name."""
    return ImageNames({split.image_id(k): (split.image_id(k), split.key(k), split.file_name(k)) for k in range(len(split))})


def pair_images(truth: PanopticFile, prediction: PanopticFile) -> dict[ImageId, ImageId]:
    """Image ids of a truth -> those of a prediction, which are the same ids, or else are paired by file name.

    Images that only one of both has are left out.
    """
    ids = prediction.annotations
    names = ImageNames({k: (k, prediction.image_files[k]) if k in prediction.image_files else (k,) for k in ids})
    pairs = {k: k if k in ids else names.find(truth.image_files.get(k, k)) for k in truth.annotations}
    return {own: other for own, other in pairs.items() if other is not None}
