"""The merge of Panoptic FPN against its plain full-frame form, on a 1024x2048 image.

Inside the time: from stride-4 mask logits and the (H, W) semantic argmax to the map of segment ids. Ours starts from crops, as
they lie in memory after the exchange format is read, and also counts areas and boxes of all segments; theirs starts from the
full-frame logits that a network gives. The semantic argmax is taken before the clock starts: it is the same on both sides.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.published_rules import full_frame_logits, plain_heuristic_merge
from benchmarks.scenes import predictions
from benchmarks.side_by_side import Contest
from data.panoptic_png import PanopticMap
from data.semantic_dump import SemanticLogits
from data.taxonomy import CITYSCAPES
from fusion.heuristic_merge import merge


def heuristic_merge(num_instances: int, at_least: float) -> Contest:
    """One row: the merge of so many instances."""
    instances, semantic = predictions(num_instances)
    train_ids, mask_logits = _argmax(semantic), full_frame_logits(instances)
    return Contest(
        f"heuristic merge, {num_instances} instances",
        at_least,
        ours=lambda: merge(instances, train_ids, CITYSCAPES),
        theirs=lambda: plain_heuristic_merge(mask_logits, instances, train_ids, CITYSCAPES),
        same=_are_equal,
    )


def _argmax(semantic: SemanticLogits) -> np.ndarray:
    """(H, W) uint8 train ids."""
    logits = torch.from_numpy(semantic.logits).float()[None]
    enlarged = F.interpolate(logits, scale_factor=semantic.stride, mode="bilinear")[0, :, : semantic.height, : semantic.width]
    return enlarged.argmax(0).byte().numpy()


def _are_equal(ours: PanopticMap, theirs: np.ndarray) -> bool:
    return bool((ours.segment_ids == theirs).all())


ROWS: dict[str, Callable[[], Contest]] = {
    f"heuristic merge, {num_instances} instances": partial(heuristic_merge, num_instances, at_least)
    for num_instances, at_least in ((10, 10), (30, 20), (100, 35))
}
