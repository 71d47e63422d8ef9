"""Which things are found, by their size in the truth: what separates instance models most on street images."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from data.panoptic_png import PanopticMap
from data.taxonomy import Taxonomy
from evaluation.panoptic_quality import ImageMatches

AREA_REFERENCE = 1024 * 2048
LIMITS = (16**2, 32**2, 96**2, 192**2)
"""Areas that separate the sizes, in pixels of a 1024x2048 image: COCO's small, medium and large, with a size below and one above.
They scale with the image."""
SIZES = ("tiny", "small", "medium", "large", "huge")


def size_of(area: int, num_pixels: int) -> str:
    """Which of SIZES a segment of this area has in an image of so many pixels."""
    unit = num_pixels / AREA_REFERENCE
    return SIZES[sum(area >= limit * unit for limit in LIMITS)]


def sizes_of(truth: PanopticMap, matches: ImageMatches, taxonomy: Taxonomy) -> list[tuple[str, float | None]]:
    """The size of each thing of an image, and the IoU of its match, None without one.

    Args:
        matches: of match_segments or PanopticQuality.add for this truth.
    """
    iou_of = {truth_id: iou for truth_id, _, _, iou in matches.matches}
    things = [s for s in truth.segments if not s.is_crowd and taxonomy.is_thing[taxonomy.dataset_id_to_train_id[s.category_id]]]
    return [(size_of(s.area, truth.segment_ids.size), iou_of.get(s.segment_id)) for s in things]


@dataclass
class SizeCounts:
    """Things of one size: how many the truth has, how many were matched, and the sum of their IoU."""

    total: int = 0
    found: int = 0
    iou_sum: float = 0.0

    @property
    def recall(self) -> float | None:
        """Share that was found with an IoU above one half, 0..1; None without things."""
        return self.found / self.total if self.total else None

    @property
    def iou(self) -> float | None:
        """Mean IoU of those found, 0..1; None without."""
        return self.iou_sum / self.found if self.found else None


@dataclass
class SizeBreakdown:
    """Collects images; crowd segments and stuff are not counted."""

    taxonomy: Taxonomy
    counts: dict[str, SizeCounts] = field(default_factory=lambda: {size: SizeCounts() for size in SIZES})

    def add(self, truth: PanopticMap, matches: ImageMatches) -> None:
        """Count one image; arguments as sizes_of."""
        self.add_things(sizes_of(truth, matches, self.taxonomy))

    def add_things(self, things: Iterable[tuple[str, float | None]]) -> None:
        """Count the things of an image, as sizes_of gives them."""
        for size, iou in things:
            counts = self.counts[size]
            counts.total += 1
            if iou is not None:
                counts.found += 1
                counts.iou_sum += iou

    def scores(self) -> dict:
        """{size: {total, found, recall, iou}}; recall and IoU are fractions of 1, None without things."""
        return {size: {"total": c.total, "found": c.found, "recall": c.recall, "iou": c.iou} for size, c in self.counts.items()}
