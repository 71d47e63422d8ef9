"""Panoptic quality of the images that share a value of a table's column: by weather, camera, speed, whatever the user knows.

The table is a CSV file (or Parquet, where pyarrow is installed) with one line an image: a column `image`, which names it as the
truth does (by id, file name, or file name without suffix: see data/image_names.py), and any others.
"""

import csv
import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.image_names import ImageNames
from data.panoptic_file import ImageId
from data.taxonomy import Taxonomy
from evaluation.panoptic_quality import GROUPS, ImageMatches, PanopticQuality
from runtime.files import InputError, first_few, shorten

IMAGE_COLUMN = "image"
NO_VALUE = "(none)"
"""Of images without a line in the table, or with an empty cell."""
MOST_NUMBERS = 10
"""A column of numbers with more different values is cut into quartiles."""
NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*|(?=\.[0-9]))(\.[0-9]*)?([eE][+-]?[0-9]+)?")
MOST_TEXTS = 100
"""A column with more different texts, such as file names, has no slices."""


@dataclass(frozen=True)
class ImageTable:
    """columns: name -> what each line holds, stripped, as text. images: the image that each line names."""

    path: Path
    images: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]


def read_image_table(path: Path) -> ImageTable:
    """Read a table of images: Parquet by the suffix `.parquet`, else CSV, separated by commas, semicolons or tabs.

    Raises:
        InputError: if the file is missing, no table, lacks the column `image` or any other, or has a line that does not fit;
            for Parquet if pyarrow is not installed.
    """
    path = Path(path)
    header, rows = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    if repeated:
        raise InputError(f"{path}: column {repeated[0]!r} occurs twice; give each column its own name")
    if IMAGE_COLUMN not in header:
        found = f"its columns are {first_few(header)}" if header else "the file is empty"
        raise InputError(f"{path}: no column {IMAGE_COLUMN!r}; {found}; name the column of image ids or file names so")
    if not any(name and name != IMAGE_COLUMN for name in header):
        raise InputError(f"{path}: only the column {IMAGE_COLUMN!r}; add one with a value for each image, such as its weather")
    if not rows:
        raise InputError(f"{path}: a header, but no line below it; write a line for each image")
    columns = dict(zip(header, (tuple(value.strip() for value in column) for column in zip(*rows, strict=True)), strict=True))
    images = columns.pop(IMAGE_COLUMN)
    columns.pop("", None)  # the index that pandas writes
    return ImageTable(path, images, columns)


def _read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first_line = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=first_line.count)  # of none the comma
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            rows = []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    found = f"line {reader.line_num} has {len(row)} values, but the header has {len(header)}"
                    raise InputError(f"{path}: {found}; put values that hold a {delimiter!r} between double quotes")
                rows.append(row)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise InputError(f"{path}: no such file; give the CSV file with a line for each image") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no UTF-8 text; save the table as CSV in UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num} is no CSV ({shorten(error)}); save the table as CSV again") from None
    return header, rows


def _read_parquet(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InputError(f"{path}: Parquet needs pyarrow; `pip install pyarrow`, or save the table as CSV") from None
    try:
        table = parquet.ParquetFile(path).read()
        columns = [["" if value is None else str(value) for value in column.to_pylist()] for column in table.columns]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the Parquet file with a line for each image") from None
    except (ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: is no readable Parquet file ({shorten(error)}); write it again") from None
    return list(table.column_names), [list(row) for row in zip(*columns)]


@dataclass
class Slices:
    """Collects PanopticQuality for each value of each column, in memory that does not grow with the number of images.

    values: column -> image id -> name of the slice. names: column -> its slices in order: numbers by size, texts by alphabet,
    `(none)` last. notes: lines to print about images and columns that were left out.
    """

    taxonomy: Taxonomy
    values: Mapping[str, Mapping[ImageId, str]]
    names: Mapping[str, Sequence[str]]
    notes: tuple[str, ...] = ()
    quality: dict[tuple[str, str], PanopticQuality] = field(default_factory=dict)
    num_images: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, image_id: ImageId, matches: ImageMatches) -> None:
        """Count one image in its slice of each column. Raises InputError if it was not among the images of slice_images."""
        for column, values in self.values.items():
            if image_id not in values:
                raise InputError(f"image {image_id!r} is none of those that were sliced; slice the images of the same truth")
            key = (column, values[image_id])
            self.quality.setdefault(key, PanopticQuality()).add_matches(matches)
            self.num_images[key] = self.num_images.get(key, 0) + 1

    def scores(self) -> dict[str, dict[str, dict]]:
        """{column: {slice: PanopticQuality.scores and `num_images`}}, slices in the order of `names`, without empty ones."""
        found = {column: {} for column in self.names}
        for column, names in self.names.items():
            for name in names:
                if (quality := self.quality.get((column, name))) is not None:
                    found[column][name] = {"num_images": self.num_images[column, name]} | quality.scores(self.taxonomy)
        return found


def slice_images(
    table: ImageTable,
    images: Mapping[ImageId, Iterable[ImageId]],
    taxonomy: Taxonomy,
    wanted: Sequence[str] | None = None,
) -> Slices:
    """Give each image of a truth its slice in each column.

    Numbers with more than MOST_NUMBERS different values are cut at the quartiles of the truth's images; a slice is then named by
    the lowest and the highest value in it. Images of the table that the truth lacks are left out, and images of the truth without
    a line are `(none)`; the notes count both.

    Args:
        images: ids of the truth's images, each with the other names that it goes by, such as its file name.
        wanted: columns; default are all but those with more than MOST_TEXTS different texts.

    Raises:
        InputError: if none of the table's images is in the truth, two lines are of one image, a line could be of several images,
            or a wanted column is absent or has too many texts.
    """
    known = ImageNames({image_id: (image_id, *others) for image_id, others in images.items()})
    line_of: dict[ImageId, int] = {}
    unknown = []
    for line, name in enumerate(table.images):
        try:
            image_id = known.find(name)
        except InputError as error:
            raise InputError(f"{table.path}: {error}") from None
        if image_id is None:
            unknown.append(name)
        elif line_of.setdefault(image_id, line) != line:
            first = table.images[line_of[image_id]]
            raise InputError(f"{table.path}: lines {first!r} and {name!r} are of image {image_id!r}; keep one line an image")
    if not line_of:
        found = f"none of its images ({first_few(table.images)}) is in the truth, which has {first_few(list(images))}"
        raise InputError(f"{table.path}: {found}; name the images as the truth does")
    notes = []
    if unknown:
        images_are = "image is" if len(unknown) == 1 else "images are"
        notes.append(f"{table.path}: {len(unknown)} {images_are} not in the truth and left out: {first_few(unknown)}")
    if absent := [image_id for image_id in images if image_id not in line_of]:
        images_have = "image of the truth has" if len(absent) == 1 else "images of the truth have"
        notes.append(f"{table.path}: {len(absent)} {images_have} no line, counted under {NO_VALUE!r}: {first_few(absent)}")
    missing = [name for name in wanted or () if name not in table.columns]
    if missing:
        raise InputError(f"{table.path}: no column {missing[0]!r}; its columns are {first_few(list(table.columns))}")
    values, names = {}, {}
    for column in table.columns if wanted is None else dict.fromkeys(wanted):
        cells = {image_id: table.columns[column][line] for image_id, line in line_of.items()}
        slice_of, ordered = _name_slices(cells.values())
        if len(ordered) - 1 > MOST_TEXTS:
            found = f"column {column!r} has {len(ordered) - 1} different texts, but slices are made of at most {MOST_TEXTS}"
            if wanted is not None:
                raise InputError(f"{table.path}: {found}; group them in a new column")
            notes.append(f"{table.path}: {found}; it is left out")
            continue
        values[column] = {k: slice_of[cells[k]] if k in cells else NO_VALUE for k in images}
        names[column] = tuple(ordered)
    if not values:
        raise InputError(f"{table.path}: each column has more than {MOST_TEXTS} different texts; group them in a new column")
    return Slices(taxonomy, values, names, tuple(notes))


def _name_slices(cells: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """The slice of each cell, and the slices in order, NO_VALUE last."""
    cells = list(cells)
    texts = [cell for cell in cells if not _is_empty(cell)]
    numbers = [_read_number(text) for text in texts]
    empty = {cell: NO_VALUE for cell in cells if _is_empty(cell)}
    if None in numbers:
        return empty | {text: text for text in texts}, [*sorted(set(texts) - {NO_VALUE}), NO_VALUE]
    name_of = {number: name for group in _group_numbers(numbers) for number, name in _name_range(group).items()}
    return empty | {text: name_of[_read_number(text)] for text in texts}, [*dict.fromkeys(name_of.values()), NO_VALUE]


def _group_numbers(numbers: Sequence[float]) -> list[list[float]]:
    """The different numbers, ascending: each alone, or of many those of each quarter together."""
    numbers = sorted(numbers)
    different = sorted(set(numbers))
    if len(different) <= MOST_NUMBERS:
        return [[number] for number in different]
    quarters: dict[int, list[float]] = {}
    for number in different:  # equal numbers are in the quarter of the first of them
        quarters.setdefault(4 * bisect_left(numbers, number) // len(numbers), []).append(number)
    return list(quarters.values())


def _name_range(group: Sequence[float]) -> dict[float, str]:
    low, high = _format_number(group[0]), _format_number(group[-1])
    return dict.fromkeys(group, low if len(group) == 1 else f"{low} to {high}")


def _format_number(number: float) -> str:
    """As short as possible with all its digits."""
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def _is_empty(cell: str) -> bool:
    return not cell or cell.lower() == "nan"


def _read_number(text: str) -> float | None:
    """None of a text, and of digits behind a zero, which name something, as 0042 does."""
    if not NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def format_slices(scores: Mapping[str, Mapping[str, Mapping]]) -> str:
    """The scores of all slices for people: PQ in percent of all classes, things and stuff, and the number of images."""
    width = max([len(name) + 2 for slices in scores.values() for name in slices] + [len(column) for column in scores] + [16])
    lines = []
    for column, slices in scores.items():
        lines.append(f"{column:{width}s} " + " ".join(f"{group:>6s}" for group in GROUPS) + f" {'images':>7s}")
        for name, entry in slices.items():
            percents = ["n/a" if entry[group]["pq"] is None else f"{100 * entry[group]['pq']:.2f}" for group in GROUPS]
            lines.append(f"  {name:{width - 2}s} " + " ".join(f"{text:>6s}" for text in percents) + f" {entry['num_images']:7d}")
    return "\n".join(lines)
