"""To what size an image is brought before a network."""

from dataclasses import dataclass

from runtime.files import InputError, ItemError

MOST_PIXELS = 2**24
"""To which a strip is enlarged; images are shrunk as they are, however large."""


@dataclass(frozen=True)
class InputSize:
    """To what size an image is brought before a network; by default one that its training has seen."""

    shorter_side: int | None = None
    """Pixels; COCO's is 800. None: as it is where the training had such images, else the nearest size that it had."""
    longer_side: int | None = None
    """Pixels that the longer side has at most; COCO's is 1333."""
    trained_sides: tuple[int, int] | None = None
    """Smallest and largest shorter side of the training's images, in pixels; the training fills it in."""

    def __post_init__(self):
        for name in ("shorter_side", "longer_side"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"input_size.{name} is {value}, but at least 1 pixel is needed")
        if self.longer_side is not None and (self.shorter_side is None or self.longer_side < self.shorter_side):
            raise InputError(f"input_size.longer_side {self.longer_side} needs a shorter_side of at most as much")
        if self.trained_sides is not None:
            object.__setattr__(self, "trained_sides", tuple(self.trained_sides))

    def of(self, size: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
        """(height, width) of an image -> what the network sees.

        Args:
            scale: of a view for test-time augmentation.

        Raises:
            ItemError: as check_enlarged.
        """
        side = self.shorter_side
        if side is None and self.trained_sides is not None:
            side = min(max(min(size), self.trained_sides[0]), self.trained_sides[1])
        seen = size_with_shorter_side(size, min(size) if side is None else side, self.longer_side, scale)
        check_enlarged(size, seen)
        return seen


def check_enlarged(size: tuple[int, int], seen: tuple[int, int]) -> None:
    """Refuse to enlarge an image to more than MOST_PIXELS, as a strip would be; what is large itself is seen as it is.

    Args:
        size, seen: (height, width) of the image, and of what the network would see.

    Raises:
        ItemError: if it would.
    """
    if seen[0] * seen[1] > max(MOST_PIXELS, 4 * size[0] * size[1]):
        found, wanted = (f"{h}x{w}" for h, w in (size, seen))
        advice = "cut a strip into parts, and give smaller --tta.scales to a large image"
        raise ItemError(f"an image of {found} pixels would be seen as {wanted}, more than {MOST_PIXELS} pixels; {advice}")


def size_with_shorter_side(
    size: tuple[int, int], shorter_side: int, longer_side: int | None = None, scale: float = 1.0
) -> tuple[int, int]:
    """(height, width) with the shorter side as given, or less where the longer one would exceed its limit, times `scale`.

    Halves are rounded up, as in detectron2.
    """
    factor = shorter_side / min(size)
    if longer_side is not None:
        factor = min(factor, longer_side / max(size))
    height, width = (max(1, int(side * factor * scale + 0.5)) for side in size)
    return height, width
