"""Panoptic fusion of EfficientPS (Mohan & Valada, IJCV 2021, section 3.5): instance and semantic logits -> one panoptic map.

Differs: an instance counts only on its support, the pixels of its box where instance and semantic logit add up to more than
0 (the official code scores it 0 outside the box, so that it wins wherever every stuff logit is negative); instances need not
come from Mask R-CNN. `variant: official` restores the code's habits.
"""

from typing import TYPE_CHECKING

import cv2
import numpy as np

from data.dump_file import is_finite
from data.instance_dump import InstanceLogits
from data.panoptic_png import PanopticMap
from data.semantic_dump import SemanticLogits
from data.taxonomy import MAX_INSTANCES_PER_IMAGE, Taxonomy
from fusion import pixel_claims_compiled
from fusion.compose import Claimant, compose
from fusion.pixel_claims import best_first
from fusion.settings import FusionSettings
from runtime.device import has_torch, is_cpu
from runtime.files import InputError
from runtime.progress import note

if TYPE_CHECKING:
    import torch


def fuse(
    instances: InstanceLogits,
    semantic: SemanticLogits,
    taxonomy: Taxonomy,
    settings: FusionSettings = FusionSettings(),
    device: "str | torch.device" = "cpu",
    engine: str = "auto",
    train_ids: np.ndarray | None = None,
) -> PanopticMap:
    """Fuse the two predictions of one image; the result does not depend on the order of the instances.

    Thing pixels of the semantic prediction that no instance claims become void. Segment ids are those of Taxonomy.segment_id,
    things numbered from the best score on.

    Args:
        engine: what does the pixel work: compiled (CPU only), torch, or auto, which is compiled on a CPU and where there is no
            torch, and torch elsewhere.
            The result is the same but for pixels where two logits agree to the last bits.
        train_ids: (H, W) uint8 class of each pixel, VOID_TRAIN_ID for none, where a model gives that and the logits are made
            of it; None: that of the largest logit.

    Raises:
        InputError: if the two are of different images, sizes or taxonomies, or hold NaN.
    """
    _check_pair(instances, semantic, taxonomy)
    chosen = best_first(instances, settings.lowest_score)
    rule = {"max_overlap": settings.max_overlap, "is_official": settings.variant == "official"}
    if _is_compiled(device, engine):
        claims = pixel_claims_compiled.claim_pixels(instances, chosen, semantic, taxonomy, **rule)
    else:
        from fusion import pixel_claims_torch

        claims = pixel_claims_torch.claim_pixels(instances, chosen, semantic, taxonomy, **rule, device=device)
    return compose(
        claims.winner,
        [Claimant(int(instances.train_ids[k]), float(instances.scores[k])) for k in chosen],
        claims.semantic_train_ids if train_ids is None else train_ids,
        taxonomy,
        min_stuff_area=settings.min_stuff_area,
        min_thing_area=settings.min_thing_area,
    )


def semantic_argmax(
    semantic: SemanticLogits, taxonomy: Taxonomy, device: "str | torch.device" = "cpu", engine: str = "auto"
) -> np.ndarray:
    """(H, W) uint8 train ids of the largest logit at full resolution; ties go to the lower id. `engine` is as in fuse."""
    if _is_compiled(device, engine):
        return pixel_claims_compiled.semantic_argmax(semantic, taxonomy)
    from fusion import pixel_claims_torch

    return pixel_claims_torch.semantic_argmax(semantic, taxonomy, device)


def semantic_only(
    semantic: SemanticLogits,
    taxonomy: Taxonomy,
    settings: FusionSettings = FusionSettings(),
    device: "str | torch.device" = "cpu",
    engine: str = "auto",
) -> PanopticMap:
    """The floor of the fusion: the semantic argmax alone, where each connected region of a thing class is one object."""
    if not is_finite(semantic.logits):
        raise InputError(f"{semantic.image_id}: NaN or infinite logits; predict again with a model that works")
    argmax = semantic_argmax(semantic, taxonomy, device, engine)
    return map_only(semantic.image_id, argmax, taxonomy, settings)


def map_only(
    image_id: str, train_ids: np.ndarray, taxonomy: Taxonomy, settings: FusionSettings = FusionSettings()
) -> PanopticMap:
    """As semantic_only, of the class of each pixel.

    Args:
        train_ids: (H, W) uint8, VOID_TRAIN_ID for none.
    """
    regions, classes = np.zeros(train_ids.shape, dtype=np.int32), []  # 0: no thing
    for train_id in taxonomy.thing_ids:
        num_regions, found = cv2.connectedComponents((train_ids == train_id).astype(np.uint8))
        regions = np.where(found > 0, found + len(classes), regions)
        classes += [train_id] * (num_regions - 1)
    areas = np.bincount(regions.ravel(), minlength=len(classes) + 1)[1:]
    largest = np.argsort(-areas, kind="stable")[:MAX_INSTANCES_PER_IMAGE]
    if len(areas) > len(largest):
        note(f"image {image_id!r}: segment ids number the {len(largest)} largest of {len(areas)} regions of things")
    place = np.full(len(classes) + 1, -1, dtype=np.int16)
    place[largest + 1] = np.arange(len(largest))
    return compose(
        place[regions],
        [Claimant(classes[k], None) for k in largest],
        train_ids,
        taxonomy,
        min_stuff_area=settings.min_stuff_area,
        min_thing_area=settings.min_thing_area,
    )


def _is_compiled(device: "str | torch.device", engine: str) -> bool:
    assert engine in ("auto", "compiled", "torch"), engine
    return engine == "compiled" or (engine == "auto" and (is_cpu(device) or not has_torch()))


def _check_pair(instances: InstanceLogits, semantic: SemanticLogits, taxonomy: Taxonomy) -> None:
    for name in ("image_id", "height", "width", "taxonomy"):
        ours, theirs = getattr(instances, name), getattr(semantic, name)
        if ours != theirs:
            raise InputError(f"instances have {name} {ours!r}, semantics {theirs!r}; fuse predictions of the same image")
    if semantic.taxonomy != taxonomy.name or len(semantic.logits) != taxonomy.num_classes:
        found = f"{len(semantic.logits)} classes of {semantic.taxonomy!r}"
        raise InputError(f"{semantic.image_id}: {found}, but {taxonomy.num_classes} of {taxonomy.name!r} were needed")
    if not is_finite(semantic.logits) or not all(is_finite(crop) for crop in instances.crops):
        raise InputError(f"{semantic.image_id}: NaN or infinite logits; predict again with a model that works")
