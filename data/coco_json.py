"""COCO's JSON files, whoever wrote them: a list of entries, each refused in one line where it lacks what is read of it."""

from collections.abc import Mapping
from pathlib import Path
from types import UnionType

from runtime.files import InputError


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
        for name, types in fields.items():
            if not isinstance(entry, dict) or name not in entry:
                raise InputError(f"{place}: entry {k} of `{kind}` lacks `{name}`; {advice}")
            if not isinstance(entry[name], types) or isinstance(entry[name], bool):
                raise InputError(f"{place}: entry {k} of `{kind}` has `{name}` {str(entry[name])[:60]!r}; {advice}")
    return entries
