"""Which class of ours a class of somebody else's predictions is: by its id, by its name, or by a class map."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from data.class_map import VOID, ClassMap, near, read_class_map
from data.taxonomy import TAXONOMIES, Taxonomy, recognise
from runtime.files import InputError, first_few, shorten

NAMES = "names"
"""As a class map: classes of equal names are the same, and all others are left out."""
NUMBERINGS = {"dataset-ids": "ids", "train-ids": "places"}
"""As a class map: what numbers are, whatever they could be taken for."""


@dataclass(frozen=True)
class ForeignClasses:
    """The classes of a file, a folder or a model.

    place: for messages. names: number -> name, None where nobody says it; all numbers that occur, or that can. numbering:
    whether the numbers are ids of a data set, or places in a list, counted from 0. void: numbers that say of a pixel that it
    has no class.
    """

    place: str
    names: Mapping[int, str | None]
    numbering: Literal["ids", "places"] = "ids"
    void: frozenset[int] = frozenset()


@dataclass(frozen=True)
class ClassMatch:
    """train_ids: their number -> our train id; None: left out. notes: lines for the user."""

    train_ids: Mapping[int, int | None]
    notes: list[str] = field(default_factory=list)


def read_matching(given: str | Path | None, taxonomy: Taxonomy) -> ClassMap | str | None:
    """What --instances-classes or --semantics-classes names: a class map, or one of NAMES and NUMBERINGS; None for nothing.

    Raises:
        InputError: if there is no such map, or it leads to other classes than `taxonomy`.
    """
    if given is None or given == NAMES or given in NUMBERINGS:
        return given
    class_map = read_class_map(given, taxonomy)
    if difference := class_map.target.difference(taxonomy):
        advice = "give a map to these classes, or data of the map's"
        raise InputError(f"class map {given} leads to other classes than are needed, {difference}; {advice}")
    return class_map


def match_classes(
    classes: ForeignClasses, taxonomy: Taxonomy, matching: ClassMap | str | None = None, *, flag: str = "a class map"
) -> ClassMatch:
    """Find our class of each of theirs.

    Without a class map names decide where there are names, else ids: those of our data set, or for places train ids.

    Args:
        matching: of read_matching.
        flag: that gives a class map, for messages.

    Raises:
        InputError: if one is none of ours and nothing says that it is to be left out; the message has the nearest names.
    """
    if isinstance(matching, ClassMap):
        return _by_map(classes, taxonomy, matching)
    if matching in NUMBERINGS:
        classes = replace(classes, names=dict.fromkeys(classes.names), numbering=NUMBERINGS[matching])
    if classes.names and all(name is None for name in classes.names.values()):
        if matching == NAMES:
            advice = f"give {flag} FILE, a class map by number"
            raise InputError(f"{classes.place}: its classes have numbers but no names, so names match none; {advice}")
        return _by_number(classes, taxonomy, flag)
    return _by_name(classes, taxonomy, flag, leaves_out=matching == NAMES)


def _by_map(classes: ForeignClasses, taxonomy: Taxonomy, class_map: ClassMap) -> ClassMatch:
    named = dict(class_map.sources)
    if classes.numbering == "places":
        named = {place: name for place, (_, name) in enumerate(class_map.sources)}
    of_target = {c.name: train_id for train_id, c in enumerate(taxonomy.categories)} | {VOID: None}
    targets = {}
    for number, name in classes.names.items():
        targets[number] = class_map.target_of(number, named.get(number) if name is None else name)
    absent = [_describe(classes, number) for number, to in targets.items() if to is None]
    if absent:
        raise InputError(f"{classes.place}: {class_map.says_nothing_of(absent)}")
    found = {number: of_target[to] for number, to in targets.items()}
    return ClassMatch(found, _notes(classes, found, taxonomy, f"by class map {class_map.name}", named))


def _by_number(classes: ForeignClasses, taxonomy: Taxonomy, flag: str) -> ClassMatch:
    own = taxonomy.dataset_id_to_train_id
    if classes.numbering == "places":
        own = {train_id: train_id for train_id in range(taxonomy.num_classes)}
    strangers = sorted(number for number in classes.names if number not in own)
    if strangers:
        known = ", ".join(f"{number} {taxonomy.categories[train_id].name}" for number, train_id in own.items())
        advice = f"write these numbers, or give {flag}: docs/formats.md"
        raise InputError(f"{classes.place}: class {first_few(strangers)}, but classes are {shorten(known)}; {advice}")
    found = {number: own[number] for number in classes.names}
    return ClassMatch(found, _notes(classes, found, taxonomy, "by number", {}))


def _by_name(classes: ForeignClasses, taxonomy: Taxonomy, flag: str, *, leaves_out: bool) -> ClassMatch:
    own = {plain_name(c.name): train_id for train_id, c in enumerate(taxonomy.categories)}
    by_number = taxonomy.dataset_id_to_train_id if classes.numbering == "ids" else {}
    found = {k: by_number.get(k) if name is None else own.get(plain_name(name)) for k, name in classes.names.items()}
    strangers = [_describe(classes, number) for number, train_id in found.items() if train_id is None]
    if strangers and (not leaves_out or len(strangers) == len(found)):
        of_ours = near(strangers[0], [c.name for c in taxonomy.categories]).replace("which has", "where we have")
        advice = f"give {flag} NAME|FILE, or {flag} {NAMES} to leave them out"
        raise InputError(f"{classes.place}: {first_few(strangers)} is none of our classes{of_ours}; {advice}")
    return ClassMatch(found, _notes(classes, found, taxonomy, "by name", {}))


def class_map_between(given: str | Path, source: Taxonomy, target: Taxonomy) -> ClassMap:
    """The class map that leads from one taxonomy to another: a shipped one, a YAML file, or NAMES.

    Raises:
        InputError: if there is no such map, it leads to other classes, or no names are equal.
    """
    if given != NAMES:
        found = read_matching(given, target)
        if isinstance(found, ClassMap):
            return found
        raise InputError(f"class map {given} says what numbers are, but these classes have names; give {NAMES}, or a class map")
    own = {plain_name(c.name): c for c in target.categories}
    pairs = {}
    for category in source.categories:
        to = own.get(plain_name(category.name))
        fits = to is not None and (category.is_thing or not to.is_thing)
        pairs[category.name] = to.name if fits else VOID
    if set(pairs.values()) == {VOID}:
        theirs, ours = (first_few([c.name for c in t.categories]) for t in (source, target))
        raise InputError(f"none of the classes {theirs} has the name of one of {ours}; give a class map")
    return ClassMap(NAMES, target, pairs)


def joint_taxonomy(semantics: ForeignClasses, instances: ForeignClasses | None) -> Taxonomy:
    """The classes of a result that two models name between them, where no data set says which are wanted.

    They are those of the semantics; a thing is what the instances know by the same name. Known classes are recognised by their
    names, since what is a thing there is known better.

    Raises:
        InputError: if the semantics' classes have no names, or no class of the instances is one of them.
    """
    names = [name for name in semantics.names.values() if name is not None]
    if len(names) < len(semantics.names):
        raise InputError(f"{semantics.place}: its classes have numbers but no names; give --semantics-classes FILE, a class map")
    for known in TAXONOMIES.values():
        if {plain_name(c.name) for c in known.categories} == set(map(plain_name, names)):
            return known
    things = set() if instances is None else {plain_name(name) for name in instances.names.values() if name is not None}
    first = 1 if semantics.numbering == "places" else 0
    categories = [
        {"id": number + first, "name": name, "isthing": int(plain_name(name) in things)}
        for number, name in semantics.names.items()
    ]
    if instances is not None and not any(category["isthing"] for category in categories):
        of_instances = first_few([str(name) for name in instances.names.values()])
        found = f"none of its classes, {first_few(names)}, is one of {instances.place}, {of_instances}"
        raise InputError(
            f"{semantics.place}: {found}; give --instances-classes FILE, a class map that names the result's classes"
        )
    return recognise(Taxonomy.from_coco_categories(semantics.place, categories))


def plain_name(name: str) -> str:
    """A name as tools write it differently: case, underscores, hyphens and spaces do not count."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _describe(classes: ForeignClasses, number: int) -> str:
    return str(number) if classes.names[number] is None else classes.names[number]


def _notes(
    classes: ForeignClasses, found: Mapping[int, int | None], taxonomy: Taxonomy, how: str, named: Mapping[int, str]
) -> list[str]:
    taken, lost = [], []
    for number, train_id in found.items():
        name = named.get(number) if classes.names[number] is None else classes.names[number]
        words = str(number) if name is None else name
        if train_id is None:
            lost.append(words)
        else:
            taken.append(f"{words} for {taxonomy.categories[train_id].name}")
    notes = [f"{classes.place}: classes {how}, {first_few(taken)}"] if taken else []
    if lost:
        notes.append(f"{classes.place}: {len(lost)} of {len(found)} classes are left out, {first_few(lost)}")
    return notes
