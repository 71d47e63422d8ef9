"""Class lists: names, stuff or thing, train ids, ids in the files, colours. No other file knows a class number or count."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import ImageColor

from data.coco_json import is_whole, read_flag
from runtime.files import InputError, shorten

VOID_TRAIN_ID = 255
"""Train id of pixels without a class in semantic maps; every loss and every score ignores it."""
MAX_INSTANCES_PER_IMAGE = 999
"""A thing's segment id is dataset_id * 1000 + k, as in Cityscapes, so k must stay below 1000."""


@dataclass(frozen=True)
class Category:
    """One class: its name, its id in the data set's files, whether its objects are counted, its (r, g, b)."""

    name: str
    dataset_id: int
    is_thing: bool
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Taxonomy:
    """An ordered list of classes; a class's position is its train id.

    Raises:
        InputError: if two classes share a dataset id or a name, or there are none or more than 255.
    """

    name: str
    categories: tuple[Category, ...]

    def __post_init__(self):
        if not 0 < len(self.categories) <= VOID_TRAIN_ID:
            raise InputError(f"taxonomy {self.name}: {len(self.categories)} classes, but 1 to {VOID_TRAIN_ID} fit")
        for values in ([c.dataset_id for c in self.categories], [c.name for c in self.categories]):
            repeated = {value for value in values if values.count(value) > 1}
            if repeated:
                raise InputError(f"taxonomy {self.name}: {sorted(repeated)} given to more than one class; each needs its own")

    @property
    def num_classes(self) -> int:
        """Things and stuff."""
        return len(self.categories)

    @cached_property
    def dataset_ids(self) -> np.ndarray:
        """(C,) int64: train id -> id in the files."""
        return np.array([c.dataset_id for c in self.categories], dtype=np.int64)

    @cached_property
    def is_thing(self) -> np.ndarray:
        """(C,) bool, by train id."""
        return np.array([c.is_thing for c in self.categories], dtype=bool)

    @cached_property
    def thing_ids(self) -> tuple[int, ...]:
        """Train ids of the things, ascending; an instance model's class k is thing_ids[k]."""
        return tuple(int(i) for i in np.flatnonzero(self.is_thing))

    @cached_property
    def stuff_ids(self) -> tuple[int, ...]:
        """Train ids of the stuff classes, ascending."""
        return tuple(int(i) for i in np.flatnonzero(~self.is_thing))

    @cached_property
    def colors(self) -> np.ndarray:
        """(256, 3) uint8: train id -> colour; void is black."""
        table = np.zeros((256, 3), dtype=np.uint8)
        table[: self.num_classes] = [c.color for c in self.categories]
        return table

    @cached_property
    def dataset_id_to_train_id(self) -> dict[int, int]:
        """Id in the files -> train id; ids that are not scored are absent."""
        return {c.dataset_id: train_id for train_id, c in enumerate(self.categories)}

    def segment_id(self, train_id: int, instance_id: int = 0) -> int:
        """Segment id in a panoptic PNG: base for stuff, base * 1000 + instance id (1..999) for a thing.

        The base is the class's dataset id where all of them fit three digits, and else its train id + 1. Where a class has
        dataset id 0, which in the PNG is void, all bases move up by one.
        """
        base = int(self._segment_bases[train_id])
        return base * 1000 + instance_id if instance_id else base

    @cached_property
    def _segment_bases(self) -> np.ndarray:
        shifted = self.dataset_ids + int(self.dataset_ids.min() == 0)
        fits = shifted.min() > 0 and shifted.max() < 1000
        return shifted if fits else np.arange(1, self.num_classes + 1)

    def difference(self, other: "Taxonomy") -> str | None:
        """How the classes of another taxonomy differ from these, in a few words; None where they are the same.

        Names of the taxonomies and colours do not count: ids, class names, their order and what is a thing do.
        """
        own, others = ([(c.dataset_id, c.name, c.is_thing) for c in t.categories] for t in (self, other))
        if own == others:
            return None
        if len(own) != len(others):
            absent = [name for _, name, _ in own if name not in {n for _, n, _ in others}]
            added = [name for _, name, _ in others if name not in {n for _, n, _ in own}]
            words = [f"without {_some(absent)}"] if absent else []
            words += [f"with {_some(added)}"] if added else []
            return f"{len(own)} classes against {len(others)}" + (f", {', '.join(words)}" if words else "")
        ours, theirs = next((o, t) for o, t in zip(own, others, strict=True) if o != t)
        return f"{_describe(ours)} against {_describe(theirs)}"

    def to_coco_categories(self) -> list[dict]:
        """The `categories` of a COCO panoptic JSON, in train id order."""
        return [
            {"id": c.dataset_id, "name": c.name, "isthing": int(c.is_thing), "color": list(c.color), "supercategory": ""}
            for c in self.categories
        ]

    @classmethod
    def from_coco_categories(cls, name: str, categories: Iterable[dict]) -> "Taxonomy":
        """Read any COCO-style panoptic `categories`; train ids follow the order of the list.

        A missing colour gets one from the class's id.

        Raises:
            InputError: if an entry lacks `id`, `name` or `isthing`, or has them of another kind, or ids repeat.
        """
        read = []
        for entry in categories:
            if not isinstance(entry, dict) or "id" not in entry or not isinstance(entry.get("name"), str):
                raise InputError(f"taxonomy {name}: category {shorten(entry, 80)} needs an `id` and a `name`")
            dataset_id = entry["id"]
            if not is_whole(dataset_id):
                raise InputError(f"taxonomy {name}: category id {shorten(repr(dataset_id), 40)}, but a whole number is needed")
            try:
                color, is_thing = read_color(entry.get("color"), dataset_id), read_flag(entry, "isthing")
            except InputError as error:
                raise InputError(f"taxonomy {name}: category {error}") from None
            read.append(Category(entry["name"], dataset_id, is_thing, color))
        return cls(name, tuple(read))

    def with_train_ids(self) -> "Taxonomy":
        """The same classes where the files hold train ids (createPanopticImgs --use-train-id)."""
        return Taxonomy(
            f"{self.name}_trainId",
            tuple(Category(c.name, train_id, c.is_thing, c.color) for train_id, c in enumerate(self.categories)),
        )


def read_color(value: object, dataset_id: int) -> tuple[int, int, int]:
    """(r, g, b) in 0..255 of what labelling tools write: [r, g, b] or [r, g, b, a], whole or as shares of 1, or "#rrggbb".

    Args:
        dataset_id: decides the colour where there is none.

    Raises:
        InputError: if it is anything else.
    """
    if value is None or value == []:
        return tuple(np.random.default_rng(abs(dataset_id)).integers(40, 255, 3).tolist())
    try:
        if isinstance(value, str):
            return ImageColor.getrgb(value)[:3]
        numbers = [float(part) for part in value if not isinstance(part, bool)]
        are_shares = any(isinstance(part, float) for part in value) and max(numbers) <= 1
        scaled = [round(255 * part if are_shares else part) for part in numbers]
    except (TypeError, ValueError, OverflowError):
        scaled = []
    if len(scaled) in (3, 4) and all(0 <= part <= 255 for part in scaled):
        return tuple(scaled[:3])
    raise InputError(f"has colour {shorten(repr(value), 40)}, but [r, g, b] of 0..255 or text such as '#00ff00' is needed")


def recognise(taxonomy: Taxonomy) -> Taxonomy:
    """A known taxonomy where the classes are the same; else the same classes under a name that only they have.

    So two taxonomies of one name have the same classes, whatever folder or file they were read from.
    """
    for known in TAXONOMIES.values():
        if known.difference(taxonomy) is None:
            return known
    classes = [(c.dataset_id, c.name, c.is_thing) for c in taxonomy.categories]
    return replace(taxonomy, name=f"classes-{hashlib.sha256(repr(classes).encode()).hexdigest()[:8]}")


def _describe(entry: tuple[int, str, bool]) -> str:
    dataset_id, name, is_thing = entry
    return f"{name!r} (id {dataset_id}, {'thing' if is_thing else 'stuff'})"


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


CITYSCAPES = Taxonomy(
    "cityscapes",
    tuple(
        Category(name, dataset_id, is_thing, color)
        for name, dataset_id, is_thing, color in (
            ("road", 7, False, (128, 64, 128)),
            ("sidewalk", 8, False, (244, 35, 232)),
            ("building", 11, False, (70, 70, 70)),
            ("wall", 12, False, (102, 102, 156)),
            ("fence", 13, False, (190, 153, 153)),
            ("pole", 17, False, (153, 153, 153)),
            ("traffic light", 19, False, (250, 170, 30)),
            ("traffic sign", 20, False, (220, 220, 0)),
            ("vegetation", 21, False, (107, 142, 35)),
            ("terrain", 22, False, (152, 251, 152)),
            ("sky", 23, False, (70, 130, 180)),
            ("person", 24, True, (220, 20, 60)),
            ("rider", 25, True, (255, 0, 0)),
            ("car", 26, True, (0, 0, 142)),
            ("truck", 27, True, (0, 0, 70)),
            ("bus", 28, True, (0, 60, 100)),
            ("train", 31, True, (0, 80, 100)),
            ("motorcycle", 32, True, (0, 0, 230)),
            ("bicycle", 33, True, (119, 11, 32)),
        )
    ),
)
"""The 19 scored Cityscapes classes (cityscapesscripts/helpers/labels.py), in train id order."""

COCO_PANOPTIC = Taxonomy.from_coco_categories(
    "coco_panoptic", json.loads(Path(__file__).with_name("coco_panoptic_categories.json").read_text())
)
"""The 133 COCO panoptic classes (panopticapi/panoptic_coco_categories.json), 80 things first."""

TAXONOMIES = {t.name: t for t in (CITYSCAPES, CITYSCAPES.with_train_ids(), COCO_PANOPTIC)}
