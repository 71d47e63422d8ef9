"""Panels of a validated image: instances, semantic map and panoptic map, each beside the truth."""

import numpy as np

from data.instance_dump import full_masks
from data.panoptic_png import PanopticMap
from data.targets import panoptic_to_instances, panoptic_to_semantic
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from evaluation.render import color_panoptic, draw_instances, draw_key, side_by_side
from prediction.predictor import Prediction

OTHER_COLOR = (222, 222, 222)
"""Of the semantic branch's "other": something is there, a thing, which void's black would not say."""


def draw_panel(image: np.ndarray, predicted: Prediction, truth: PanopticMap, taxonomy: Taxonomy, min_score: float) -> np.ndarray:
    """Three rows, prediction on the left and truth on the right, and below the classes that occur.

    Args:
        image: (H, W, 3) uint8 RGB.
        min_score: instances below are not drawn, as they are not merged.

    Returns:
        (H', W', 3) uint8.
    """
    found = predicted.instances
    shown = [k for k, score in enumerate(found.scores) if score >= min_score]
    masks = [mask for k, mask in enumerate(full_masks(found)) if k in shown]
    names = [f"{taxonomy.categories[found.train_ids[k]].name} {found.scores[k]:.2f}" for k in shown]
    drawn = draw_instances(image, masks, found.boxes[shown], names)
    true_masks, true_ids, boxes = panoptic_to_instances(truth, taxonomy)
    true_drawn = draw_instances(image, true_masks, boxes, [taxonomy.categories[k].name for k in true_ids])
    true_semantic = panoptic_to_semantic(truth, taxonomy)
    train_ids = predicted.semantic.train_ids
    semantic = taxonomy.colors[train_ids]
    semantic[train_ids == VOID_TRAIN_ID] = OTHER_COLOR
    rows = {
        "instances": (drawn, true_drawn),
        "semantic map": (semantic, taxonomy.colors[true_semantic]),
        "panoptic map": (color_panoptic(predicted.panoptic, taxonomy), color_panoptic(truth, taxonomy)),
    }
    panels = [each for pair in rows.values() for each in pair]
    titles = [f"{name}, {side}" for name in rows for side in ("predicted", "truth")]
    sheet = side_by_side(panels, titles, columns=2)
    shown = {*np.unique(train_ids).tolist(), *np.unique(true_semantic).tolist(), *found.train_ids[shown].tolist()}
    key = [(c.name, c.color) for train_id, c in enumerate(taxonomy.categories) if train_id in shown]
    if (train_ids == VOID_TRAIN_ID).any():
        key.append(("other", OTHER_COLOR))
    return np.concatenate([sheet, draw_key([*key, ("void", (0, 0, 0))], sheet.shape[1])])
