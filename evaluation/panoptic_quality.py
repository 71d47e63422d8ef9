"""Panoptic quality (Kirillov et al. 2019), as cityscapesscripts' evalPanopticSemanticLabeling and panopticapi define it.

Differs: a truth segment's area is counted from its PNG, never believed from the JSON; a group without a class scores None
instead of dividing by zero. On files whose areas are right the sums are bit-equal to pq_compute_single_core's.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from data.panoptic_png import PanopticMap, Segment, check_listed
from data.taxonomy import Taxonomy
from evaluation.pair_counts import count_pairs
from runtime.files import InputError

VOID_SEGMENT_ID = 0
GROUPS = ("All", "Things", "Stuff")


@dataclass
class ClassCounts:
    """What one class has collected: the IoU of each match is added to `iou_sum` in the order of matching."""

    iou_sum: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0

    @property
    def is_seen(self) -> bool:
        """Whether truth or prediction hold the class; a class without counts enters no mean."""
        return self.tp + self.fp + self.fn > 0

    @property
    def quality(self) -> tuple[float, float, float]:
        """(PQ, SQ, RQ); zeros for a class without counts."""
        if not self.is_seen:
            return 0.0, 0.0, 0.0
        weight = self.tp + 0.5 * self.fp + 0.5 * self.fn
        return self.iou_sum / weight, self.iou_sum / self.tp if self.tp else 0.0, self.tp / weight


@dataclass(frozen=True)
class ImageMatches:
    """One image's comparison.

    matches: (truth segment id, predicted segment id, category id, IoU), ascending by the two ids.
    missed, invented: category ids of the false negatives and of the false positives.
    """

    matches: tuple[tuple[int, int, int, float], ...]
    missed: tuple[int, ...]
    invented: tuple[int, ...]

    @property
    def counts(self) -> "dict[int, ClassCounts]":
        """Of the image alone, by category id."""
        quality = PanopticQuality()
        quality.add_matches(self)
        return quality.counts

    @property
    def means(self) -> tuple[float, float, float] | None:
        """Mean (PQ, SQ, RQ) of the classes in this image, 0..1; None without any. For ranking images only: means are not PQ."""
        qualities = [counts.quality for counts in self.counts.values()]
        return tuple(sum(values) / len(qualities) for values in zip(*qualities)) if qualities else None

    @property
    def pq(self) -> float | None:
        """The first of `means`."""
        return None if (means := self.means) is None else means[0]


@dataclass
class PanopticQuality:
    """Collects images one by one, in memory that does not grow with their number. `counts` is by category id (dataset id).

    Add images in the order of the truth's list: then the sums are the same to the last bit, whoever compared the images.
    """

    counts: dict[int, ClassCounts] = field(default_factory=dict)

    def add(self, truth: PanopticMap, prediction: PanopticMap) -> ImageMatches:
        """Compare one image and count it.

        Raises:
            InputError: as match_segments.
        """
        image = match_segments(truth, prediction)
        self.add_matches(image)
        return image

    def add_matches(self, image: ImageMatches) -> None:
        """Count an image that match_segments compared, perhaps in another thread."""
        for _, _, category_id, iou in image.matches:
            counts = self._of(category_id)
            counts.tp += 1
            counts.iou_sum += iou
        for category_id in image.missed:
            self._of(category_id).fn += 1
        for category_id in image.invented:
            self._of(category_id).fp += 1

    @classmethod
    def merge(cls, parts: Iterable[Iterable[tuple[int, ImageMatches]]]) -> "PanopticQuality":
        """What one process would have counted, to the last bit: a sum of sums would be rounded otherwise.

        Args:
            parts: of each process (place of the image in the truth's list, its matches), ascending; generators will do.

        Raises:
            InputError: if an image is there twice.
        """
        whole, before = cls(), None
        for place, image in heapq.merge(*parts, key=lambda entry: entry[0]):
            if place == before:
                raise InputError(f"image {place} was counted twice; give each image to one process")
            whole.add_matches(image)
            before = place
        return whole

    def scores(self, taxonomy: Taxonomy) -> dict:
        """The scores as fractions of 1: {"All"|"Things"|"Stuff": {pq, sq, rq, n}, "per_class": {name: {..., tp, fp, fn}}}.

        A class that occurs nowhere (tp + fp + fn = 0) has zeros, as the official file has, and enters no mean; a group of
        such classes only has None and n = 0.

        Raises:
            InputError: if a category that was counted is not in the taxonomy.
        """
        strangers = sorted(self.counts.keys() - taxonomy.dataset_id_to_train_id.keys())
        if strangers:
            raise InputError(f"category ids {strangers} were counted, but taxonomy {taxonomy.name} has none of them; give theirs")
        counts = [self.counts.get(c.dataset_id, ClassCounts()) for c in taxonomy.categories]
        is_thing = taxonomy.is_thing.tolist()
        members = (counts, [c for c, t in zip(counts, is_thing) if t], [c for c, t in zip(counts, is_thing) if not t])
        per_class = {category.name: _class_entry(c) for category, c in zip(taxonomy.categories, counts, strict=True)}
        return {name: _mean(group) for name, group in zip(GROUPS, members, strict=True)} | {"per_class": per_class}

    def _of(self, category_id: int) -> ClassCounts:
        return self.counts.setdefault(category_id, ClassCounts())


def _class_entry(counts: ClassCounts) -> dict:
    pq, sq, rq = counts.quality
    return {"pq": pq, "sq": sq, "rq": rq, "iou_sum": counts.iou_sum, "tp": counts.tp, "fp": counts.fp, "fn": counts.fn}


def _mean(group: list[ClassCounts]) -> dict:
    seen = [counts.quality for counts in group if counts.is_seen]
    if not seen:
        return {"pq": None, "sq": None, "rq": None, "n": 0}
    # Added one by one, as in the official code: sum() compensates rounding since Python 3.12, which changes the last bit.
    total = [0.0, 0.0, 0.0]
    for quality in seen:
        total = [t + q for t, q in zip(total, quality, strict=True)]
    pq, sq, rq = (t / len(seen) for t in total)
    return {"pq": pq, "sq": sq, "rq": rq, "n": len(seen)}


def match_segments(truth: PanopticMap, prediction: PanopticMap, names: tuple[str, str] = ("truth", "prediction")) -> ImageMatches:
    """Pair the segments of one image: same class and IoU above one half, with the truth's void taken out of the union.

    Crowd segments of the truth are neither matched nor missed. A predicted segment without a match is forgiven where more
    than half of it lies on void and on the crowd of its class; of several crowd segments of a class the last one listed
    counts alone, as in the official code.

    Args:
        names: of the two maps, for the message.

    Raises:
        InputError: if the sizes differ, or a map holds an id that its segments do not list, or the reverse.
    """
    return match_overlaps(truth, prediction, count_pairs(truth.segment_ids, prediction.segment_ids), names)


def match_overlaps(
    truth: PanopticMap,
    prediction: PanopticMap,
    overlaps: dict[tuple[int, int], int],
    names: tuple[str, str] = ("truth", "prediction"),
) -> ImageMatches:
    """As match_segments, where the pixels of each pair are counted already (evaluation.pair_counts)."""
    areas_of_truth, areas_of_prediction = sum_over(overlaps, 0), sum_over(overlaps, 1)
    check_listed(areas_of_truth, (s.segment_id for s in truth.segments), names[0])
    check_listed(areas_of_prediction, (s.segment_id for s in prediction.segments), names[1])
    truth_segments = {s.segment_id: s for s in truth.segments}
    predicted_segments = {s.segment_id: s for s in prediction.segments}
    matches = []
    for (truth_id, predicted_id), overlap in overlaps.items():
        real, guess = truth_segments.get(truth_id), predicted_segments.get(predicted_id)
        if real is None or guess is None or real.is_crowd or real.category_id != guess.category_id:
            continue
        on_void = overlaps.get((VOID_SEGMENT_ID, predicted_id), 0)
        iou = overlap / (areas_of_prediction[predicted_id] + areas_of_truth[truth_id] - overlap - on_void)
        if iou > 0.5:
            matches.append((truth_id, predicted_id, real.category_id, iou))
    found, used = {m[0] for m in matches}, {m[1] for m in matches}
    missed = tuple(s.category_id for s in truth.segments if s.segment_id not in found and not s.is_crowd)
    unmatched = [s for s in prediction.segments if s.segment_id not in used]
    forgiven = find_forgiven(truth, unmatched, overlaps, areas_of_prediction)
    invented = tuple(s.category_id for s in unmatched if s.segment_id not in forgiven)
    return ImageMatches(tuple(matches), missed, invented)


def find_forgiven(
    truth: PanopticMap, segments: Iterable[Segment], overlaps: Mapping[tuple[int, int], int], areas: Mapping[int, int]
) -> set[int]:
    """Ids of those predicted segments of which more than half lies on void and on the crowd of their class.

    Args:
        segments: predicted ones. overlaps: see match_overlaps. areas: counted ones of the prediction, by id.
    """
    crowds = {s.category_id: s.segment_id for s in truth.segments if s.is_crowd}  # the last one listed stays
    forgiven = set()
    for segment in segments:
        pixels = overlaps.get((VOID_SEGMENT_ID, segment.segment_id), 0)
        if segment.category_id in crowds:
            pixels += overlaps.get((crowds[segment.category_id], segment.segment_id), 0)
        if pixels / areas[segment.segment_id] > 0.5:
            forgiven.add(segment.segment_id)
    return forgiven


def sum_over(overlaps: dict[tuple[int, int], int], side: int) -> dict[int, int]:
    """Area of each id of one side."""
    areas: dict[int, int] = {}
    for pair, count in overlaps.items():
        areas[pair[side]] = areas.get(pair[side], 0) + count
    return areas


def format_table(scores: dict) -> str:
    """The scores for people, in percent; `n/a` where there was nothing to score."""
    lines = [f"{'':16s} {'PQ':>6s} {'SQ':>6s} {'RQ':>6s} {'N':>5s}"]
    for name in GROUPS:
        group = scores[name]
        lines.append(f"{name:16s} {_percents(group, group['n'] > 0)} {group['n']:5d}")
    lines += ["", f"{'Class':16s} {'PQ':>6s} {'SQ':>6s} {'RQ':>6s} {'TP':>5s} {'FP':>5s} {'FN':>5s}"]
    for name, entry in scores["per_class"].items():
        counts = [entry[key] for key in ("tp", "fp", "fn")]
        lines.append(f"{name:16s} {_percents(entry, any(counts))} " + " ".join(f"{count:5d}" for count in counts))
    return "\n".join(lines)


def _percents(entry: dict, is_scored: bool) -> str:
    return " ".join(f"{100 * entry[key]:6.2f}" if is_scored else f"{'n/a':>6s}" for key in ("pq", "sq", "rq"))
