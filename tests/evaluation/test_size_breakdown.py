"""Things by size: the bins scale with the image, and only things of the truth that are no crowd count."""

import numpy as np
import pytest

from data.panoptic_png import PanopticMap, Segment
from data.taxonomy import CITYSCAPES
from evaluation.panoptic_quality import ImageMatches
from evaluation.size_breakdown import SizeBreakdown


def scene(size: tuple[int, int], *segments: tuple[int, int, int, bool]) -> PanopticMap:
    """(segment id, category id, area, crowd) each; the pixels do not matter here."""
    listed = tuple(Segment(i, category, area, (0, 0, 1, 1), crowd) for i, category, area, crowd in segments)
    return PanopticMap(np.zeros(size, np.uint32), listed)


@pytest.mark.parametrize("size", [(1024, 2048), (512, 1024)])
def test_sizes_are_those_of_the_reference_image(size):
    unit = size[0] * size[1] / (1024 * 2048)
    areas = {"tiny": 255, "small": 256, "medium": 1024, "large": 9216, "huge": 36864}
    truth = scene(size, *((26001 + k, 26, int(area * unit), False) for k, area in enumerate(areas.values())))
    breakdown = SizeBreakdown(CITYSCAPES)
    breakdown.add(truth, ImageMatches((), (26,) * 5, ()))
    totals = {name: counts.total for name, counts in breakdown.counts.items()}
    assert totals == dict.fromkeys(areas, 1)


def test_found_things_bring_their_iou_and_others_do_not():
    truth = scene((1024, 2048), (26001, 26, 2000, False), (26002, 26, 3000, False), (24000, 24, 2000, True), (7, 7, 5000, False))
    breakdown = SizeBreakdown(CITYSCAPES)
    breakdown.add(truth, ImageMatches(((7, 7, 7, 0.9), (26001, 26005, 26, 0.75)), (26,), ()))
    medium = breakdown.counts["medium"]
    assert (medium.total, medium.found, medium.recall, medium.iou) == (2, 1, 0.5, 0.75)
    assert breakdown.counts["tiny"].recall is None
    assert breakdown.counts["tiny"].iou is None
    assert breakdown.scores()["medium"] == {"total": 2, "found": 1, "recall": 0.5, "iou": 0.75}
    assert breakdown.scores()["tiny"] == {"total": 0, "found": 0, "recall": None, "iou": None}
