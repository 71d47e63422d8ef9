"""Which stage of a fusion loses what: the truth takes the place of each half, and the same rule fuses again."""

from dataclasses import dataclass
from functools import partial

from data.split import Split
from evaluation.error_kinds import KINDS, ErrorKinds, Outcome, explain
from evaluation.pair_counts import count_pairs
from evaluation.panoptic_quality import ImageMatches, match_overlaps
from evaluation.report import Table
from evaluation.results_table import percent
from prediction.fused import FusedPredictor
from prediction.sources.truth import Truth
from runtime.files import InputError
from runtime.progress import track
from runtime.threads import in_threads

STAGES = ("as it is", "with true instances", "with true semantics", "with both true")


@dataclass(frozen=True)
class StageLosses:
    """Kinds of errors by STAGES."""

    stages: dict[str, ErrorKinds]

    @property
    def pq(self) -> dict[str, float | None]:
        """PQ of all classes by STAGES, 0..1."""
        return {name: kinds.quality.scores(kinds.taxonomy)["All"]["pq"] for name, kinds in self.stages.items()}

    def table(self) -> Table:
        """PQ in percent, and how many segments of the truth there are of each kind."""
        rows = []
        for name, kinds in self.stages.items():
            scores, counts = kinds.quality.scores(kinds.taxonomy), kinds.scores()["kinds"]
            quality = [percent(scores[group]["pq"]) for group in ("All", "Things", "Stuff")]
            numbers = [counts[kind]["predictions" if kind == "invented" else "truths"] for kind in KINDS if kind != "in void"]
            rows.append((name, *quality, *numbers))
        columns = ("", "PQ", "things", "stuff", *(kind for kind in KINDS if kind != "in void"))
        return Table("What each stage loses", columns, tuple(rows), self.in_words())

    def in_words(self) -> str:
        """What each half and the rule cost, in points of PQ."""
        now, instances, semantics, both = self.pq.values()
        if None in (now, instances, semantics, both):
            return "Nothing was scored."
        gains = f"True instances {100 * (instances - now):+.1f} PQ, true semantics {100 * (semantics - now):+.1f} PQ"
        return f"{gains}; with both, the rule and the masks' stride still lose {100 * (1 - both):.1f}."

    def to_json(self) -> dict:
        """{stage: {scores, kinds}}."""
        return {
            name: {"scores": kinds.quality.scores(kinds.taxonomy), "errors": kinds.scores()}
            for name, kinds in self.stages.items()
        }


def find_stage_losses(split: Split, predictor: FusedPredictor, *, workers: int = 2) -> StageLosses:
    """Fuse each image that has a truth four times: with both halves as they are, and with the truth in place of one or both.

    Raises:
        InputError: if the predictor has no instances, or no image has a truth.
    """
    if predictor.instances is None:
        raise InputError("stages are told apart by their halves, but without instances there is one only; give --instances")
    indices = [index for index in range(len(split)) if split.has_truth(index)]
    if not indices:
        raise InputError(f"{split.name}: no image has a truth, so no stage can be blamed")
    losses = StageLosses({name: ErrorKinds(predictor.taxonomy) for name in STAGES})
    work = partial(_compare_stages, split, predictor, Truth(split))
    for found, num_pixels in track(in_threads(work, indices, workers), "stages", len(indices)):
        for kinds, (outcomes, matches) in zip(losses.stages.values(), found, strict=True):
            kinds.add(outcomes, matches, num_pixels)
    return losses


def _compare_stages(
    split: Split, predictor: FusedPredictor, source: Truth, index: int
) -> tuple[list[tuple[tuple[Outcome, ...], ImageMatches]], int]:
    """Outcomes and matches of one image by STAGES, and its number of pixels."""
    image_id, image = split.image_id(index), split.image(index)
    found, true = predictor.predict(image_id, image), source.predict(image_id, image)
    halves = ((true.instances, found.semantic), (found.instances, true.semantic), (true.instances, true.semantic))
    fused = [found.panoptic, *(predictor.rule.fuse(*both, predictor.taxonomy) for both in halves)]
    results = []
    for panoptic in fused:
        overlaps = count_pairs(true.panoptic.segment_ids, panoptic.segment_ids)
        matches = match_overlaps(true.panoptic, panoptic, overlaps)
        results.append((explain(true.panoptic, panoptic, overlaps, matches), matches))
    return results, true.panoptic.segment_ids.size
