"""The network of Pan-SECB: one ERFNet encoder, three decoders to every pixel.

BranchedERFNet of Neven et al. (CVPR 2019, arXiv 1906.11109) with one seed map a thing class, as its author advises for many
classes, and a third decoder for semantics. No code of Pan-SECB is public: the third decoder is our reading of its description.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pan_secb.embeddings import PIXELS_PER_UNIT
from pan_secb.erfnet import SMALLEST_WIDTH, Decoder, Encoder, scaled_widths
from runtime.files import InputError


class EmbeddingOutput(NamedTuple):
    """What the network says of every pixel, before any activation.

    offsets: (B, 2, H, W), (y, x), from the pixel to its object's centre; see embed. sigmas: (B, S, H, W); see bandwidth.
    seeds: (B, T, H, W) logits of "its embedding is near its object's centre", one map a thing class, ascending by train id.
    semantic: (B, C, H, W) logits, by train id.
    """

    offsets: Tensor
    sigmas: Tensor
    seeds: Tensor
    semantic: Tensor


class PanSECB(nn.Module):
    """Image -> embeddings, seeds and semantics of every pixel, in one pass.

    Args:
        num_classes: of the taxonomy, stuff and things.
        num_things: of the taxonomy.
        width: factor of all channels; 1 is the published ERFNet.
        num_sigma: bandwidths a pixel: 1 for round clusters, 2 for one along each axis.
        pixels_per_unit: of the embeddings; kept here, since weights hold for one unit only.
        start_sigma: of every pixel before training; the ancestor's 1 is a cluster of 6 pixels' radius at 1024 pixels a unit.
        dropout: factor of ERFNet's dropout rates.

    Raises:
        InputError: if a value is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        num_things: int,
        width: float = 1.0,
        num_sigma: int = 1,
        pixels_per_unit: float = PIXELS_PER_UNIT,
        start_sigma: float = 1.0,
        dropout: float = 1.0,
    ):
        super().__init__()
        if not width >= SMALLEST_WIDTH:
            raise InputError(f"width {width}, but {SMALLEST_WIDTH} or more is needed")
        if num_sigma not in (1, 2):
            raise InputError(f"num_sigma {num_sigma}; choose 1 (round clusters) or 2 (one bandwidth an axis)")
        if not 0 < num_things <= num_classes:
            raise InputError(f"{num_things} thing classes of {num_classes}, but at least one is needed to cluster")
        if not pixels_per_unit > 0:
            raise InputError(f"pixels_per_unit {pixels_per_unit}, but more than 0 is needed")
        if not 0 <= dropout <= 3:
            raise InputError(f"dropout {dropout}, but a factor of ERFNet's rates from 0 to 3 is needed")
        self.pixels_per_unit = pixels_per_unit
        widths = scaled_widths(width)
        self.encoder = Encoder(widths, dropout)
        self.embedding_decoder = Decoder(2 + num_sigma, widths)
        self.seed_decoder = Decoder(num_things, widths)
        self.semantic_decoder = Decoder(num_classes, widths)
        self._start_at_pixels(start_sigma)

    @torch.no_grad()
    def _start_at_pixels(self, sigma: float) -> None:
        """As the ancestor starts: each embedding is its own pixel, every bandwidth the same."""
        output = self.embedding_decoder.output
        output.weight.zero_()
        output.bias.fill_(sigma)
        output.bias[:2] = 0.0

    def forward(self, image: Tensor) -> EmbeddingOutput:
        """(B, 3, H, W) normalised RGB, H and W multiples of 8 -> four maps of the same size."""
        features = self.encoder(image)  # (B, 128 * width, H / 8, W / 8)
        embedding = self.embedding_decoder(features)  # (B, 2 + S, H, W)
        return EmbeddingOutput(embedding[:, :2], embedding[:, 2:], self.seed_decoder(features), self.semantic_decoder(features))
