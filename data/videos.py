"""Videos: read one frame at a time, in any order, and written whole."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from runtime.files import InputError, atomic_path
from runtime.progress import note

USUAL_RATE = 25.0
"""Frames a second of a video that does not say."""
MOST_UNEVEN = 1.5
"""The longest time between two frames of a film of one rate, as a multiple of the shortest: containers round times."""
NUM_RECENT = 16
"""Decoded frames that a reader keeps: more than threads read at once."""


@dataclass(frozen=True)
class Video:
    """An open video: what its header says. `num_frames` is 0 where nobody knows."""

    path: Path
    num_frames: int
    rate: float
    capture: cv2.VideoCapture

    def problem_with(self, num_read: int) -> str | None:
        """What is wrong where so many frames were all that can be decoded; None where nothing is.

        The header must promise far more: some containers know their length in seconds only, and guess frames.
        """
        if num_read == 0:
            return f"{self.path}: no frame can be decoded; the video is empty or broken, copy it again"
        if num_read < 0.9 * self.num_frames - 1:
            found = f"only {num_read} of {self.num_frames} frames can be decoded"
            return f"{self.path}: {found}; the video is cut off, copy it again"
        return None


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


def count_frames(path: Path) -> tuple[int, str | None]:
    """How many frames of a video can be decoded, and what is wrong with it, if anything; a header only guesses a number.

    Frames at a varying rate are images as others are, and a line says so, since a film of overlays plays at one rate.

    Raises:
        InputError: as open_video.
    """
    with open_video(path) as video:
        count, before, shortest, longest = 0, 0.0, math.inf, 0.0
        while video.capture.grab():
            now = video.capture.get(cv2.CAP_PROP_POS_MSEC)
            if count:
                shortest, longest = min(shortest, now - before), max(longest, now - before)
            count, before = count + 1, now
        if longest > MOST_UNEVEN * max(shortest, 1.0):
            apart = f"{shortest:.0f} to {longest:.0f} ms apart"
            note(f"{path}: its frames are {apart}; each is predicted, but overlays play at {video.rate:.3g} a second")
        return count, video.problem_with(count)


class FrameReader:
    """Frames of a video by number, for several threads at once; fast where they are asked for nearly in order."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._capture: cv2.VideoCapture | None = None
        self._next = 0
        self._recent: dict[int, np.ndarray] = {}

    def read(self, number: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB of a frame, counted from 0.

        Raises:
            InputError: if it cannot be decoded.
        """
        with self._lock:
            if number not in self._recent:
                self._decode_up_to(number)
            return cv2.cvtColor(self._recent[number], cv2.COLOR_BGR2RGB)

    def _decode_up_to(self, number: int) -> None:
        # Seeking is exact in few containers: an earlier frame is reached from the start.
        if self._capture is None or number < self._next:
            if self._capture is not None:
                self._capture.release()
            self._capture, self._next, self._recent = cv2.VideoCapture(str(self.path)), 0, {}
        while self._next <= number:
            is_there = self._capture.grab()
            if is_there and self._next > number - NUM_RECENT:  # threads that work side by side ask slightly out of order
                is_there, self._recent[self._next] = self._capture.retrieve()
                self._recent.pop(self._next - NUM_RECENT, None)
            if not is_there:
                self._recent.pop(self._next, None)
                problem = "the video has changed or is cut off, copy it again"
                raise InputError(f"{self.path}: frame {number} cannot be decoded; {problem}")
            self._next += 1


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
