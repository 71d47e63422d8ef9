"""What an image goes through before a network: size, pixel values and padding, as the network was trained."""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.input_size import InputSize
from data.normalization import Normalization, normalize_and_pad
from data.resizing import resize_image


class NetworkImage(NamedTuple):
    """An image as a network sees it: (1, 3, H', W') normalised and padded, and its (height, width) without padding."""

    tensor: Tensor
    size: tuple[int, int]


@dataclass(frozen=True)
class NetworkInput:
    """Size, pixel values and padding that a network was trained with; a checkpoint carries them."""

    size: InputSize = InputSize()
    normalization: Normalization = Normalization()
    multiple: int = 32
    """Of which height and width must be multiples."""

    def apply(self, image: np.ndarray, device: torch.device, scale: float = 1.0, is_flipped: bool = False) -> NetworkImage:
        """(H, W, 3) uint8 RGB -> what the network gets, resampled once.

        Args:
            scale: factor of the size at which the network sees images otherwise.
            is_flipped: whether it sees this one flipped left to right.
        """
        seen = resize_image(image, self.size.of(image.shape[:2], scale))
        size = seen.shape[:2]
        if is_flipped:
            seen = np.ascontiguousarray(seen[:, ::-1])
        tensor = torch.from_numpy(normalize_and_pad(seen, self.normalization, self.multiple))[None].to(device)
        return NetworkImage(tensor.contiguous(memory_format=torch.channels_last), size)

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
