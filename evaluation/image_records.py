"""Comparisons of images as plain records, which a shard writes down, and what they sum up to: see evaluation/run_scores.py.

A record holds the segments of both maps and the pixels of each pair of them; all numbers but boundary PQ follow from these alone.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from data.images import existing_spelling
from data.panoptic_file import ImageId, PanopticFile, read_listed_runs
from data.panoptic_png import PanopticMap, PanopticRuns, Segment
from data.taxonomy import Taxonomy
from evaluation.boundary_quality import match_boundaries
from evaluation.file_scores import Comparison, check_predictions, compare_maps
from evaluation.pair_counts import count_pairs
from evaluation.panoptic_quality import ImageMatches
from evaluation.per_image import row_of
from evaluation.run_scores import Extras, RunScores, measure_comparison, new_run
from runtime.files import InputError, file_digest
from runtime.threads import in_threads

Record = dict


def record_images(
    truth: PanopticFile,
    predictions: Mapping[str, PanopticFile],
    image_ids: Sequence[ImageId],
    *,
    workers: int = 1,
    has_boundary: bool = False,
) -> Iterator[Record]:
    """Compare some images of a truth with each prediction, in the order given.

    Raises:
        InputError: as evaluation.file_scores.evaluate_files, of all images of the truth.
    """
    pairs = [(file, check_predictions(truth, file)) for file in predictions.values()]

    def record(image_id: ImageId) -> Record:
        try:
            real, path = read_listed_runs(truth, image_id)
            found = {"image_id": str(image_id), "key": image_id, "file_name": truth.image_files.get(image_id)}
            found |= {"size": list(real.segment_ids.shape), "truth": _to_json(real), "runs": [], "digests": [file_digest(path)]}
            for file, of_image in pairs:
                start = time.perf_counter()
                guess, path = read_listed_runs(file, of_image[image_id])
                compared = _compare(real, guess, has_boundary)
                found["runs"].append(compared | {"seconds": time.perf_counter() - start})
                found["digests"].append(file_digest(existing_spelling(path)))
            return found
        except InputError as error:
            raise InputError(f"image {image_id!r}: {error}") from None

    return in_threads(record, image_ids, workers)


def count_records(
    records: Iterable[Record],
    names: Sequence[str],
    taxonomy: Taxonomy,
    extras: Extras,
    write_row: Callable[[Sequence[object]], None] | None = None,
) -> list[RunScores]:
    """What record_images has found of all images, in the order of the truth; as evaluation.run_scores.score_runs.

    Args:
        names: of the predictions. extras: as the images were compared with.
    """
    runs = [new_run(name, taxonomy, extras) for name in names]
    plain = Extras()  # boundaries need pixels, and were compared where these were at hand
    for record in records:
        for run, of_run in zip(runs, record["runs"], strict=True):
            comparison = _from_json(record, of_run)
            boundary = None if of_run["boundary"] is None else _to_matches(of_run["boundary"])
            run.add(measure_comparison(comparison, taxonomy, plain, boundary))
            if run is runs[0] and write_row is not None:
                write_row(row_of(record["key"], comparison.matches, comparison.outcomes, comparison.seconds))
    return runs


def _compare(real: PanopticMap | PanopticRuns, guess: PanopticMap | PanopticRuns, has_boundary: bool) -> Record:
    overlaps = count_pairs(real.segment_ids, guess.segment_ids)
    boundary = None
    if has_boundary:
        boundary = asdict(match_boundaries(real.to_map(), guess.to_map(), overlaps=overlaps))
    pairs = [[*pair, pixels] for pair, pixels in overlaps.items()]
    return {"prediction": _to_json(guess), "overlaps": pairs, "boundary": boundary}


def _to_json(panoptic: PanopticMap | PanopticRuns) -> list[dict]:
    return [segment.to_json() for segment in panoptic.segments]


def _from_json(record: Record, of_run: Record) -> Comparison:
    nothing = np.broadcast_to(np.uint32(0), tuple(record["size"]))  # the pixels are counted already
    real, guess = (
        PanopticMap(nothing, tuple(Segment.from_json(entry, may_be_zero=True) for entry in entries))
        for entries in (record["truth"], of_run["prediction"])
    )
    overlaps = {(truth_id, predicted_id): pixels for truth_id, predicted_id, pixels in of_run["overlaps"]}
    return compare_maps(record["key"], real, guess, overlaps=overlaps, seconds=of_run["seconds"])


def _to_matches(entry: Record) -> ImageMatches:
    return ImageMatches(tuple(map(tuple, entry["matches"])), tuple(entry["missed"]), tuple(entry["invented"]))
