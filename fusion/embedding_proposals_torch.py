"""The search for clusters of embeddings in torch, on any device: which pixels each accepted proposal takes.

embedding_proposals_compiled.py does the same on a CPU several times faster, and without torch. The rule is in
embedding_clusters.py.
"""

import numpy as np
import torch
from torch import Tensor

from data.taxonomy import MAX_INSTANCES_PER_IMAGE
from fusion.embedding_proposals import HALF, Proposals, check_candidates

BATCH = 256
"""Next best seeds that are compared with each other at once."""
MOST_PROPOSALS = 32
"""Of a batch that are compared with all candidates at once, at most 255: so many floats a candidate must fit into memory."""


def find_proposals(
    embeddings: Tensor, bandwidths: Tensor, seeds: Tensor, *, min_candidate_seed: float, min_seed: float, min_pixels: float
) -> Proposals:
    """Search in whole batches of seeds, so that a GPU is not asked once a seed.

    Each batch holds the best seeds left. Which of them are in the proposal of a better one only depends on the batch; who takes
    which candidate first then follows for all the others together.

    Args:
        embeddings, bandwidths, seeds: see EmbeddingMaps.
        min_pixels: in pixels of this image.

    Raises:
        InputError: see check_candidates.
    """
    seed_map = seeds.amax(0).flatten()
    places = (seed_map > min_candidate_seed).nonzero()[:, 0]
    places = places[seed_map[places].sort(descending=True, stable=True).indices]  # equal ones stay in row-major order
    values, points = seed_map[places], embeddings.flatten(1)[:, places]
    scales = bandwidths.flatten(1)[:, places].expand(2, -1)
    check_candidates(bool(((seeds >= 0) & (seeds <= 1)).all()), points.cpu().numpy(), scales.cpu().numpy())
    num_seeds = int((values.double() >= min_seed).sum())

    is_free = torch.ones_like(places, dtype=torch.bool)
    labels = torch.full_like(places, -1, dtype=torch.int16)
    accepted: list[Tensor] = []
    is_open = True
    while is_open and len(accepted) < MAX_INSTANCES_PER_IMAGE:
        batch = is_free[:num_seeds].nonzero()[:BATCH, 0]
        if len(batch) == 0:
            break
        batch = batch[_first_of_each(_is_inside(points, scales, batch, points[:, batch]))]
        inside = _is_inside(points, scales, batch, points)  # (B, N)
        is_new = inside & is_free
        is_new &= is_new.cumsum(0, dtype=torch.uint8) == 1  # the first that has a pixel takes it
        sizes, num_new = inside.sum(1).tolist(), is_new.sum(1).tolist()
        num_free, num_done = int(is_free.sum()), 0
        for k, (size, new) in enumerate(zip(sizes, num_new, strict=True)):
            is_open = num_free > min_pixels and len(accepted) < MAX_INSTANCES_PER_IMAGE
            if not is_open:
                break
            if size > min_pixels and 2 * new > size:
                labels.masked_fill_(inside[k], len(accepted))
                accepted.append(batch[k])
            num_free, num_done = num_free - new, k + 1
        is_free &= ~inside[:num_done].any(0)
    label_map = torch.full_like(seed_map, -1, dtype=torch.int16)
    label_map[places] = labels
    found = torch.stack(accepted) if accepted else places[:0]
    return Proposals(label_map.view(seeds.shape[1:]).cpu().numpy(), places[found].cpu().numpy(), values[found].cpu().numpy())


def values_at(seeds: Tensor, places: np.ndarray) -> np.ndarray:
    """(T, H, W) seeds at K places of the flattened image: (T, K), on the CPU."""
    return seeds.flatten(1)[:, torch.from_numpy(places).to(seeds.device)].cpu().numpy()


def _is_inside(points: Tensor, scales: Tensor, seeds: Tensor, others: Tensor) -> Tensor:
    """(B, M) bool: whether point m of `others` is in the proposal of seed b. No operation may be fused with another."""
    dy, dx = (others[None] - points[:, seeds, None].transpose(0, 1)).unbind(1)
    scale_y, scale_x = scales[:, seeds, None]
    return (dy * dy) * scale_y + (dx * dx) * scale_x < HALF


def _first_of_each(is_inside: Tensor) -> list[int]:
    """Of seeds, best first, those that are in no proposal of a better one of these; at most MOST_PROPOSALS.

    Args:
        is_inside: (B, B), whether the seed of the column is in the proposal of the row.
    """
    is_taken, first = np.zeros(len(is_inside), dtype=bool), []
    for k, row in enumerate(is_inside.cpu().numpy()):
        if not is_taken[k]:
            first.append(k)
            is_taken |= row
        if len(first) == MOST_PROPOSALS:
            break
    return first
