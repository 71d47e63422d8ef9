"""Loss of Pan-SECB: clusters, bandwidths and seeds as Neven et al. (CVPR 2019, section 3), for many classes, and semantics.

As the ancestor trains: an object's centre is the mean of its pixels, its bandwidth that of its pixels' mean sigma. Ours, since
no code for many classes is official: the seed losses of all classes' maps are summed; crowds have no seed loss in the map of
their class, and void pixels in none; semantics are learned by plain cross-entropy.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from pan_secb.embeddings import PIXELS_PER_UNIT, bandwidth, embed
from pan_secb.lovasz import lovasz_extension
from pan_secb.network import EmbeddingOutput
from pan_secb.targets import EmbeddingTargets
from runtime.files import InputError

ANCESTOR_FOREGROUND_WEIGHT = 10.0
"""Of cars, the only class that the ancestor's public configuration trains."""
CHUNK = 2**20
"""Pairs of an object and a pixel that are measured at once: a few megabytes, which stay in a CPU's cache."""
GPU_CHUNK = 2**24
"""The same on a GPU, where starting the work costs more than the work: 64 megabytes a map."""


@dataclass(frozen=True)
class LossSettings:
    """Weights of the four losses; those of the first three are the ancestor's."""

    instance_weight: float = 1.0
    """Of the Lovász hinge of the clusters; w_inst."""
    bandwidth_weight: float = 10.0
    """Of the variance of sigma inside each object; w_var."""
    seed_weight: float = 1.0
    """Of the regression of the seeds; w_seed."""
    semantic_weight: float = 1.0
    """Of the cross-entropy; ours."""
    foreground_weights: tuple[float, ...] | None = None
    """Of an object's pixels in the seed loss, one a thing class, ascending by train id, as generate_crops.py computes them.
    None: the ancestor's 10 for every class."""

    def __post_init__(self):
        weights = {name: getattr(self, f"{name}_weight") for name in ("instance", "bandwidth", "seed", "semantic")}
        if not all(0 <= weight < math.inf for weight in weights.values()):
            raise InputError(f"loss weights {weights}, but numbers from 0 on are needed")
        if not all(0 < weight < math.inf for weight in self.foreground_weights or ()):
            raise InputError(f"foreground_weights {self.foreground_weights}, but numbers above 0 are needed")


def embedding_loss(
    output: EmbeddingOutput,
    targets: EmbeddingTargets,
    taxonomy: Taxonomy,
    settings: LossSettings = LossSettings(),
    pixels_per_unit: float = PIXELS_PER_UNIT,
) -> dict[str, Tensor]:
    """The loss of a batch and its parts.

    Args:
        pixels_per_unit: the network's.

    Returns:
        Scalars: instance, bandwidth, seed, semantic, each the mean over the images (semantic: over the labelled pixels)
        before its weight, and total, their weighted sum. An image without objects has instance and bandwidth 0.

    Raises:
        InputError: if there is not one foreground weight a thing class.
    """
    # 16 bits are too few for exp(10 sigma) and for places.
    output = EmbeddingOutput(*(values.float() if values.dtype.itemsize < 4 else values for values in output))
    objects = _Objects(output, targets, pixels_per_unit)
    losses = {
        "instance": objects.mean_over_images(objects.lovasz_losses()),
        "bandwidth": objects.mean_over_images(objects.sigma_variances()),
        "seed": _seed_loss(output.seeds.sigmoid(), targets, objects, taxonomy, settings.foreground_weights),
        "semantic": _cross_entropy(output.semantic, targets.semantic),
    }
    total = sum(getattr(settings, f"{name}_weight") * loss for name, loss in losses.items())
    return losses | {"total": total}


class _Objects:
    """All objects of a batch, K, side by side, and their pixels, M.

    pixels: (M,) int64 places in (B, H, W). owners: (M,) int64, whose pixel it is. images: (K,) int64.
    areas: (K,) int64. centers: (K, 2), bandwidths: (K, S). distances: (M,) s (embedding - centre)^2 to the own centre.
    """

    def __init__(self, output: EmbeddingOutput, targets: EmbeddingTargets, pixels_per_unit: float):
        embeddings = embed(output.offsets, pixels_per_unit)  # (B, 2, H, W)
        num_images, _, height, width = embeddings.shape
        device = embeddings.device
        counts = torch.tensor([len(ids) for ids in targets.train_ids], device=device)
        self.num_images = num_images
        self.train_ids = torch.cat(targets.train_ids).to(device)
        self.images = torch.arange(num_images, device=device).repeat_interleave(counts)

        numbers = targets.instance_map.long()
        first = (counts.cumsum(0) - counts)[:, None, None]
        self.owner_map = torch.where(numbers > 0, numbers - 1 + first, -1).flatten(1)  # (B, H * W)
        self.pixels = (self.owner_map.flatten() >= 0).nonzero().squeeze(1)
        self.owners = self.owner_map.flatten()[self.pixels]
        self.areas = torch.bincount(self.owners, minlength=len(self.images))

        self.embeddings = embeddings.movedim(1, -1).reshape(-1, 2)  # (B * H * W, 2)
        self.sigmas = output.sigmas.movedim(1, -1).reshape(self.embeddings.shape[0], -1)[self.pixels]  # (M, S)
        place = self.pixels % (height * width)
        places = torch.stack((place // width, place % width), dim=1)  # (M, 2)
        self.centers = (self._means(places) / pixels_per_unit).to(embeddings.dtype)
        self.mean_sigmas = self._means(self.sigmas)
        self.bandwidths = bandwidth(self.mean_sigmas)
        self.distances = self._distances(self.owners, self.pixels)

    def _means(self, values: Tensor) -> Tensor:
        """(M, D) -> (K, D): the mean over each object's pixels, summed in 64 bits, since there may be a million."""
        sums = torch.zeros(len(self.images), values.shape[1], dtype=torch.float64, device=values.device)
        means = sums.index_add(0, self.owners, values.double()) / self.areas.clamp(min=1)[:, None]
        return means.to(values.dtype) if values.is_floating_point() else means

    def _distances(self, owners: Tensor, pixels: Tensor) -> Tensor:
        """(P,): s (embedding - centre)^2 of P pairs of an object and a pixel."""
        away = self.embeddings.index_select(0, pixels) - self.centers.index_select(0, owners)
        return (self.bandwidths.index_select(0, owners) * away.square()).sum(1)

    def sigma_variances(self) -> Tensor:
        """(K,): how far sigma is from its mean in each object; the mean is what it is drawn to, and is not drawn itself."""
        away = self.sigmas - self.mean_sigmas.detach()[self.owners]
        return self._means(away.square().mean(1, keepdim=True)).squeeze(1)

    def lovasz_losses(self) -> Tensor:
        """(K,): Lovász hinge of each object's mask against 2 exp(-distance) - 1 of all pixels of its image.

        The hinge error is 2 - 2 exp(-distance) inside and 2 exp(-distance) outside.
        """
        owners, pixels = self._near_pixels()
        inside, outside = -2 * (-self.distances).expm1(), 2 * (-self._distances(owners, pixels)).exp()
        is_inside = torch.arange(len(inside) + len(outside), device=inside.device) < len(inside)
        groups = torch.cat((self.owners, owners))
        return lovasz_extension(torch.cat((inside, outside)), is_inside, groups, len(self.images))

    @torch.no_grad()
    def _near_pixels(self) -> tuple[Tensor, Tensor]:
        """Pairs (owners, pixels) of an object and a pixel outside it that can have a share in its Lovász hinge.

        All others have a smaller error than every pixel inside, and so the weight 0, or an error that 32 bits cannot hold.
        """
        nearest = self.distances.new_full((len(self.images),), math.inf)
        nearest = nearest.scatter_reduce(0, self.owners, self.distances, "amin")
        # 2 exp(-limit) = 2 - 2 exp(-nearest), and a little more for rounding: a pixel too many changes nothing.
        limits = -(-(-nearest).expm1()).log()
        limits = (1.001 * limits + 1e-3).clamp(max=-math.log(torch.finfo(limits.dtype).tiny))
        bandwidths = self.bandwidths.expand(-1, 2)
        size = self.owner_map.shape[1]
        rows = max(1, (GPU_CHUNK if self.owners.is_cuda else CHUNK) // size)
        owners, pixels = [self.owners[:0]], [self.pixels[:0]]
        for image, embeddings in enumerate(self.embeddings.view(self.num_images, size, 2)):
            y, x = embeddings.T.contiguous()
            for chunk in (self.images == image).nonzero().squeeze(1).split(rows):
                distances = (y - self.centers[chunk, :1]).square_().mul_(bandwidths[chunk, :1])  # (k, H * W)
                distances += (x - self.centers[chunk, 1:]).square_().mul_(bandwidths[chunk, 1:])
                is_near = distances <= limits[chunk, None]
                is_near &= self.owner_map[image] != chunk[:, None]
                k, pixel = is_near.nonzero(as_tuple=True)
                owners.append(chunk[k])
                pixels.append(pixel + image * size)
        return torch.cat(owners), torch.cat(pixels)

    def mean_over_images(self, losses: Tensor) -> Tensor:
        """(K,) -> scalar: the mean over the objects of each image, then over the images; one without objects has 0."""
        is_there = (self.areas > 0).to(losses.dtype)
        num_objects = losses.new_zeros(self.num_images).index_add(0, self.images, is_there)
        return (is_there * losses / num_objects.clamp(min=1)[self.images]).sum() / self.num_images


def _seed_loss(
    seeds: Tensor, targets: EmbeddingTargets, objects: _Objects, taxonomy: Taxonomy, foreground_weights: tuple[float, ...] | None
) -> Tensor:
    """Seeds are drawn to exp(-distance) in the objects of their class, to 0 outside; summed over the classes, mean of the pixels.

    Args:
        seeds: (B, T, H, W) in 0..1.
    """
    num_things = len(taxonomy.thing_ids)
    if foreground_weights is None:
        foreground_weights = (ANCESTOR_FOREGROUND_WEIGHT,) * num_things
    if len(foreground_weights) != num_things:
        found = f"{len(foreground_weights)} foreground_weights"
        raise InputError(f"{found}, but {taxonomy.name} has {num_things} thing classes; give one for each")
    semantic = targets.semantic[:, None]  # (B, 1, H, W)
    thing_ids = torch.tensor(taxonomy.thing_ids, device=seeds.device)
    is_background = (semantic != thing_ids[:, None, None]) & (semantic != VOID_TRAIN_ID)  # (B, T, H, W)
    background = (seeds.square() * is_background).sum()

    places = torch.searchsorted(thing_ids, objects.train_ids)[objects.owners]  # (M,) in 0..T-1
    size = seeds[0, 0].numel()
    own_seeds = seeds.flatten()[(objects.pixels // size * num_things + places) * size + objects.pixels % size]
    weights = seeds.new_tensor(foreground_weights)[places]
    foreground = (weights * (own_seeds - (-objects.distances.detach()).exp()).square()).sum()
    return (background + foreground) / (size * len(seeds))


def _cross_entropy(logits: Tensor, semantic: Tensor) -> Tensor:
    """Mean over the labelled pixels; 0 where there is none."""
    losses = F.cross_entropy(logits, semantic, ignore_index=VOID_TRAIN_ID, reduction="sum")
    return losses / (semantic != VOID_TRAIN_ID).sum().clamp(min=1)
