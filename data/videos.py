"""Videos: read one frame at a time, in any order, and written whole."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from runtime.files import InputError, atomic_path

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
USUAL_RATE = 25.0
"""Frames a second of a video that does not say."""


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


def count_frames(path: Path) -> int:
    """How many frames of a video can be decoded; a header's number is only a guess in some containers.

    Raises:
        InputError: as open_video and Video.check_length, and if there is none at all.
    """
    with open_video(path) as video:
        count = 0
        while video.capture.grab():
            count += 1
        if count == 0:
            raise InputError(f"{path}: no frame can be decoded; the video is empty or broken, copy it again")
        video.check_length(count)
    return count


class FrameReader:
    """Frames of a video by number; fast where they are asked for in order."""

    def __init__(self, path: Path):
        self.path = path
        self._capture: cv2.VideoCapture | None = None
        self._next = 0

    def read(self, number: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB of a frame, counted from 0.

        Raises:
            InputError: if it cannot be decoded.
        """
        # Seeking is exact in few containers: an earlier frame is reached from the start.
        if self._capture is None or number < self._next:
            if self._capture is not None:
                self._capture.release()
            self._capture, self._next = cv2.VideoCapture(str(self.path)), 0
        while self._next < number and self._capture.grab():
            self._next += 1
        is_read, frame = self._capture.read()
        if self._next != number or not is_read:
            raise InputError(f"{self.path}: frame {number} cannot be decoded; the video has changed or is cut off, copy it again")
        self._next += 1
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


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
                    raise InputError(f"{path}: OpenCV cannot write a {height}x{width} .mp4 here; convert the video to images")
            writer.write(cv2.cvtColor(frame[:height, :width], cv2.COLOR_RGB2BGR))

        try:
            yield write
        finally:
            writer.release()
