"""Scores of panoptic videos, whose segment ids are tracks: VPQ (Kim et al., CVPR 2020) and STQ (Weber et al., 2021).

VPQ is panoptic quality of tubes: of n labelled frames in a row, all pixels of one id are one segment. It is taken at every place
of a window of n frames, for several n, and the mean over n is the score. Equals mcahny/vps, tools/eval_vpq.py at 138503e.

STQ is the geometric mean of SQ, the mean IoU of the classes over all pixels, and AQ, how well the ids of things hold over a whole
sequence. Equals google-research/deeplab2, evaluation/numpy/segmentation_and_tracking_quality.py at 64bc1c1, but for the rounding
of its 32-bit floats.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data.panoptic_png import PanopticMap, Segment
from data.taxonomy import Taxonomy
from evaluation.pair_counts import count_pairs
from evaluation.panoptic_quality import GROUPS, ClassCounts, PanopticQuality, match_overlaps
from evaluation.semantic_iou import SemanticIoU
from runtime.files import InputError, first_few

WINDOWS = (1, 2, 3, 4)
"""Labelled frames in a window. Cityscapes-VPS labels every fifth frame, so that these are the paper's k of 0, 5, 10 and 15."""

Overlaps = Mapping[tuple[int, int], int]
"""(truth id, predicted id) -> pixels (evaluation.pair_counts.count_pairs)."""


class _Frame(NamedTuple):
    """What a window keeps of a frame: no pixels."""

    overlaps: Overlaps
    truth: tuple[Segment, ...]
    prediction: tuple[Segment, ...]


class _InOrder:
    """Refuses frames of a sequence that was left: what is counted of a sequence is summed up when the next one begins."""

    def __init__(self):
        self.current: str | None = None
        self._left: set[str] = set()

    def begins(self, sequence: str) -> bool:
        """Whether the frame to be added is the first one of its sequence."""
        if sequence == self.current:
            return False
        if sequence in self._left:
            raise InputError(f"sequence {sequence!r} comes a second time; add all frames of a sequence one after the other")
        if self.current is not None:
            self._left.add(self.current)
        self.current = sequence
        return True


class VideoPanopticQuality:
    """Collects frames one by one. Memory is that of the overlaps of as many frames as the longest window has."""

    def __init__(self, taxonomy: Taxonomy, windows: Sequence[int] = WINDOWS):
        """
        Args:
            taxonomy: whose dataset ids the categories of truth and prediction are.
            windows: numbers of labelled frames.

        Raises:
            InputError: if a window is no whole number from 1 on.
        """
        wrong = [n for n in windows if isinstance(n, bool) or not isinstance(n, int) or n < 1]
        if wrong or not windows:
            found = first_few(wrong) if wrong else "none"
            raise InputError(f"windows of {found} frames, but whole numbers from 1 on were needed; give some, such as 1 2 3 4")
        self.taxonomy = taxonomy
        self.windows = tuple(sorted(set(windows)))
        self._order = _InOrder()
        self._frames: deque[_Frame] = deque(maxlen=self.windows[-1])
        self._ended = {n: PanopticQuality() for n in self.windows}
        self._current = {n: PanopticQuality() for n in self.windows}

    def add(self, sequence: str, truth: PanopticMap, prediction: PanopticMap, overlaps: Overlaps | None = None) -> None:
        """Count the next frame of a sequence; segments of one id are one tube.

        An id that changes its class within a window has that of the first frame, as in the authors' code.

        Args:
            overlaps: of the two maps, where they are counted already.

        Raises:
            InputError: if the sizes differ, a map and its list of segments name different ids, or the sequence was left.
        """
        overlaps = count_pairs(truth.segment_ids, prediction.segment_ids) if overlaps is None else overlaps
        if self._order.begins(sequence):
            self._end_sequence()
        self._frames.append(_Frame(overlaps, truth.segments, prediction.segments))
        for n in self.windows:
            if n <= len(self._frames):
                self._add_window(n)

    def _add_window(self, num_frames: int) -> None:
        frames = list(self._frames)[-num_frames:]
        total: dict[tuple[int, int], int] = {}
        for frame in frames:
            for pair, pixels in frame.overlaps.items():
                total[pair] = total.get(pair, 0) + pixels
        truth = _tubes(frame.truth for frame in frames)
        prediction = _tubes(frame.prediction for frame in frames)
        names = tuple(f"sequence {self._order.current!r}, {side}" for side in ("truth", "prediction"))
        self._current[num_frames].add_matches(match_overlaps(truth, prediction, dict(sorted(total.items())), names))

    def _end_sequence(self) -> None:
        """Add the sequence's counts to those before, as the authors do, on which the last bit of a sum depends."""
        self._ended, self._current = self._totals(), {n: PanopticQuality() for n in self.windows}
        self._frames.clear()

    def _totals(self) -> dict[int, PanopticQuality]:
        return {n: _sum_counts(self._ended[n], self._current[n]) for n in self.windows}

    def scores(self) -> dict:
        """The scores as fractions of 1, at any time.

        Returns:
            {"All"|"Things"|"Stuff": {"vpq": mean of the windows' PQ}, "windows": {n: as PanopticQuality.scores}}. A window
            that is longer than every sequence has None and enters no mean.

        Raises:
            InputError: as PanopticQuality.scores.
        """
        windows = {n: quality.scores(self.taxonomy) for n, quality in self._totals().items()}
        scores = {}
        for group in GROUPS:
            seen = [entry[group]["pq"] for entry in windows.values() if entry[group]["pq"] is not None]
            scores[group] = {"vpq": sum(seen) / len(seen) if seen else None}
        return scores | {"windows": windows}


def _tubes(lists: Iterable[tuple[Segment, ...]]) -> PanopticMap:
    """The segments of several frames, each id as it is listed first; without pixels."""
    tubes: dict[int, Segment] = {}
    for segments in lists:
        for segment in segments:
            tubes.setdefault(segment.segment_id, segment)
    return PanopticMap(np.empty((0, 0), np.uint32), tuple(tubes.values()))


def _sum_counts(first: PanopticQuality, second: PanopticQuality) -> PanopticQuality:
    total = PanopticQuality()
    for quality in (first, second):
        for category_id, counts in quality.counts.items():
            own = total.counts.setdefault(category_id, ClassCounts())
            own.iou_sum += counts.iou_sum
            own.tp += counts.tp
            own.fp += counts.fp
            own.fn += counts.fn
    return total


@dataclass(frozen=True)
class SequenceQuality:
    """STQ of one sequence. `aq` is None where the truth has no thing, `sq` where it is void; `stq` where one of both is."""

    name: str
    num_frames: int
    num_tracks: int
    stq: float | None
    aq: float | None
    sq: float | None


@dataclass
class _Tubes:
    """Pixels of one sequence's tubes. A predicted id that changes its class is two tubes."""

    num_frames: int
    truth: dict[int, int]
    prediction: dict[tuple[int, int], int]
    both: dict[tuple[int, tuple[int, int]], int]
    classes: SemanticIoU

    def association(self) -> float:
        """Sum over the tubes of the truth of the mean, over their pixels, of the IoU with the tube that a pixel is given.

        A pixel that is given to no tube counts as 0.
        """
        per_track = dict.fromkeys(self.truth, 0.0)
        for (track, guess), shared in self.both.items():
            union = self.truth[track] + self.prediction[guess] - shared
            per_track[track] += shared * (shared / union)
        return sum(1.0 / self.truth[track] * weighted for track, weighted in per_track.items())


class SegmentationTrackingQuality:
    """Collects frames one by one; memory is that of the pairs of tubes in one sequence that overlap.

    Void of the truth counts in no class; a thing that is predicted there makes its tube larger, which costs association.
    A crowd of the truth counts in its class, and neither as a track nor in a predicted tube. Void of the prediction is an error
    of the truth's class and, as in the authors' code, one more class of IoU 0 in the mean; `miou` is the mean without it.
    """

    def __init__(self, taxonomy: Taxonomy):
        """
        Args:
            taxonomy: its things are what is tracked; truth and prediction have its dataset ids as categories.
        """
        self.taxonomy = taxonomy
        self._order = _InOrder()
        self._tubes = self._no_tubes()
        self._classes = SemanticIoU(taxonomy)
        self._done: list[tuple[SequenceQuality, float]] = []

    def _no_tubes(self) -> _Tubes:
        return _Tubes(0, {}, {}, {}, SemanticIoU(self.taxonomy))

    def add(self, sequence: str, truth: PanopticMap, prediction: PanopticMap, overlaps: Overlaps | None = None) -> None:
        """Count the next frame of a sequence.

        Args:
            overlaps: of the two maps, where they are counted already.

        Raises:
            InputError: if the sizes differ, a map holds an id that is not listed, a category is not in the taxonomy, or the
                sequence was left.
        """
        overlaps = count_pairs(truth.segment_ids, prediction.segment_ids) if overlaps is None else overlaps
        previous = self._order.current
        if self._order.begins(sequence):
            self._end_sequence(previous)
        tubes = self._tubes
        for classes in (tubes.classes, self._classes):
            classes.add_overlaps(truth, prediction, overlaps)
        tubes.num_frames += 1
        real = {s.segment_id: s for s in truth.segments if self._is_thing(s)}
        guesses = {s.segment_id: (s.category_id, s.segment_id) for s in prediction.segments if self._is_thing(s)}
        for (truth_id, predicted_id), pixels in overlaps.items():
            thing, guess = real.get(truth_id), guesses.get(predicted_id)
            if thing is not None and thing.is_crowd:
                continue
            if guess is not None:
                tubes.prediction[guess] = tubes.prediction.get(guess, 0) + pixels
            if thing is not None:
                tubes.truth[truth_id] = tubes.truth.get(truth_id, 0) + pixels
                if guess is not None:
                    tubes.both[truth_id, guess] = tubes.both.get((truth_id, guess), 0) + pixels

    def _is_thing(self, segment: Segment) -> bool:
        return bool(self.taxonomy.is_thing[self.taxonomy.dataset_id_to_train_id[segment.category_id]])

    def _end_sequence(self, name: str | None) -> None:
        if name is not None:
            self._done.append(self._summary(name))
        self._tubes = self._no_tubes()

    def _summary(self, name: str) -> tuple[SequenceQuality, float]:
        """The current sequence and the sum of its tracks' association."""
        total, num_tracks = self._tubes.association(), len(self._tubes.truth)
        aq = total / num_tracks if num_tracks else None
        sq = segmentation_quality(self._tubes.classes)
        return SequenceQuality(name, self._tubes.num_frames, num_tracks, _geometric_mean(aq, sq), aq, sq), total

    def scores(self) -> dict:
        """The scores as fractions of 1, at any time; tracks of all sequences count the same, and pixels of all in SQ.

        Returns:
            {"stq", "aq", "sq", "miou", "num_tracks", "sequences": [SequenceQuality, ...]}; None where there is nothing to score.
        """
        sequences = self._done + ([] if self._order.current is None else [self._summary(self._order.current)])
        num_tracks = sum(sequence.num_tracks for sequence, _ in sequences)
        aq = sum(total for _, total in sequences) / num_tracks if num_tracks else None
        sq = segmentation_quality(self._classes)
        return {
            "stq": _geometric_mean(aq, sq),
            "aq": aq,
            "sq": sq,
            "miou": self._classes.scores()["miou"],
            "num_tracks": num_tracks,
            "sequences": [sequence for sequence, _ in sequences],
        }


def segmentation_quality(classes: SemanticIoU) -> float | None:
    """SQ of STQ: the mean IoU, in which predicted void is one more class of IoU 0, if there is any; None if all truth is void."""
    hits = np.append(classes.confusion.diagonal(), 0)
    unions = np.append(classes.confusion.sum(1), 0) + classes.confusion.sum(0) - hits
    num_seen = np.count_nonzero(unions)
    return float(np.sum(hits / np.maximum(unions, 1)) / num_seen) if num_seen else None


def _geometric_mean(aq: float | None, sq: float | None) -> float | None:
    return None if aq is None or sq is None else math.sqrt(aq * sq)


def pair_frames(
    sequences: Iterable[tuple[str, Iterable[tuple[str, PanopticMap]]]], prediction_of: Callable[[str], PanopticMap]
) -> Iterator[tuple[str, PanopticMap, PanopticMap]]:
    """What score_videos takes, one frame at a time.

    Args:
        sequences: (sequence, (frame name, truth) of its frames in order of time), as the layouts' read_sequences give them.
        prediction_of: the predicted map of a frame by its name, such as the one of a run's tracks.json.
    """
    for sequence, frames in sequences:
        for name, truth in frames:
            yield sequence, truth, prediction_of(name)


def score_videos(
    frames: Iterable[tuple[str, PanopticMap, PanopticMap]], taxonomy: Taxonomy, windows: Sequence[int] = WINDOWS
) -> dict:
    """VPQ and STQ in one pass.

    Args:
        frames: (sequence, truth, prediction) of each labelled frame, all of a sequence one after the other, in order of time.
        taxonomy, windows: as in VideoPanopticQuality and SegmentationTrackingQuality.

    Returns:
        {"vpq": as VideoPanopticQuality.scores, "stq": as SegmentationTrackingQuality.scores}.

    Raises:
        InputError: as both classes; if there is no frame.
    """
    vpq, stq = VideoPanopticQuality(taxonomy, windows), SegmentationTrackingQuality(taxonomy)
    has_frames = False
    for sequence, truth, prediction in frames:
        overlaps = count_pairs(truth.segment_ids, prediction.segment_ids)
        vpq.add(sequence, truth, prediction, overlaps)
        stq.add(sequence, truth, prediction, overlaps)
        has_frames = True
    if not has_frames:
        raise InputError("no frame with truth and prediction; give at least one sequence that has both")
    return {"vpq": vpq.scores(), "stq": stq.scores()}


def format_table(scores: dict) -> str:
    """What score_videos gives, for people, in percent; `n/a` where there was nothing to score."""
    vpq, stq = scores["vpq"], scores["stq"]
    lines = [f"{'':16s} {'All':>6s} {'Things':>6s} {'Stuff':>6s}"]
    lines.append(f"{'VPQ':16s} " + " ".join(_percent(vpq[group]["vpq"]) for group in GROUPS))
    for n, entry in vpq["windows"].items():
        name = f"  {n} frame{'s' if n > 1 else ''}"
        lines.append(f"{name:16s} " + " ".join(_percent(entry[group]["pq"]) for group in GROUPS))
    lines += ["", f"{'':16s} {'STQ':>6s} {'AQ':>6s} {'SQ':>6s}"]
    lines.append(f"{'All':16s} " + " ".join(_percent(stq[key]) for key in ("stq", "aq", "sq")))
    for each in stq["sequences"]:
        lines.append(f"{each.name:16s} " + " ".join(_percent(value) for value in (each.stq, each.aq, each.sq)))
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return f"{'n/a':>6s}" if value is None else f"{100 * value:6.2f}"
