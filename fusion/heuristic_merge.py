"""Merge of Panoptic FPN (Kirillov et al., CVPR 2019): instances and a semantic map -> one panoptic map.

The rule is that of "Panoptic Segmentation" (Kirillov et al., CVPR 2019, section 7), with a limit for the area of stuff, as in
https://github.com/cocodataset/panopticapi/blob/173415ecc30be006e98f983c10ee94522d160ef0/combine_semantic_and_instance_predictions.py#L41
https://github.com/facebookresearch/detectron2/blob/39d18584ee0c0f127294a1dbe454452e54ce5d33/detectron2/modeling/meta_arch/panoptic_fpn.py#L186
Differs: the limit scales with the image; equal scores are ordered by content; a mask ends at its box.
"""

import numpy as np

from data.instance_dump import InstanceLogits
from data.panoptic_png import PanopticMap
from data.taxonomy import Taxonomy
from fusion.compose import Claimant, compose
from fusion.pixel_claims import best_first
from fusion.pixel_claims_compiled import paste_pixels
from fusion.settings import MergeSettings
from runtime.files import InputError


def merge(
    instances: InstanceLogits, semantic_train_ids: np.ndarray, taxonomy: Taxonomy, settings: MergeSettings = MergeSettings()
) -> PanopticMap:
    """Paste instances, best first, then fill with stuff; the result does not depend on the order of the instances.

    Args:
        semantic_train_ids: (H, W) uint8; VOID_TRAIN_ID where the semantic model says "other" or nothing.

    Pixels of a thing class, or without a class, that no instance claims become void. Segment ids are those of
    Taxonomy.segment_id, things numbered from the best score on.

    Raises:
        InputError: if the two are of different sizes or not of this taxonomy, or hold NaN.
    """
    _check(instances, semantic_train_ids, taxonomy)
    chosen = best_first(instances, settings.lowest_score)
    return compose(
        paste_pixels(instances, chosen, max_overlap=settings.max_overlap),
        [Claimant(int(instances.train_ids[k]), float(instances.scores[k])) for k in chosen],
        semantic_train_ids,
        taxonomy,
        min_stuff_area=settings.min_stuff_area,
    )


def _check(instances: InstanceLogits, semantic_train_ids: np.ndarray, taxonomy: Taxonomy) -> None:
    size = (instances.height, instances.width)
    if semantic_train_ids.shape != size or semantic_train_ids.dtype != np.uint8:
        found, needed = f"{semantic_train_ids.dtype} {semantic_train_ids.shape}", f"uint8 {size}"
        raise InputError(f"{instances.image_id}: semantic map is {found}, but {needed} was needed; merge maps of the same image")
    if instances.taxonomy != taxonomy.name:
        raise InputError(f"{instances.image_id}: instances are of {instances.taxonomy!r}, but {taxonomy.name!r} was needed")
    if not np.isin(instances.train_ids, taxonomy.thing_ids).all():
        strangers = sorted(set(instances.train_ids.tolist()) - set(taxonomy.thing_ids))
        needed = f"things of {taxonomy.name} are {taxonomy.thing_ids}"
        raise InputError(f"{instances.image_id}: instances have train ids {strangers}, but {needed}")
    if not np.isfinite(instances.scores).all() or not all(np.isfinite(crop).all() for crop in instances.crops):
        raise InputError(f"{instances.image_id}: NaN or infinite logits or scores; predict again with a model that works")
