"""The progress bar that all commands show, on stderr, with the time left."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")


def progress_bar(console: Console | None = None) -> Progress:
    """A bar with its task's description, count and time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"))
    return Progress(*columns, console=console or Console(stderr=True))


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a bar; `total` is needed where they have no length."""
    with progress_bar() as bar:
        yield from bar.track(items, total=total, description=description)
