"""Clustering of spatial embeddings (Neven et al., CVPR 2019, section 3.3), and Pan-SECB's fusion with a semantic map.

The rule is that of
https://github.com/davyneven/SpatialEmbeddings/blob/3abd94bb0fa1ef7fd4e7f08710f69f98ccdc17cc/src/utils/utils.py#L120
Candidates are pixels whose seed, the largest of the classes, is above a limit; at first all are free. While enough are free, the
free one with the largest seed (of equal ones the first in row-major order) proposes all candidates, free or not, whose embedding
is near its own by its own bandwidth. A proposal is accepted if it is large enough and more than half of it is free; it then takes
all its pixels, also those of earlier clusters. Accepted or not, its pixels are free no longer. The first seed that is too weak
ends the search.
Differs: area limits scale with the image; a seed counts as free in its own proposal, or no object of one or two pixels could
be found; one map of clusters for all classes, each named by a vote (the ancestor has one class). The vote, the stuff and the
limits of Pan-SECB are our design: its code is not public.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data.panoptic_png import PanopticMap
from data.taxonomy import Taxonomy
from fusion import embedding_proposals_compiled
from fusion.compose import AREA_REFERENCE, Claimant, compose
from fusion.embedding_proposals import Proposals
from fusion.settings import ClusterSettings
from runtime.compiled import kernel
from runtime.device import is_cpu
from runtime.files import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EmbeddingMaps:
    """What a network says of one image; all maps NumPy arrays, or all tensors on one device.

    Raises:
        InputError: if a map has another size or type.
    """

    image_id: str
    height: int
    width: int
    taxonomy: str
    """Its name."""
    embeddings: "np.ndarray | Tensor"
    """(2, H, W) float32, where each pixel points to, order (y, x), in any unit: tanh(offset) + coordinates."""
    bandwidths: "np.ndarray | Tensor"
    """(S, H, W) float32, 0 or more; S is 1, for both axes, or 2, order (y, x): near centre c is exp(-sum s_k (e_k - c_k)^2)."""
    seeds: "np.ndarray | Tensor"
    """(T, H, W) float32, 0 to 1, one map a thing class, ascending train ids."""
    semantic_train_ids: "np.ndarray | Tensor"
    """(H, W) uint8; VOID_TRAIN_ID where there is no class."""

    def __post_init__(self):
        size = (self.height, self.width)
        if tuple(self.semantic_train_ids.shape) != size or _dtype_of(self.semantic_train_ids) != "uint8":
            raise self._wrong("semantic_train_ids", f"uint8 {size}")
        for name, channels in (("embeddings", (2,)), ("bandwidths", (1, 2)), ("seeds", None)):
            values = getattr(self, name)
            is_shaped = values.ndim == 3 and tuple(values.shape[1:]) == size and (channels is None or len(values) in channels)
            if not is_shaped or _dtype_of(values) != "float32":
                depth = "classes" if channels is None else " or ".join(map(str, channels))
                raise self._wrong(name, f"float32 ({depth}, {self.height}, {self.width})")

    def _wrong(self, name: str, needed: str) -> InputError:
        values = getattr(self, name)
        found = f"{_dtype_of(values)} {tuple(values.shape)}"
        return InputError(f"{self.image_id}: {name} are {found}, but {needed} was needed; cut padding off and convert")


@dataclass(frozen=True)
class Clusters:
    """The objects found in one image, best first.

    labels: (H, W) int16, place of the cluster that a pixel belongs to, -1 where none. scores: (K,) float32, seeds, descending.
    train_ids: (K,) int64. A cluster may have lost all its pixels to later ones.
    """

    labels: np.ndarray
    scores: np.ndarray
    train_ids: np.ndarray


def fuse_embeddings(maps: EmbeddingMaps, taxonomy: Taxonomy, settings: ClusterSettings = ClusterSettings()) -> PanopticMap:
    """Find the clusters, name them, fill the rest with stuff.

    Raises:
        InputError: as cluster and to_panoptic.
    """
    return to_panoptic(cluster(maps, taxonomy, settings), maps, taxonomy, settings)


def cluster(maps: EmbeddingMaps, taxonomy: Taxonomy, settings: ClusterSettings = ClusterSettings()) -> Clusters:
    """Find the clusters and name them: on the device of the maps, compiled on a CPU, in torch elsewhere.

    Votes are counted over the pixels that a cluster has in the end. Of equally many the lower train id wins; without any vote for
    a thing class the largest map at the seed names it, of equal ones that of the lower train id.

    Raises:
        InputError: if the maps are not of this taxonomy, or hold NaN or other impossible values.
    """
    _check(maps, taxonomy)
    limits = {"min_candidate_seed": settings.min_candidate_seed, "min_seed": settings.min_seed}
    limits["min_pixels"] = round(settings.min_pixels * maps.height * maps.width / AREA_REFERENCE, 6)
    try:
        found, at_seeds = _search(maps, limits)
    except InputError as error:
        raise InputError(f"{maps.image_id}: {error}") from None

    things = np.array(taxonomy.thing_ids, dtype=np.int64)
    train_ids = things[at_seeds.argmax(0)]
    if settings.vote == "semantic":
        votes = _count_votes(found.labels, _to_array(maps.semantic_train_ids), len(train_ids))[:, things]
        train_ids = np.where(votes.any(1), things[votes.argmax(1)], train_ids)
    return Clusters(found.labels, found.seed_values, train_ids)


def to_panoptic(clusters: Clusters, maps: EmbeddingMaps, taxonomy: Taxonomy, settings: ClusterSettings) -> PanopticMap:
    """Clusters are things, numbered from the best seed on; stuff is what the semantic map says elsewhere.

    Pixels of a thing class that no cluster has become void.

    Raises:
        InputError: if the semantic map holds a train id that the taxonomy has not.
    """
    return compose(
        clusters.labels,
        [Claimant(int(i), float(s)) for i, s in zip(clusters.train_ids, clusters.scores, strict=True)],
        _to_array(maps.semantic_train_ids),
        taxonomy,
        min_stuff_area=settings.min_stuff_area,
        min_thing_area=settings.min_thing_area,
    )


def _search(maps: EmbeddingMaps, limits: dict[str, float]) -> tuple[Proposals, np.ndarray]:
    """What is found, and the (T, K) seeds of all classes at the K seeds."""
    if is_cpu(maps.seeds.device):
        embeddings, bandwidths, seeds = (_to_array(values) for values in (maps.embeddings, maps.bandwidths, maps.seeds))
        found = embedding_proposals_compiled.find_proposals(embeddings, bandwidths, seeds, **limits)
        return found, seeds.reshape(len(seeds), -1)[:, found.seed_places]
    from fusion import embedding_proposals_torch

    found = embedding_proposals_torch.find_proposals(maps.embeddings, maps.bandwidths, maps.seeds, **limits)
    return found, embedding_proposals_torch.values_at(maps.seeds, found.seed_places)


def _to_array(values: "np.ndarray | Tensor") -> np.ndarray:
    return values if isinstance(values, np.ndarray) else values.cpu().numpy()


def _dtype_of(values: "np.ndarray | Tensor") -> str:
    return str(values.dtype).removeprefix("torch.")


@kernel
def _count_votes(labels, semantic_train_ids, num_clusters):
    """(K, 256) int64: pixels of each cluster by train id."""
    votes = np.zeros((num_clusters, 256), dtype=np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] >= 0:
                votes[labels[y, x], semantic_train_ids[y, x]] += 1
    return votes


def _check(maps: EmbeddingMaps, taxonomy: Taxonomy) -> None:
    if maps.taxonomy != taxonomy.name:
        raise InputError(f"{maps.image_id}: embeddings are of {maps.taxonomy!r}, but {taxonomy.name!r} was needed")
    if len(maps.seeds) != len(taxonomy.thing_ids) or not taxonomy.thing_ids:
        needed = f"{taxonomy.name} has {len(taxonomy.thing_ids)} thing classes, each with one"
        raise InputError(f"{maps.image_id}: {len(maps.seeds)} seed maps, but {needed}")
