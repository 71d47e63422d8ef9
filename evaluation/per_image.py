"""A table of images: what each has found, missed and invented, and of which kinds; CSV, or Parquet where pyarrow is installed."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from data.panoptic_file import ImageId
from evaluation.error_kinds import KINDS, Outcome
from evaluation.panoptic_quality import ImageMatches
from runtime.files import InputError, atomic_path

KINDS_OF = {"truth": [k for k in KINDS if k not in ("in void", "invented")], "prediction": [k for k in KINDS if k != "missed"]}
COUNTS = ("tp", "fp", "fn", *(f"{side} {kind}" for side, kinds in KINDS_OF.items() for kind in kinds))
COLUMNS = ("image", "pq", "sq", "rq", *COUNTS, "seconds")
SUFFIXES = (".csv", ".parquet")
ROWS_AT_ONCE = 1000
Values = Sequence[object]


@contextmanager
def write_per_image(path: Path | None) -> Iterator[Callable[[Values], None] | None]:
    """Write a table line by line, in memory that does not grow, whole or not at all.

    Args:
        path: of one of SUFFIXES. None: nothing is written.

    Yields:
        What writes the line of an image, with the values of COLUMNS; None without a path.

    Raises:
        InputError: if Parquet is wanted, but pyarrow is missing.
    """
    if path is None:
        yield None
        return
    writer = _write_parquet if path.suffix.lower() == ".parquet" else _write_csv
    with atomic_path(path) as partial, writer(partial) as write:
        yield write


def row_of(image_id: ImageId, matches: ImageMatches, outcomes: tuple[Outcome, ...], seconds: float) -> list[object]:
    """The values of COLUMNS; qualities are None where an image has no segments.

    Args:
        seconds: that reading and comparing the image took.
    """
    means = matches.means or (None, None, None)
    counts = Counter((outcome.side, outcome.kind) for outcome in outcomes)
    kinds = [counts[side, kind] for side, kinds in KINDS_OF.items() for kind in kinds]
    return [str(image_id), *means, len(matches.matches), len(matches.invented), len(matches.missed), *kinds, seconds]


@contextmanager
def _write_csv(path: Path) -> Iterator[Callable[[Values], None]]:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        yield writer.writerow


@contextmanager
def _write_parquet(path: Path) -> Iterator[Callable[[Values], None]]:
    pyarrow, parquet = _import_pyarrow()
    kinds = {"image": pyarrow.string()} | dict.fromkeys(COUNTS, pyarrow.int64())
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float64())) for name in COLUMNS])
    waiting: list[Values] = []
    with parquet.ParquetWriter(path, schema) as file:

        def flush() -> None:
            if waiting:
                file.write_table(pyarrow.table(dict(zip(COLUMNS, map(list, zip(*waiting)))), schema=schema))
                waiting.clear()

        def write(values: Values) -> None:
            waiting.append(values)
            if len(waiting) >= ROWS_AT_ONCE:
                flush()

        yield write
        flush()


def _import_pyarrow() -> tuple:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise InputError("a Parquet table needs pyarrow, which is not installed; pip install pyarrow, or take .csv") from None
    return pyarrow, pyarrow.parquet
