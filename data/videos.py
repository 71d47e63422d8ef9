"""Pictures and videos that a path names, each under a name that no other has, and the frames of a video, one at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from glob import glob
from pathlib import Path

import cv2
import numpy as np

from data.images import IMAGE_SUFFIXES
from runtime.files import InputError, atomic_path

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
USUAL_RATE = 25.0
"""Frames a second of a video that does not say."""


@dataclass(frozen=True)
class Footage:
    """A file to predict on. `name` is unique among those found together and may hold folders: `a/b` for `a/b.png`."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether it is one file of many frames."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_footage(place: str | Path) -> list[Footage]:
    """The pictures and videos that a file, a folder (searched recursively) or a glob names, sorted by path.

    A name is the path below the folder that all share, without suffix; all keep theirs where `x.png` and `x.jpg` are both there.

    Raises:
        InputError: if there is none.
    """
    path = Path(place).expanduser()
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    if path.is_file():
        return [Footage(path, path.stem)]
    found = path.rglob("*") if path.is_dir() else map(Path, glob(str(path), recursive=True))
    paths = sorted(p for p in found if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file())
    if not paths:
        raise InputError(f"{place}: no pictures there; give a file, a folder or a glob with one of {', '.join(suffixes)}")
    parents = {p.parent for p in paths}
    top = path if path.is_dir() else min(parents, key=lambda p: len(p.parts))
    while not all(p.is_relative_to(top) for p in parents):
        top = top.parent
    names = [p.relative_to(top).with_suffix("") for p in paths]
    # Compared without case, as some file systems do.
    if len({str(name).lower() for name in names}) < len(names):
        names = [p.relative_to(top) for p in paths]
    return [Footage(p, name.as_posix()) for p, name in zip(paths, names, strict=True)]


def check_outside(place: str | Path, paths: list[Path], output: Path) -> None:
    """Refuse to read what the command itself writes.

    Raises:
        InputError: if one of the paths, found at `place`, lies in the folder `output`.
    """
    output = Path(output).expanduser().resolve()
    if any(output in path.resolve().parents for path in paths):
        raise InputError(f"{place}: also finds pictures in the output {output}; give an --output outside of it")


@dataclass(frozen=True)
class Video:
    """An open video: what its header says, and its frames, which can be read once. `num_frames` is 0 where nobody knows."""

    path: Path
    num_frames: int
    rate: float
    capture: cv2.VideoCapture

    def frames(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 RGB, one after the other.

        Raises:
            InputError: if there is none at all.
        """
        count = 0
        while (read := self.capture.read())[0]:
            count += 1
            yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
        if count == 0:
            raise InputError(f"{self.path}: no frame can be decoded; the video is empty or broken, copy it again")

    def check_length(self, num_read: int) -> None:
        """Whether so many frames were all.

        Raises:
            InputError: if the header promises far more: some containers know their length in seconds only, and guess frames.
        """
        if num_read < 0.9 * self.num_frames - 1:
            found = f"only {num_read} of {self.num_frames} frames can be decoded"
            raise InputError(f"{self.path}: {found}; the video is cut off, copy it again")


@contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """Open a video.

    Raises:
        InputError: if it is missing, broken, or in a form that OpenCV does not know.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; give the path of a video")
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise InputError(f"{path}: cannot be decoded as a video; it is cut off or of an unknown form, convert it to .mp4")
        num_frames, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        yield Video(Path(path), max(0, int(num_frames)), rate if 0 < rate < 1000 else USUAL_RATE, capture)
    finally:
        capture.release()


@contextmanager
def video_writer(path: Path, rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that appends (H, W, 3) uint8 RGB frames, all of one size, to an .mp4, which appears when it is whole.

    Odd sides lose their last row or column, which the format cannot hold.

    Raises:
        InputError: if OpenCV cannot write such a file here.
    """
    with atomic_path(path) as partial:
        writer = cv2.VideoWriter()

        def write(frame: np.ndarray) -> None:
            height, width = (side - side % 2 for side in frame.shape[:2])
            if not writer.isOpened():
                # MPEG-4 cannot hold a rate such as 59.94005994 in its two 16-bit numbers.
                exact = float(Fraction(rate).limit_denominator(1001))
                if not writer.open(str(partial), cv2.VideoWriter_fourcc(*"mp4v"), exact, (width, height)):
                    raise InputError(f"{path}: OpenCV cannot write a {height}x{width} .mp4 here; convert the video to pictures")
            writer.write(cv2.cvtColor(frame[:height, :width], cv2.COLOR_RGB2BGR))

        try:
            yield write
        finally:
            writer.release()
