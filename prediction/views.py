"""Views of an image for test-time augmentation: scaled and flipped."""

from dataclasses import dataclass
from typing import NamedTuple

from runtime.files import InputError

LARGEST_SCALE = 8.0


class View(NamedTuple):
    """One view of an image: its size times `scale`, then flipped left to right or not."""

    scale: float
    is_flipped: bool


@dataclass(frozen=True)
class ViewSettings:
    """Test-time augmentation: an image is predicted once for each scale, and once more flipped; by default once, as it is.

    Raises:
        InputError: if there is no scale, or one is not above 0 and up to 8.
    """

    scales: tuple[float, ...] = (1.0,)
    """Factors of the size at which a network sees an image; order and repetitions do not matter."""
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
        """Whether the only view is the image itself."""
        return self == PLAIN

    @property
    def suffix(self) -> str:
        """Goes behind a producer's name, so that nothing made with other views is taken for the same: `-tta-0.75-1-flip`."""
        if self.is_plain:
            return ""
        scales = "-".join(["-tta", *(f"{scale:.12g}" for scale in self.scales)])
        return f"{scales}-flip" if self.flip else scales


PLAIN = ViewSettings()
