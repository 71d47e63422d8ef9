"""What the network's numbers mean: pixels point at centres, with a bandwidth (Neven et al., CVPR 2019, section 3).

A pixel's embedding is its own place plus its offset. The unit is a number of pixels, 1024 in the ancestor, whatever the image's
size, so that the same weights hold for crops and whole images. Points are (y, x); the ancestor's are (x, y).
"""

import torch
from torch import Tensor

PIXELS_PER_UNIT = 1024.0
"""The ancestor's: its grid has 1024 rows from 0 to 1."""
LARGEST_SIGMA = 8.0
"""exp(80) is still finite in 32 bits, and such a cluster is smaller than a pixel. Ours: the ancestor has no limit."""


def coordinates(height: int, width: int, pixels_per_unit: float = PIXELS_PER_UNIT, device: torch.device | None = None) -> Tensor:
    """(2, H, W) float32: where each pixel is, (y, x), the first at 0, in units."""
    y, x = (torch.arange(n, dtype=torch.float32, device=device) / pixels_per_unit for n in (height, width))
    return torch.stack((y[:, None].expand(height, width), x.expand(height, width)))


def embed(offsets: Tensor, pixels_per_unit: float = PIXELS_PER_UNIT) -> Tensor:
    """Where each pixel points: tanh(offset) + its place, so at most one unit away.

    Args:
        offsets: (..., 2, H, W), as the network gives them.

    Returns:
        The same shape, in units.
    """
    return offsets.tanh() + coordinates(*offsets.shape[-2:], pixels_per_unit, offsets.device)


def bandwidth(sigmas: Tensor) -> Tensor:
    """exp(10 sigma), the s in exp(-s (embedding - centre)^2), per squared unit; any shape."""
    return (10 * sigmas.clamp(max=LARGEST_SIGMA)).exp()
