"""What goes into the clustering: the network's output of one image, or its truth as if the network had said it."""

import math

import numpy as np
import torch

from data.panoptic_png import PanopticMap
from data.targets import panoptic_to_instances, panoptic_to_semantic
from data.taxonomy import Taxonomy
from fusion.embedding_clusters import EmbeddingMaps
from pan_secb.embeddings import PIXELS_PER_UNIT, bandwidth, coordinates, embed
from pan_secb.network import EmbeddingOutput

LARGEST_TANH = 1 - 1e-6
"""So that atanh stays finite in 32 bits."""
IDEAL_RADIUS = 0.05
"""Pixels within which an ideal embedding counts as its centre's: two objects' centres are rarely that near."""


def to_embedding_maps(
    output: EmbeddingOutput,
    index: int,
    *,
    image_id: str,
    height: int,
    width: int,
    taxonomy: Taxonomy,
    pixels_per_unit: float = PIXELS_PER_UNIT,
) -> EmbeddingMaps:
    """One image of a batch, without its padding, on the device that it is on.

    Args:
        index: of the image in the batch.
        height, width: of the image, in pixels; what is below and on the right is padding.
        pixels_per_unit: the network's.
    """
    offsets, sigmas, seeds, semantic = (values[index, :, :height, :width].float() for values in output)
    return EmbeddingMaps(
        image_id=image_id,
        height=height,
        width=width,
        taxonomy=taxonomy.name,
        embeddings=embed(offsets, pixels_per_unit),
        bandwidths=bandwidth(sigmas),
        seeds=seeds.sigmoid(),
        semantic_train_ids=semantic.argmax(0).to(torch.uint8),
    )


def average_with_flipped(output: EmbeddingOutput, flipped: EmbeddingOutput, size: tuple[int, int]) -> EmbeddingOutput:
    """The mean of what the network says of one image and of the same one flipped left to right, on the image.

    Displacements are averaged, tanh of the offsets, which in the flipped image point the other way along x; and sigmas, seeds
    and semantics before any activation.

    Args:
        output, flipped: of one image each.
        size: (height, width) of the image without padding.
    """
    cut = [values[..., : size[0], : size[1]] for values in output]
    mirrored = [values[..., : size[0], : size[1]].flip(-1) for values in flipped]
    sign = cut[0].new_tensor([1.0, -1.0]).view(1, 2, 1, 1)  # (y, x)
    displacements = (cut[0].float().tanh() + sign * mirrored[0].float().tanh()) / 2
    others = [(a + b) / 2 for a, b in zip(cut[1:], mirrored[1:], strict=True)]
    return EmbeddingOutput(displacements.clamp(-LARGEST_TANH, LARGEST_TANH).atanh(), *others)


def ideal_embeddings(
    panoptic: PanopticMap, taxonomy: Taxonomy, *, image_id: str, pixels_per_unit: float = PIXELS_PER_UNIT
) -> EmbeddingMaps:
    """Truth as if the network had said it: every pixel of an object points at the mean of the object's pixels.

    Pixels of no object, the crowds' too, point at themselves and are no seeds. Objects whose centres are less than
    IDEAL_RADIUS pixels apart cannot be told apart.

    Raises:
        InputError: if a category is not in the taxonomy, or the map holds an id that no segment lists.
    """
    masks, train_ids, _ = panoptic_to_instances(panoptic, taxonomy)
    height, width = panoptic.segment_ids.shape
    embeddings = coordinates(height, width, pixels_per_unit)
    seeds = torch.zeros(len(taxonomy.thing_ids), height, width)
    for mask, train_id in zip(masks, train_ids.tolist(), strict=True):
        center = torch.from_numpy(np.argwhere(mask).mean(0) / pixels_per_unit)  # (y, x)
        is_inside = torch.from_numpy(mask)
        embeddings[:, is_inside] = center.float()[:, None]
        seeds[taxonomy.thing_ids.index(train_id), is_inside] = 1.0
    at_half = math.log(2) / (IDEAL_RADIUS / pixels_per_unit) ** 2  # exp(-s r^2) = 1 / 2 at the radius
    return EmbeddingMaps(
        image_id=image_id,
        height=height,
        width=width,
        taxonomy=taxonomy.name,
        embeddings=embeddings,
        bandwidths=torch.full((1, height, width), at_half),
        seeds=seeds,
        semantic_train_ids=torch.from_numpy(panoptic_to_semantic(panoptic, taxonomy)),
    )
