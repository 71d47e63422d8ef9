"""The end of a job: what the tasks recorded becomes panoptic.json and failures.jsonl, and of tars one index of all."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prediction.cluster.manifest import COLUMNS
from prediction.cluster.outputs import Failure, remove_other_tars, write_failures
from prediction.cluster.places import arrow_place
from prediction.cluster.settings import Job
from prediction.parts import LEFT_OUT, Whole, remove_parts, write_part
from prediction.run import PREDICTION, join_parts
from prediction.run_folder import Run
from prediction.selection import Shard
from runtime.files import InputError, atomic_path, first_few

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES_PER_PART = 10_000
"""Records of a sorted run at most."""
ALL_INDEX = "index.jsonl"
"""Which tar each image is in."""


def join_records(manifest: "pa.Table", job: Job, records: str, run: Run, whole: Whole) -> tuple[list[str], int]:
    """Make panoptic.json of the records: sorted runs of some thousands, which are joined as the parts of shards are.

    Returns:
        Why images were left out, and how many were not.

    Raises:
        InputError: if an image has no record.
    """
    shards = -(-len(manifest) // IMAGES_PER_PART)
    problems: list[Failure] = []
    num_done = 0
    waiting: list[dict] = []
    number = 0
    tars: set[str] = set()
    columns = {name: manifest[name] for name in COLUMNS[1:]}
    index_path = Path(run.folder) / ALL_INDEX

    def write_run() -> None:
        nonlocal number
        number += 1
        waiting.sort(key=lambda record: record["index"])
        with write_part(run.folder, PREDICTION, Shard(number, shards), whole, {"settings": job.fingerprint}) as write:
            for record in waiting:
                write(record)
        waiting.clear()

    with _index_file(index_path if job.settings.form == "tar" else None) as index:
        for place, record in _read_records(records, len(manifest)):
            record = {"index": place, **{name: column[place].as_py() for name, column in columns.items()}, **record}
            if LEFT_OUT in record:
                problems.append((place, record["image_id"], record[LEFT_OUT]))
            else:
                num_done += 1
            if "tar" in record:
                tars.add(record["tar"])
                index({"image_id": record["image_id"], "tar": record.pop("tar")})
            waiting.append(record)
            if len(waiting) == IMAGES_PER_PART:
                write_run()
        if waiting:
            write_run()
    join_parts(run)
    remove_parts(run.folder)
    if job.settings.form == "tar":
        remove_other_tars(job, tars)
    problems.sort()
    failures = run.folder / "failures.jsonl"
    failures.unlink(missing_ok=True)
    if problems:
        write_failures(failures, problems)
    return [reason for _, _, reason in problems], num_done


@contextmanager
def _index_file(path: Path | None) -> Iterator[Callable[[dict], object]]:
    """A file of one JSON line each, or none."""
    if path is None:
        yield lambda line: None
        return
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        yield lambda line: file.write(json.dumps(line) + "\n")


def _read_records(folder: str, num_images: int) -> Iterator[tuple[int, dict]]:
    """(index, record) of each image once, in the order of the files: that of its latest launch.

    Raises:
        InputError: if an image has none.
    """
    from pyarrow import ArrowInvalid, dataset

    place, files = arrow_place(folder)
    fragments = []
    for fragment in dataset.dataset(place, filesystem=files, format="parquet", exclude_invalid_files=False).get_fragments():
        try:
            fragment.metadata  # noqa: B018
        except (ArrowInvalid, OSError):  # cut off by a kill; its images are done anew
            continue
        fragments.append(fragment)
    latest = np.zeros(num_images, np.int64)
    for fragment in fragments:
        for batch in fragment.to_batches(columns=["id", "launch"]):
            np.maximum.at(latest, batch["id"].to_numpy(), batch["launch"].to_numpy())
    if missing := np.flatnonzero(latest == 0).tolist():
        raise InputError(
            f"{folder}: {len(missing)} images have no record, index {first_few(missing)}; run the same command again"
        )
    for fragment in fragments:
        for batch in fragment.to_batches(columns=["id", "launch", "record"]):
            for index, launch, record in zip(*(batch[name].to_pylist() for name in ("id", "launch", "record")), strict=True):
                if launch == latest[index]:
                    latest[index] = -1  # a task that was done twice wrote it twice
                    yield index, json.loads(record)
