"""The progress that all commands show on stderr, with the time left: a bar, or without a terminal a line now and then."""

import sys
import threading
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 20.0
"""Without a terminal; so that half a minute never passes without a word."""


class ProgressLines(Progress):
    """Progress for a log file, where rich would show nothing until the end: a line now and then, however long one item takes."""

    def __init__(self, *columns: ProgressColumn, console: Console):
        super().__init__(*columns, console=console)
        self._has_ended = threading.Event()

    def start(self) -> None:
        """See rich."""
        super().start()
        threading.Thread(target=self._say_now_and_then, daemon=True).start()

    def stop(self) -> None:
        """See rich."""
        self._has_ended.set()
        super().stop()

    def _say_now_and_then(self) -> None:
        while not self._has_ended.wait(SECONDS_BETWEEN_LINES):
            for task in self.tasks:
                if not task.finished:
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


def note(text: str) -> None:
    """One line on stderr that says what somebody might not expect."""
    print(f"note: {text}", file=sys.stderr, flush=True)
