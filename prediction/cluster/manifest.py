"""The manifest: the table of the images of a job, read, found in a folder, and written."""

import os
import posixpath
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from data.images import unique_image_ids
from data.layouts.image_files import ImageFiles
from data.panoptic_file import leaves_folder
from prediction.cluster.places import is_url
from runtime.files import InputError, atomic_path, first_few, shorten

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("path", "image_id", "key", "file_name")
"""Of a manifest; only the first one is needed."""


def need_ray() -> None:
    """Refuse to start without what the extra `ray` installs.

    Raises:
        InputError: if Ray or pyarrow is missing.
    """
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise InputError("a cluster needs Ray Data, which is not installed; install it by `pip install '.[ray]'`")


def read_manifest(path: str) -> "pa.Table":
    """Read a table of images, Parquet or CSV, as strings `path`, `image_id` and `file_name`, and `key`, string or whole number.

    Args:
        path: anything that fsspec opens.

    Raises:
        InputError: if it does not read, has no `path`, or ids that are no names or occur twice.
    """
    need_ray()
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
    need_ray()
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
    paths = [path if is_url(path) else os.path.abspath(os.path.expanduser(path)) for path in paths]
    below = [path.partition("://")[2].lstrip("/") if is_url(path) else path.lstrip("/") for path in paths]
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
