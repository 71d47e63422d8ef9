"""Panels of a validated image: instances, semantic map and panoptic map, each beside the truth."""

from dataclasses import dataclass

import numpy as np

from data.instance_dump import InstanceLogits, full_masks
from data.panoptic_png import PanopticMap
from data.targets import panoptic_to_instances, panoptic_to_semantic
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from evaluation.render import color_panoptic, draw_instances, draw_key, side_by_side

OTHER_COLOR = (222, 222, 222)
"""Of the semantic branch's "other": something is there, a thing, which void's black would not say."""


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image: instances after suppression, (H, W) uint8 train ids, and both merged."""

    instances: InstanceLogits
    semantic: np.ndarray
    panoptic: PanopticMap


def draw_panel(
    picture: np.ndarray, predicted: Prediction, truth: PanopticMap, taxonomy: Taxonomy, min_score: float
) -> np.ndarray:
    """Three rows, prediction on the left and truth on the right, and below the classes that occur.

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
    true_semantic = panoptic_to_semantic(truth, taxonomy)
    semantic = taxonomy.colors[predicted.semantic]
    semantic[predicted.semantic == VOID_TRAIN_ID] = OTHER_COLOR
    rows = {
        "instances": (drawn, true_drawn),
        "semantic map": (semantic, taxonomy.colors[true_semantic]),
        "panoptic map": (color_panoptic(predicted.panoptic, taxonomy), color_panoptic(truth, taxonomy)),
    }
    pictures = [each for pair in rows.values() for each in pair]
    titles = [f"{name}, {side}" for name in rows for side in ("predicted", "truth")]
    sheet = side_by_side(pictures, titles, columns=2)
    shown = {*np.unique(predicted.semantic).tolist(), *np.unique(true_semantic).tolist(), *found.train_ids[shown].tolist()}
    key = [(c.name, c.color) for train_id, c in enumerate(taxonomy.categories) if train_id in shown]
    key += [("other", OTHER_COLOR)] * bool((predicted.semantic == VOID_TRAIN_ID).any())
    return np.concatenate([sheet, draw_key([*key, ("void", (0, 0, 0))], sheet.shape[1])])
