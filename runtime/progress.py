"""The progress that all commands show on stderr, with the time left: a bar, or without a terminal a line now and then."""

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 20.0
"""Without a terminal; so that half a minute never passes without a word."""


class ProgressLines(Progress):
    """Progress for a log file: where rich would show nothing until the end, a line now and then."""

    _last_line = 0.0

    def start(self) -> None:
        """See rich; the first line comes only when there is something to say."""
        self._last_line = time.monotonic()
        super().start()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """See rich."""
        super().advance(task_id, advance)
        self._say(task_id)

    def update(self, task_id: TaskID, **changes) -> None:
        """See rich."""
        super().update(task_id, **changes)
        self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        if time.monotonic() - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = time.monotonic()
        task = next(task for task in self.tasks if task.id == task_id)
        left = "" if task.time_remaining is None else f", {timedelta(seconds=round(task.time_remaining))} left"
        total = "" if task.total is None else f" of {task.total:.0f}"
        self.console.print(f"{task.description}: {task.completed:.0f}{total}{left}")


def progress_bar(console: Console | None = None) -> Progress:
    """A bar with its task's description, count and time left."""
    console = console or Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"))
    return (Progress if console.is_terminal else ProgressLines)(*columns, console=console)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a bar; `total` is needed where they have no length."""
    with progress_bar() as bar:
        task = bar.add_task(description, total=len(items) if total is None else total)
        for item in items:
            yield item
            bar.advance(task)
