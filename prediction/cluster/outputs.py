"""What a job writes: panoptic PNGs, one by one or in tars, a record of each image, and the images that were left out."""

import json
import tarfile
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from data.panoptic_file import PANOPTIC_ENDING
from data.panoptic_png import PanopticMap, read_panoptic_png, write_panoptic_png
from prediction.cluster.places import local_file, write_file
from prediction.cluster.settings import Job
from prediction.cluster.stages import fuse
from prediction.parts import LEFT_OUT
from runtime.files import InputError, atomic_path, digest_of

if TYPE_CHECKING:
    import pyarrow as pa

Failure = tuple[int, str, str]
"""An image that was left out: index in the manifest, image id, reason."""
INDEX_ENDING = ".index.jsonl"
"""Of the file beside a tar that says what lies where in it."""


def png_path(place: str, image_id: str) -> str:
    """Of an image's panoptic map, below the job's place."""
    return f"{place}/{image_id}{PANOPTIC_ENDING}.png"


def find_png(job: Job, image_id: str, producer: str) -> PanopticMap | None:
    """The panoptic map of an image, if a whole file of this producer is there."""
    try:
        with local_file(png_path(job.place, image_id)) as file:
            return read_panoptic_png(file, producer)
    except FileNotFoundError:
        return None


def to_record(panoptic: PanopticMap) -> dict:
    """What panoptic.json says of an image; one that was left out has {LEFT_OUT: reason} instead."""
    segments = [segment.to_json() for segment in panoptic.segments]
    return {"size": list(panoptic.segment_ids.shape), "segments_info": segments}


def finish_rows(rows: "pa.Table", job: Job) -> tuple["pa.Table", list[Failure]]:
    """Fuse, and write the PNGs; or pass them on, to be packed.

    Returns:
        The records, and which images of these were left out.
    """
    import pyarrow as pa

    found = {"record": [], "png": []}
    failures = []
    for k in range(len(rows)):
        image_id, producer, record = (rows[name][k].as_py() for name in ("image_id", "producer", "record"))
        png = None
        if record is None:
            try:
                panoptic = fuse(rows, k, job, image_id)
            except InputError as error:
                record = json.dumps({LEFT_OUT: f"image {image_id!r}: {error}"})
            else:
                record = json.dumps(to_record(panoptic))
                if job.settings.form == "tar":
                    png = _to_png(panoptic, producer)
                else:
                    write_file(png_path(job.place, image_id), lambda path: write_panoptic_png(path, panoptic, producer))  # noqa: B023
        if LEFT_OUT in (read := json.loads(record)):
            failures.append((rows["id"][k].as_py(), image_id, read[LEFT_OUT]))
        found["record"].append(record)
        found["png"].append(png)
    columns = {"id": rows["id"], "record": pa.array(found["record"], pa.string())}
    columns["launch"] = pa.array([job.launch] * len(rows), pa.int64())
    if job.settings.form == "tar":
        columns |= {name: rows[name] for name in ("image_id", "producer")} | {"png": pa.array(found["png"], pa.large_binary())}
    return pa.table(columns), failures


def _to_png(panoptic: PanopticMap, producer: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_panoptic_png(Path(folder) / "map.png", panoptic, producer)
        return (Path(folder) / "map.png").read_bytes()


def pack_rows(rows: "pa.Table", job: Job) -> "pa.Table":
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
        write_file(f"{job.place}/{name}", write_tar)
        write_file(f"{job.place}/{name}{INDEX_ENDING}", lambda path: _write_lines(path, index))
        for k in wanted:
            records[k] = json.dumps(json.loads(records[k]) | {"tar": name})
    return pa.table({"id": rows["id"], "record": pa.array(records, pa.string()), "launch": rows["launch"]})


def read_packed(job: Job, manifest: "pa.Table") -> "pa.Array":
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


def remove_other_tars(job: Job, tars: set[str]) -> None:
    """Remove what a killed job, or one of another model, left: nothing names these tars."""
    import fsspec

    files, place = fsspec.core.url_to_fs(job.place)
    for path in files.glob(f"{place}/panoptic-*.tar*"):
        if PurePosixPath(path).name.removesuffix(INDEX_ENDING) not in tars:
            files.rm_file(path)


def write_failures(path: Path, failures: Sequence[Failure]) -> None:
    """Write failures.jsonl, a line an image."""
    names = ("index", "image_id", "reason")
    _write_lines(path, [dict(zip(names, failure, strict=True)) for failure in failures])


def _write_lines(path: Path, lines: Sequence[dict]) -> None:
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
