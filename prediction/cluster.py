"""Prediction on a cluster, by Ray Data: read, stage 1, stage 2, fuse and write, each with workers of its own.

    range -> CheckpointFilter -> read -> Stage(instances) -> Stage(semantics) -> finish [-> pack] -> write_parquet

A row is an image; what passes between the stages lies in Ray's object store. A panoptic PNG is the one that a single process
would write, producer and all, and so is panoptic.json. Beside them the run folder has
  jobs/DIGEST/checkpoint    Ray's own: which rows are written; believed only where the output is there (_make_filter)
  jobs/DIGEST/records       what became of each image, as Parquet, of which the driver makes panoptic.json
  failures.jsonl            the images that were left out, and why
DIGEST stands for the images, the form of the output and the predictor's fingerprint. Only this file knows Ray.
"""

import gc
import json
import logging
import os
import pickle
import posixpath
import re
import shutil
import tarfile
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from data.images import unique_image_ids
from data.layouts.image_files import ImageFiles
from data.panoptic_file import PANOPTIC_ENDING, leaves_folder
from data.panoptic_png import PanopticMap, read_panoptic_png, write_panoptic_png
from data.split import FileSplit
from data.taxonomy import Taxonomy
from prediction.fused import FusedPredictor, Rule
from prediction.models import is_exported
from prediction.parts import LEFT_OUT, Whole, remove_parts, write_part
from prediction.pipeline import load_pipeline
from prediction.predictor import Prediction, Predictor
from prediction.run import PREDICTION, SUMMARIES, check_problems, join_parts
from prediction.run_folder import FORMAT, VERSION, Run
from prediction.selection import Shard
from prediction.sources.find import CHECKPOINT_SUFFIXES, LIBRARIES
from runtime.files import (
    InputError,
    atomic_path,
    digest_of,
    first_few,
    on_interruption,
    remove_partial_files,
    shorten,
    write_json,
)
from runtime.progress import progress_bar
from runtime.threads import in_threads

if TYPE_CHECKING:
    import pyarrow as pa

FORMS = ("png", "tar")
"""Of the output."""
COLUMNS = ("path", "image_id", "key", "file_name")
"""Of a manifest; only the first one is needed."""
IMAGES_PER_PART = 10_000
ROWS_PER_FILE = 1000
"""Records that are written at once, and with them a file of Ray's checkpoint."""
LARGEST_BLOCK = 16
"""Images that travel together at most."""
READS_AT_ONCE = 4
"""Images that a reading task opens at once: they may lie far away."""
READ_CPUS, PACK_CPUS, WRITE_CPUS = 0.5, 0.4, 0.2
"""Each other than the neighbour's: Ray joins neighbours of equal needs to one task, which would decode images on a GPU's turn."""
SPARE_CPUS = 3.0
"""What the tasks beside the actors need at least, Ray's checkpoint filter among them."""
SECONDS_BETWEEN_LOOKS = 1.0
"""At how far the tasks are."""
MAX_RETRIES = 5
"""Of a batch whose worker died. An image that kills every worker must not do so for ever."""
INDEX_ENDING = ".index.jsonl"
ALL_INDEX = "index.jsonl"


@dataclass(frozen=True)
class ClusterModel:
    """What each worker loads, in plain values: the arguments of prediction.pipeline.load_pipeline.

    Args:
        model, instances, semantics, rule, settings: as there; paths are those that every worker sees.
        classes: instances_classes and semantics_classes, where they are given.

    Raises:
        InputError: if a half is no live model.
    """

    model: str | None = None
    instances: str | None = None
    semantics: str | None = None
    rule: str = "logit"
    settings: Mapping[str, object] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for flag, given in (("--checkpoint", self.model), ("--instances", self.instances), ("--semantics", self.semantics)):
            is_live = given is None or given.partition(":")[0] in LIBRARIES or Path(given).suffix in CHECKPOINT_SUFFIXES
            if not (is_live or is_exported(Path(given))):
                live = f"a checkpoint, an exported model, or {', '.join(f'{name}:NAME' for name in LIBRARIES)}"
                advice = "fusion/solo_fusion.py with --shard takes it"
                raise InputError(f"{flag} {given}: a cluster predicts pixels, which only {live} does; for files {advice}")

    def load(self, device: str) -> Predictor:
        """The predictor; errors as load_pipeline."""
        halves = {"instances": self.instances, "semantics": self.semantics}
        joined = {"rule": self.rule, "settings": dict(self.settings), "device": device, **self.classes}
        return load_pipeline(self.model, **halves, **joined).predictor


@dataclass(frozen=True)
class ClusterSettings:
    """How the work is done; no bit of the result depends on it, except that of `batch_size` where a network's kernels do.

    Args:
        batch_size: images that a network gets at once.
        stage1_actors, stage2_actors: copies of each network; one that gives both halves has those of stage 2.
        gpus_per_stage: of an actor, also a part of one; 0: they compute on the CPU.
        cpus_per_actor: also the number of threads of its network.
        fusion_cpus: of a task that fuses and writes.
        max_failures: images that may be left out before the job stops.
        address: of a cluster that runs; None: one is started on this machine, for as long as the job takes.
        form: png, a file an image; tar, `images_per_tar` of them in a file.
    """

    batch_size: int = 1
    stage1_actors: int = 1
    stage2_actors: int = 1
    gpus_per_stage: float = 0.0
    cpus_per_actor: float = 1.0
    fusion_cpus: float = 1.0
    max_failures: int = 100
    address: str | None = None
    form: str = "png"
    images_per_tar: int = 10_000

    def __post_init__(self):
        if self.form not in FORMS:
            raise InputError(f"form {self.form!r} is unknown; choose one of {', '.join(FORMS)}")


@dataclass(frozen=True)
class _Job:
    """What every task is given."""

    model: ClusterModel
    stages: tuple[str, ...]
    rule: Rule | None
    taxonomy: Taxonomy
    fingerprint: str
    place: str
    """Folder or URL of the PNGs or tars."""
    settings: ClusterSettings
    launch: int
    """Of two records of an image, that of the later launch counts."""

    @property
    def device(self) -> str:
        return "cuda" if self.settings.gpus_per_stage else "cpu"


# The manifest


def read_manifest(path: str) -> "pa.Table":
    """Read a table of images, Parquet or CSV, as strings `path`, `image_id` and `file_name`, and `key`, string or whole number.

    Args:
        path: anything that fsspec opens.

    Raises:
        InputError: if it does not read, has no `path`, or ids that are no names or occur twice.
    """
    _need_ray()
    import fsspec
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        with fsspec.open(path, "rb") as file:
            is_csv = str(path).lower().endswith(".csv")
            texts = csv.ConvertOptions(column_types={name: pa.string() for name in COLUMNS if name != "key"})
            table = csv.read_csv(file, convert_options=texts) if is_csv else parquet.read_table(file)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a table of images, or --images FOLDER") from None
    except (pa.ArrowException, ImportError, ValueError) as error:
        needed = "Parquet or CSV with a column `path`"
        raise InputError(f"{path}: does not read ({shorten(error)}); {needed} was needed") from None
    if "path" not in table.column_names or not len(table):
        found = ", ".join(table.column_names[:8])
        needed = f"a column `path` was needed, and optional {', '.join(COLUMNS[1:])}"
        raise InputError(f"{path}: {len(table)} rows of {found}, but {needed}")
    columns = {name: table[name].to_pylist() for name in COLUMNS if name in table.column_names}
    return _to_table(str(path), columns)


def find_manifest(images: str) -> "pa.Table":
    """The images of a file, folder or glob as a table, with the ids and the order of prediction/run.py.

    Raises:
        InputError: as ImageFiles, and of videos.
    """
    _need_ray()
    split = ImageFiles(images)
    if split.videos:
        found = f"{images}: {len(split.videos)} videos, such as {next(iter(split.videos.values()))}"
        raise InputError(f"{found}, but a cluster takes images only; give scripts/predict.py the videos")
    if split.problems:
        raise InputError(split.problems[0])
    indices = range(len(split))
    columns = {
        "path": [str(split.image_path(k).absolute()) for k in indices],
        "image_id": [split.image_id(k) for k in indices],
        "key": [split.key(k) for k in indices],
        "file_name": [split.file_name(k) for k in indices],
    }
    return _to_table(images, columns)


def write_manifest(manifest: "pa.Table", path: Path) -> None:
    """Write a table as Parquet, atomically."""
    from pyarrow import parquet

    with atomic_path(path) as partial:
        parquet.write_table(manifest, partial)


def _to_table(name: str, columns: dict[str, list]) -> "pa.Table":
    import pyarrow as pa

    paths = columns["path"]
    if not all(isinstance(path, str) and path for path in paths):
        raise InputError(f"{name}: a `path` is empty or no text; name an image in each row")
    paths = [path if _is_url(path) else os.path.abspath(os.path.expanduser(path)) for path in paths]
    below = [path.partition("://")[2].lstrip("/") if _is_url(path) else path.lstrip("/") for path in paths]
    if "image_id" not in columns:
        top = posixpath.commonpath([posixpath.dirname(path) for path in below]) if len({*below}) else ""
        columns["image_id"] = unique_image_ids([posixpath.relpath(path, top or ".") for path in below])
    ids = columns["image_id"]
    if strangers := [i for i in ids if not isinstance(i, str) or not i or leaves_folder(i)]:
        raise InputError(f"{name}: image ids {first_few(strangers)} leave their folder or are no names; give others")
    if len({i.lower() for i in ids}) < len(ids):  # some file systems have one file for both
        folded = [i.lower() for i in ids]
        twice = [i for i, known in zip(ids, folded, strict=True) if folded.count(known) > 1] if len(ids) < 10_000 else []
        raise InputError(f"{name}: {len(ids) - len({*folded})} image ids occur twice ({first_few(twice)}); give each its own")
    names = columns.get("file_name") or [PurePosixPath(path).name for path in below]
    return pa.table({"path": paths, "image_id": ids, "key": columns.get("key") or ids, "file_name": names})


# Files, here or far away


def _is_url(path: str) -> bool:
    return "://" in path or "::" in path


@contextmanager
def _local_file(path: str) -> Iterator[Path]:
    """A file of fsspec as a file here.

    Raises:
        FileNotFoundError: of a URL whose file is not there.
    """
    if not _is_url(path):
        yield Path(path)
        return
    import fsspec

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / ("file" + PurePosixPath(path).suffix)
        with fsspec.open(path, "rb") as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        yield copy


def _write(path: str, write: Callable[[Path], None]) -> None:
    """Write a file, whole or not at all, by a function that does so here."""
    if not _is_url(path):
        write(Path(path))
        return
    import fsspec

    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / PurePosixPath(path).name
        write(local)
        files, target = fsspec.core.url_to_fs(path)
        files.makedirs(posixpath.dirname(target), exist_ok=True)
        files.put_file(str(local), target)


def _arrow_place(path: str) -> tuple[str, Any]:
    """A folder as pyarrow has it: its path, and the file system where it is not this machine's."""
    if not _is_url(path):
        return path, None
    import fsspec
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    files, target = fsspec.core.url_to_fs(path)
    return target, PyFileSystem(FSSpecHandler(files))


def _png_path(place: str, image_id: str) -> str:
    return f"{place}/{image_id}{PANOPTIC_ENDING}.png"


class _OneImage(FileSplit):
    """An image file, read and digested as those of every split are."""

    def __init__(self, path: Path):
        self.path = path

    def __len__(self) -> int:
        return 1

    def image_path(self, index: int) -> Path:
        return self.path


# The tasks: tables in, tables out


def _read(rows: "pa.Table", job: _Job, manifest: Any) -> "pa.Table":
    """Add the pixels of each image; of one that is done, or broken, its record instead."""
    import pyarrow as pa
    import ray

    manifest = ray.get(manifest)
    found = list(in_threads(lambda index: _read_image(job, manifest, index), rows["id"].to_pylist(), READS_AT_ONCE))
    types = {"id": pa.int64(), "image_id": pa.string(), "producer": pa.string(), "record": pa.string()}
    types |= {"height": pa.int32(), "width": pa.int32(), "image": pa.large_binary()}
    return pa.table({name: pa.array([row.get(name) for row in found], kind) for name, kind in types.items()})


def _read_image(job: _Job, manifest: "pa.Table", index: int) -> dict:
    path, image_id = manifest["path"][index].as_py(), manifest["image_id"][index].as_py()
    row: dict[str, Any] = {"id": index, "image_id": image_id}
    file = None
    try:
        with _local_file(path) as file:
            image = _OneImage(file)
            row["producer"] = f"{job.fingerprint}-{image.digest(0)[:8]}"
            if job.settings.form == "png" and (done := _find_png(job, image_id, row["producer"])) is not None:
                return row | {"record": json.dumps(_to_record(done))}
            pixels = image.image(0)
    except FileNotFoundError:
        return row | {"record": json.dumps({LEFT_OUT: f"{path}: no such file; give the path of an image"})}
    except (InputError, OSError) as error:
        reason = str(error) if file is None else str(error).replace(str(file), path)
        return row | {"record": json.dumps({LEFT_OUT: reason})}
    return row | {"height": pixels.shape[0], "width": pixels.shape[1], "image": pixels.tobytes()}


def _find_png(job: _Job, image_id: str, producer: str) -> PanopticMap | None:
    """The panoptic map of an image, if a whole file of this producer is there."""
    try:
        with _local_file(_png_path(job.place, image_id)) as file:
            return read_panoptic_png(file, producer)
    except FileNotFoundError:
        return None


def _to_record(panoptic: PanopticMap, **more: object) -> dict:
    segments = [segment.to_json() for segment in panoptic.segments]
    return {"size": list(panoptic.segment_ids.shape), "segments_info": segments, **more}


def stages_of(predictor: Predictor) -> dict[str, Predictor]:
    """The networks of a predictor that run one after the other, by name; `panoptic` needs no fusion after it."""
    if not isinstance(predictor, FusedPredictor):
        return {"panoptic": predictor}
    if predictor.instances is None or predictor.instances is predictor.semantics:
        return {"semantics": predictor.semantics}
    return {"instances": predictor.instances, "semantics": predictor.semantics}


class Stage:
    """An actor: a network that stays in memory, and adds to each row what it predicts.

    Raises:
        InputError: if the model does not load, or is another one here than where the job was started.
    """

    def __init__(self, job: _Job, name: str):
        predictor = job.model.load(job.device)
        if predictor.fingerprint("") != job.fingerprint:
            raise InputError("the model differs between machines; give all of them the same files and the same versions")
        self.name, self.is_last = name, name == job.stages[-1]
        self.predictor = stages_of(predictor)[name]
        del predictor
        gc.collect()  # the other half

    def __call__(self, rows: "pa.Table") -> "pa.Table":
        """Predict a batch."""
        import pyarrow as pa

        records = rows["record"].to_pylist()
        waiting = [k for k, record in enumerate(records) if record is None]
        images = [(rows["image_id"][k].as_py(), _pixels(rows, k)) for k in waiting]
        said: list[bytes | None] = [None] * len(records)
        for k, found in zip(waiting, _predict(self.predictor, images), strict=True):
            if isinstance(found, InputError):
                records[k] = json.dumps({LEFT_OUT: f"image {rows['image_id'][k].as_py()!r}: {found}"})
            else:
                said[k] = pickle.dumps(found, protocol=5)
        rows = rows.drop_columns(["record", "image"] if self.is_last else ["record"])
        rows = rows.append_column("record", pa.array(records, pa.string()))
        return rows.append_column(self.name, pa.array(said, pa.large_binary()))


def _pixels(rows: "pa.Table", k: int) -> np.ndarray:
    size = rows["height"][k].as_py(), rows["width"][k].as_py(), 3
    return np.frombuffer(rows["image"][k].as_buffer(), np.uint8).reshape(size).copy()  # torch wants to own what it is given


def _predict(predictor: Predictor, images: Sequence[tuple[str, np.ndarray]]) -> list[Prediction | InputError]:
    """What is said of each image, or why nothing is; a network gets images of one size at once."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for k, (_, pixels) in enumerate(images):
        by_size.setdefault(pixels.shape, []).append(k)
    found: dict[int, Prediction | InputError] = {}
    for places in by_size.values():
        if len(places) > 1 and hasattr(predictor, "predict_batch"):
            try:
                found |= zip(places, predictor.predict_batch([images[k] for k in places]), strict=True)
                continue
            except InputError:
                pass  # of one of them
        for k in places:
            try:
                found[k] = predictor.predict(*images[k])
            except InputError as error:
                found[k] = error
    return [found[k] for k in range(len(images))]


class _Said:
    """A predictor that repeats what the stages said, so that the fusion is that of a single process."""

    def __init__(self, taxonomy: Taxonomy, min_score: float | None, said: Prediction):
        self.taxonomy, self.min_score, self.said = taxonomy, min_score, said
        self.gives = tuple(name for name in ("instances", "semantic") if getattr(said, name) is not None)

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return ""

    def predict(self, image_id: str, image: np.ndarray | None) -> Prediction:
        """See Predictor."""
        return self.said


def _finish(rows: "pa.Table", job: _Job, tally: Any) -> "pa.Table":
    """Fuse, and write the PNG; or pass it on, to be packed."""
    import pyarrow as pa

    found = {"record": [], "png": []}
    failures = []
    for k in range(len(rows)):
        image_id, producer, record = (rows[name][k].as_py() for name in ("image_id", "producer", "record"))
        png = None
        if record is None:
            try:
                panoptic = _fuse(rows, k, job, image_id)
            except InputError as error:
                record = json.dumps({LEFT_OUT: f"image {image_id!r}: {error}"})
            else:
                record = json.dumps(_to_record(panoptic))
                if job.settings.form == "tar":
                    png = _to_png(panoptic, producer)
                else:
                    _write(_png_path(job.place, image_id), lambda path: write_panoptic_png(path, panoptic, producer))  # noqa: B023
        if LEFT_OUT in (read := json.loads(record)):
            failures.append((rows["id"][k].as_py(), image_id, read[LEFT_OUT]))
        found["record"].append(record)
        found["png"].append(png)
    num_failures = tally.add.remote(len(rows), failures)
    if failures:
        import ray

        if ray.get(num_failures) > job.settings.max_failures:
            raise InputError("more images were left out than --max-failures allows")
    columns = {"id": rows["id"], "record": pa.array(found["record"], pa.string())}
    columns["launch"] = pa.array([job.launch] * len(rows), pa.int64())
    if job.settings.form == "tar":
        columns |= {name: rows[name] for name in ("image_id", "producer")} | {"png": pa.array(found["png"], pa.large_binary())}
    return pa.table(columns)


def _fuse(rows: "pa.Table", k: int, job: _Job, image_id: str) -> PanopticMap:
    said = {name: pickle.loads(rows[name][k].as_buffer()) for name in job.stages}  # by this job's own actors
    if job.rule is None:
        return said["panoptic"].panoptic
    semantics = _Said(job.taxonomy, None, said["semantics"])
    instances = None
    if "instances" in said:
        instances = _Said(job.taxonomy, None, said["instances"])
    elif "instances" in semantics.gives:
        instances = semantics
    return FusedPredictor(instances, semantics, job.rule).predict(image_id, None).panoptic


def _to_png(panoptic: PanopticMap, producer: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_panoptic_png(Path(folder) / "map.png", panoptic, producer)
        return (Path(folder) / "map.png").read_bytes()


def _pack(rows: "pa.Table", job: _Job) -> "pa.Table":
    """Write the PNGs of a table into a tar, then its index; which tar it is goes into the records."""
    import pyarrow as pa

    wanted = [k for k in range(len(rows)) if rows["png"][k].is_valid]
    records = rows["record"].to_pylist()
    if wanted:
        ids = [rows["image_id"][k].as_py() for k in wanted]
        name = f"panoptic-{digest_of(ids)}.tar"

        def write_tar(path: Path) -> None:
            lines = []
            with atomic_path(path) as partial, tarfile.open(partial, "w") as tar:
                for k, image_id in zip(wanted, ids, strict=True):
                    content = rows["png"][k].as_py()
                    about = tarfile.TarInfo(f"{image_id}{PANOPTIC_ENDING}.png")
                    about.size = len(content)
                    lines.append({"image_id": image_id, "file_name": about.name, "producer": rows["producer"][k].as_py()})
                    tar.addfile(about, BytesIO(content))
                    lines[-1] |= {"offset": tar.offset - -(-len(content) // 512) * 512, "size": len(content)}
            index.extend(lines)

        index: list[dict] = []
        _write(f"{job.place}/{name}", write_tar)
        _write(f"{job.place}/{name}{INDEX_ENDING}", lambda path: _write_lines(path, index))
        for k in wanted:
            records[k] = json.dumps(json.loads(records[k]) | {"tar": name})
    return pa.table({"id": rows["id"], "record": pa.array(records, pa.string()), "launch": rows["launch"]})


def _write_lines(path: Path, lines: Sequence[dict]) -> None:
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def _write_failures(path: Path, failures: Sequence[tuple[int, str, str]]) -> None:
    names = ("index", "image_id", "reason")
    _write_lines(path, [dict(zip(names, failure, strict=True)) for failure in failures])


class Tally:
    """An actor that knows how far all tasks are, and which images were left out; a task knows but its own."""

    def __init__(self):
        self.num_seen, self.failures = 0, {}

    def add(self, num_images: int, failures: Sequence[tuple[int, str, str]] = ()) -> int:
        """Count images that need no more work, and note (index, image id, reason); returns how many were left out so far."""
        self.num_seen += num_images
        self.failures |= {index: (image_id, reason) for index, image_id, reason in failures}
        return len(self.failures)

    def seen(self) -> int:
        """How many images need no more work; one whose worker died may count twice."""
        return self.num_seen

    def all_failures(self) -> list[tuple[int, str, str]]:
        """(index, image id, reason), by index."""
        return [(index, *self.failures[index]) for index in sorted(self.failures)]


def _make_filter(job: _Job, manifest: Any, tally: Any) -> type:
    """Ray's checkpoint filter, which drops only those of the rows that it knows whose output is there, of this producer."""
    import ray
    from ray.data.checkpoint.checkpoint_filter import NumpyArrayBasedCheckpointFilter

    class FingerprintFilter(NumpyArrayBasedCheckpointFilter):
        def filter_rows_for_block(self, block: "pa.Table") -> "pa.Table":
            import pyarrow as pa

            fresh = {*super().filter_rows_for_block(block)["id"].to_pylist()}
            table = ray.get(manifest)
            known = [index for index in block["id"].to_pylist() if index not in fresh]
            there = in_threads(lambda index: _is_there(job, table, index), known, READS_AT_ONCE)
            done = {index for index, is_there in zip(known, there, strict=True) if is_there}
            tally.add.remote(len(done))
            return block.filter(pa.array([index not in done for index in block["id"].to_pylist()]))

    return FingerprintFilter


def _is_there(job: _Job, manifest: "pa.Table", index: int) -> bool:
    """Whether the output of an image is there, made by this model of this very file."""
    image_id = manifest["image_id"][index].as_py()
    try:
        with _local_file(manifest["path"][index].as_py()) as file:
            producer = f"{job.fingerprint}-{_OneImage(file).digest(0)[:8]}"
    except (InputError, OSError):
        return False
    if job.settings.form == "tar":
        return manifest["packed"][index].as_py() == producer
    return _find_png(job, image_id, producer) is not None


# The driver


def predict_on_cluster(
    manifest: "pa.Table", model: ClusterModel, output: str, settings: ClusterSettings = ClusterSettings(), *, command: str = ""
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
    _need_ray()
    predictor = model.load("cpu")
    output = output.rstrip("/") if _is_url(output) else str(Path(output).expanduser().absolute())
    whole = Whole.of(manifest["image_id"].to_pylist())
    fingerprint = predictor.fingerprint("")
    folder = f"{output}/jobs/{digest_of(fingerprint, settings.form, whole)}"
    rule = predictor.rule if isinstance(predictor, FusedPredictor) else None
    about = (predictor.taxonomy, fingerprint, f"{output}/panoptic", settings, time.time_ns())
    job = _Job(model, tuple(stages_of(predictor)), rule, *about)
    min_score = predictor.min_score
    own = predictor.instances_min_score if rule is not None else min_score
    del predictor
    _check_readable(manifest, output)
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(Path(scratch if _is_url(output) else output), job.taxonomy, ("panoptic",), min_score)
        for name in SUMMARIES:
            (run.folder / name).unlink(missing_ok=True)
        _write_run_json(run, command, own)
        again = f"what is done stays in {output}; run the same command again to go on"
        with on_interruption(lambda: again), _cluster(settings, len(job.stages)):
            _execute(manifest, job, folder, run)
        problems, num_done = _join(manifest, job, f"{folder}/records", run, whole)
        _remove_leftovers(manifest, job, output, folder)
        if _is_url(output):
            for path in (path for path in run.folder.iterdir() if path.is_file()):
                _write(f"{output}/{path.name}", lambda copy: shutil.copyfile(path, copy) and None)  # noqa: B023
    print(f"{num_done} of {len(manifest)} images are done: {settings.form} in {job.place}")
    if num_done:
        print(f"wrote {output}/panoptic.json")
    if problems:
        print(f"wrote {output}/failures.jsonl")
    check_problems(problems, num_done)
    return replace(run, folder=Path(output))


def _need_ray() -> None:
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise InputError("a cluster needs Ray Data, which is not installed; install it by `pip install '.[ray]'`")


def _check_readable(manifest: "pa.Table", output: str) -> None:
    """Refuse URLs that nothing here opens, before a cluster starts."""
    import fsspec

    protocols = {path.partition("://")[0]: path for path in [*manifest["path"].to_pylist(), output] if _is_url(path)}
    for path in protocols.values():
        try:
            fsspec.core.url_to_fs(path)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"{path}: cannot be opened ({shorten(error)}); install what is named there, on all machines"
            ) from None


def _write_run_json(run: Run, command: str, instances_min_score: float | None) -> None:
    content = {
        "format": FORMAT,
        "version": VERSION,
        "command": command,
        "split": "images of a manifest",
        "kept": list(run.kept),
        "min_score": run.min_score,
        "instances_min_score": instances_min_score,
        "taxonomy": run.taxonomy.name,
        "categories": run.taxonomy.to_coco_categories(),
    }
    write_json(run.folder / "run.json", content)


@contextmanager
def _cluster(settings: ClusterSettings, num_stages: int) -> Iterator[None]:
    """Ray: the cluster at the address, or one of this machine, which ends with the job."""
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


def _execute(manifest: "pa.Table", job: _Job, folder: str, run: Run) -> None:
    """All that is not done, until it is written; errors as predict_on_cluster."""
    import ray
    from ray.data.checkpoint import CheckpointConfig

    settings = job.settings
    table = manifest.select(["path", "image_id"])
    if settings.form == "tar":
        table = table.append_column("packed", _read_packed(job, manifest))
    manifest_ref = ray.put(table)
    tally = ray.remote(num_cpus=0)(Tally).remote()
    checkpoint, files = _arrow_place(f"{folder}/checkpoint")
    records, _ = _arrow_place(f"{folder}/records")
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
            rows = rows.map_batches(_pack, batch_size=None, fn_kwargs={"job": job}, num_cpus=PACK_CPUS, **tables)
        with _progress(tally, len(manifest)):
            rows.write_parquet(
                records, filesystem=files, min_rows_per_file=ROWS_PER_FILE, ray_remote_args={"num_cpus": WRITE_CPUS}
            )
    except (ray.exceptions.RayError, RuntimeError) as error:
        _explain(error, ray.get(tally.all_failures.remote()), job, run)
        raise
    finally:
        context.checkpoint_config, context.enable_progress_bars = before


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


def _explain(error: Exception, failures: Sequence[tuple[int, str, str]], job: _Job, run: Run) -> None:
    """Say in one line why a job ended, where that is known.

    Raises:
        InputError: in that case.
    """
    import ray

    if len(failures) > job.settings.max_failures:
        _write_failures(run.folder / "failures.jsonl", failures)
        found = f"{len(failures)} images were left out, more than --max-failures {job.settings.max_failures}"
        raise InputError(f"{found}, the first one: {failures[0][2]}; the same command with a larger number goes on") from None
    if said := re.findall(r"(?:InputError|ItemError): (.+)", str(error)):
        raise InputError(said[-1]) from None
    if isinstance(error, ray.exceptions.RayActorError | ray.exceptions.WorkerCrashedError):
        found = f"a worker died {MAX_RETRIES + 1} times at the same images ({shorten(error)})"
        raise InputError(f"{found}; what is done stays, the same command goes on; Ray's logs say why it died") from None


def _read_packed(job: _Job, manifest: "pa.Table") -> "pa.Array":
    """The producer of each image that lies in a whole tar; null of others."""
    import fsspec
    import pyarrow as pa

    producers: dict[str, str] = {}
    files, place = fsspec.core.url_to_fs(job.place)
    for path in sorted(files.glob(f"{place}/panoptic-*.tar{INDEX_ENDING}")):
        if files.exists(path.removesuffix(INDEX_ENDING)):
            with files.open(path, "rb") as file:
                lines = map(json.loads, file)
                producers |= {line["image_id"]: line["producer"] for line in lines}
    return pa.array([producers.get(image_id) for image_id in manifest["image_id"].to_pylist()], pa.string())


def _join(manifest: "pa.Table", job: _Job, records: str, run: Run, whole: Whole) -> tuple[list[str], int]:
    """Make panoptic.json of the records: sorted runs of some thousands, which are joined as the parts of shards are.

    Returns:
        Why images were left out, and how many were not.

    Raises:
        InputError: if an image has no record.
    """
    shards = -(-len(manifest) // IMAGES_PER_PART)
    problems: list[tuple[int, str, str]] = []
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
        _remove_other_tars(job, tars)
    problems.sort()
    failures = run.folder / "failures.jsonl"
    failures.unlink(missing_ok=True)
    if problems:
        _write_failures(failures, problems)
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

    place, files = _arrow_place(folder)
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


def _remove_other_tars(job: _Job, tars: set[str]) -> None:
    """Remove what a killed job, or one of another model, left: nothing names these tars."""
    import fsspec

    files, place = fsspec.core.url_to_fs(job.place)
    for path in files.glob(f"{place}/panoptic-*.tar*"):
        if PurePosixPath(path).name.removesuffix(INDEX_ENDING) not in tars:
            files.rm_file(path)


def _remove_leftovers(manifest: "pa.Table", job: _Job, output: str, folder: str) -> None:
    """Remove what no job goes on from: those of other models or images, and half-written files."""
    import fsspec

    files, jobs = fsspec.core.url_to_fs(f"{output}/jobs")
    for path in files.ls(jobs, detail=False):
        if PurePosixPath(path).name != PurePosixPath(folder).name:
            files.rm(path, recursive=True)
    if not _is_url(output):
        for place in {Path(_png_path(job.place, image_id)).parent for image_id in manifest["image_id"].to_pylist()}:
            remove_partial_files(place)
