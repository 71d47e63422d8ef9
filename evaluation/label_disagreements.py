"""Segments of a truth that a prediction contradicts, the most suspicious first, where its mistakes are to be looked for.

The idea is confident learning's (Northcutt, Jiang and Chuang, "Confident Learning", JAIR 2021): a label is doubted where a model
is as sure of another class as it usually is where it agrees with the labels. The rule here, exactly: let t(c) be the mean score
of the predictions of class c that are found, that is, have IoU above 0.5 with a truth of their class. A prediction of class c is
confident if its score is t(c) or more; where the class has none that are found, of all classes together. A prediction without
scores is confident in all that it says. Then, by the kinds of evaluation/error_kinds.py:

class-disputed   a truth of the kind `wrong class`, whose partner is confident; weight: score times IoU
number-disputed  a thing's truth that is `split`, or a thing's prediction that is `merged`, if all are confident; weight: score
object-disputed  a thing's prediction of the kind `invented` that is confident; weight: score times the root of its area's share
void-disputed    a thing's prediction that lies with more than half of itself on void, and is confident; the same weight
object-unseen    a truth of the kind `missed` of at least 96x96 pixels of a 1024x2048 image, of a class of which more than half of
                 such truths are found; weight: the root of its area's share

A score that is not there counts as 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from data.label_checks.findings import Finding, name_segment
from data.label_checks.json_checks import LabelClass
from data.panoptic_file import ImageId
from data.panoptic_png import PanopticMap, Segment
from evaluation.error_kinds import Outcome
from evaluation.file_scores import compare_maps
from evaluation.panoptic_quality import VOID_SEGMENT_ID
from evaluation.size_breakdown import size_of

LARGE = ("large", "huge")


@dataclass(frozen=True)
class Doubt:
    """A finding before it is known which scores are confident. doubters: (category id, score) of the predictions behind it."""

    kind: str
    image_id: ImageId
    segment: Segment
    side: str
    weight: float
    doubters: tuple[tuple[int, float], ...] = ()
    partners: tuple[Segment, ...] = ()
    iou: float = 0.0


@dataclass(frozen=True)
class Compared:
    """An image's doubts; (category id, score) of its predictions that are found; (category id, is found) of its large truths."""

    doubts: tuple[Doubt, ...]
    found: tuple[tuple[int, float], ...]
    large: tuple[tuple[int, bool], ...]


@dataclass
class _Trust:
    """Of a class: scores of the predictions that are found, and how many large truths there are, and are found."""

    num: int = 0
    total: float = 0.0
    num_large: int = 0
    num_large_found: int = 0


@dataclass
class LabelDisagreements:
    """Collects images, in memory that grows with what is disputed, not with the pixels; a Judge of data/label_checks/check.py."""

    _doubts: list[Doubt] = field(default_factory=list)
    _trust: dict[int, _Trust] = field(default_factory=dict)

    def compare(self, image_id: ImageId, truth: PanopticMap, prediction: PanopticMap) -> Compared:
        """What of an image may be disputed.

        Args:
            truth, prediction: of one size, with counted areas; each id of a map is listed and the reverse.
        """
        compared = compare_maps(image_id, truth, prediction)
        outcomes = compared.outcomes
        image = _Image(image_id, truth, prediction, compared.overlaps)
        found = [o.segment for o in outcomes if o.side == "prediction" and o.kind == "found"]
        large = [o for o in outcomes if o.side == "truth" and image.is_large(o.segment)]
        return Compared(
            tuple(doubt for outcome in outcomes if (doubt := image.doubt(outcome)) is not None),
            tuple((s.category_id, _score(s)) for s in found),
            tuple((o.segment.category_id, o.kind == "found") for o in large),
        )

    def add(self, compared: Compared) -> None:
        """Add what `compare` gave."""
        self._doubts += compared.doubts
        for category_id, score in compared.found:
            trust = self._trust.setdefault(category_id, _Trust())
            trust.num, trust.total = trust.num + 1, trust.total + score
        for category_id, is_found in compared.large:
            trust = self._trust.setdefault(category_id, _Trust())
            trust.num_large, trust.num_large_found = trust.num_large + 1, trust.num_large_found + is_found

    def least_score(self, category_id: int) -> float:
        """From which a prediction of this class is confident."""
        trust = self._trust.get(category_id)
        if trust is None or not trust.num:
            num, total = (sum(getattr(t, name) for t in self._trust.values()) for name in ("num", "total"))
            return total / num if num else 0.0
        return trust.total / trust.num

    def findings(self, classes: Mapping[int, LabelClass]) -> list[Finding]:
        """What confident predictions dispute, the heaviest first.

        Args:
            classes: names and kinds, by category id.
        """
        found = [_in_words(doubt, classes) for doubt in self._doubts if self._is_confident(doubt, classes)]
        return sorted(found, key=lambda f: -f.weight)

    def _is_confident(self, doubt: Doubt, classes: Mapping[int, LabelClass]) -> bool:
        of_class = classes.get(doubt.segment.category_id)
        is_about_things = doubt.kind in ("number-disputed", "object-disputed", "void-disputed")
        if is_about_things and (of_class is None or not of_class.is_thing):
            return False
        if doubt.kind == "object-unseen":
            trust = self._trust[doubt.segment.category_id]
            return trust.num_large_found > trust.num_large / 2
        # A mean of equal scores may differ from them in the last bit.
        return all(score >= self.least_score(category_id) - 1e-9 for category_id, score in doubt.doubters)


class _Image:
    """Both maps of an image, by segment id."""

    def __init__(self, image_id: ImageId, truth: PanopticMap, prediction: PanopticMap, overlaps: Mapping[tuple[int, int], int]):
        self.image_id, self.num_pixels = image_id, truth.segment_ids.size
        self.truths = {s.segment_id: s for s in truth.segments}
        self.predictions = {s.segment_id: s for s in prediction.segments}
        self.on_void = {p: pixels for (t, p), pixels in overlaps.items() if t == VOID_SEGMENT_ID}

    def is_large(self, segment: Segment) -> bool:
        """Of at least 96x96 pixels of a 1024x2048 image."""
        return size_of(segment.area, self.num_pixels) in LARGE

    def doubt(self, outcome: Outcome) -> Doubt | None:
        """What an outcome says against the truth; None if nothing."""
        segment, side = outcome.segment, outcome.side
        share = (segment.area / self.num_pixels) ** 0.5
        if side == "truth":
            partners = tuple(self.predictions[k] for k in outcome.partners)
            if outcome.kind == "wrong class":
                weight = _score(partners[0]) * outcome.iou
                return self._make("class-disputed", outcome, weight, partners[:1], partners[:1])
            if outcome.kind == "split":
                return self._make("number-disputed", outcome, min(map(_score, partners)), partners, partners)
            if outcome.kind == "missed" and self.is_large(segment):
                return self._make("object-unseen", outcome, share, (), ())
            return None
        if outcome.kind == "merged":
            partners = tuple(self.truths[k] for k in outcome.partners)
            return self._make("number-disputed", outcome, _score(segment), (segment,), partners)
        if outcome.kind == "in void" and self.on_void.get(segment.segment_id, 0) > segment.area / 2:
            return self._make("void-disputed", outcome, _score(segment) * share, (segment,), ())
        if outcome.kind == "invented":
            return self._make("object-disputed", outcome, _score(segment) * share, (segment,), ())
        return None

    def _make(
        self, kind: str, outcome: Outcome, weight: float, doubters: tuple[Segment, ...], partners: tuple[Segment, ...]
    ) -> Doubt:
        scores = tuple((s.category_id, _score(s)) for s in doubters)
        return Doubt(kind, self.image_id, outcome.segment, outcome.side, weight, scores, partners, outcome.iou)


def _score(segment: Segment) -> float:
    return 1.0 if segment.score is None else segment.score


def _in_words(doubt: Doubt, classes: Mapping[int, LabelClass]) -> Finding:
    """Side and segment ids are the truth's where it has the segment, else the prediction's."""

    def name(segment: Segment) -> str:
        return name_segment(segment.segment_id, classes[segment.category_id].name if segment.category_id in classes else None)

    segment, side, ids = doubt.segment, doubt.side, (doubt.segment.segment_id,)
    score = min((score for _, score in doubt.doubters), default=None)
    scored = "" if score is None else f", score {score:.2f}"
    if doubt.kind == "class-disputed":
        text = f"{name(segment)}: predicted as {classes[doubt.partners[0].category_id].name}, IoU {doubt.iou:.2f}{scored}"
    elif doubt.kind == "number-disputed" and side == "truth":
        text = f"{name(segment)}: predicted as {len(doubt.partners)} objects{scored}"
    elif doubt.kind == "number-disputed":
        text = f"{', '.join(name(s) for s in doubt.partners[:4])}: predicted as one object{scored}"
        side, ids = "truth", tuple(s.segment_id for s in doubt.partners)
    elif doubt.kind == "object-unseen":
        text = f"{name(segment)}: {segment.area} pixels, with no prediction of its class of IoU 0.1 or more"
    else:
        where = "on void" if doubt.kind == "void-disputed" else "where the truth has no such object"
        text = f"{name(segment)}: {segment.area} pixels {where}{scored}"
    numbers = {"iou": doubt.iou} if doubt.iou else {}
    numbers |= {} if score is None else {"score": score}
    box = _around([s.bbox for s in doubt.partners]) if ids != (segment.segment_id,) else segment.bbox
    return Finding(doubt.kind, doubt.image_id, side, ids, box, text, doubt.weight, numbers)


def _around(boxes: list[tuple[int, int, int, int]]) -> tuple[int, int, int, int]:
    """The box around boxes (x, y, width, height)."""
    left, top = min(b[0] for b in boxes), min(b[1] for b in boxes)
    right, bottom = max(b[0] + b[2] for b in boxes), max(b[1] + b[3] for b in boxes)
    return left, top, right - left, bottom - top
