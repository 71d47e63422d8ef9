"""Panoptic quality and kinds of errors of two panoptic files, image by image."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from data.image_names import pair_images
from data.panoptic_file import ImageId, PanopticFile, read_listed_runs
from data.panoptic_png import PanopticMap, PanopticRuns
from evaluation.error_kinds import ErrorKinds, Outcome, explain
from evaluation.pair_counts import count_pairs
from evaluation.panoptic_quality import ImageMatches, match_overlaps
from runtime.files import InputError, first_few
from runtime.threads import in_threads

Inspected = TypeVar("Inspected")


@dataclass(frozen=True)
class Comparison:
    """One image: both maps, in pixels when they are asked for, and what was found when they were compared.

    overlaps: pixels of each pair (truth id, predicted id) that occurs, as evaluation.pair_counts.count_pairs gives them.
    seconds: that reading and comparing took.
    """

    image_id: ImageId
    truth_runs: PanopticMap | PanopticRuns
    prediction_runs: PanopticMap | PanopticRuns
    overlaps: dict[tuple[int, int], int]
    matches: ImageMatches
    outcomes: tuple[Outcome, ...]
    seconds: float = 0.0

    @cached_property
    def truth(self) -> PanopticMap:
        """The truth in pixels."""
        return self.truth_runs.to_map()

    @cached_property
    def prediction(self) -> PanopticMap:
        """The prediction in pixels."""
        return self.prediction_runs.to_map()

    @property
    def num_pixels(self) -> int:
        """Of the image."""
        return self.truth_runs.segment_ids.size


def compare_maps(
    image_id: ImageId,
    truth: PanopticMap,
    prediction: PanopticMap,
    names: tuple[str, str] = ("truth", "prediction"),
    *,
    overlaps: dict[tuple[int, int], int] | None = None,
    seconds: float = 0.0,
) -> Comparison:
    """Compare two maps of an image: what matches, and what became of each segment.

    Args:
        names: of the two maps, for the message.
        overlaps: pixels of each pair where they are counted already; then those of the maps are not read.
        seconds: see Comparison.

    Raises:
        InputError: as evaluation.panoptic_quality.match_segments.
    """
    overlaps = count_pairs(truth.segment_ids, prediction.segment_ids) if overlaps is None else overlaps
    matches = match_overlaps(truth, prediction, overlaps, names)
    return Comparison(image_id, truth, prediction, overlaps, matches, explain(truth, prediction, overlaps, matches), seconds)


@dataclass(frozen=True)
class FileScores:
    """Scores of two files: PanopticQuality.scores, each image's own PQ (0..1, None without segments) for ranking, and why.

    `kinds` is None where nobody asked why.
    """

    scores: dict
    image_pq: dict[ImageId, float | None]
    kinds: ErrorKinds | None


def evaluate_files(
    truth: PanopticFile,
    prediction: PanopticFile,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    each: Callable[[ImageId, ImageMatches, tuple[Outcome, ...], Inspected | None], None] | None = None,
    inspect: Callable[[Comparison], Inspected] | None = None,
    with_kinds: bool = True,
) -> FileScores:
    """Score a prediction against the truth; images that only the prediction has are ignored, as in the official code.

    Images are paired as data.image_names.pair_images does.

    Args:
        workers: threads that read and compare; their number changes the time, never a bit of the result.
        progress: called with (images done, images in all) after each image.
        each: called with what was found in each image and with what `inspect` returned of it (None without it), in the order of
            the truth, in the calling thread.
        inspect: called with each image in the thread that compared it, in any order; what it returns waits for `each`, so it
            should be small.
        with_kinds: whether each segment's outcome is found; without it only panoptic quality is, and there are no outcomes.

    Raises:
        InputError: if an image has no prediction, the taxonomies differ, or an image does not read or fit.
    """
    pairs = check_predictions(truth, prediction)

    def compare(image_id: ImageId) -> tuple[ImageMatches, tuple[Outcome, ...], int, Inspected | None]:
        start = time.perf_counter()
        real, guess, overlaps, matches = _compare_image(truth, prediction, pairs, image_id)
        outcomes = explain(real, guess, overlaps, matches) if with_kinds else ()
        seconds = time.perf_counter() - start
        inspected = inspect(Comparison(image_id, real, guess, overlaps, matches, outcomes, seconds)) if inspect else None
        return matches, outcomes, real.segment_ids.size, inspected  # the maps are given up here

    kinds, image_pq = ErrorKinds(truth.taxonomy), {}
    compared = in_threads(compare, truth.annotations, workers)
    for image_id, (matches, outcomes, num_pixels, inspected) in zip(truth.annotations, compared):
        kinds.add(outcomes, matches, num_pixels)
        image_pq[image_id] = matches.pq
        if each:
            each(image_id, matches, outcomes, inspected)
        if progress:
            progress(len(image_pq), len(truth.annotations))
    return FileScores(kinds.quality.scores(truth.taxonomy), image_pq, kinds if with_kinds else None)


def check_predictions(truth: PanopticFile, prediction: PanopticFile) -> dict[ImageId, ImageId]:
    """The prediction's own id of each image of the truth.

    Raises:
        InputError: if an image has no prediction, or the taxonomies differ.
    """
    check_same_taxonomy(truth, prediction)
    pairs = pair_images(truth, prediction)
    absent = [image_id for image_id in truth.annotations if image_id not in pairs]
    if absent:
        others = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        known = f"its images are {first_few(list(prediction.annotations))}"
        raise InputError(
            f"{prediction.json_path}: no prediction for image {absent[0]!r}{others}; predict every image of the truth, {known}"
        )
    return pairs


def check_same_taxonomy(truth: PanopticFile, prediction: PanopticFile) -> None:
    """Refuse files whose category ids mean different classes.

    Raises:
        InputError: if the prediction uses an id that the truth does not know, or an id stands for two names.
    """
    names = {c.dataset_id: c.name for c in truth.taxonomy.categories}
    predicted_names = {c.dataset_id: c.name for c in prediction.taxonomy.categories}
    used = {s.category_id for annotation in prediction.annotations.values() for s in annotation.segments}
    if prediction.moved is not None:  # what the JSON lists is of other classes
        used = set(predicted_names)
    unknown = sorted(used - names.keys())
    if unknown:
        needed = f"the truth {truth.json_path} has {sorted(names)}"
        raise InputError(f"{prediction.json_path}: category ids {unknown[:5]}, but {needed}; use the same taxonomy for both")
    for category_id in sorted(used):
        if names[category_id] != predicted_names[category_id]:
            clash = (
                f"category id {category_id} is {predicted_names[category_id]!r}, but {names[category_id]!r} in {truth.json_path}"
            )
            raise InputError(f"{prediction.json_path}: {clash}; use the same taxonomy for both")


Map = PanopticMap | PanopticRuns


def _compare_image(
    truth: PanopticFile, prediction: PanopticFile, pairs: dict[ImageId, ImageId], image_id: ImageId
) -> tuple[Map, Map, dict[tuple[int, int], int], ImageMatches]:
    """(truth, prediction, pixels of each pair, matches)."""
    try:
        # The pixels are counted here: the areas of the JSON are not needed.
        real, real_path = read_listed_runs(truth, image_id)
        guess, guess_path = read_listed_runs(prediction, pairs[image_id])
        names = (f"{path} and {file.json_path}" for path, file in ((real_path, truth), (guess_path, prediction)))
        overlaps = count_pairs(real.segment_ids, guess.segment_ids)
        return real, guess, overlaps, match_overlaps(real, guess, overlaps, tuple(names))
    except InputError as error:
        raise InputError(f"image {image_id!r}: {error}") from None
