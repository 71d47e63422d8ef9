"""A data set that is drawn: finished or not, by one process at a time, and by the settings that its marker names."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.files import InputError, read_json, remove_partial_files, write_json
from runtime.progress import progress_bar

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@dataclass(frozen=True)
class DrawnSet:
    """A folder and what it is to hold. `marker` is the content of the marker file, settings and generator version."""

    root: Path
    title: str
    marker: dict

    @property
    def marker_path(self) -> Path:
        """Written last: where it stands, the data set is whole."""
        return self.root / f"{self.title.lower()}.json"

    def is_finished(self) -> bool:
        """Whether nothing is left to draw.

        Raises:
            InputError: if the folder was begun with other settings, or is one of something else.
        """
        for path in (self.marker_path, self._unfinished_path):
            if not path.exists():
                continue
            found, wanted = read_json(path), self.marker
            if found != wanted:
                usual = "as usual" if isinstance(found, dict) else "?"
                found = found if isinstance(found, dict) else {}
                keys = [k for k in {**wanted, **found} if found.get(k) != wanted.get(k)]
                there = ", ".join(f"{k}={found.get(k, usual)}" for k in keys)
                needed = ", ".join(f"{k}={wanted.get(k, 'as usual')}" for k in keys)
                advice = "remove the folder or choose another"
                raise InputError(f"{self.root}: holds {self.title} with {there}, but {needed} was wanted; {advice}")
            return path == self.marker_path
        if self.root.is_dir() and any(not path.name.startswith(".") for path in self.root.iterdir()):
            missing = f"holds files but no {self.marker_path.name}, so it is no {self.title}"
            raise InputError(f"{self.root}: {missing}; remove the folder or choose another")
        return False

    def write(
        self,
        draw_each: Sequence[Callable[[], None]],
        finish: Callable[[], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Draw, then write the marker; killed at any moment, the next call goes on.

        Args:
            draw_each: each draws one image, unless it is there.
            finish: writes what needs all images.
            progress: called with (images done, images in all) after each.

        Raises:
            InputError: as is_finished.
        """
        self.is_finished()
        with self._only_writer():
            if self.is_finished():  # someone else has drawn it while we waited
                return
            for folder in (self.root, *(p for p in self.root.rglob("*") if p.is_dir())):
                remove_partial_files(folder)
            write_json(self._unfinished_path, self.marker)
            for done, draw in enumerate(draw_each, start=1):
                draw()
                if progress is not None:
                    progress(done, len(draw_each))
            if finish is not None:
                finish()
            write_json(self.marker_path, self.marker)
            self._unfinished_path.unlink()

    def ensure(self, draw_each: Sequence[Callable[[], None]], finish: Callable[[], None] | None = None) -> Path:
        """As write, with a progress bar, where the data set is absent or unfinished; returns its root."""
        if self.is_finished():
            return self.root
        with progress_bar() as bar:
            task = bar.add_task(f"drawing {self.title}", total=len(draw_each))
            self.write(draw_each, finish, lambda done, _: bar.update(task, completed=done))
        return self.root

    @property
    def _unfinished_path(self) -> Path:
        return self.root / f"unfinished-{self.marker_path.name}"

    @contextmanager
    def _only_writer(self) -> Iterator[None]:
        """Wait until no other process draws into the root; the lock goes with the process, however it ends."""
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / ".lock", "a") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
