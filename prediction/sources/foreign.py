"""What other tools predict, once it is read: objects and class scores in their own classes, and how they become ours."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from data.class_map import ClassMap
from data.class_matching import ForeignClasses, match_classes
from data.dump_file import grid_size
from data.image_names import names_of_split
from data.instance_dump import from_crops
from data.semantic_dump import SemanticLogits, SemanticMap
from data.split import Split
from data.targets import BINARY_CONFIDENCE, mask_to_logits
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from prediction.predictor import Prediction, needs_pixels
from runtime.files import InputError, digest_of, first_few, walk_files

ABSENT_MARGIN = 10.0
"""How much less likely than a pixel's least likely class one is that the semantics do not know, as a difference of logits."""
SEMANTIC_STRIDE = 4
"""Of logits that come at a size which is no whole part of the image's, in pixels."""


@dataclass(frozen=True)
class FoundObject:
    """One object. number: its class. score: in 0..1.

    mask: (h, w) bool or logits, cut out of the image with at least one cell around the object where the image goes on.
    corner: (row, column) of its first cell. stride: of the cells, in pixels, the same for all objects of an image.
    """

    number: int
    score: float
    corner: tuple[int, int]
    mask: np.ndarray
    stride: int = 1


class ForeignInstances(Protocol):
    """Reads one form of instances. A new form is a file with a class that does this, and a line in find.py.

    Files have `needs_pixels = False`, too: see prediction.predictor.needs_pixels.
    """

    classes: ForeignClasses
    notes: Sequence[str]
    min_score: float | None
    name: str
    """Of the file or model; the producer of what is made of it."""

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""

    def objects(self, image_id: str, image: np.ndarray) -> Iterable[FoundObject]:
        """The objects of an image, in any order; none where nothing is there."""


class ForeignSemantics(Protocol):
    """As ForeignInstances, of semantics."""

    classes: ForeignClasses
    notes: Sequence[str]
    name: str

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""

    def scores(self, image_id: str, image: np.ndarray) -> np.ndarray:
        """(C, h, w) floating-point logits, in the order of `classes.names`, or an (H, W) map of class numbers.

        Raises:
            InputError: if there is nothing for this image, or it is broken.
        """


class MappedInstances:
    """Foreign instances as a predictor of our classes.

    `notes` says in a line each what the classes were taken for and what was left out.

    Args:
        confidence: logit inside a binary mask, and minus that outside.
        matching: of data.class_matching.

    Raises:
        InputError: as match_classes.
    """

    gives = ("instances",)

    def __init__(
        self,
        source: ForeignInstances,
        taxonomy: Taxonomy,
        matching: ClassMap | str | None = None,
        confidence: float = BINARY_CONFIDENCE,
    ):
        match = match_classes(source.classes, taxonomy, matching, flag="--instances-classes")
        self.source, self.taxonomy, self.min_score, self.confidence = source, taxonomy, source.min_score, confidence
        self.needs_pixels = needs_pixels(source)
        stuff = [number for number, k in match.train_ids.items() if k is not None and not taxonomy.is_thing[k]]
        self._train_ids = {number: None if number in stuff else k for number, k in match.train_ids.items()}
        self.notes = [*source.notes, *match.notes]
        if stuff:
            named = first_few(list(dict.fromkeys(taxonomy.categories[match.train_ids[number]].name for number in stuff)))
            self.notes.append(f"{source.classes.place}: instances of {named} are left out, which are stuff here")
        if match.train_ids and not any(k is not None for k in self._train_ids.values()):
            things = first_few([c.name for c in taxonomy.categories if c.is_thing])
            raise InputError(
                f"{source.classes.place}: none of its classes is one of our things, {things}; give --instances-classes"
            )

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        made_from = [self.source.fingerprint(image_id), sorted(self._train_ids.items()), self.confidence]
        return digest_of(*made_from, self.taxonomy.to_coco_categories())

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor."""
        found = [o for o in self.source.objects(image_id, image) if self._train_ids[o.number] is not None]
        instances = from_crops(
            ((o.corner, mask_to_logits(o.mask, self.confidence) if o.mask.dtype == bool else o.mask) for o in found),
            [self._train_ids[o.number] for o in found],
            [o.score for o in found],
            image_id=image_id,
            size=image.shape[:2],
            stride=found[0].stride if found else 1,
            taxonomy=self.taxonomy,
            producer=self.source.name,
        )
        return Prediction(instances=instances)


class MappedSemantics:
    """Foreign semantics as a predictor of our classes; otherwise as MappedInstances.

    The logits of several classes that become one are added up as shares of a softmax are (logsumexp). A class of ours that none
    of theirs becomes is less likely by ABSENT_MARGIN than the least likely of a pixel.
    """

    gives = ("semantic",)
    min_score = None

    def __init__(self, source: ForeignSemantics, taxonomy: Taxonomy, matching: ClassMap | str | None = None):
        match = match_classes(source.classes, taxonomy, matching, flag="--semantics-classes")
        self.source, self.taxonomy, self._train_ids = source, taxonomy, match.train_ids
        self.needs_pixels = needs_pixels(source)
        self.notes = [*source.notes, *match.notes]
        absent = [c.name for k, c in enumerate(taxonomy.categories) if k not in match.train_ids.values()]
        if len(absent) == taxonomy.num_classes:
            raise InputError(f"{source.classes.place}: none of its classes is one of ours; give --semantics-classes")
        if absent:
            self.notes.append(f"{source.classes.place}: knows nothing of {first_few(absent)}")

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        made_from = [self.source.fingerprint(image_id), sorted(self._train_ids.items()), self.taxonomy.to_coco_categories()]
        return digest_of(*made_from)

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor."""
        found, size = self.source.scores(image_id, image), image.shape[:2]
        if found.ndim == 2:
            return Prediction(semantic=self._to_map(image_id, found))
        logits = self._to_ours(found)
        stride = stride_of(logits.shape[1:], size)
        if stride is None:
            stride, (height, width) = SEMANTIC_STRIDE, grid_size(*size, SEMANTIC_STRIDE)
            logits = resize_logits(logits, (height, width))
        about = (image_id, *size, stride, self.taxonomy.name, self.source.name)
        return Prediction(semantic=SemanticLogits(*about, logits))

    def _to_ours(self, found: np.ndarray) -> np.ndarray:
        """(C, h, w) logits of our classes."""
        channels: dict[int, list[int]] = {}
        for channel, train_id in enumerate(self._train_ids.values()):
            if train_id is not None:
                channels.setdefault(train_id, []).append(channel)
        if list(channels.items()) == [(k, [k]) for k in range(self.taxonomy.num_classes)] and len(found) == len(channels):
            return found
        known = found[[channel for of_class in channels.values() for channel in of_class]]
        logits = np.broadcast_to(known.min(0) - ABSENT_MARGIN, (self.taxonomy.num_classes, *found.shape[1:])).copy()
        for train_id, of_class in channels.items():
            logits[train_id] = (
                found[of_class[0]] if len(of_class) == 1 else np.logaddexp.reduce(found[of_class].astype(np.float32))
            )
        return logits

    def _to_map(self, image_id: str, numbers: np.ndarray) -> SemanticMap:
        known = self._train_ids
        table = np.full(max(known) + 1, VOID_TRAIN_ID, np.uint8)
        table[[n for n, k in known.items() if k is not None]] = [k for k in known.values() if k is not None]
        void = self.source.classes.void
        table = np.append(table, np.full(max(0, max(void, default=0) + 1 - len(table)), VOID_TRAIN_ID, np.uint8))
        strangers = [n for n in np.unique(numbers).tolist() if n not in known and n not in void]
        if strangers:
            about = f"has class {first_few(strangers)}, but {first_few(sorted(known))} are known"
            raise InputError(f"{self.source.classes.place}: image {image_id!r} {about}; give --semantics-classes")
        return SemanticMap(image_id, self.taxonomy.name, self.source.name, table[numbers])


def stride_of(grid: tuple[int, int], size: tuple[int, int]) -> int | None:
    """The stride of which a map of logits is (rows, columns), of an image of (height, width); None where it is of none.

    Of several that fit it is a power of two, as networks have them.
    """
    smallest = max(-(-side // cells) for side, cells in zip(size, grid, strict=True))
    largest = min((side - 1) // (cells - 1) if cells > 1 else max(size) for side, cells in zip(size, grid, strict=True))
    power = 1 << (smallest - 1).bit_length()
    stride = power if power <= largest else smallest
    return stride if grid_size(*size, stride) == tuple(grid) else None


def resize_logits(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, h, w) logits bilinearly at (height, width), as if the corners of both were the same; a class at a time."""
    height, width = size
    planes = (cv2.resize(plane.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) for plane in logits)
    return np.stack(list(planes))


def probabilities_to_logits(probabilities: np.ndarray) -> np.ndarray:
    """Log-odds, of what float16 can tell apart: 11 either way, which is 1.7e-5.

    Sums of shares may exceed 1, as those of mask classification do: they keep their order.
    """
    lowest = np.float32(1 / (1 + np.exp(11.0)))
    shares = probabilities.astype(np.float32)
    return np.log(np.maximum(shares, lowest)) - np.log(np.maximum(1 - shares, lowest))


def cut_out(logits: np.ndarray) -> tuple[tuple[int, int], np.ndarray] | None:
    """The part of an (h, w) map of mask logits around what is positive, with a margin of one cell; None where nothing is."""
    positive = logits > 0
    ys, xs = np.flatnonzero(positive.any(1)), np.flatnonzero(positive.any(0))
    if not len(ys):
        return None
    y, x = max(int(ys[0]) - 1, 0), max(int(xs[0]) - 1, 0)
    return (y, x), logits[y : int(ys[-1]) + 2, x : int(xs[-1]) + 2]


class FolderOfFiles:
    """The files of a folder by the image that each is of.

    A file is an image's if its name is one of the image's names (data.image_names), or begins with its id and goes on with
    `_`, `-` or `.`, as in frankfurt_000000_000294_pred.png.

    Args:
        suffixes: of the files that count, lower case, with the dot.

    Raises:
        InputError: if no file is of an image of the split, or two are of one.
    """

    def __init__(self, folder: Path, suffixes: Sequence[str], split: Split):
        self.folder = Path(folder)
        names, by_name = names_of_split(split), {}
        for image_id in (split.image_id(k) for k in range(len(split))):
            by_name.setdefault(image_id.rsplit("/", 1)[-1], []).append(image_id)
        longest = max(map(len, by_name), default=0)
        self.files: dict[str, Path] = {}
        self.unknown: list[str] = []
        for file in walk_files(self.folder, suffixes):
            image_id = names.find(file) or self._begins_with(file, by_name, longest)
            if image_id is None:
                self.unknown.append(file)
            elif image_id in self.files:
                both = f"{self.files[image_id].name} and {file} would both be image {image_id!r}"
                raise InputError(f"{self.folder}: {both}; keep one, or give a folder of its own for each kind of file")
            else:
                self.files[image_id] = self.folder / file
        if self.unknown and not self.files:
            found = f"none of its files is of an image of {split.name}: {first_few(self.unknown)} against {split.image_id(0)}"
            raise InputError(f"{self.folder}: {found}; name each like its image")

    def _begins_with(self, file: str, by_name: Mapping[str, list[str]], longest: int) -> str | None:
        """The image whose name a file's name begins with; of several the one with the longest, then that in the same folder."""
        folder, _, name = file.rpartition("/")
        for end in range(min(longest, len(name) - 1), 0, -1):
            if name[end] in "_-." and name[:end] in by_name:
                fitting = by_name[name[:end]]
                if len(fitting) > 1:
                    fitting = [image_id for image_id in fitting if image_id.rpartition("/")[0] == folder]
                if len(fitting) != 1:
                    could = first_few(by_name[name[:end]])
                    raise InputError(f"{self.folder}: {file} could be of {could}; name the folders as the images' are")
                return fitting[0]
        return None

    @cached_property
    def notes(self) -> list[str]:
        """What was left out."""
        if not self.unknown:
            return []
        return [f"{self.folder}: {len(self.unknown)} files are of no image, such as {first_few(self.unknown)}; left out"]
