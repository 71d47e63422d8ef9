"""Images and videos that a path names, without truth, as a split: the frames of a video are images, too."""

import fnmatch
import hashlib
import os
import re
from glob import glob
from pathlib import Path

import numpy as np

from data.image_names import ImageNames
from data.images import IMAGE_SUFFIXES, VIDEO_SUFFIXES, path_to_image_id, unique_image_ids
from data.panoptic_file import ImageId, PanopticFile
from data.split import FileSplit
from data.videos import FrameReader, count_frames
from runtime.files import SYSTEM_NAMES, InputError, file_digest, is_hidden, is_plain_name, shorten, walk_files


def find_image_files(place: str | Path) -> dict[str, Path]:
    """The images and videos that a file, a folder or a glob names: image id -> path, sorted by path.

    A folder is searched as walk_files does; ids are those of unique_image_ids.

    Raises:
        InputError: if there is none.
    """
    try:
        path = Path(place).expanduser()
    except RuntimeError as error:  # of a user that is not known
        raise InputError(f"{place}: {error}; give a path without `~`") from None
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    if path.is_file():
        return {path_to_image_id(path): path}
    if path.is_dir():
        top, below = path, walk_files(path, suffixes)
    else:
        top, below = _glob(str(path), suffixes)
    if not below:
        needed = f"give a file, a folder or a glob with one of {', '.join(suffixes)}"
        raise InputError(f"{place}: no images there; {needed}")
    return dict(zip(unique_image_ids(below), (top / name for name in below), strict=True))


def find_images(place: str | None, truth: PanopticFile) -> dict[ImageId, Path]:
    """The file of each image of a panoptic file that has one: by the image id, or by the file name that the JSON gives it.

    Args:
        place: as find_image_files. None: no image has one.

    Raises:
        InputError: if there is no image at all, or two could be meant.
    """
    if place is None:
        return {}
    files = {name: path for name, path in find_image_files(place).items() if path.suffix.lower() in IMAGE_SUFFIXES}
    names = ImageNames({name: (name, path.name) for name, path in files.items()})
    found = {}
    for image_id in truth.annotations:
        known = [image_id, truth.image_files.get(image_id, image_id)]
        try:
            name = next((name for name in map(names.find, known) if name is not None), None)
        except InputError as error:
            raise InputError(f"--images {place}: {error}") from None
        if name is not None:
            found[image_id] = files[name]
    return found


def _glob(pattern: str, suffixes: tuple[str, ...]) -> tuple[Path, list[str]]:
    """The folder that all files of a pattern share, and the files relative to it, sorted."""
    found = _glob_deep(pattern) if "**" in pattern else [Path(name) for name in glob(pattern)]
    visible = [path for path in found if not is_hidden(path.name) and SYSTEM_NAMES.isdisjoint(path.parts)]
    paths = sorted(path for path in visible if path.suffix.lower() in suffixes and path.is_file())
    if not paths:
        return Path(), []
    top = Path(os.path.commonpath([p.parent.absolute() for p in paths]))
    return top, [p.absolute().relative_to(top).as_posix() for p in paths]


def _glob_deep(pattern: str) -> list[Path]:
    """The files of a pattern with `**`, by the walker, which links cannot lead in circles."""
    parts = Path(pattern).parts
    first = next(k for k, part in enumerate(parts) if any(letter in part for letter in "*?["))
    top = Path(*parts[:first])
    wanted = re.compile("/".join(_to_expression(part) for part in parts[first:]).replace("**/", "(?:.*/)?").replace("**", ".*"))
    return [top / name for name in (walk_files(top) if top.is_dir() else ()) if wanted.fullmatch(name)]


def _to_expression(part: str) -> str:
    """A part of a glob between two `/` as a regular expression; `**` stays."""
    if part == "**":
        return part
    return re.sub(r"^\(\?s:|\)\\[zZ]$", "", fnmatch.translate(part)).replace(".*", "[^/]*")


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
            if not is_plain_name(name):
                problem = "a name with control characters, or not in UTF-8; rename it"
                self.problems.append(f"{shorten(repr(str(path)))}: {problem}")
                continue
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
