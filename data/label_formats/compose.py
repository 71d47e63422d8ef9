"""The regions of one image become a panoptic map: drawn from the lowest to the topmost, with a count of what that hides.

One map of numbers is drawn into, so memory does not grow with the number of regions.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from data.label_formats.labels import LabelMap, Shape
from data.panoptic_png import PanopticMap, describe_runs
from data.segment_runs import find_runs, look_up
from data.taxonomy import MAX_INSTANCES_PER_IMAGE, Taxonomy

UNLABELLED = "(unlabelled)"
"""In reports, the class of what is drawn to erase."""
LARGEST_TABLE = 2**20
"""Entries of a look-up table; values beyond are searched for."""


@dataclass
class Losses:
    """What became of the labels of one image or of many, in pixels unless it says otherwise."""

    num_images: int = 0
    num_pixels: int = 0
    num_unlabelled: int = 0
    num_segments: Counter[str] = field(default_factory=Counter)
    """Class -> segments that are left."""
    num_crowds: Counter[str] = field(default_factory=Counter)
    """Class -> those of them that are groups."""
    overlaps: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(class on top, class that it hides) -> pixels."""
    hidden: Counter[str] = field(default_factory=Counter)
    """Class -> segments of which no pixel is left."""
    too_small: Counter[str] = field(default_factory=Counter)
    """Class -> segments that had fewer pixels left than the smallest area, and became unlabelled."""
    without_object: Counter[str] = field(default_factory=Counter)
    """Class of things -> pixels that a class map gives it and no object covers; they became unlabelled."""

    def add(self, other: "Losses") -> None:
        """Count those of further images, too."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def to_json(self) -> dict:
        """For a report and for from_json."""
        content = {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}
        return content | {"overlaps": [[top, below, n] for (top, below), n in self.overlaps.most_common()]}

    @classmethod
    def from_json(cls, content: Mapping) -> "Losses":
        """The reverse of to_json.

        Raises:
            KeyError, TypeError, ValueError: if it is something else.
        """
        found = {name: Counter(value) if isinstance(value, dict) else value for name, value in content.items()}
        return cls(**found | {"overlaps": Counter({(top, below): n for top, below, n in content["overlaps"]})})


@dataclass
class _Object:
    """What becomes one segment. `train_id` None: it erases; `is_class_only`: a thing's pixels in a class map."""

    train_id: int | None
    is_crowd: bool = False
    is_class_only: bool = False


class _Canvas:
    """(H, W) numbers of objects, 0 is unlabelled."""

    def __init__(self, size: tuple[int, int], taxonomy: Taxonomy):
        self.numbers = np.zeros(size, dtype=np.int32)
        self.taxonomy = taxonomy
        self.objects = [_Object(None)]
        self.overlaps: Counter[tuple[str, str]] = Counter()
        self._train_ids = {c.name: train_id for train_id, c in enumerate(taxonomy.categories)}
        self._known: dict[tuple, int] = {}

    def class_name(self, number: int) -> str:
        train_id = self.objects[number].train_id
        return UNLABELLED if train_id is None else self.taxonomy.categories[train_id].name

    def number_of(self, class_name: str, instance: Hashable, is_crowd: bool, *, is_shape: bool, has_objects: bool = True) -> int:
        """The number of an object, a new one where it is not known; 0 for a class that is not of the taxonomy."""
        train_id = self._train_ids.get(class_name)
        if train_id is None:
            return 0
        is_thing = bool(self.taxonomy.is_thing[train_id])
        if is_thing and is_shape and instance is None:
            self.objects.append(_Object(train_id, is_crowd))
            return len(self.objects) - 1
        is_class_only = is_thing and not has_objects
        key = (train_id, is_shape, instance, is_class_only) if is_thing else (train_id,)
        if key not in self._known:
            self.objects.append(_Object(train_id, is_thing and (is_crowd or instance is None), is_class_only))
            self._known[key] = len(self.objects) - 1
        return self._known[key]

    def draw_shape(self, shape: Shape) -> None:
        """Draw one object over what is there."""
        mask = shape.draw()
        assert mask.shape == self.numbers.shape, (mask.shape, self.numbers.shape)
        assert mask.dtype == bool, mask.dtype
        number = self.number_of(shape.class_name, shape.instance, shape.is_crowd, is_shape=True)
        below = np.bincount(self.numbers[mask], minlength=1)
        for other in np.flatnonzero(below).tolist():
            self._count_overlap(number, other, int(below[other]))
        self.numbers[mask] = number

    def draw_map(self, layer: LabelMap) -> None:
        """Draw a map of the whole image over what is there."""
        assert layer.ids.shape == self.numbers.shape, layer.ids.shape
        values = find_runs(layer.ids).ids
        entries = [layer.entry_of(value) for value in values.tolist()]
        made = [
            0
            if entry is None
            else self.number_of(entry.class_name, entry.instance, entry.is_crowd, is_shape=False, has_objects=layer.has_objects)
            for entry in entries
        ]
        numbers = _translate(layer.ids, values, np.array(made, dtype=np.int32))
        if len(self.objects) > 1 and self.numbers.any():
            is_drawn = numbers != 0
            pairs = numbers[is_drawn].astype(np.int64) * len(self.objects) + self.numbers[is_drawn]
            for pair, count in zip(*np.unique(pairs, return_counts=True), strict=True):
                self._count_overlap(*divmod(int(pair), len(self.objects)), int(count))
            numbers = np.where(is_drawn, numbers, self.numbers)
        self.numbers = numbers

    def _count_overlap(self, number: int, other: int, count: int) -> None:
        top, below = self.objects[number], self.objects[other]
        is_expected = below.is_class_only and below.train_id == top.train_id  # an object on the pixels of its own class
        if other not in (0, number) and not is_expected:
            self.overlaps[self.class_name(number), self.class_name(other)] += count


def compose(
    layers: Iterable[Shape | LabelMap], size: tuple[int, int], taxonomy: Taxonomy, min_area: int = 1
) -> tuple[PanopticMap, Losses]:
    """Draw the regions of one image; those of a class outside of the taxonomy erase what lies below.

    Args:
        layers: from the lowest to the topmost.
        size: (height, width) in pixels.
        min_area: segments with fewer pixels left become unlabelled.

    Returns:
        The map, with one segment a stuff class and ids as Taxonomy.segment_id gives them, running numbers where an image has
        more objects of a class than fit; and what was lost.

    Raises:
        InputError: if a region is broken.
    """
    canvas = _Canvas(size, taxonomy)
    for layer in layers:
        if isinstance(layer, Shape):
            canvas.draw_shape(layer)
        else:
            canvas.draw_map(layer)
    losses = Losses(num_images=1, num_pixels=canvas.numbers.size, overlaps=canvas.overlaps)
    areas = np.bincount(canvas.numbers.ravel(), minlength=len(canvas.objects))
    kept = []
    for number, (made, area) in enumerate(zip(canvas.objects[1:], areas[1:].tolist(), strict=True), 1):
        name = canvas.class_name(number)
        if made.is_class_only:
            losses.without_object[name] += area
        elif area == 0:
            losses.hidden[name] += 1
        elif area < min_area:
            losses.too_small[name] += 1
        else:
            kept.append(number)
            losses.num_segments[name] += 1
            losses.num_crowds[name] += made.is_crowd
    losses.without_object, losses.num_crowds = +losses.without_object, +losses.num_crowds  # without zeros
    segment_ids = _segment_ids([canvas.objects[number] for number in kept], taxonomy)
    table = np.zeros(len(canvas.objects), dtype=np.uint32)
    table[kept] = segment_ids
    by_id = {segment_id: canvas.objects[number] for segment_id, number in zip(segment_ids, kept, strict=True)}
    ids = look_up(table, canvas.numbers)
    losses.num_unlabelled = int(areas.sum() - areas[kept].sum())
    segments = describe_runs(
        find_runs(ids),
        category_of=lambda k: taxonomy.categories[by_id[k].train_id].dataset_id,
        is_crowd=lambda k: by_id[k].is_crowd,
    )
    return PanopticMap(ids, segments), losses


def _segment_ids(objects: list[_Object], taxonomy: Taxonomy) -> list[int]:
    """A segment id for each object that is left."""
    counts: Counter[int] = Counter()
    found = []
    for made in objects:
        counts[made.train_id] += 1
        is_thing = bool(taxonomy.is_thing[made.train_id])
        found.append(taxonomy.segment_id(made.train_id, counts[made.train_id] if is_thing else 0))
    fits = max(counts.values(), default=0) <= MAX_INSTANCES_PER_IMAGE
    return found if fits else list(range(1, len(objects) + 1))


def _translate(ids: np.ndarray, values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """(H, W) ids -> the number of each; `values` are all ids that occur, ascending."""
    if len(values) and values[0] >= 0 and values[-1] < LARGEST_TABLE:
        table = np.zeros(int(values[-1]) + 1, dtype=np.int32)
        table[values] = numbers
        return look_up(table, ids)
    return numbers[np.searchsorted(values, ids)]
