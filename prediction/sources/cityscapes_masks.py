"""Cityscapes' form of instance results: a txt file an image, a line an object, `mask.png label_id score`, and binary PNGs.

cityscapesscripts/evaluation/evalInstanceLevelSemanticLabeling.py: paths are relative to the txt file, ids are label ids.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.class_matching import ForeignClasses
from data.images import open_image
from data.panoptic_file import leaves_folder
from data.split import Split
from prediction.sources.foreign import FolderOfFiles, FoundObject, cut_out
from runtime.files import InputError, digest_of, file_digest, shorten

SUFFIX = ".txt"


class CityscapesMasks:
    """The masks of such a folder; every image needs its txt file, which is empty where nothing was found.

    Raises:
        InputError: as FolderOfFiles, and if a line is none.
    """

    min_score = None
    needs_pixels = False

    def __init__(self, folder: Path, split: Split):
        self._files = FolderOfFiles(folder, (SUFFIX,), split)
        self.name, self.notes = str(folder), self._files.notes
        used = {number for path in self._files.files.values() for _, number, _ in read_lines(path)}
        self.classes = ForeignClasses(str(folder), dict.fromkeys(sorted(used)))

    def fingerprint(self, image_id: str) -> str:
        """See ForeignInstances."""
        path = self._path(image_id)
        return digest_of(file_digest(path), [file_digest(mask) for mask, _, _ in read_lines(path)])

    def objects(self, image_id: str, image: np.ndarray) -> Iterator[FoundObject]:
        """See ForeignInstances."""
        for path, number, score in read_lines(self._path(image_id)):
            with open_image(path) as opened:
                mask = np.asarray(opened)
            if mask.shape != image.shape[:2]:
                needed = "x".join(map(str, image.shape[:2]))
                raise InputError(f"{path}: mask is {'x'.join(map(str, mask.shape))}, but a grey one of {needed} was needed")
            if (cut := cut_out(mask != 0)) is not None:
                yield FoundObject(number, score, *cut)

    def _path(self, image_id: str) -> Path:
        path = self._files.files.get(image_id)
        if path is None:
            raise InputError(f"{self._files.folder}: no txt file of image {image_id!r}; write one, empty if nothing was found")
        return path


def is_one(path: Path | None) -> bool:
    """Whether a file's first line begins with the name of a PNG, as no other form's does."""
    if path is None:
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        words = file.readline(10_000).rsplit(maxsplit=2)
    return len(words) == 3 and words[0].lower().endswith(".png")


def read_lines(path: Path) -> list[tuple[Path, int, float]]:
    """(path of the mask, label id, score) of each line.

    Raises:
        InputError: if a line is none, or its mask lies outside of the folder above the txt file's.
    """
    found = []
    for k, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        place, words = f"{path}: line {k}, {shorten(repr(line.strip()), 60)}", line.rsplit(maxsplit=2)
        try:
            name, number, score = words[0], int(words[1]), float(words[2])
        except (IndexError, ValueError):
            raise InputError(f"{place}: `mask.png label_id score` was needed; write it again") from None
        # The benchmark's own example puts masks beside the txt file's folder, so one step up is allowed, and no further.
        if leaves_folder(name.removeprefix("../")) or not 0 <= score <= 1:
            raise InputError(f"{place}: a mask in its folder and a score of 0 to 1 were needed; write it again")
        found.append((path.parent / name, number, score))
    return found
