"""PQ-dagger (Porzi et al., "Seamless Scene Segmentation", CVPR 2019): PQ whose stuff classes have no threshold.

For a thing class it is PQ. For a stuff class c it is the sum of IoU(s, p) over all pairs of a truth segment s and a prediction p
of c that overlap, divided by |S_c|, the number of truth segments of c. As each image holds at most one segment of a stuff class,
this is the mean IoU over the images that show the class; an image with a prediction alone costs nothing.

IoU is that of PQ: void of the truth leaves the union, void of the prediction does not (torchmetrics takes out both). What the
paper leaves open: a crowd segment of the truth counts in no sum, as in PQ, and a class without truth segments enters no mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from data.panoptic_png import PanopticMap
from data.taxonomy import Taxonomy
from evaluation.panoptic_quality import GROUPS, VOID_SEGMENT_ID, ClassCounts, ImageMatches, PanopticQuality
from runtime.files import InputError


@dataclass(frozen=True)
class ImageStuff:
    """One image's stuff.

    truths: category ids of the truth segments that are no crowd. ious: (category id, IoU) of each pair of one class that
    overlaps, ascending by the two segment ids.
    """

    truths: tuple[int, ...]
    ious: tuple[tuple[int, float], ...]


def compare_stuff(
    truth: PanopticMap, prediction: PanopticMap, overlaps: Mapping[tuple[int, int], int], taxonomy: Taxonomy
) -> ImageStuff:
    """The IoU of stuff in one image, from the pixels of each pair alone (evaluation.pair_counts).

    Raises:
        InputError: if a category is not in the taxonomy.
    """
    truths, predictions = (_stuff_of(panoptic, taxonomy) for panoptic in (truth, prediction))
    areas_of_truth, areas_of_prediction = dict.fromkeys(truths, 0), dict.fromkeys(predictions, 0)
    for (truth_id, predicted_id), pixels in overlaps.items():
        if truth_id in truths:
            areas_of_truth[truth_id] += pixels
        if predicted_id in predictions and truth_id != VOID_SEGMENT_ID:
            areas_of_prediction[predicted_id] += pixels
    ious = []
    for (truth_id, predicted_id), pixels in overlaps.items():
        category_id = truths.get(truth_id)
        if category_id is not None and predictions.get(predicted_id) == category_id:
            ious.append((category_id, pixels / (areas_of_truth[truth_id] + areas_of_prediction[predicted_id] - pixels)))
    return ImageStuff(tuple(truths.values()), tuple(ious))


def _stuff_of(panoptic: PanopticMap, taxonomy: Taxonomy) -> dict[int, int]:
    """Segment id -> category id of the stuff that is no crowd."""
    stuff = {}
    for segment in panoptic.segments:
        train_id = taxonomy.dataset_id_to_train_id.get(segment.category_id)
        if train_id is None:
            stranger, known = f"category {segment.category_id}", taxonomy.dataset_ids.tolist()
            raise InputError(f"segment {segment.segment_id}: {stranger} is not in {taxonomy.name}, which has {known}")
        if not taxonomy.is_thing[train_id] and not segment.is_crowd:
            stuff[segment.segment_id] = segment.category_id
    return stuff


@dataclass
class StuffCounts:
    """What one stuff class has collected."""

    iou_sum: float = 0.0
    num_truths: int = 0


@dataclass
class PQDagger:
    """Collects images one by one, in memory that does not grow with their number; `stuff` is by category id.

    Add images in the order of the truth's list: then the sums are the same to the last bit, whoever compared the images.
    """

    taxonomy: Taxonomy
    things: PanopticQuality = field(default_factory=PanopticQuality)
    stuff: dict[int, StuffCounts] = field(default_factory=dict)

    def add(self, matches: ImageMatches, stuff: ImageStuff) -> None:
        """Count one image.

        Args:
            matches, stuff: of match_segments and of compare_stuff for the same two maps.
        """
        self.things.add_matches(matches)
        for category_id in stuff.truths:
            self._of(category_id).num_truths += 1
        for category_id, iou in stuff.ious:
            self._of(category_id).iou_sum += iou

    def scores(self) -> dict:
        """The scores as fractions of 1: {"All"|"Things"|"Stuff": {pq, n}, "per_class": {name: PQ-dagger}}.

        A class without truth segments (a thing: without counts, as in PQ) has None and enters no mean; neither does it in `n`.

        Raises:
            InputError: if a category that was counted is not in the taxonomy.
        """
        self.things.scores(self.taxonomy)  # refuses categories that are not in the taxonomy
        per_class = {c.name: self._quality(c.dataset_id, c.is_thing) for c in self.taxonomy.categories}
        groups = {name: [] for name in GROUPS}
        for category in self.taxonomy.categories:
            quality = per_class[category.name]
            if quality is not None:
                groups["All"].append(quality)
                groups["Things" if category.is_thing else "Stuff"].append(quality)
        return {name: {"pq": _mean(values), "n": len(values)} for name, values in groups.items()} | {"per_class": per_class}

    def _quality(self, category_id: int, is_thing: bool) -> float | None:
        if is_thing:
            counts = self.things.counts.get(category_id, ClassCounts())
            return counts.quality[0] if counts.is_seen else None
        counts = self.stuff.get(category_id, StuffCounts())
        return counts.iou_sum / counts.num_truths if counts.num_truths else None

    def _of(self, category_id: int) -> StuffCounts:
        return self.stuff.setdefault(category_id, StuffCounts())


def _mean(values: list[float]) -> float | None:
    total = 0.0
    for value in values:  # one by one, as in panoptic_quality: sum() rounds otherwise since Python 3.12
        total += value
    return total / len(values) if values else None
