"""The most that SOLOv2's grids and strides allow: the mask AR of a network that reproduces its training targets exactly.

AR is COCO's: recall averaged over IoU 0.5:0.95 and classes, with any number of detections; IoU is taken at the network's size.
The AP of such a network is no higher, but for COCO's rounding of recall to 1/101. Grids take little from it if each object keeps
a cell on one of its levels.
"""

from dataclasses import dataclass

import numpy as np

from solov2.grids.claims import Claims, Layout
from solov2.grids.objects import Objects

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True)
class Detectable:
    """Which of N objects such a network can detect; (N,) bool each, from few to many.

    alone: on some level the object has a cell of its own. labelled: on some level a cell has its label, and is taken to predict
    its mask and no other. apart: it belongs to a level, which suffices if no two objects claim the same cell. An object whose
    mask is too small for a level is not detectable there.
    """

    alone: np.ndarray
    labelled: np.ndarray
    apart: np.ndarray


def large_enough(objects: Objects, layout: Layout) -> np.ndarray:
    """(levels, N) bool: the mask has more cells than the level's stride is wide; the head drops others as noise."""
    return objects.small_areas > np.array(layout.strides)[:, None]


def detectable_objects(objects: Objects, layout: Layout, levels: list[Claims]) -> Detectable:
    """The detectable objects of a layout, of which `levels` are the claims (count_claims)."""
    is_kept = large_enough(objects, layout) & [claims.is_in_range for claims in levels]
    return Detectable(
        alone=(is_kept & ~np.array([claims.has_no_own_cell for claims in levels])).any(0),
        labelled=(is_kept & ~np.array([claims.is_lost for claims in levels])).any(0),
        apart=is_kept.any(0),
    )


def recall_weights(objects: Objects, chosen: np.ndarray | None = None) -> np.ndarray:
    """(N,): what each object adds to the mask AR of the chosen ones ((N,) bool; None: all) if it is detected."""
    chosen = np.ones(len(objects), dtype=bool) if chosen is None else chosen
    num_of_class = np.bincount(objects.classes[chosen], minlength=len(objects.class_names))
    matched = (objects.small_ious[:, None] >= IOU_THRESHOLDS).mean(1)
    return np.where(chosen, matched / np.maximum(num_of_class, 1)[objects.classes], 0) / max(1, np.count_nonzero(num_of_class))


def recall_upper_bound(objects: Objects, detectable: Detectable, chosen: np.ndarray | None = None) -> dict[str, float]:
    """Mask AR of the chosen objects (None: all), 0 to 1, by the names of Detectable; it lies between `alone` and `labelled`."""
    weights = recall_weights(objects, chosen)
    return {name: float(weights[is_detected].sum()) for name, is_detected in vars(detectable).items()}
