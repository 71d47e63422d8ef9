"""Why a segment is no match: each unmatched one has exactly one kind of error, and each kind a PQ that it costs.

Truth and prediction are compared as panoptic quality compares them (evaluation/panoptic_quality.py), so that of each class the
kinds of the truths add up to its true positives and false negatives, and those of the predictions, without `in void`, to its true
positives and false positives. KINDS_OF_ERRORS has the kinds in the order in which they are tried; docs/evaluation.md draws each.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from data.panoptic_png import PanopticMap, Segment
from data.taxonomy import Taxonomy
from evaluation.panoptic_quality import ClassCounts, ImageMatches, PanopticQuality, find_forgiven, sum_over
from evaluation.size_breakdown import SIZES, size_of

LOWEST_IOU = 0.1
"""Of a loose pair, as TIDE's background threshold (Bolya et al., ECCV 2020)."""
Overlaps = Mapping[tuple[int, int], int]
"""Pixels of each pair (truth id, predicted id), as evaluation.pair_counts.count_pairs gives them."""
Side = Literal["truth", "prediction"]


class Pair(NamedTuple):
    """A segment of the other side that a segment meets: its id, the pixels of both, IoU, and whether the classes are the same."""

    other: int
    pixels: int
    iou: float
    is_same_class: bool


@dataclass(frozen=True)
class Outcome:
    """What became of one segment.

    partners: ids on the other side that the kind is about, the best first. iou: with the first of them, 0 without one.
    """

    side: Side
    segment: Segment
    kind: str
    iou: float = 0.0
    partners: tuple[int, ...] = ()


def explain(truth: PanopticMap, prediction: PanopticMap, overlaps: Overlaps, matches: ImageMatches) -> tuple[Outcome, ...]:
    """One outcome for each segment of both maps but the truth's crowds, which are neither found nor missed.

    Args:
        overlaps, matches: of these two maps.
    """
    image = ComparedMaps(truth, prediction, overlaps, matches)
    # Areas are counted: what a JSON lists need not be right.
    truths = [_with_area(s, image.truth_areas[s.segment_id]) for s in truth.segments if not s.is_crowd]
    predictions = [_with_area(s, image.predicted_areas[s.segment_id]) for s in prediction.segments]
    return tuple([image.of_truth(s) for s in truths] + [image.of_prediction(s) for s in predictions])


def _with_area(segment: Segment, area: int) -> Segment:
    return segment if segment.area == area else replace(segment, area=area)


class ComparedMaps:
    """Two maps, with what is asked of them again and again."""

    def __init__(self, truth: PanopticMap, prediction: PanopticMap, overlaps: Overlaps, matches: ImageMatches):
        self.truths = {s.segment_id: s for s in truth.segments if not s.is_crowd}
        self.predictions = {s.segment_id: s for s in prediction.segments}
        self.truth_areas, self.predicted_areas = sum_over(overlaps, 0), sum_over(overlaps, 1)
        self.on_void = {predicted_id: pixels for (truth_id, predicted_id), pixels in overlaps.items() if truth_id == 0}
        of_truths, of_predictions = {k: [] for k in self.truths}, {k: [] for k in self.predictions}
        for (truth_id, predicted_id), pixels in overlaps.items():
            if truth_id in of_truths and predicted_id in of_predictions:
                of_truths[truth_id].append((predicted_id, pixels))
                of_predictions[predicted_id].append((truth_id, pixels))
        self.pairs: dict[str, dict[int, list[tuple[int, int]]]] = {"truth": of_truths, "prediction": of_predictions}
        self.found_truths = {m[0]: m for m in matches.matches}
        self.found_predictions = {m[1]: m for m in matches.matches}
        self.forgiven = find_forgiven(truth, prediction.segments, overlaps, self.predicted_areas)

    def of_truth(self, truth: Segment) -> Outcome:
        """What became of a segment of the truth."""
        if (match := self.found_truths.get(truth.segment_id)) is not None:
            return Outcome("truth", truth, "found", match[3], (match[1],))
        return self._unmatched("truth", truth, "missed")

    def of_prediction(self, prediction: Segment) -> Outcome:
        """What became of a predicted segment."""
        if (match := self.found_predictions.get(prediction.segment_id)) is not None:
            return Outcome("prediction", prediction, "found", match[3], (match[0],))
        if prediction.segment_id in self.forgiven:
            return Outcome("prediction", prediction, "in void")
        return self._unmatched("prediction", prediction, "invented")

    def _unmatched(self, side: Side, segment: Segment, alone: str) -> Outcome:
        others = self.predictions if side == "truth" else self.truths
        own = segment.segment_id
        pairs = [
            Pair(k, pixels, self._iou(side, own, k, pixels), others[k].category_id == segment.category_id)
            for k, pixels in self.pairs[side].get(own, [])
        ]
        pairs.sort(key=lambda pair: (-pair.iou, pair.other))
        for kind, find in FINDERS.items():
            if partners := find(self, side, segment, pairs):
                return Outcome(side, segment, kind, next(p.iou for p in pairs if p.other == partners[0]), partners)
        return Outcome(side, segment, alone)

    def _iou(self, side: str, own: int, other: int, pixels: int) -> float:
        truth_id, predicted_id = (own, other) if side == "truth" else (other, own)
        union = self.truth_areas[truth_id] + self.predicted_areas[predicted_id] - pixels - self.on_void.get(predicted_id, 0)
        return pixels / union

    def covered(self, predicted_id: int) -> list[int]:
        """Truths of the prediction's class of which it covers more than half, the largest share first."""
        pairs, category = self.pairs["prediction"].get(predicted_id, []), self.predictions[predicted_id].category_id
        return _more_than_half(pairs, self.truth_areas, self.truths, category)

    def pieces(self, truth_id: int) -> list[int]:
        """Predictions of the truth's class that lie with more than half of themselves in it, the largest share first."""
        pairs, category = self.pairs["truth"].get(truth_id, []), self.truths[truth_id].category_id
        return _more_than_half(pairs, self.predicted_areas, self.predictions, category)


def _more_than_half(
    pairs: Sequence[tuple[int, int]], areas: Mapping[int, int], segments: Mapping[int, Segment], category: int
) -> list[int]:
    """Segments of a class of which a pair, (id, pixels in common), has more than half; the largest share first."""
    shares = [(pixels / areas[other], other) for other, pixels in pairs if segments[other].category_id == category]
    return [other for share, other in sorted(shares, key=lambda s: (-s[0], s[1])) if share > 0.5]


def _find_wrong_class(image: ComparedMaps, side: Side, segment: Segment, pairs: Sequence[Pair]) -> tuple[int, ...]:
    return tuple([pair.other for pair in pairs if pair.iou > 0.5 and not pair.is_same_class][:1])


def _find_merged(image: ComparedMaps, side: Side, segment: Segment, pairs: Sequence[Pair]) -> tuple[int, ...]:
    """Of a prediction the truths that it covers, of a truth the prediction that covers it and others."""
    if side == "prediction":
        covered = image.covered(segment.segment_id)
        return tuple(covered) if len(covered) > 1 else ()
    others = [pair.other for pair in pairs if pair.is_same_class]
    by = [other for other in others if segment.segment_id in (found := image.covered(other)) and len(found) > 1]
    return tuple(by[:1])


def _find_split(image: ComparedMaps, side: Side, segment: Segment, pairs: Sequence[Pair]) -> tuple[int, ...]:
    """Of a truth its pieces, of a prediction the truth that it and others are pieces of."""
    if side == "truth":
        pieces = image.pieces(segment.segment_id)
        return tuple(pieces) if len(pieces) > 1 else ()
    others = [pair.other for pair in pairs if pair.is_same_class]
    of = [other for other in others if segment.segment_id in (found := image.pieces(other)) and len(found) > 1]
    return tuple(of[:1])


def _find_loose(image: ComparedMaps, side: Side, segment: Segment, pairs: Sequence[Pair]) -> tuple[int, ...]:
    same = [pair for pair in pairs if pair.is_same_class][:1]
    return tuple(pair.other for pair in same if pair.iou >= LOWEST_IOU)


@dataclass(frozen=True)
class Kind:
    """A kind of error: what it is in a line, and what is said of a class that has it."""

    meaning: str
    words: str = ""
    """Behind `3 of 9 are`, of truths; without words a class is never said to have it."""
    advice: str = ""
    """What would help first."""
    find: Callable[[ComparedMaps, Side, Segment, Sequence[Pair]], tuple[int, ...]] | None = None
    """Ids on the other side that an unmatched segment's error is about, the best first, of those in `pairs`; none: another kind.
    None as a function: the kind is what a segment has by itself, before or after all that are tried."""


KINDS_OF_ERRORS = {
    "found": Kind("the same class, IoU above one half"),
    "in void": Kind("a prediction that panoptic quality forgives: most of it lies on void, or on a crowd of its class"),
    "wrong class": Kind(
        "IoU above one half with a segment of another class",
        "taken for another class",
        "see the confusion matrix for which one, and whether the labels tell the two apart",
        _find_wrong_class,
    ),
    "merged": Kind(
        "one prediction covers more than half of each of several truths of its class",
        "merged with others",
        "masks that keep neighbours apart, or a higher min_score, would help first",
        _find_merged,
    ),
    "split": Kind(
        "several predictions of a class each lie with more than half of themselves in one truth",
        "split into several",
        "a larger view of the object, or a lower max_overlap, would help first",
        _find_split,
    ),
    "loose": Kind(
        "the same class, IoU from 0.1 to 0.5",
        "found only loosely (IoU of 0.1 to 0.5)",
        "finer masks would help first",
        _find_loose,
    ),
    "missed": Kind(
        "a truth with none of these",
        "missed",
        "more images of it, a longer training or a lower min_score would help first",
    ),
    "invented": Kind(
        "a prediction with none of these",
        "invented",
        "a higher min_score, or a larger smallest stuff area, would help first",
    ),
}
"""In the order in which they are tried. A new kind is one entry here and a row in docs/evaluation.md."""
KINDS = tuple(KINDS_OF_ERRORS)
FINDERS = {name: kind.find for name, kind in KINDS_OF_ERRORS.items() if kind.find is not None}


@dataclass
class ErrorKinds:
    """Collects images, in memory that does not grow with their number.

    truths, predictions: category id -> kind -> how many. sizes: (side, category id, kind) -> size -> how many.
    """

    taxonomy: Taxonomy
    truths: dict[int, Counter] = field(default_factory=dict)
    predictions: dict[int, Counter] = field(default_factory=dict)
    sizes: dict[tuple[str, int, str], Counter] = field(default_factory=dict)
    quality: PanopticQuality = field(default_factory=PanopticQuality)

    def add(self, outcomes: tuple[Outcome, ...], matches: ImageMatches, num_pixels: int) -> None:
        """Count one image.

        Args:
            matches: that the outcomes are of.
            num_pixels: of the image, which sizes of things scale with.
        """
        self.quality.add_matches(matches)
        for outcome in outcomes:
            side = self.truths if outcome.side == "truth" else self.predictions
            category_id = outcome.segment.category_id
            _counter_of(side, category_id)[outcome.kind] += 1
            key = (outcome.side, category_id, outcome.kind)
            _counter_of(self.sizes, key)[size_of(outcome.segment.area, num_pixels)] += 1

    def quality_without(self, kind: str) -> PanopticQuality:
        """PQ if all of this kind were right: its truths found with IoU 1, its predictions gone; of `found` the IoU would be 1."""
        fixed = PanopticQuality({k: replace(counts) for k, counts in self.quality.counts.items()})
        for category_id in {*self.truths, *self.predictions}:
            counts = fixed.counts.setdefault(category_id, ClassCounts())
            if kind == "found":
                counts.iou_sum = float(counts.tp)
                continue
            num_truths = self.truths.get(category_id, Counter())[kind]
            counts.tp, counts.fn, counts.iou_sum = counts.tp + num_truths, counts.fn - num_truths, counts.iou_sum + num_truths
            if kind != "in void":
                counts.fp -= self.predictions.get(category_id, Counter())[kind]
        return fixed

    def scores(self) -> dict:
        """{"kinds": {kind: {truths, predictions, pq, gain}}, "per_class": {name: {kind: {truths, predictions}}}, and
        "things_by_size": {size: {kind: {truths, predictions}}}}; PQ of all classes as a fraction of 1."""
        now = self.quality.scores(self.taxonomy)["All"]["pq"]
        names = {c.dataset_id: c.name for c in self.taxonomy.categories}
        found = {}
        for kind in KINDS:
            pq = self.quality_without(kind).scores(self.taxonomy)["All"]["pq"]
            sums = {"truths": _total(self.truths, kind), "predictions": _total(self.predictions, kind)}
            found[kind] = sums | {"pq": pq, "gain": None if pq is None else pq - now}
        per_class = {
            names[category_id]: {
                kind: {
                    "truths": self._count("truths", category_id, kind),
                    "predictions": self._count("predictions", category_id, kind),
                }
                for kind in KINDS
            }
            for category_id in names
            if category_id in self.truths or category_id in self.predictions
        }
        by_size = {
            size: {kind: {f"{side}s": self._of_size(side, kind, size) for side in ("truth", "prediction")} for kind in KINDS}
            for size in SIZES
        }
        return {"kinds": found, "per_class": per_class, "things_by_size": by_size}

    def _of_size(self, side: str, kind: str, size: str) -> int:
        """Things of a kind and a size."""
        things = [c.dataset_id for c in self.taxonomy.categories if c.is_thing]
        return sum(self.sizes[side, k, kind][size] for k in things if (side, k, kind) in self.sizes)

    def _count(self, side: str, category_id: int, kind: str) -> int:
        return getattr(self, side).get(category_id, Counter())[kind]

    def findings(self, most: int = 3) -> list[str]:
        """The errors of one class and kind that cost the most PQ, in words, the most expensive first."""
        names = {c.dataset_id: c for c in self.taxonomy.categories}
        costs = []
        for category_id in {*self.truths, *self.predictions}:
            counts = self.quality.counts.get(category_id, ClassCounts())
            for kind in KINDS:
                if not KINDS_OF_ERRORS[kind].words:
                    continue
                lost, wrong = self._count("truths", category_id, kind), self._count("predictions", category_id, kind)
                after = ClassCounts(counts.iou_sum + lost, counts.tp + lost, counts.fp - wrong, counts.fn - lost)
                costs.append((after.quality[0] - counts.quality[0], names[category_id].name, kind, category_id, lost, wrong))
        costs.sort(key=lambda cost: (-cost[0], cost[1], cost[2]))
        num_classes = sum(counts.is_seen for counts in self.quality.counts.values())
        return [
            self._in_words(*words, gain=f"{100 * cost / num_classes:+.1f} PQ if right")
            for cost, *words in costs[:most]
            if cost > 0
        ]

    def _in_words(self, name: str, kind: str, category_id: int, lost: int, wrong: int, *, gain: str) -> str:
        total = sum(self.truths.get(category_id, Counter()).values())
        if kind == "invented":
            predicted = sum(self.predictions[category_id].values())
            return f"{name}: {wrong} of {predicted} predictions {_are(wrong)} invented ({gain}); {KINDS_OF_ERRORS[kind].advice}"
        text = f"{name}: {lost} of {total} {_are(lost)} {KINDS_OF_ERRORS[kind].words}"
        advice = KINDS_OF_ERRORS[kind].advice
        if kind in ("missed", "loose") and self.taxonomy.is_thing[self.taxonomy.dataset_id_to_train_id[category_id]]:
            of_size = self.sizes.get(("truth", category_id, kind), Counter())
            small = sum(of_size[size] for size in SIZES[:2])
            if small > lost / 2:
                text += f", {small} of them below 32x32 pixels of a 1024x2048 image"
                advice = "a larger input would help first"
        return f"{text} ({gain}); {advice}"


def _counter_of(counters: dict, key: object) -> Counter:
    """counters[key], a new one where there is none; as setdefault, which would make one on every call."""
    found = counters.get(key)
    if found is None:
        found = counters[key] = Counter()
    return found


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _total(counts: Mapping[int, Counter], kind: str) -> int:
    return sum(of_class[kind] for of_class in counts.values())
