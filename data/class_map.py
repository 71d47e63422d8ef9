"""A class map: which class of one taxonomy becomes which of another, many to one; read wherever truth or predictions come in.

classes:                                # of the result, as `categories` of a COCO panoptic JSON, or the name of known ones,
  - {id: 1, name: vehicle, isthing: 1}  # such as cityscapes; of predictions they may be left out: then those of the data
from: coco_panoptic                     # optional: known classes or a list of names, whose ids or places numbers are
map:
  car: vehicle                          # by name, or by id
  bicycle: vehicle
  rug: void
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from data.layouts import coco_derived
from data.layouts.coco_derived import Track, track_nothing
from data.panoptic_file import PanopticFile
from data.panoptic_png import PanopticMap, describe_segments
from data.split import Split
from data.taxonomy import TAXONOMIES, Taxonomy, recognise
from runtime.files import InputError, digest_of, first_few, read_yaml, shorten
from runtime.progress import note

NO_CLASS_MAP = "none"
FOLDER = Path(__file__).with_name("class_maps")
VOID = "void"


@dataclass(frozen=True)
class ClassMap:
    """See above."""

    name: str
    """Part of the names of files that are made of the truth."""
    target: Taxonomy
    """The classes that it leads to."""
    pairs: Mapping[str | int, str]
    """Name or dataset id -> name of a target, or void."""
    sources: tuple[tuple[int, str], ...] = ()
    """(id, name) of the classes that numbers without names are of, in their order."""

    def target_of(self, key: int, name: str | None) -> str | None:
        """The name of the target, or void, of a class that somebody calls by number or also by name; None: it says nothing."""
        by_number = self.pairs.get(key, self.pairs.get(str(key)))
        return by_number if name is None else self.pairs.get(name, by_number)

    def table(self, source: Taxonomy) -> dict[int, int | None]:
        """Dataset id of each class of `source` -> dataset id of the target, None for void.

        Raises:
            InputError: if the map says nothing of one of them, or makes things of stuff, whose objects nobody told apart.
        """
        targets = {c.name: c for c in self.target.categories}
        table, absent = {}, []
        for category in source.categories:
            to = self.target_of(category.dataset_id, category.name)
            if to is None:
                absent.append(category.name)
                continue
            target = targets.get(to)
            if target is not None and target.is_thing and not category.is_thing:
                found = f"makes {target.name}, a thing, of {category.name}, whose objects are not told apart"
                raise InputError(f"class map {self.name}: {found}; map it to stuff, or to void")
            table[category.dataset_id] = None if target is None else target.dataset_id
        if absent:
            raise InputError(self.says_nothing_of(absent))
        return table

    def says_nothing_of(self, absent: Sequence[str]) -> str:
        """The error for classes that are not in it."""
        meant = near(absent[0], map(str, self.pairs))
        return f"class map {self.name}: says nothing of {first_few(absent)}{meant}; add `{absent[0]}: ...` to its map, or `void`"

    def describe(self, source: Taxonomy) -> str:
        """One line that says what becomes of the classes."""
        table = self.table(source)
        lost = [c.name for c in source.categories if table[c.dataset_id] is None]
        words = f"void are {len(lost)}, {first_few(lost)}" if lost else "none is void"
        return f"{len(table)} classes become {self.target.num_classes} by class map {self.name}; {words}"

    def digest(self) -> str:
        """Changes with what it does."""
        return digest_of(sorted(self.pairs.items(), key=str), self.target.to_coco_categories())


def shipped_maps() -> list[str]:
    """The names of the maps that the project brings."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def class_map_of(given: str | Path | None) -> ClassMap | None:
    """The map that a setting names; None without one, and for NO_CLASS_MAP, which takes back what a configuration says.

    Raises:
        InputError: as read_class_map.
    """
    return None if given in (None, NO_CLASS_MAP) else read_class_map(given)


def read_class_map(given: str | Path, target: Taxonomy | None = None) -> ClassMap:
    """A shipped map by name, or one from a YAML file.

    Args:
        target: the classes that a map leads to which names none; None: it must name them.

    Raises:
        InputError: if there is none, or it is no class map.
    """
    path = FOLDER / f"{given}.yaml"
    if not path.is_file():
        path = Path(given).expanduser()
        if path.suffix not in (".yaml", ".yml") or not path.is_file():
            known = ", ".join(shipped_maps())
            raise InputError(f"class map {given}: no such map; give one of {known}, or the path of a YAML file")
    content = read_yaml(path)
    classes, pairs = (content.get(key) if isinstance(content, dict) else None for key in ("classes", "map"))
    are_classes = isinstance(classes, list | str) or (classes is None and target is not None)
    if not are_classes or not isinstance(pairs, dict) or not pairs:
        needed = "`classes`, a list of id, name and isthing, and `map`, of names to names"
        raise InputError(f"{path}: is no class map; it needs {needed}")
    sources = _read_sources(path, content.get("from"))
    found = target if classes is None else _read_target(path, classes)
    known = {c.name for c in found.categories}
    if VOID in known:
        raise InputError(f"{path}: has a class named {VOID}, which says of pixels that they have none; give it another name")
    strangers = {str(to) for to in pairs.values() if not isinstance(to, str) or to not in (*known, VOID)}
    if strangers:
        named = "`classes` has" if classes is not None else "the data have"
        what = f"maps to {first_few(sorted(strangers))}, but {named} no such name{near(min(strangers), known)}"
        raise InputError(f"{path}: {what}; add it there, or map to {VOID}")
    return ClassMap(path.stem, found, pairs, sources)


def _read_target(path: Path, classes: list | str) -> Taxonomy:
    if isinstance(classes, str):
        if classes not in TAXONOMIES:
            raise InputError(
                f"{path}: classes {classes!r} are unknown; give a list of classes, or one of {', '.join(TAXONOMIES)}"
            )
        return TAXONOMIES[classes]
    try:
        return recognise(Taxonomy.from_coco_categories(path.stem, classes))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read_sources(path: Path, given: object) -> tuple[tuple[int, str], ...]:
    """(id, name) of what `from` names."""
    if given is None:
        return ()
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        return tuple(enumerate(given))
    if given not in TAXONOMIES:
        known = ", ".join(TAXONOMIES)
        raise InputError(f"{path}: `from` is {shorten(repr(given), 60)}, but a list of names or one of {known} was needed")
    return tuple((c.dataset_id, c.name) for c in TAXONOMIES[given].categories)


def near(name: str, known: Iterable[str]) -> str:
    """Words that name what may have been meant; none where nothing is like it."""
    found = difflib.get_close_matches(name, list(known), n=3)
    return f", which has {first_few(found)}" if found else ""


class MappedSplit:
    """A split whose truth speaks of the classes that a map leads to; all else is the split's own.

    Things of one class stay objects of their own; stuff of one class becomes one segment.
    """

    def __init__(self, split: Split, class_map: ClassMap):
        self._split = split
        self._map = class_map
        self._table = class_map.table(split.taxonomy)
        self.taxonomy = class_map.target
        _say_once(class_map.describe(split.taxonomy))
        self.name = f"{split.name} by {class_map.name}"

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):  # also while it is unpickled in a worker, where `_split` is not there yet
            raise AttributeError(name)
        return getattr(self._split, name)

    def __len__(self) -> int:
        return len(self._split)

    def truth(self, index: int) -> PanopticMap | None:
        """See Split."""
        truth = self._split.truth(index)
        return None if truth is None else map_classes(truth, self._table, self.taxonomy)

    def truth_digest(self, index: int) -> str:
        """See Split."""
        return digest_of(self._split.truth_digest(index), self._map.digest())

    @property
    def instances_json(self) -> Path:
        """Where the instance JSON of these classes lies."""
        return self._split.derived / "annotations" / f"instances_{self._split.split}.{self._map.name}.json"

    def ensure_instances_json(self, track: Track = track_nothing) -> bool:
        """Write that JSON, unless it is there and of this truth; return whether it was written."""
        return coco_derived.ensure_instances_json(self, track)


@cache
def _say_once(line: str) -> None:
    note(line)


def map_file(file: PanopticFile, class_map: ClassMap) -> PanopticFile:
    """A panoptic JSON whose maps are of the classes that a map leads to; a line says what becomes of its classes.

    Raises:
        InputError: as ClassMap.table.
    """
    table = class_map.table(file.taxonomy)
    note(f"{file.json_path}: {class_map.describe(file.taxonomy)}")
    return replace(file, taxonomy=class_map.target, moved=partial(map_classes, table=table, target=class_map.target))


def map_classes(truth: PanopticMap, table: Mapping[int, int | None], target: Taxonomy) -> PanopticMap:
    """A panoptic map of the target's classes; void is where a class leads to none.

    Args:
        table: dataset ids, of ClassMap.table.
    """
    is_thing = {c.dataset_id: c.is_thing for c in target.categories}
    stuff_ids: dict[int, int] = {}
    moved, categories, is_crowd = {}, {}, {}
    for segment in truth.segments:
        category = table[segment.category_id]
        segment_id = 0
        if category is not None:
            segment_id = segment.segment_id if is_thing[category] else stuff_ids.setdefault(category, segment.segment_id)
            categories[segment_id] = category
            is_crowd[segment_id] = segment.is_crowd and is_thing[category]
        moved[segment.segment_id] = segment_id
    ids = truth.segment_ids.copy()
    for old, new in moved.items():
        if old != new:
            ids[truth.segment_ids == old] = new
    return PanopticMap(ids, describe_segments(ids, categories.__getitem__, is_crowd.__getitem__))
