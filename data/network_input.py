"""What an image goes through before a network: size, pixel values and padding, as the network was trained."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data.input_size import InputSize
from data.normalization import Normalization, normalize_and_pad
from data.resizing import resize_image

if TYPE_CHECKING:
    import torch


class NetworkArray(NamedTuple):
    """An image as a network sees it: (1, 3, H', W') float32, normalised and padded, and its (height, width) without padding."""

    array: np.ndarray
    size: tuple[int, int]


class NetworkImage(NamedTuple):
    """The same as a tensor, channels last, on the network's device."""

    tensor: "torch.Tensor"
    size: tuple[int, int]


@dataclass(frozen=True)
class NetworkInput:
    """Size, pixel values and padding that a network was trained with; a checkpoint carries them."""

    size: InputSize = InputSize()
    normalization: Normalization = Normalization()
    multiple: int = 32
    """Of which height and width must be multiples."""

    def to_array(self, image: np.ndarray, scale: float = 1.0, is_flipped: bool = False) -> NetworkArray:
        """(H, W, 3) uint8 RGB -> what the network gets, resampled once.

        Args:
            scale: factor of the size at which the network sees images otherwise.
            is_flipped: whether it sees this one flipped left to right.
        """
        seen = resize_image(image, self.size.of(image.shape[:2], scale))
        size = seen.shape[:2]
        if is_flipped:
            seen = np.ascontiguousarray(seen[:, ::-1])
        return NetworkArray(normalize_and_pad(seen, self.normalization, self.multiple)[None], size)

    def apply(self, image: np.ndarray, device: "torch.device", scale: float = 1.0, is_flipped: bool = False) -> NetworkImage:
        """As to_array, for a network of torch."""
        import torch

        array, size = self.to_array(image, scale, is_flipped)
        return NetworkImage(torch.from_numpy(array).to(device).contiguous(memory_format=torch.channels_last), size)

    def apply_all(self, images: Sequence[np.ndarray], device: "torch.device", *view: float | bool, **flags: bool) -> NetworkImage:
        """As apply, of several images of one size, as one batch."""
        import torch

        seen = [self.apply(image, device, *view, **flags) for image in images]
        if len(seen) == 1:
            return seen[0]
        batch = torch.cat([image.tensor for image in seen]).contiguous(memory_format=torch.channels_last)
        return NetworkImage(batch, seen[0].size)

    def to_plain(self) -> dict:
        """Plain values for a checkpoint."""
        return {"input_size": asdict(self.size), "normalization": asdict(self.normalization)}

    @classmethod
    def from_plain(cls, settings: dict, multiple: int = 32) -> "NetworkInput":
        """Read back what a checkpoint of to_plain holds.

        Raises:
            KeyError, TypeError: if something is absent or unknown.
        """
        return cls(InputSize(**settings["input_size"]), Normalization(**settings["normalization"]), multiple)
