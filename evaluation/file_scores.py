"""Panoptic quality and kinds of errors of two panoptic files, image by image."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from data.image_names import pair_images
from data.panoptic_file import ImageId, PanopticFile, read_listed_map
from evaluation.error_kinds import ErrorKinds, Outcome, explain
from evaluation.pair_counts import count_pairs
from evaluation.panoptic_quality import ImageMatches, match_overlaps
from runtime.files import InputError, first_few
from runtime.threads import in_threads


@dataclass(frozen=True)
class FileScores:
    """Scores of two files: PanopticQuality.scores, each image's own PQ (0..1, None without segments) for ranking, and why."""

    scores: dict
    image_pq: dict[ImageId, float | None]
    kinds: ErrorKinds


def evaluate_files(
    truth: PanopticFile,
    prediction: PanopticFile,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    each: Callable[[ImageId, ImageMatches, tuple[Outcome, ...]], None] | None = None,
) -> FileScores:
    """Score a prediction against the truth; images that only the prediction has are ignored, as in the official code.

    Images are paired as data.image_names.pair_images does.

    Args:
        workers: threads that read and compare; their number changes the time, never a bit of the result.
        progress: called with (images done, images in all) after each image.
        each: called with what was found in each image, in the order of the truth.

    Raises:
        InputError: if an image has no prediction, the taxonomies differ, or an image does not read or fit.
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
    compare = partial(_compare_image, truth, prediction, pairs)
    kinds, image_pq = ErrorKinds(truth.taxonomy), {}
    for image_id, (matches, outcomes, num_pixels) in zip(truth.annotations, in_threads(compare, truth.annotations, workers)):
        kinds.add(outcomes, matches, num_pixels)
        image_pq[image_id] = matches.pq
        if each:
            each(image_id, matches, outcomes)
        if progress:
            progress(len(image_pq), len(truth.annotations))
    return FileScores(kinds.quality.scores(truth.taxonomy), image_pq, kinds)


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


def _compare_image(
    truth: PanopticFile, prediction: PanopticFile, pairs: dict[ImageId, ImageId], image_id: ImageId
) -> tuple[ImageMatches, tuple[Outcome, ...], int]:
    try:
        # The pixels are counted here: the areas of the JSON are not needed.
        real, real_path = read_listed_map(truth, image_id)
        guess, guess_path = read_listed_map(prediction, pairs[image_id])
        names = (f"{path} and {file.json_path}" for path, file in ((real_path, truth), (guess_path, prediction)))
        overlaps = count_pairs(real.segment_ids, guess.segment_ids)
        matches = match_overlaps(real, guess, overlaps, tuple(names))
        return matches, explain(real, guess, overlaps, matches), real.segment_ids.size
    except InputError as error:
        raise InputError(f"image {image_id!r}: {error}") from None
