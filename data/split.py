"""Pictures with their panoptic truth, whatever layout they lie in: what a training reads."""

from pathlib import Path
from typing import Protocol

import numpy as np

from data.images import read_image
from data.layouts.cityscapes import find_frames, read_truth
from data.panoptic_png import PanopticMap
from data.taxonomy import CITYSCAPES, Taxonomy


class LabelledPictures(Protocol):
    """A split of a data set: pictures by index, in an order that never changes."""

    taxonomy: Taxonomy
    """The classes that the truth's category ids are of."""

    def __len__(self) -> int: ...

    def image_id(self, index: int) -> str:
        """Names the picture in this split, and the files that are made for it."""

    def read(self, index: int) -> tuple[np.ndarray, PanopticMap]:
        """(H, W, 3) uint8 RGB, and the truth of the same size.

        Raises:
            InputError: if a file is broken, or the truth is of another size than its picture.
        """


class CityscapesPictures:
    """A split of the Cityscapes layout, in order of the image ids.

    Raises:
        InputError: as data.layouts.cityscapes.find_frames.
    """

    def __init__(self, root: Path, split: str):
        self.taxonomy = CITYSCAPES
        self.frames = find_frames(root, split)

    def __len__(self) -> int:
        return len(self.frames)

    def image_id(self, index: int) -> str:
        """The id of a picture, by its place in the split."""
        return self.frames[index].image_id

    def read(self, index: int) -> tuple[np.ndarray, PanopticMap]:
        """See LabelledPictures."""
        frame = self.frames[index]
        return read_image(frame.image_path), read_truth(frame)
