"""Reading: the pixels of each image that is not done yet, and whether one is.

An image is done where its output names this model and the digest of this very file.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.split import FileSplit
from prediction.cluster.outputs import find_png, to_record
from prediction.cluster.places import local_file
from prediction.cluster.settings import Job
from prediction.parts import LEFT_OUT
from runtime.files import InputError
from runtime.threads import in_threads

if TYPE_CHECKING:
    import pyarrow as pa

READS_AT_ONCE = 4
"""Images that a reading task opens at once: they may lie far away."""


class _OneImage(FileSplit):
    """An image file, read and digested as those of every split are."""

    def __init__(self, path: Path):
        self.path = path

    def __len__(self) -> int:
        return 1

    def image_path(self, index: int) -> Path:
        return self.path


def read_rows(rows: "pa.Table", job: Job, manifest: "pa.Table") -> "pa.Table":
    """Add the pixels of each image; of one that is done, or broken, its record instead."""
    import pyarrow as pa

    found = list(in_threads(lambda index: _read_image(job, manifest, index), rows["id"].to_pylist(), READS_AT_ONCE))
    types = {"id": pa.int64(), "image_id": pa.string(), "producer": pa.string(), "record": pa.string()}
    types |= {"height": pa.int32(), "width": pa.int32(), "image": pa.large_binary()}
    return pa.table({name: pa.array([row.get(name) for row in found], kind) for name, kind in types.items()})


def _read_image(job: Job, manifest: "pa.Table", index: int) -> dict:
    path, image_id = manifest["path"][index].as_py(), manifest["image_id"][index].as_py()
    row: dict[str, Any] = {"id": index, "image_id": image_id}
    file = None
    try:
        with local_file(path) as file:
            image = _OneImage(file)
            row["producer"] = f"{job.fingerprint}-{image.digest(0)[:8]}"
            if job.settings.form == "png" and (done := find_png(job, image_id, row["producer"])) is not None:
                return row | {"record": json.dumps(to_record(done))}
            pixels = image.image(0)
    except FileNotFoundError:
        return row | {"record": json.dumps({LEFT_OUT: f"{path}: no such file; give the path of an image"})}
    except (InputError, OSError) as error:
        reason = str(error) if file is None else str(error).replace(str(file), path)
        return row | {"record": json.dumps({LEFT_OUT: reason})}
    return row | {"height": pixels.shape[0], "width": pixels.shape[1], "image": pixels.tobytes()}


def is_done(job: Job, manifest: "pa.Table", index: int) -> bool:
    """Whether the output of an image is there, made by this model of this very file."""
    image_id = manifest["image_id"][index].as_py()
    try:
        with local_file(manifest["path"][index].as_py()) as file:
            producer = f"{job.fingerprint}-{_OneImage(file).digest(0)[:8]}"
    except (InputError, OSError):
        return False
    if job.settings.form == "tar":
        return manifest["packed"][index].as_py() == producer
    return find_png(job, image_id, producer) is not None
