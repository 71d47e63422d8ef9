"""A camera, or a film played at its own speed: always the newest frame is predicted, and what came in between is dropped.

The video of overlays that is written plays as fast as what was seen: a dropped frame shows the last overlay again.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data.videos import USUAL_RATE, open_video, video_writer
from prediction.predictor import Predictor
from prediction.run import frame_overlay
from runtime.files import InputError
from runtime.progress import note

SECONDS_BETWEEN_LINES = 2.0
PATIENCE = 10.0
"""Seconds that a camera may take for a frame."""


@dataclass(frozen=True)
class LiveSummary:
    """What became of a film or camera. path: the video of overlays."""

    num_frames: int
    num_predicted: int
    seconds: float
    path: Path

    def in_words(self) -> str:
        """One line."""
        rate = self.num_predicted / max(self.seconds, 1e-9)
        dropped = self.num_frames - self.num_predicted
        return f"{rate:.1f} frames a second; {dropped} of {self.num_frames} frames dropped to keep up, in {self.seconds:.1f} s"


class NewestFrame:
    """Reads frames from the second one on as they come, in a thread of its own, and keeps the last one.

    Args:
        capture: an open camera or film.
        rate: of a film, at which it is played; None: a camera, which gives frames when it has them.
    """

    def __init__(self, capture: cv2.VideoCapture, rate: float | None):
        self._capture, self._rate = capture, rate
        self._news = threading.Condition()
        self._frame: tuple[int, np.ndarray] | None = None
        self._has_ended, self._must_end = False, False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait(self, seen: int) -> tuple[int, np.ndarray] | None:
        """Number and (H, W, 3) uint8 RGB of a frame newer than number `seen`; None at the end.

        Raises:
            InputError: if none comes for PATIENCE seconds.
        """

        def has_news() -> bool:
            return self._has_ended or (self._frame is not None and self._frame[0] > seen)

        with self._news:
            if not self._news.wait_for(has_news, PATIENCE):
                raise InputError(f"no frame came for {PATIENCE:.0f} seconds; is the camera used by another program?")
            if self._frame is None or self._frame[0] <= seen:
                return None
            number, frame = self._frame
        return number, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def stop(self) -> None:
        """End reading."""
        self._must_end = True
        self._thread.join()

    def _read(self) -> None:
        start, number = time.perf_counter(), 0
        while not self._must_end:
            is_there, frame = self._capture.read()
            if not is_there:
                break
            number += 1
            if self._rate is not None:
                time.sleep(max(0.0, start + number / self._rate - time.perf_counter()))
            with self._news:
                self._frame = number, frame
                self._news.notify_all()
        with self._news:
            self._has_ended = True
            self._news.notify_all()


@contextmanager
def open_source(place: str) -> Iterator[tuple[cv2.VideoCapture, float, bool]]:
    """Open a camera, by its number, or a film: (capture, frames a second, whether it is a film).

    Raises:
        InputError: if there is none, or it cannot be opened.
    """
    if place.isdecimal() and not Path(place).exists():
        capture = cv2.VideoCapture(int(place))
        try:
            if not capture.isOpened():
                raise InputError(f"--images {place}: no camera of this number can be opened; give another number, or a film")
            rate = capture.get(cv2.CAP_PROP_FPS)
            yield capture, rate if 0 < rate < 1000 else USUAL_RATE, False
        finally:
            capture.release()
        return
    with open_video(Path(place).expanduser()) as video:
        yield video.capture, video.rate, True


def predict_live(
    place: str, predictor: Predictor, output: Path, *, most_frames: int | None = None, show: Callable[[str], None] = note
) -> LiveSummary:
    """Predict a camera or film as it comes, and write OUTPUT/live.mp4; Ctrl-C ends it, and keeps what was written.

    Args:
        place: number of a camera, or path of a film.
        most_frames: of the source, after which it ends; None: at the film's end, or by Ctrl-C.
        show: is told now and then how fast it is.

    Raises:
        InputError: as open_source, or if the predictor refuses a frame.
    """
    path, num_predicted, seen = Path(output) / "live.mp4", 1, 0

    def draw(number: int, image: np.ndarray) -> np.ndarray:
        return frame_overlay(image, predictor.predict(f"{number:06d}", image).panoptic, predictor.taxonomy)

    with open_source(place) as (capture, rate, is_film), video_writer(path, rate) as write:
        is_there, first = capture.read()
        if not is_there:
            raise InputError(f"--images {place}: gives no frame; give another camera or film")
        overlay = draw(0, cv2.cvtColor(first, cv2.COLOR_BGR2RGB))  # before the clock starts: kernels and memory are made ready
        write(overlay)
        frames = NewestFrame(capture, rate if is_film else None)
        start = told = time.perf_counter()
        try:
            while (found := frames.wait(seen)) is not None and (most_frames is None or found[0] < most_frames):
                number, image = found
                for _ in range(number - seen - 1):
                    write(overlay)
                overlay = draw(number, image)
                write(overlay)
                num_predicted, seen, now = num_predicted + 1, number, time.perf_counter()
                if now - told >= SECONDS_BETWEEN_LINES:
                    show(f"{num_predicted / (now - start):.1f} frames a second, {seen + 1 - num_predicted} of {seen + 1} dropped")
                    told = now
        except KeyboardInterrupt:
            show("ended by Ctrl-C")
        finally:
            frames.stop()
        return LiveSummary(seen + 1, num_predicted, time.perf_counter() - start, path)
