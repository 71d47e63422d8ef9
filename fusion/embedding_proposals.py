"""Which pixels each accepted proposal takes: the limit, the result and the checks that both ways to it share.

embedding_proposals_compiled.py searches on a CPU, embedding_proposals_torch.py on any device that torch has. The rule is in
embedding_clusters.py.
"""

import math
from dataclasses import dataclass

import numpy as np

from runtime.files import InputError

HALF = float(np.float32(math.log(2)))
"""A pixel belongs to a proposal where s_y dy^2 + s_x dx^2 is below: exp of minus that is above 1 / 2. All forms compare this sum,
each operation rounded to float32, since exp differs between libraries."""


@dataclass(frozen=True)
class Proposals:
    """The accepted ones, in the order found.

    labels: (H, W) int16, number of the proposal that a pixel belongs to, -1 where none. seed_places: (K,) int64, index of the
    seed of each in the flattened image. seed_values: (K,) float32, descending.
    """

    labels: np.ndarray
    seed_places: np.ndarray
    seed_values: np.ndarray


def check_candidates(are_seeds_valid: bool, points: np.ndarray, scales: np.ndarray) -> None:
    """Refuse what cannot be clustered; pixels that are no candidates may hold any embedding.

    Raises:
        InputError: if a seed is not from 0 to 1, an embedding not finite, or a bandwidth not finite or below 0.
    """
    if not are_seeds_valid:
        raise InputError("seeds are NaN or not from 0 to 1; give them after the sigmoid, by a model that works")
    if not np.isfinite(points).all() or not np.isfinite(scales).all() or (scales < 0).any():
        raise InputError("embeddings or bandwidths are NaN, infinite or below 0; predict again with a model that works")
