"""Views of a picture for test-time augmentation, scaled and flipped, and how predictions on one come back to the picture."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from runtime.files import InputError

LARGEST_SCALE = 8.0


class View(NamedTuple):
    """One way to look at a picture: its size times `scale`, then flipped left to right or not."""

    scale: float
    is_flipped: bool


@dataclass(frozen=True)
class ViewSettings:
    """Test-time augmentation: a picture is predicted once for each scale, and once more flipped; the default is one plain look.

    Raises:
        InputError: if there is no scale, or one is not above 0 and up to 8.
    """

    scales: tuple[float, ...] = (1.0,)
    """Factors of the picture's size; order and repetitions do not matter."""
    flip: bool = False
    """Whether each scale is also seen flipped left to right."""

    def __post_init__(self):
        if not self.scales or not all(0 < scale <= LARGEST_SCALE for scale in self.scales):  # NaN is refused too
            needed = f"one or more factors above 0 and up to {LARGEST_SCALE:g} are needed, such as 0.75 1 1.25"
            raise InputError(f"test-time scales are {list(self.scales)}, but {needed}")
        object.__setattr__(self, "scales", tuple(sorted({float(scale) for scale in self.scales})))

    def views(self) -> list[View]:
        """All of them, in an order that the settings' order does not change."""
        return [View(scale, is_flipped) for scale in self.scales for is_flipped in ((False, True) if self.flip else (False,))]

    @property
    def is_plain(self) -> bool:
        """Whether the only view is the picture itself."""
        return self == PLAIN

    @property
    def suffix(self) -> str:
        """Goes behind a producer's name, so that nothing made with other views is taken for the same: `-tta-0.75-1-flip`."""
        return "" if self.is_plain else "-".join(["-tta", *(f"{scale:.12g}" for scale in self.scales)]) + "-flip" * self.flip


PLAIN = ViewSettings()


def look(picture: np.ndarray, view: View) -> np.ndarray:
    """(H, W, 3) uint8 -> the view's picture; scaled as in training, averaging where it shrinks."""
    if view.scale != 1:
        height, width = (max(1, math.floor(side * view.scale + 0.5)) for side in picture.shape[:2])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if view.scale < 1 else cv2.INTER_LINEAR)
    return np.ascontiguousarray(picture[:, ::-1]) if view.is_flipped else picture
