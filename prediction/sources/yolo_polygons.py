"""A folder of txt files as ultralytics' save_txt writes them: a line an object, `class x1 y1 x2 y2 ... [score]`, shares of 1.

https://docs.ultralytics.com/datasets/segment/ (the labels) and ultralytics/engine/results.py, Results.save_txt (save_conf adds
the score, and tracking an id behind it). Classes are places in the model's list of names.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.class_matching import ForeignClasses
from data.run_lengths import decode_crop
from data.split import Split
from prediction.sources.foreign import FolderOfFiles, FoundObject
from runtime.files import InputError, file_digest, read_yaml, shorten

SUFFIX = ".txt"
LONGEST_LINE = 10_000_000
"""Characters; a polygon of a thousand points has 20,000."""


class YoloPolygons:
    """The polygons of such a folder; an image without a file has no objects, as the tool writes none then.

    Args:
        names_yaml: a YAML with `names`, such as the data set's; it says what the classes are called.

    Raises:
        InputError: as FolderOfFiles, and if a line is no polygon.
    """

    min_score = None
    needs_pixels = False

    def __init__(self, folder: Path, split: Split, names_yaml: Path | None = None):
        self._files = FolderOfFiles(folder, (SUFFIX,), split)
        self.name = str(folder)
        self.notes = list(self._files.notes)
        used, has_scores = set(), False
        for path in self._files.files.values():
            for number, score, _ in read_lines(path):
                used.add(number)
                has_scores = has_scores or score is not None
        if used and not has_scores:
            self.notes.append(f"{folder}: no line has a score, so each object counts with 1; predict with save_conf=True")
        names = {} if names_yaml is None else read_names(names_yaml)
        self.classes = ForeignClasses(str(folder), {number: names.get(number) for number in sorted(used)}, "places")

    def fingerprint(self, image_id: str) -> str:
        """See ForeignInstances."""
        path = self._files.files.get(image_id)
        return "no objects" if path is None else file_digest(path)

    def objects(self, image_id: str, image: np.ndarray) -> Iterator[FoundObject]:
        """See ForeignInstances."""
        path, (height, width) = self._files.files.get(image_id), image.shape[:2]
        for number, score, shares in [] if path is None else read_lines(path):
            pixels = (np.array(shares).reshape(-1, 2) * (width, height)).ravel().tolist()
            try:
                found = decode_crop([pixels], (height, width), margin=1, may_be_shares=False)
            except InputError as error:
                raise InputError(f"{path}: {error}") from None
            if found is not None:
                yield FoundObject(number, 1.0 if score is None else score, *found)


def read_lines(path: Path) -> Iterator[tuple[int, float | None, list[float]]]:
    """(class, score or None, x and y in shares of 1 in turn) of each line.

    Raises:
        InputError: if a line is none.
    """
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for k, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), ""), start=1):
            words = line.split()
            if not words:
                continue
            place = f"{path}: line {k}, {shorten(repr(line.strip()), 60)}"
            try:
                numbers = [float(word) for word in words]
            except ValueError:
                raise InputError(f"{place}: `class x1 y1 x2 y2 ... [score]` in numbers was needed; export it again") from None
            number, rest = numbers[0], numbers[1:]
            score = rest.pop() if len(rest) % 2 else None
            if len(rest) == 4:
                raise InputError(f"{place}: is a box, but a polygon was needed; predict with a segmentation model")
            if not number.is_integer() or not 0 <= number < 2**31:
                raise InputError(f"{place}: class {words[0]}, but a whole number from 0 on was needed; export it again")
            if len(rest) < 6 or not all(-1 <= share <= 2 for share in rest):
                raise InputError(f"{place}: three points or more in shares of the image's sides were needed; export it again")
            if score is not None and not 0 <= score <= 1:
                raise InputError(f"{place}: score {score:g}, but 0 to 1 is needed; predict without tracking, which appends ids")
            yield int(number), score, rest


def read_names(path: Path) -> dict[int, str]:
    """Place -> name of the `names` of a YAML, a list or a mapping, as ultralytics' data sets have them.

    Raises:
        InputError: if it has none.
    """
    content = read_yaml(path)
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(type(k) is int and isinstance(name, str) for k, name in names.items()):
        raise InputError(f"{path}: has no `names`, a list of class names or `0: name` for each; give the data set's YAML")
    return names
