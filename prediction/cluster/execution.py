"""Ray: the cluster, the pipeline on it, what its checkpoint believes, how far it is, and why it ended.

Only this file imports Ray, and only where it is called: without the extra `ray` there is none.
"""

import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from prediction.cluster.outputs import Failure, finish_rows, pack_rows, read_packed, write_failures
from prediction.cluster.places import arrow_place
from prediction.cluster.reading import READS_AT_ONCE, is_done, read_rows
from prediction.cluster.settings import ClusterSettings, Job
from prediction.cluster.stages import Stage
from prediction.run_folder import Run
from runtime.files import InputError, shorten
from runtime.progress import progress_bar
from runtime.threads import in_threads

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_FILE = 1000
"""Records that are written at once, and with them a file of Ray's checkpoint."""
LARGEST_BLOCK = 16
"""Images that travel together at most."""
READ_CPUS, PACK_CPUS, WRITE_CPUS = 0.5, 0.4, 0.2
"""Each other than the neighbour's: Ray joins neighbours of equal needs to one task, which would decode images on a GPU's turn."""
SPARE_CPUS = 3.0
"""What the tasks beside the actors need at least, Ray's checkpoint filter among them."""
SECONDS_BETWEEN_LOOKS = 1.0
"""At how far the tasks are."""
MAX_RETRIES = 5
"""Of a batch whose worker died. An image that kills every worker must not do so for ever."""


@contextmanager
def ray_cluster(settings: ClusterSettings, num_stages: int) -> Iterator[None]:
    """Ray: the cluster at the address, or one of this machine, which ends with the job.

    Raises:
        InputError: if no cluster is at the address, or it is too small.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # read when it is imported; it warns of each of Ray Data's actors
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    num_actors = settings.stage2_actors + (settings.stage1_actors if num_stages > 1 else 0)
    cpus = num_actors * settings.cpus_per_actor + settings.fusion_cpus + SPARE_CPUS
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    was_here = ray.is_initialized()
    if not was_here and settings.address is None:
        local = {"num_cpus": max(os.cpu_count() or 1, int(np.ceil(cpus))), "include_dashboard": False}
        ray.init(address="local", **local, **quiet)
    elif not was_here:
        try:
            ray.init(address=settings.address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            advice = "give that of `ray start --head`, or leave it out"
            raise InputError(f"--address {settings.address}: no cluster there ({shorten(error)}); {advice}") from None
    try:
        there = ray.cluster_resources()
        for name, needed in (("CPU", cpus), ("GPU", num_actors * settings.gpus_per_stage)):
            if there.get(name, 0) < needed:
                found = f"the cluster has {there.get(name, 0):g} {name}s, but {needed:g} are needed"
                raise InputError(f"{found}; take fewer actors, or less for each")
        yield
    finally:
        if not was_here:
            ray.shutdown()


def execute(manifest: "pa.Table", job: Job, folder: str, run: Run) -> None:
    """All that is not done, until it is written; errors as predict_on_cluster."""
    import ray
    from ray.data.checkpoint import CheckpointConfig

    settings = job.settings
    table = manifest.select(["path", "image_id"])
    if settings.form == "tar":
        table = table.append_column("packed", read_packed(job, manifest))
    manifest_ref = ray.put(table)
    tally = ray.remote(num_cpus=0)(Tally).remote()
    checkpoint, files = arrow_place(f"{folder}/checkpoint")
    records, _ = arrow_place(f"{folder}/records")
    context = ray.data.DataContext.get_current()
    before = context.checkpoint_config, context.enable_progress_bars
    context.enable_progress_bars = False
    context.checkpoint_config = CheckpointConfig(
        "id",
        checkpoint,
        override_filesystem=files,
        delete_checkpoint_on_success=False,
        checkpoint_filter_cls=_make_filter(job, manifest_ref, tally),
    )
    tables = {"batch_format": "pyarrow", "zero_copy_batch": True}
    actors = {"instances": settings.stage1_actors}
    num_actors = sum(actors.get(name, settings.stage2_actors) for name in job.stages)
    block = max(settings.batch_size, min(LARGEST_BLOCK, len(manifest) // (4 * num_actors)))
    try:
        # Ray has no other way yet to say how often a call is made again.
        warnings.filterwarnings("ignore", message="`ray_remote_args_fn` is deprecated")
        rows = ray.data.range(len(manifest), override_num_blocks=-(-len(manifest) // block))
        about = {"job": job, "manifest": manifest_ref}
        rows = rows.map_batches(_read, batch_size=None, fn_kwargs=about, num_cpus=READ_CPUS, **tables)
        for name in job.stages:
            rows = rows.map_batches(
                Stage,
                batch_size=settings.batch_size,
                compute=ray.data.ActorPoolStrategy(size=actors.get(name, settings.stage2_actors)),
                fn_constructor_args=(job, name),
                num_cpus=settings.cpus_per_actor,
                num_gpus=settings.gpus_per_stage or None,
                ray_remote_args_fn=lambda: {"max_task_retries": MAX_RETRIES},
                **tables,
            )
        about = {"job": job, "tally": tally}
        rows = rows.map_batches(_finish, batch_size=None, fn_kwargs=about, num_cpus=settings.fusion_cpus, **tables)
        if settings.form == "tar":
            rows = rows.repartition(target_num_rows_per_block=settings.images_per_tar, strict=True)
            rows = rows.map_batches(pack_rows, batch_size=None, fn_kwargs={"job": job}, num_cpus=PACK_CPUS, **tables)
        with _progress(tally, len(manifest)):
            rows.write_parquet(
                records, filesystem=files, min_rows_per_file=ROWS_PER_FILE, ray_remote_args={"num_cpus": WRITE_CPUS}
            )
    except (ray.exceptions.RayError, RuntimeError) as error:
        _explain(error, ray.get(tally.all_failures.remote()), job, run)
        raise
    finally:
        context.checkpoint_config, context.enable_progress_bars = before


def _read(rows: "pa.Table", job: Job, manifest: Any) -> "pa.Table":
    """read_rows, of a manifest in Ray's store."""
    import ray

    return read_rows(rows, job, ray.get(manifest))


def _finish(rows: "pa.Table", job: Job, tally: Any) -> "pa.Table":
    """finish_rows, counted; ends the job where too many images were left out."""
    import ray

    records, failures = finish_rows(rows, job)
    num_failures = tally.add.remote(len(rows), failures)
    if failures and ray.get(num_failures) > job.settings.max_failures:
        raise InputError("more images were left out than --max-failures allows")
    return records


def _make_filter(job: Job, manifest: Any, tally: Any) -> type:
    """Ray's checkpoint filter, which drops only those of the rows that it knows whose output is there, of this producer."""
    import ray
    from ray.data.checkpoint.checkpoint_filter import NumpyArrayBasedCheckpointFilter

    class FingerprintFilter(NumpyArrayBasedCheckpointFilter):
        def filter_rows_for_block(self, block: "pa.Table") -> "pa.Table":
            import pyarrow as pa

            fresh = {*super().filter_rows_for_block(block)["id"].to_pylist()}
            table = ray.get(manifest)
            known = [index for index in block["id"].to_pylist() if index not in fresh]
            there = in_threads(lambda index: is_done(job, table, index), known, READS_AT_ONCE)
            done = {index for index, is_there in zip(known, there, strict=True) if is_there}
            tally.add.remote(len(done))
            return block.filter(pa.array([index not in done for index in block["id"].to_pylist()]))

    return FingerprintFilter


class Tally:
    """An actor that knows how far all tasks are, and which images were left out; a task knows but its own."""

    def __init__(self):
        self.num_seen, self.failures = 0, {}

    def add(self, num_images: int, failures: Sequence[Failure] = ()) -> int:
        """Count images that need no more work, and note (index, image id, reason); returns how many were left out so far."""
        self.num_seen += num_images
        self.failures |= {index: (image_id, reason) for index, image_id, reason in failures}
        return len(self.failures)

    def seen(self) -> int:
        """How many images need no more work; one whose worker died may count twice."""
        return self.num_seen

    def all_failures(self) -> list[Failure]:
        """(index, image id, reason), by index."""
        return [(index, *self.failures[index]) for index in sorted(self.failures)]


@contextmanager
def _progress(tally: Any, num_images: int) -> Iterator[None]:
    """The bar of all commands."""
    import ray

    has_ended = threading.Event()
    with progress_bar() as bar:
        task = bar.add_task("predicting", total=num_images)

        def watch() -> None:
            while not has_ended.wait(SECONDS_BETWEEN_LOOKS):
                bar.update(task, completed=min(ray.get(tally.seen.remote()), num_images))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
            bar.update(task, completed=num_images)
        finally:
            has_ended.set()
            watcher.join()


def _explain(error: Exception, failures: Sequence[Failure], job: Job, run: Run) -> None:
    """Say in one line why a job ended, where that is known.

    Raises:
        InputError: in that case.
    """
    import ray

    if len(failures) > job.settings.max_failures:
        write_failures(run.folder / "failures.jsonl", failures)
        found = f"{len(failures)} images were left out, more than --max-failures {job.settings.max_failures}"
        raise InputError(f"{found}, the first one: {failures[0][2]}; the same command with a larger number goes on") from None
    if said := re.findall(r"(?:InputError|ItemError): (.+)", str(error)):
        raise InputError(said[-1]) from None
    if isinstance(error, ray.exceptions.RayActorError | ray.exceptions.WorkerCrashedError):
        found = f"a worker died {MAX_RETRIES + 1} times at the same images ({shorten(error)})"
        raise InputError(f"{found}; what is done stays, the same command goes on; Ray's logs say why it died") from None
