"""Clustering of embeddings and the whole fusion of Pan-SECB, against the plain form, on a 1024x2048 image with 12 objects.

Inside the time: from the network's maps in memory to the map of clusters, and to that of segment ids. Both sides take the largest
of the eight seed maps. The maps are those of a good network: embeddings scatter around the objects' centres, seeds are what the
loss teaches, a few pixels of the ground are seeds by mistake.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.scenes import STRIDE, placed_objects
from benchmarks.side_by_side import Contest
from data.taxonomy import CITYSCAPES, Taxonomy
from fusion.compose import AREA_REFERENCE
from fusion.embedding_clusters import Clusters, EmbeddingMaps, cluster, fuse_embeddings
from fusion.settings import ClusterSettings

SIZE = (1024, 2048)
NUM_OBJECTS = 12
LN2 = torch.tensor(np.log(2), dtype=torch.float32)
SETTINGS = ClusterSettings()


def plain_cluster(maps: EmbeddingMaps, taxonomy: Taxonomy, settings: ClusterSettings) -> Clusters:
    """The rule of the released code, from its description: every step on all candidates, one seed after the other.

    Differs where fusion/embedding_clusters.py does; and compares with ln 2 in place of exp with 1 / 2, which costs less here.
    """
    seed_map = maps.seeds.amax(0)
    min_pixels = settings.min_pixels * seed_map.numel() / AREA_REFERENCE
    mask = seed_map > settings.min_candidate_seed
    seeds, points, scales = seed_map[mask], maps.embeddings[:, mask], maps.bandwidths[:, mask]
    unclustered = torch.ones(len(seeds), dtype=torch.bool)
    labels = torch.full((len(seeds),), -1, dtype=torch.int16)
    scores, at_seeds = [], []
    while unclustered.sum() > min_pixels:
        free_seeds = torch.where(unclustered, seeds, torch.tensor(-1.0))
        seed = free_seeds.argmax().item()  # the first of equal ones
        score = free_seeds.max().item()
        if score < settings.min_seed:
            break
        squares = (points - points[:, seed : seed + 1]) ** 2 * scales[:, seed : seed + 1]
        proposal = squares.sum(0) < LN2
        size, num_free = proposal.sum().item(), unclustered[proposal].sum().item()
        if size > min_pixels and num_free / size > 0.5:
            labels[proposal] = len(scores)
            scores.append(score)
            at_seeds.append(maps.seeds[:, mask][:, seed].argmax().item())
        unclustered[proposal] = False
    label_map = torch.full(seed_map.shape, -1, dtype=torch.int16)
    label_map[mask] = labels

    train_ids = [taxonomy.thing_ids[k] for k in at_seeds]
    for k in range(len(scores)):
        inside = maps.semantic_train_ids[label_map == k]
        votes = [(inside == train_id).sum().item() for train_id in taxonomy.thing_ids]
        if settings.vote == "semantic" and any(votes):
            train_ids[k] = taxonomy.thing_ids[votes.index(max(votes))]
    return Clusters(label_map.numpy(), np.array(scores, dtype=np.float32), np.array(train_ids, dtype=np.int64))


def plain_fusion(maps: EmbeddingMaps, taxonomy: Taxonomy, settings: ClusterSettings) -> np.ndarray:
    """(H, W) segment ids: clusters, then one stuff class after the other, on full frames."""
    found = plain_cluster(maps, taxonomy, settings)
    segment_ids = np.zeros(found.labels.shape, dtype=np.uint32)
    number = 0
    for k, train_id in enumerate(found.train_ids.tolist()):
        mask = found.labels == k
        if mask.any():
            number += 1
            segment_ids[mask] = taxonomy.segment_id(train_id, number)
    semantic = maps.semantic_train_ids.numpy()
    for train_id in taxonomy.stuff_ids:
        left = (semantic == train_id) & (found.labels < 0)
        if left.any() and left.sum() >= settings.min_stuff_area * left.size / AREA_REFERENCE:
            segment_ids[left] = taxonomy.segment_id(train_id)
    return segment_ids


@cache
def network_maps() -> EmbeddingMaps:
    """What a network would say of NUM_OBJECTS objects of drawn streets; embeddings in units of the height."""
    rng = np.random.default_rng(12)
    logit_maps, train_ids = placed_objects(rng, NUM_OBJECTS, (SIZE[0] // STRIDE, SIZE[1] // STRIDE))
    enlarged = F.interpolate(torch.from_numpy(np.stack(logit_maps))[None], scale_factor=STRIDE, mode="bilinear")[0]
    grid = np.stack(np.mgrid[: SIZE[0], : SIZE[1]]).astype(np.float32) / SIZE[0]
    embeddings, bandwidths = grid.copy(), np.full((1, *SIZE), 1e4, dtype=np.float32)
    seeds = rng.uniform(0, 0.1, (len(CITYSCAPES.thing_ids), *SIZE)).astype(np.float32)
    semantic = np.zeros(SIZE, dtype=np.uint8)
    for mask, train_id in zip((enlarged > 0).numpy(), train_ids, strict=True):
        spread = np.sqrt(mask.sum()) / SIZE[0] / 8
        places = np.nonzero(mask)
        offsets = rng.normal(0, spread, (2, len(places[0])))
        scale = np.log(2) / (3 * spread) ** 2  # a proposal reaches three times the spread
        embeddings[:, places[0], places[1]] = grid[:, places[0], places[1]].mean(1)[:, None] + offsets
        bandwidths[0, places[0], places[1]] = scale * rng.uniform(0.9, 1.1, len(places[0]))
        distance = np.exp(-scale * (offsets**2).sum(0))
        seeds[CITYSCAPES.thing_ids.index(train_id)][places] = np.clip(distance + rng.normal(0, 0.02, len(distance)), 0, 1)
        semantic[places] = train_id
    is_mistake = rng.uniform(size=SIZE) < 1e-4
    seeds[0][is_mistake & (semantic == 0)] = 0.95
    tensors = dict(embeddings=embeddings, bandwidths=bandwidths, seeds=seeds, semantic_train_ids=semantic)
    tensors = {name: torch.from_numpy(values) for name, values in tensors.items()}
    return EmbeddingMaps("benchmark", *SIZE, CITYSCAPES.name, **tensors)


def are_equal(found: Clusters, expected: Clusters) -> bool:
    """Whether all pixels, scores and classes are the same."""
    names = ("labels", "scores", "train_ids")
    return all(np.array_equal(getattr(found, name), getattr(expected, name)) for name in names)


def _clustering() -> Contest:
    maps = network_maps()
    return Contest(
        f"clusters of embeddings, {NUM_OBJECTS} objects",
        20,
        ours=lambda: cluster(maps, CITYSCAPES, SETTINGS),
        theirs=lambda: plain_cluster(maps, CITYSCAPES, SETTINGS),
        same=are_equal,
    )


def _fusion() -> Contest:
    maps = network_maps()
    return Contest(
        f"fusion of embeddings, {NUM_OBJECTS} objects",
        20,
        ours=lambda: fuse_embeddings(maps, CITYSCAPES, SETTINGS).segment_ids,
        theirs=lambda: plain_fusion(maps, CITYSCAPES, SETTINGS),
        same=np.array_equal,
    )


ROWS: dict[str, Callable[[], Contest]] = {
    f"clusters of embeddings, {NUM_OBJECTS} objects": _clustering,
    f"fusion of embeddings, {NUM_OBJECTS} objects": _fusion,
}
