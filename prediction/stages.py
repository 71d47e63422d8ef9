"""Which stage of a fusion loses what: the truth takes the place of each half, and the same rule fuses again."""

from dataclasses import asdict, dataclass
from functools import partial

from data.split import Split
from evaluation.error_kinds import KINDS, ErrorKinds
from evaluation.file_scores import Comparison, compare_maps
from evaluation.report import Table
from evaluation.results_table import markdown_table, percent
from evaluation.run_report import STAGES_FILE as STAGES_FILE
from prediction.fused import FusedPredictor
from prediction.predictor import image_for
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

    def text(self) -> str:
        """The table as Markdown, which reads well as plain text, and what it says in words."""
        table = self.table()
        return f"{markdown_table(table.columns, [[str(cell) for cell in row] for row in table.rows])}\n\n{table.note}"

    def to_json(self) -> dict:
        """{"table": Table as a dict, "stages": {stage: {scores, errors}}}."""
        stages = {
            name: {"scores": kinds.quality.scores(kinds.taxonomy), "errors": kinds.scores()}
            for name, kinds in self.stages.items()
        }
        return {"table": asdict(self.table()), "stages": stages}


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
    for compared in track(in_threads(work, indices, workers), "stages", len(indices)):
        for kinds, comparison in zip(losses.stages.values(), compared, strict=True):
            kinds.add(comparison.outcomes, comparison.matches, comparison.num_pixels)
    return losses


def _compare_stages(split: Split, predictor: FusedPredictor, source: Truth, index: int) -> list[Comparison]:
    """One image with its truth, by STAGES."""
    image_id, image = split.image_id(index), image_for(predictor, split, index)
    found, true = predictor.predict(image_id, image), source.predict(image_id, image)
    halves = ((true.instances, found.semantic), (found.instances, true.semantic), (true.instances, true.semantic))
    fused = [found.panoptic, *(predictor.rule.fuse(*both, predictor.taxonomy) for both in halves)]
    return [compare_maps(image_id, true.panoptic, panoptic) for panoptic in fused]
