"""COCO's JSON files, whoever wrote them: a list of entries, each refused in one line where it lacks what is read of it."""

from collections.abc import Mapping
from pathlib import Path
from types import UnionType

from runtime.files import InputError, shorten

FLAGS = {"0": False, "1": True, "false": False, "true": True}
LARGEST_ID = 2**53
"""JSON readers that know only floating-point numbers would round larger ids."""


def is_whole(value: object) -> bool:
    """Whether a value is a whole number that every reader of JSON reads as the same."""
    return type(value) is int and abs(value) <= LARGEST_ID


def read_flag(entry: Mapping, name: str, default: bool | None = None) -> bool:
    """The flag `name` of an entry: 0, 1, true or false, as numbers or as text, which labelling tools write.

    Args:
        default: where the entry has none; None: it must have one.

    Raises:
        InputError: if it is absent, null or anything else: Python takes the text "0" for true.
    """
    if name not in entry and default is not None:
        return default
    value = entry.get(name)
    found = FLAGS.get(str(value).lower()) if isinstance(value, int | str) else None
    if found is None:
        what = f"has `{name}` {shorten(repr(value), 40)}" if name in entry else f"has no `{name}`"
        raise InputError(f"{shorten(entry, 80)} {what}, but 1 (true) or 0 (false) is needed")
    return found


def read_entries(
    place: str | Path, content: object, kind: str, fields: Mapping[str, type | UnionType], advice: str
) -> list[dict]:
    """The list `kind` of a COCO JSON, whose entries have all fields, of these types; a bool is no number.

    Args:
        place: the file, for the message.
        content: of the file; or the list itself, of a result file.
        kind: images, annotations, categories or results.
        advice: what to do.

    Raises:
        InputError: if there is no such list, or an entry lacks a field or has it of another type.
    """
    entries = content if kind == "results" else content.get(kind) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise InputError(f"{place}: holds no list of `{kind}`; {advice}")
    for k, entry in enumerate(entries):
        check_entry(place, k, kind, entry, fields, advice)
    return entries


def check_entry(
    place: str | Path, number: int, kind: str, entry: object, fields: Mapping[str, type | UnionType], advice: str
) -> None:
    """Refuse an entry of a list that lacks a field or has it of another type; arguments as read_entries.

    Args:
        number: of the entry, counted from 0.
    """
    for name, types in fields.items():
        if not isinstance(entry, dict) or name not in entry:
            raise InputError(f"{place}: entry {number} of `{kind}` lacks `{name}`; {advice}")
        if not isinstance(entry[name], types) or isinstance(entry[name], bool):
            raise InputError(f"{place}: entry {number} of `{kind}` has `{name}` {shorten(repr(entry[name]), 60)}; {advice}")
