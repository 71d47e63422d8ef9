"""What a labelling tool says of its images, in one form for all of them; the pixels are decoded one image at a time.

A format is a module with
  NAME     as `--from` takes it
  FORM     what its folder holds, for messages
  SOURCE   where the form is described
  read(source) -> LabelSet, which raises InputError where the folder or a file is of another form.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class LabelClass:
    """A class as a format declares it; None where the format does not say."""

    name: str
    is_thing: bool | None = None
    is_void: bool = False
    """Whether its pixels count as unlabelled."""
    dataset_id: int | None = None
    color: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Shape:
    """A region that is drawn over whatever lies below it.

    Shapes of one class with the same `instance` are one object; None makes it an object of its own.
    """

    class_name: str
    draw: Callable[[], np.ndarray]
    """Gives its (H, W) bool mask; raises InputError where it cannot be drawn."""
    instance: Hashable = None
    is_crowd: bool = False


@dataclass(frozen=True)
class MapEntry:
    """What one value of a label map means. A thing without `instance` is part of a group that nobody told apart."""

    class_name: str
    instance: Hashable = None
    is_crowd: bool = False


@dataclass(frozen=True)
class LabelMap:
    """A region for each pixel."""

    ids: np.ndarray
    """(H, W) of any integers."""
    entry_of: Callable[[int], MapEntry | None]
    """Value -> its meaning, None for unlabelled; raises InputError for one that has none. Asked for each that occurs."""
    has_objects: bool = True
    """False: a map of classes below shapes, where a thing that no shape covers is unlabelled."""


@dataclass(frozen=True)
class LabelledImage:
    """One image and its labels.

    `name` is its file's in the new data set, relative to the split's folder, with `/`; without suffix it is the image's id.
    """

    name: str
    path: Path
    size: tuple[int, int]
    """(height, width) of the upright image, in pixels."""
    digest: Callable[[], str]
    """Changes with the labels."""
    layers: Callable[[], Iterable[Shape | LabelMap]]
    """Its regions from the lowest to the topmost; raises InputError where a label is broken."""
    split: str | None = None
    """Where the source says it."""
    sequence: str | None = None
    """The video that it is of, whose images stay in one split."""


@dataclass(frozen=True)
class LabelSet:
    """All that a source holds. `left_out` counts what has no mask, by what it is: "points", "images without labels"."""

    classes: Sequence[LabelClass]
    images: Sequence[LabelledImage]
    left_out: Mapping[str, int] = field(default_factory=dict)
