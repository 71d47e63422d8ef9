"""Everything that is counted of one or several predictions of the same truth, in one pass over the images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from data.panoptic_file import ImageId, PanopticFile, read_listed_map
from data.taxonomy import Taxonomy
from evaluation.bootstrap import Difference, ImageCounts, Interval, paired_differences, pq_intervals
from evaluation.boundary_quality import match_boundaries
from evaluation.error_kinds import ErrorKinds, Outcome
from evaluation.file_scores import Comparison, check_predictions, compare_maps, evaluate_files
from evaluation.panoptic_quality import GROUPS, ImageMatches, PanopticQuality
from evaluation.per_image import row_of
from evaluation.pq_dagger import ImageStuff, PQDagger, compare_stuff
from evaluation.results_table import percent
from evaluation.semantic_iou import SemanticIoU
from evaluation.slices import Slices
from evaluation.viewer import Viewer
from runtime.files import InputError


@dataclass(frozen=True)
class Extras:
    """What is counted beside panoptic quality, kinds of errors and mIoU, each of which costs time.

    boundary: boundary PQ. slices: makes the slices of a run.
    """

    has_boundary: bool = False
    make_slices: Callable[[], Slices] | None = None


@dataclass
class RunScores:
    """What is counted of one prediction; grows by some numbers a class with each image, for the intervals."""

    name: str
    taxonomy: Taxonomy
    slices: Slices | None = None
    boundary: PanopticQuality | None = None
    image_pq: dict[ImageId, float | None] = field(default_factory=dict)

    def __post_init__(self):
        self.kinds, self.counts = ErrorKinds(self.taxonomy), ImageCounts(self.taxonomy)
        self.semantic, self.dagger = SemanticIoU(self.taxonomy), PQDagger(self.taxonomy)
        self._drawn: dict[str, dict] = {}  # a bootstrap takes a second where images and classes are many

    @property
    def scores(self) -> dict:
        """PanopticQuality.scores."""
        return self.kinds.quality.scores(self.taxonomy)

    def add(self, seen: "ImageScores", *, has_kinds: bool = False) -> None:
        """Count one image; in the order of the truth's list.

        Args:
            has_kinds: whether somebody else counts the kinds and the image's own PQ, and gives them in the end.
        """
        if not has_kinds:
            self.kinds.add(seen.outcomes, seen.matches, seen.num_pixels)
            self.image_pq[seen.image_id] = seen.matches.pq
        self.counts.add(seen.image_id, seen.matches)
        self.dagger.add(seen.matches, seen.stuff)
        self.semantic.confusion += seen.confusion
        if self.slices is not None:
            self.slices.add(seen.image_id, seen.matches)
        if self.boundary is not None:
            self.boundary.add_matches(seen.boundary)

    def intervals(self) -> dict[str, Interval]:
        """PQ of each group with the interval that the choice of images leaves; to be asked for when all images are added."""
        if "" not in self._drawn:
            self._drawn[""] = pq_intervals(self.counts)
        return self._drawn[""]

    def gains_over(self, other: "RunScores") -> dict[str, Difference]:
        """What this run gains over another on the same images, by group; as `intervals`."""
        if other.name not in self._drawn:
            self._drawn[other.name] = paired_differences(other.counts, self.counts)
        return self._drawn[other.name]

    def to_json(self) -> dict:
        """The content of scores.json: groups and classes of panoptic quality at the top."""
        semantic = self.semantic.scores()
        names = [category.name for category in self.taxonomy.categories]
        matrix = {"truth": names, "prediction": [*names, "void"], "pixels": self.semantic.confusion.tolist()}
        content = self.scores | {"errors": self.kinds.scores(), "semantic": semantic | {"confusion": matrix}}
        content["pq_dagger"] = self.dagger.scores()
        content["intervals"] = {name: vars(interval) for name, interval in self.intervals().items()}
        if self.boundary is not None:
            content["boundary"] = self.boundary.scores(self.taxonomy)
        if self.slices is not None:
            content["slices"] = self.slices.scores()
        return content

    def lines(self, has_dagger: bool = False) -> list[str]:
        """What stands below the table of classes, in percent."""
        iou = self.semantic.scores()
        shown = f"mIoU {percent(iou['miou'])}, fwIoU {percent(iou['fwiou'])}, pixels right {percent(iou['pixel_accuracy'])}"
        lines = ["", f"{self.intervals()['All'].in_words()}; {shown}"]
        more = {"PQ-dagger": self.dagger.scores()} if has_dagger else {}
        if self.boundary is not None:
            more["boundary PQ"] = self.boundary.scores(self.taxonomy)
        for name, scores in more.items():
            lines.append(f"{name}: " + ", ".join(f"{group} {percent(scores[group]['pq'])}" for group in GROUPS))
        return lines


@dataclass(frozen=True)
class ImageScores:
    """What is kept of one image and one prediction until it is counted; confusion: see SemanticIoU."""

    image_id: ImageId
    matches: ImageMatches
    outcomes: tuple[Outcome, ...]
    num_pixels: int
    confusion: np.ndarray
    stuff: ImageStuff
    boundary: ImageMatches | None
    seconds: float


def score_runs(
    truth: PanopticFile,
    predictions: Mapping[str, PanopticFile],
    *,
    workers: int = 1,
    extras: Extras = Extras(),
    viewer: Viewer | None = None,
    write_row: Callable[[Sequence[object]], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[RunScores]:
    """Score predictions of the same truth.

    Args:
        predictions: by name; the first is the one that all else is said of.
        workers: threads; their number changes the time, never a bit of the result.
        viewer: is given each image, with the second prediction, if there is one, and the first.
        write_row: is given the first prediction's values of evaluation.per_image.COLUMNS of each image.
        progress: called with (images done, images in all) after each image.

    Raises:
        InputError: as evaluate_files.
    """
    (_, first), *others = predictions.items()
    pairs = {name: check_predictions(truth, file) for name, file in others}
    runs = [new_run(name, truth.taxonomy, extras) for name in predictions]

    def inspect(comparison: Comparison) -> tuple[list[ImageScores], dict | None]:
        image_id = comparison.image_id
        compared = [comparison, *(_compare(comparison, name, file, pairs[name][image_id]) for name, file in others)]
        entry = None
        if viewer is not None:  # the other prediction comes first, as what was before
            entry = viewer.write_image(image_id, comparison.truth, list(reversed(compared[:2])))
        return [measure_comparison(c, truth.taxonomy, extras) for c in compared], entry

    def count(
        image_id: ImageId,
        matches: ImageMatches,
        outcomes: tuple[Outcome, ...],
        inspected: tuple[list[ImageScores], dict | None],
    ) -> None:
        for run, seen in zip(runs, inspected[0], strict=True):
            run.add(seen, has_kinds=run is runs[0])
        if viewer is not None:
            viewer.add(inspected[1])
        if write_row is not None:
            write_row(row_of(image_id, matches, outcomes, inspected[0][0].seconds))

    found = evaluate_files(truth, first, workers, progress, count, inspect)
    runs[0].kinds, runs[0].image_pq = found.kinds, found.image_pq
    return runs


def new_run(name: str, taxonomy: Taxonomy, extras: Extras) -> RunScores:
    """The scores of no image yet."""
    slices = None if extras.make_slices is None else extras.make_slices()
    return RunScores(name, taxonomy, slices, PanopticQuality() if extras.has_boundary else None)


def _compare(first: Comparison, name: str, prediction: PanopticFile, own_id: ImageId) -> Comparison:
    """Another prediction, by its name, of the image that the first one was compared on."""
    try:
        guess, path = read_listed_map(prediction, own_id)
        return compare_maps(first.image_id, first.truth, guess, ("the truth", f"{path} and {prediction.json_path}"))
    except InputError as error:
        raise InputError(f"{name}, image {first.image_id!r}: {error}") from None


def measure_comparison(
    comparison: Comparison, taxonomy: Taxonomy, extras: Extras, boundary: ImageMatches | None = None
) -> ImageScores:
    """What is counted of one image.

    Args:
        boundary: of match_boundaries, where that is known already.
    """
    maps = (comparison.truth_runs, comparison.prediction_runs)
    iou = SemanticIoU(taxonomy)
    iou.add_overlaps(*maps, comparison.overlaps)
    if extras.has_boundary and boundary is None:
        boundary = match_boundaries(comparison.truth, comparison.prediction, overlaps=comparison.overlaps)
    return ImageScores(
        image_id=comparison.image_id,
        matches=comparison.matches,
        outcomes=comparison.outcomes,
        num_pixels=comparison.num_pixels,
        confusion=iou.confusion,
        stuff=compare_stuff(*maps, comparison.overlaps, taxonomy),
        boundary=boundary,
        seconds=comparison.seconds,
    )
