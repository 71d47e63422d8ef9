"""Images and videos that a path names, without truth, as a split: the frames of a video are images, too."""

import hashlib
from glob import glob
from pathlib import Path

import numpy as np

from data.images import IMAGE_SUFFIXES, path_to_image_id
from data.split import FileSplit
from data.videos import VIDEO_SUFFIXES, FrameReader, count_frames
from runtime.files import InputError, file_digest


def find_image_files(place: str | Path) -> dict[str, Path]:
    """The images and videos that a file, a folder (searched recursively) or a glob names: unique id -> path, sorted by path.

    An id is the file's name without suffix; where two would be equal, all are paths below the folder that all files share, and
    keep their suffix where even those are equal.

    Raises:
        InputError: if there is none.
    """
    path = Path(place).expanduser()
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    if path.is_file():
        return {path_to_image_id(path): path}
    found = path.rglob("*") if path.is_dir() else map(Path, glob(str(path), recursive=True))
    paths = sorted(p for p in found if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file())
    if not paths:
        needed = f"give a file, a folder or a glob with one of {', '.join(suffixes)}"
        raise InputError(f"{place}: no images there; {needed}")
    parents = {p.parent for p in paths}
    top = path if path.is_dir() else min(parents, key=lambda p: len(p.parts))
    while not all(p.is_relative_to(top) for p in parents):
        top = top.parent
    below = [p.relative_to(top) for p in paths]
    choices = (
        [path_to_image_id(p) for p in paths],
        [(p.parent / path_to_image_id(p)).as_posix() for p in below],
        [p.as_posix() for p in below],
    )
    # Compared without case, as some file systems do.
    names = next(names for names in choices if len({name.lower() for name in names}) == len(names) or names is choices[-1])
    return dict(zip(names, paths, strict=True))


class ImageFiles(FileSplit):
    """A split of the images and video frames of a path; ids of frames are `<video>/000000`, counted from 0.

    A video that cannot be read, or not to its end, is one of `problems`; the frames that can be decoded are images all the same.

    Raises:
        InputError: as find_image_files, and if there is nothing but broken videos.
    """

    def __init__(self, place: str | Path):
        self.name = str(place)
        self.files = find_image_files(place)
        self.videos = {name: path for name, path in self.files.items() if path.suffix.lower() in VIDEO_SUFFIXES}
        self._readers = {name: FrameReader(path) for name, path in self.videos.items()}
        self._video_digests: dict[str, str] = {}
        self._items: list[tuple[str, int | None]] = []
        self.problems: list[str] = []
        for name, path in self.files.items():
            if name not in self.videos:
                self._items.append((name, None))
                continue
            try:
                num_frames, problem = count_frames(path)
            except InputError as error:
                num_frames, problem = 0, str(error)
            self._items += [(name, k) for k in range(num_frames)]
            if problem is not None:
                self.problems.append(problem)
        if not self._items:
            raise InputError(self.problems[0])

    def __len__(self) -> int:
        return len(self._items)

    def image_path(self, index: int) -> Path:
        """The image's file, or the video that the frame is of."""
        return self.files[self._items[index][0]]

    def image_id(self, index: int) -> str:
        """See Split."""
        name, frame = self._items[index]
        return name if frame is None else f"{name}/{frame:06d}"

    def video_of(self, index: int) -> str | None:
        """See Split."""
        name, frame = self._items[index]
        return None if frame is None else name

    def file_name(self, index: int) -> str:
        """See Split."""
        return super().file_name(index) if self.video_of(index) is None else f"{self.image_id(index)}.png"

    def image(self, index: int) -> np.ndarray:
        """See Split."""
        name, frame = self._items[index]
        return super().image(index) if frame is None else self._readers[name].read(frame)

    def size(self, index: int) -> tuple[int, int]:
        """See Split."""
        return super().size(index) if self.video_of(index) is None else self.image(index).shape[:2]

    def digest(self, index: int) -> str:
        """See Split."""
        name, frame = self._items[index]
        if frame is None:
            return super().digest(index)
        if name not in self._video_digests:
            self._video_digests[name] = file_digest(self.files[name])
        return hashlib.sha256(f"{self._video_digests[name]}-{frame}".encode()).hexdigest()[:16]
