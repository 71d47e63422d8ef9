"""Panels of a validated image: instances, semantic map and panoptic map, each beside the truth."""

from dataclasses import dataclass

import numpy as np

from data.instance_dump import InstanceLogits, full_masks
from data.panoptic_png import PanopticMap
from data.targets import panoptic_to_instances, panoptic_to_semantic
from data.taxonomy import Taxonomy
from evaluation.render import color_panoptic, draw_instances, side_by_side


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image: instances after suppression, (H, W) uint8 train ids, and both merged."""

    instances: InstanceLogits
    semantic: np.ndarray
    panoptic: PanopticMap


def draw_panel(
    picture: np.ndarray, predicted: Prediction, truth: PanopticMap, taxonomy: Taxonomy, min_score: float
) -> np.ndarray:
    """Three rows, prediction on the left and truth on the right.

    Args:
        picture: (H, W, 3) uint8 RGB.
        min_score: instances below are not drawn, as they are not merged.

    Returns:
        (H', W', 3) uint8.
    """
    found = predicted.instances
    shown = [k for k, score in enumerate(found.scores) if score >= min_score]
    masks = [mask for k, mask in enumerate(full_masks(found)) if k in shown]
    names = [f"{taxonomy.categories[found.train_ids[k]].name} {found.scores[k]:.2f}" for k in shown]
    drawn = draw_instances(picture, masks, found.boxes[shown], names)
    true_masks, train_ids, boxes = panoptic_to_instances(truth, taxonomy)
    true_drawn = draw_instances(picture, true_masks, boxes, [taxonomy.categories[k].name for k in train_ids])
    true_semantic = taxonomy.colors[panoptic_to_semantic(truth, taxonomy)]
    rows = {
        "instances": (drawn, true_drawn),
        "semantic map": (taxonomy.colors[predicted.semantic], true_semantic),
        "panoptic map": (color_panoptic(predicted.panoptic, taxonomy), color_panoptic(truth, taxonomy)),
    }
    pictures = [each for pair in rows.values() for each in pair]
    titles = [f"{name}, {side}" for name in rows for side in ("predicted", "truth")]
    return side_by_side(pictures, titles, columns=2)
