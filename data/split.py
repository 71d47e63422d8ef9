"""The images that a command works on, in order, with or without truth: one interface for every layout."""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from data.images import read_image, read_image_size, read_orientation
from data.panoptic_file import ImageId
from data.panoptic_png import PanopticMap
from data.taxonomy import Taxonomy
from runtime.files import InputError, digest_of, file_digest

Frame = TypeVar("Frame")
LAST_NUMBER = re.compile(r"(?P<name>.*?)[/_-]?(?P<number>\d+)")


@runtime_checkable
class Split(Protocol):
    """Images by index, in an order that never changes. A new layout is a file in data/layouts/ with a class that does this."""

    name: str
    """Such as `val of datasets/streets`, for messages."""
    split: str
    """Its name in the data set, such as `val`."""
    taxonomy: Taxonomy | None
    """The classes that the truth's category ids are of; None where there is no truth at all."""
    problems: Sequence[str]
    """What could not be read when it was opened, a line each; the images are those that could."""

    def __len__(self) -> int: ...

    def image_id(self, index: int) -> str:
        """Names the image in this split, and the files that are made for it; it may hold folders: `a/b`."""

    def key(self, index: int) -> ImageId:
        """The image's id in a panoptic JSON: COCO's are numbers."""

    def file_name(self, index: int) -> str:
        """The image's file name in a panoptic JSON."""

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB.

        Raises:
            InputError: if the file is broken.
        """

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the image, without decoding it where that is possible."""

    def digest(self, index: int) -> str:
        """Changes with the content of the image's file: a result of another image of the same name is not taken for its own."""

    def video_of(self, index: int) -> str | None:
        """The id of the video that an image is a frame of; None for an image of its own."""

    def has_truth(self, index: int) -> bool:
        """Whether `truth` gives a map."""

    def truth(self, index: int) -> PanopticMap | None:
        """The truth, of the image's size; None where the image has none.

        Raises:
            InputError: if a file is broken, or the truth is of another size than its image.
        """

    def truth_digest(self, index: int) -> str:
        """Changes with the content of the truth, as `digest` with the image's."""


def numbered_frames(images: Iterable[tuple[str, Frame]]) -> dict[str, list[Frame]]:
    """Images whose ids differ in their last number alone as the frames of a film: name -> frames, by that number.

    Args:
        images: (image id, what stands for it in the result); those without a number are left out.
    """
    films: dict[str, list[tuple[int, int, Frame]]] = {}
    for place, (image_id, frame) in enumerate(images):
        if (found := LAST_NUMBER.fullmatch(image_id)) is not None:
            films.setdefault(found["name"], []).append((int(found["number"]), place, frame))
    return {name: [frame for _, _, frame in sorted(frames, key=lambda f: f[:2])] for name, frames in films.items()}


class FileSplit:
    """Base of splits whose images are files.

    A subclass gives `name`, `__len__`, `image_path` and `image_id`, and where there is truth `taxonomy` (by
    data.taxonomy.recognise), `has_truth`, `truth` and `truth_digest`.
    """

    name = ""
    split = "images"
    taxonomy: Taxonomy | None = None
    problems: Sequence[str] = ()

    def __len__(self) -> int:
        raise NotImplementedError

    def image_path(self, index: int) -> Path:
        """Where the image lies."""
        raise NotImplementedError

    def image_id(self, index: int) -> str:
        """See Split."""
        raise NotImplementedError

    def key(self, index: int) -> ImageId:
        """See Split."""
        return self.image_id(index)

    def file_name(self, index: int) -> str:
        """See Split."""
        return self.image_path(index).name

    def image(self, index: int) -> np.ndarray:
        """See Split."""
        return read_image(self.image_path(index))

    def size(self, index: int) -> tuple[int, int]:
        """See Split."""
        return read_image_size(self.image_path(index))

    def digest(self, index: int) -> str:
        """See Split; of an image that is turned when it is read it changes with that, too."""
        path = self.image_path(index)
        turn = read_orientation(path)
        return file_digest(path) if turn == 1 else digest_of(file_digest(path), turn)

    def video_of(self, index: int) -> str | None:
        """See Split."""
        return None

    def has_truth(self, index: int) -> bool:
        """See Split."""
        return False

    def truth(self, index: int) -> PanopticMap | None:
        """See Split."""
        return None

    def truth_digest(self, index: int) -> str:
        """See Split."""
        raise InputError(f"{self.image_path(index)}: has no truth, but it is needed; give a data set with labels")

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Image id -> index."""
        return {self.image_id(index): index for index in range(len(self))}


def truths_digest(split: Split) -> str:
    """Changes with how the images are called and with the content of their truth; what is derived from it keeps it."""
    parts = (split.image_id, split.key, split.file_name, split.truth_digest)
    return digest_of([[part(index) for part in parts] for index in range(len(split))])
