"""The last step of every fusion: things where an instance won, stuff on the rest, void where a segment is too small."""

from dataclasses import dataclass, replace

import numpy as np

from data.panoptic_png import PanopticMap, describe_segments
from data.segment_runs import look_up
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from runtime.compiled import kernel
from runtime.files import InputError

AREA_REFERENCE = 1024 * 2048
"""Area limits are given in pixels of an image of this size and scale with the image. For exactly A pixels of an (H, W) image
give A * AREA_REFERENCE / (H * W)."""
FIRST_OWNER = VOID_TRAIN_ID + 2
"""Owner of the pixels of claimant 0, the next one's is one more; a pixel without a claimant has its train id + 1."""


@dataclass(frozen=True)
class Claimant:
    """An object that may own pixels; `score` is kept in its segment."""

    train_id: int
    score: float | None


def compose(
    winner: np.ndarray,
    claimants: list[Claimant],
    semantic_train_ids: np.ndarray,
    taxonomy: Taxonomy,
    *,
    min_stuff_area: float,
    min_thing_area: float = 0,
) -> PanopticMap:
    """Write things, fill the rest with stuff, drop what is too small.

    Args:
        winner: (H, W) int16, place in `claimants` of the object that a pixel belongs to, -1 for none.
        claimants: best first: those that have a pixel are numbered in this order.
        semantic_train_ids: (H, W) uint8; a thing class or VOID_TRAIN_ID becomes void where no object is.
        min_stuff_area, min_thing_area: in pixels of AREA_REFERENCE. The pixels of a thing below go back to the semantics.

    Raises:
        InputError: if the semantic map holds another train id.
    """
    owners = _owners(winner, semantic_train_ids)
    regions = describe_segments(owners, category_of=lambda owner: owner)
    too_small = [r.segment_id - FIRST_OWNER for r in regions if r.area < pixel_limit(min_thing_area, winner.size)]
    if any(place >= 0 for place in too_small):
        kept = np.where(np.isin(winner, too_small), -1, winner).astype(np.int16)
        return compose(kept, claimants, semantic_train_ids, taxonomy, min_stuff_area=min_stuff_area)

    segment_of = np.zeros(FIRST_OWNER + len(claimants), dtype=np.uint32)
    segments, num_things = [], 0
    for region in regions:  # ascending: stuff, then things from the best on
        place, train_id, number, score = region.segment_id - FIRST_OWNER, region.segment_id - 1, 0, None
        if place >= 0:
            num_things += 1
            train_id, number, score = claimants[place].train_id, num_things, claimants[place].score
        elif train_id == VOID_TRAIN_ID:
            continue
        elif train_id >= taxonomy.num_classes:
            known = f"{taxonomy.name} has 0 to {taxonomy.num_classes - 1} and {VOID_TRAIN_ID} for void"
            raise InputError(f"semantic map holds train id {train_id}, but {known}")
        elif taxonomy.is_thing[train_id] or region.area < pixel_limit(min_stuff_area, winner.size):
            continue
        segment_id = segment_of[region.segment_id] = taxonomy.segment_id(train_id, number)
        category_id = int(taxonomy.dataset_ids[train_id])
        segments.append(replace(region, segment_id=segment_id, category_id=category_id, score=score))
    return PanopticMap(look_up(segment_of, owners), tuple(sorted(segments, key=lambda segment: segment.segment_id)))


def pixel_limit(area: float, num_pixels: int) -> float:
    """An area limit for an image of so many pixels.

    Rounded, so that one that was scaled to the reference and back is the number meant.
    """
    return round(area * num_pixels / AREA_REFERENCE, 6)


@kernel
def _owners(winner, semantic_train_ids):
    """(H, W) uint16, see FIRST_OWNER."""
    owners = np.empty(winner.shape, dtype=np.uint16)
    for y in range(winner.shape[0]):
        for x in range(winner.shape[1]):
            is_free = winner[y, x] < 0
            owners[y, x] = np.int32(semantic_train_ids[y, x]) + 1 if is_free else np.int32(winner[y, x]) + FIRST_OWNER
    return owners
