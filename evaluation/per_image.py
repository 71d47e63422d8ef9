"""A table of images: what each has found, missed and invented, and of which kinds."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data.panoptic_file import ImageId
from evaluation.error_kinds import KINDS, Outcome
from evaluation.panoptic_quality import ImageMatches, PanopticQuality
from runtime.files import atomic_path

COLUMNS = ("image", "pq", "sq", "rq", "tp", "fp", "fn", *(f"{side} {kind}" for side in ("truth", "prediction") for kind in KINDS))
COLUMNS = ("image", "pq", "sq", "rq", "tp", "fp", "fn", *(f"{side} {kind}" for side in ("truth", "prediction") for kind in KINDS))
Row = Callable[[ImageId, ImageMatches, tuple[Outcome, ...]], None]


@contextmanager
def write_per_image(path: Path | None) -> Iterator[Row | None]:
    """Write a CSV file line by line, whole or not at all.

    Args:
        path: None: nothing is written.

    Yields:
        What writes the line of an image; None without a path.
    """
    if path is None:
        yield None
        return
    with atomic_path(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)

        def write(image_id: ImageId, matches: ImageMatches, outcomes: tuple[Outcome, ...]) -> None:
            writer.writerow(row_of(image_id, matches, outcomes))

        yield write


def row_of(image_id: ImageId, matches: ImageMatches, outcomes: tuple[Outcome, ...]) -> list[object]:
    """The values of COLUMNS; empty where an image has no segments."""
    quality = PanopticQuality()
    quality.add_matches(matches)
    of_classes = [counts.quality for counts in quality.counts.values()]
    means = [sum(values) / len(of_classes) for values in zip(*of_classes)] if of_classes else ["", "", ""]
    counts = Counter((outcome.side, outcome.kind) for outcome in outcomes)
    kinds = [counts[side, kind] for side in ("truth", "prediction") for kind in KINDS]
    return [image_id, *means, len(matches.matches), len(matches.invented), len(matches.missed), *kinds]
