"""A job from its start to its end: the run folder, the work on the cluster, and the join of what came of it."""

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from prediction.cluster.execution import execute, ray_cluster
from prediction.cluster.joining import join_records
from prediction.cluster.manifest import need_ray
from prediction.cluster.outputs import png_path
from prediction.cluster.places import is_url, write_file
from prediction.cluster.settings import ClusterModel, ClusterSettings, Job
from prediction.cluster.stages import stages_of
from prediction.fused import FusedPredictor
from prediction.parts import Whole
from prediction.run import SUMMARIES, check_problems, describe_run
from prediction.run_folder import Run
from runtime.files import InputError, digest_of, on_interruption, remove_partial_files, shorten, write_json

if TYPE_CHECKING:
    import pyarrow as pa


def predict_on_cluster(
    manifest: "pa.Table",
    model: ClusterModel,
    output: str,
    settings: ClusterSettings = ClusterSettings(),
    *,
    command: str = "",
) -> Run:
    """Predict all images of a manifest, and write a run folder of panoptic maps.

    What is done stays: where Ray's checkpoint knows an image, and its output names this model and this file's digest, no stage
    sees it; nor where the checkpoint does not know it, but its PNG is there.

    Args:
        output: run folder; one that all workers see, or a URL of fsspec.
        command: kept in run.json.

    Raises:
        InputError: if Ray or a model is missing, the cluster is too small, more images are left out than may be, or, after
            all others are done, if any were.
    """
    need_ray()
    predictor = model.load("cpu")
    output = output.rstrip("/") if is_url(output) else str(Path(output).expanduser().absolute())
    whole = Whole.of(manifest["image_id"].to_pylist())
    fingerprint = predictor.fingerprint("")
    folder = f"{output}/jobs/{digest_of(fingerprint, settings.form, whole)}"
    rule = predictor.rule if isinstance(predictor, FusedPredictor) else None
    about = (predictor.taxonomy, fingerprint, f"{output}/panoptic", settings, time.time_ns())
    job = Job(model, tuple(stages_of(predictor)), rule, *about)
    min_score = predictor.min_score
    own = predictor.instances_min_score if rule is not None else min_score
    del predictor
    _check_readable(manifest, output)
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(Path(scratch if is_url(output) else output), job.taxonomy, ("panoptic",), min_score)
        for name in SUMMARIES:
            (run.folder / name).unlink(missing_ok=True)
        write_json(run.folder / "run.json", describe_run(run, "images of a manifest", command, own))
        again = f"what is done stays in {output}; run the same command again to go on"
        with on_interruption(lambda: again), ray_cluster(settings, len(job.stages)):
            execute(manifest, job, folder, run)
        problems, num_done = join_records(manifest, job, f"{folder}/records", run, whole)
        _remove_leftovers(manifest, job, output, folder)
        if is_url(output):
            for path in (path for path in run.folder.iterdir() if path.is_file()):
                write_file(f"{output}/{path.name}", lambda copy: shutil.copyfile(path, copy) and None)  # noqa: B023
    print(f"{num_done} of {len(manifest)} images are done: {settings.form} in {job.place}")
    if num_done:
        print(f"wrote {output}/panoptic.json")
    if problems:
        print(f"wrote {output}/failures.jsonl")
    check_problems(problems, num_done)
    return replace(run, folder=Path(output))


def _check_readable(manifest: "pa.Table", output: str) -> None:
    """Refuse URLs that nothing here opens, before a cluster starts."""
    import fsspec

    protocols = {path.partition("://")[0]: path for path in [*manifest["path"].to_pylist(), output] if is_url(path)}
    for path in protocols.values():
        try:
            fsspec.core.url_to_fs(path)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"{path}: cannot be opened ({shorten(error)}); install what is named there, on all machines"
            ) from None


def _remove_leftovers(manifest: "pa.Table", job: Job, output: str, folder: str) -> None:
    """Remove what no job goes on from: those of other models or images, and half-written files."""
    import fsspec

    files, jobs = fsspec.core.url_to_fs(f"{output}/jobs")
    for path in files.ls(jobs, detail=False):
        if PurePosixPath(path).name != PurePosixPath(folder).name:
            files.rm(path, recursive=True)
    if not is_url(output):
        for place in {Path(png_path(job.place, image_id)).parent for image_id in manifest["image_id"].to_pylist()}:
            remove_partial_files(place)
