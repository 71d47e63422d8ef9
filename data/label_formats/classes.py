"""Which classes the new data set has: what the source declares, what is thing and what stuff, and what is left unlabelled."""

import difflib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.coco_json import is_whole
from data.label_formats.labels import LabelClass
from data.taxonomy import VOID_TRAIN_ID, Category, Taxonomy, read_color, recognise
from runtime.files import InputError, first_few, read_yaml, shorten

THINGS, STUFF, VOID = "things", "stuff", "void"
LONGEST_LIST = 380
"""Characters of the names in a message."""


@dataclass(frozen=True)
class ClassChoice:
    """What the user says of classes, by name. `others`: things, stuff or void, of all that nobody says anything of."""

    things: Sequence[str] = ()
    stuff: Sequence[str] = ()
    void: Sequence[str] = ()
    others: str | None = None

    def __post_init__(self):
        if self.others not in (None, THINGS, STUFF, VOID):
            raise InputError(f"--others {self.others!r}, but one of {THINGS}, {STUFF}, {VOID} was needed")
        named = [*self.things, *self.stuff, *self.void]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise InputError(f"class {first_few(twice)} is named twice; name each once, under --things, --stuff or --void")


def choose_taxonomy(classes: Sequence[LabelClass], choice: ClassChoice) -> Taxonomy:
    """The classes of the new data set: all that are not void; what the user says goes before what the format does.

    Ids are the source's where all have one, else 1, 2, ... in its order.

    Raises:
        InputError: if nobody says of a class whether it is things or stuff, a name is unknown, or no class is left.
    """
    names = [c.name for c in classes]
    _refuse_unknown([*choice.things, *choice.stuff, *choice.void], names)
    kinds = {c.name: _kind_of(c, choice) for c in classes}
    open_names = [name for name in names if kinds[name] is None]
    if open_names:
        needed = "name each under --things NAME ..., --stuff NAME ... or --void NAME ..., or say --others things, stuff or void"
        raise InputError(f"nobody says whether {_as_arguments(open_names)} are things or stuff; {needed}")
    kept = [c for c in classes if kinds[c.name] != VOID]
    if not kept:
        raise InputError("all classes are void; leave one under --things or --stuff")
    if len(kept) > VOID_TRAIN_ID:
        raise InputError(f"{len(kept)} classes, but 1 to {VOID_TRAIN_ID} fit; name those to keep, and say --others void")
    ids = [c.dataset_id for c in kept]
    if None in ids or len(set(ids)) < len(ids):
        ids = list(range(1, len(kept) + 1))
    strangers = [k for k in ids if not is_whole(k)]
    if strangers:
        raise InputError(f"class id {shorten(strangers[0], 40)}, but a whole number was needed; number the classes again")
    categories = (
        Category(c.name, k, kinds[c.name] == THINGS, read_color(list(c.color) if c.color else None, k))
        for c, k in zip(kept, ids, strict=True)
    )
    return recognise(Taxonomy("imported", tuple(categories)))


def read_classes(path: Path, classes: Sequence[LabelClass]) -> tuple[Taxonomy, list[str]]:
    """The classes that a YAML file lists, as `categories` of a COCO panoptic JSON, under `classes`.

    Further keys: `void`, a list of names that are left unlabelled, and `others: void`, which says it of all that are not named.

    Returns:
        The taxonomy, and those of its classes that the source does not have.

    Raises:
        InputError: if it is no such file, or a class of the source is neither listed nor void.
    """
    content = read_yaml(path)
    entries, void, others = (content.get(k) if isinstance(content, dict) else None for k in ("classes", VOID, "others"))
    if not isinstance(entries, list) or not isinstance(void or [], list) or others not in (None, VOID):
        needed = "`classes`, a list of id, name and isthing; it may have `void`, a list of names, and `others: void`"
        raise InputError(f"{path}: is no list of classes; it needs {needed}")
    strangers = set(content) - {"classes", VOID, "others"}
    if strangers:
        raise InputError(f"{path}: has {first_few(sorted(map(str, strangers)))}, but only classes, void and others are known")
    try:
        taxonomy = recognise(Taxonomy.from_coco_categories("imported", entries))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    listed = {c.name for c in taxonomy.categories}
    names = [c.name for c in classes]
    is_void = {c.name: c.is_void for c in classes}
    left = [name for name in names if name not in listed and name not in (void or []) and not is_void[name]]
    if left and others != VOID:
        near = difflib.get_close_matches(left[0], listed, n=3)
        meant = f" (near: {first_few(near)})" if near else ""
        raise InputError(f"{path}: says nothing of {first_few(left)}{meant}; add them to `classes` or `void`, or `others: void`")
    return taxonomy, sorted(listed - set(names))


def _kind_of(label_class: LabelClass, choice: ClassChoice) -> str | None:
    for kind, named in ((THINGS, choice.things), (STUFF, choice.stuff), (VOID, choice.void)):
        if label_class.name in named:
            return kind
    if label_class.is_void:
        return VOID
    if label_class.is_thing is None:
        return choice.others
    return THINGS if label_class.is_thing else STUFF


def _as_arguments(names: Sequence[str]) -> str:
    """As many names as a line holds, as a shell takes them."""
    shown: list[str] = []
    for name in names:
        quoted = shlex.quote(shorten(name, 80))
        if shown and sum(map(len, shown)) + len(quoted) > LONGEST_LIST:
            return f"{' '.join(shown)} and {len(names) - len(shown)} more"
        shown.append(quoted)
    return " ".join(shown)


def _refuse_unknown(given: Sequence[str], names: Sequence[str]) -> None:
    unknown = [name for name in given if name not in names]
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=3, cutoff=0.4)
        known = f"near: {first_few(near)}" if near else f"there are {first_few(list(names))}"
        raise InputError(f"class {first_few(unknown)} is not in the source; {known}; write it as there")
