"""The parts of all shards as one result: what a run of one process would have written, to the last byte."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from evaluation.provenance import provenance
from prediction.parts import LEFT_OUT, open_parts, read_records
from prediction.run import PREDICTION, check_problems, join_parts
from prediction.run_folder import Run
from prediction.score import SCORED, Scores, ScoreSums
from runtime.files import remove_partial_files


@dataclass(frozen=True)
class Collected:
    """What the parts say together. problems: of images that were left out. scores: None where nothing has a truth."""

    run: Run
    num_parts: int
    num_done: int
    problems: tuple[str, ...]
    scores: Scores | None
    has_films: bool


def collect_run(folder: Path) -> Collected:
    """Join the parts of a run folder: panoptic.json, and the scores where there is truth; each line is read twice, none is held.

    Raises:
        InputError: if it is no run, a part is missing or broken, or an image is missing or there twice.
    """
    run = Run.open(folder)
    parts = open_parts(run.folder, PREDICTION)
    join_parts(run)
    about = parts[0].about
    sums = ScoreSums(run.taxonomy, run.kept, str(about.get("truth", "")))
    num_done, has_truth, problems = 0, False, [str(problem) for problem in about.get("problems", ())]
    folders = {run.folder, parts[0].path.parent}
    for record in read_records(parts):
        folders |= {(run.place(kind) / record["image_id"]).parent for kind in run.kept}
        if LEFT_OUT in record:
            problems.append(record[LEFT_OUT])
            continue
        num_done += 1
        if SCORED in record:
            has_truth = True
            sums.add(record["image_id"], record[SCORED])
    for folder in folders:  # what killed shards left, which others, at work in the same folders, may not touch
        remove_partial_files(folder)
    scores = sums.scores() if has_truth else None
    if scores is not None:
        write_scores(scores, run.folder, dict(about["facts"]), about["command"])
    return Collected(run, len(parts), num_done, tuple(problems), scores, bool(about.get("has_films")))


def write_scores(scores: Scores, folder: Path, facts: Mapping[str, str], command: str) -> None:
    """Write scores.json and results.md, and print the table.

    Args:
        facts: what stands beside the numbers in results.md.
        command: that anybody can repeat.
    """
    data = f"{scores.num_images} images, {scores.truth['split']}"
    about = {**facts, "data": data, "command": command, "date": date.today().isoformat()}
    origin = provenance(command, {"truth": scores.truth, "prediction": scores.prediction})
    written = scores.write(folder, about, origin)
    print(f"\n{scores.table()}\n")
    print("\n".join(f"wrote {path}" for path in written))


def check_collected(collected: Collected) -> None:
    """Say in the end that images were left out.

    Raises:
        InputError: if any were.
    """
    check_problems(collected.problems, collected.num_done)
