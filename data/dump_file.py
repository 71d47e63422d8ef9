"""The container of both exchange formats: safetensors (no pickle) with one JSON header, written atomically."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from runtime.files import InputError, atomic_path, parse_json, shorten

VERSION = 1
LARGEST_LOGIT = 60000.0
"""float16 ends at 65504; what is larger is as certain."""
HEADER_FIELDS = ("format", "version", "image_id", "height", "width", "stride", "taxonomy", "producer")


class Form(NamedTuple):
    """What a tensor of a dump must be: `dtypes` in the container's words, such as F16, and the number of axes."""

    dtypes: tuple[str, ...]
    rank: int


def grid_size(height: int, width: int, stride: int) -> tuple[int, int]:
    """Rows and columns of a logit map: cell (i, j) covers pixels [stride i, stride i + stride) x [stride j, ...)."""
    return -(-height // stride), -(-width // stride)


def to_float16(logits: np.ndarray) -> np.ndarray:
    """Logits as float16; what float16 cannot hold becomes the largest that we write, NaN and infinity stay."""
    with np.errstate(over="ignore"):
        half = logits.astype(np.float16)
    is_beyond = _magnitude_bits(half) > _magnitude_bits(np.float16(LARGEST_LOGIT))
    if is_beyond.any():
        is_beyond &= np.isfinite(logits)
        half[is_beyond] = np.copysign(np.float16(LARGEST_LOGIT), half[is_beyond])
    return half


def is_finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite."""
    if values.dtype == np.float16 and values.size:  # by their bits: numpy's own test takes twenty times as long
        return bool(_magnitude_bits(values).max() < _magnitude_bits(np.float16(np.inf)))
    return bool(np.isfinite(values).all())


def _magnitude_bits(values: np.ndarray) -> np.ndarray:
    """float16 without sign as uint16, which orders them: finite ones, infinity, NaN."""
    return values.view(np.uint16) & np.uint16(0x7FFF)


def is_dumped_by(path: Path, kind: str, producer: str) -> bool:
    """Whether a whole dump by this producer exists; a broken one counts as none."""
    try:
        return path.exists() and read_header(path, kind)["producer"] == producer
    except InputError:
        return False


def write_dump(path: Path, header: dict, tensors: dict[str, np.ndarray]) -> None:
    """Write one dump; the same content gives the same bytes.

    Raises:
        OSError: if it cannot be written, such as on a full disk.
    """
    assert set(header) == set(HEADER_FIELDS), header
    with atomic_path(path) as partial:
        # One metadata entry: safetensors keeps entries in a hash map, whose order would change the bytes between runs.
        contents = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        # Not save_file, which hides the system's reason, such as a full disk.
        partial.write_bytes(save(contents, {"header": json.dumps(header)}))


def read_header(path: Path, kind: str) -> dict:
    """Read only the header of a dump.

    Raises:
        InputError: if the file is missing, truncated, of another kind or of a newer version.
    """
    return _read(path, kind, {})[0]


def read_dump(path: Path, kind: str, forms: Mapping[str, Form]) -> tuple[dict, dict[str, np.ndarray]]:
    """Read header and tensors of a dump.

    Args:
        forms: of the tensors that it must hold.

    Raises:
        InputError: as read_header, and if a tensor is missing or of another form.
    """
    return _read(path, kind, forms)


def _read(path: Path, kind: str, forms: Mapping[str, Form]) -> tuple[dict, dict[str, np.ndarray]]:
    try:
        with safe_open(path, framework="numpy") as file:
            header = parse_json((file.metadata() or {}).get("header", "{}"))
            if not isinstance(header, dict):
                raise InputError(f"{path}: its header is no JSON object; dump again")
            if header.get("format") != kind:
                found = shorten(header.get("format", "no header"), 40)
                raise InputError(f"{path}: holds {found!r}, but {kind!r} was needed; give the other folder")
            if header.get("version") != VERSION or set(header) != set(HEADER_FIELDS):
                raise InputError(
                    f"{path}: {kind} version {shorten(header.get('version'), 20)}, but this program reads {VERSION}; dump again"
                )
            sides = {name: header[name] for name in ("height", "width", "stride")}
            if not all(type(side) is int and 0 < side < 2**31 for side in sides.values()):
                raise InputError(f"{path}: {shorten(sides)} must be whole numbers above 0; dump again")
            if not all(isinstance(header[name], str) for name in ("image_id", "taxonomy", "producer")):
                raise InputError(f"{path}: image_id, taxonomy and producer must be text; dump again")
            absent = sorted(set(forms) - set(file.keys()))
            if absent:
                raise InputError(f"{path}: tensors {absent} are missing; dump again")
            for name, form in forms.items():
                stored = file.get_slice(name)
                if stored.get_dtype() not in form.dtypes or len(stored.get_shape()) != form.rank:
                    found = f"{stored.get_dtype()} {stored.get_shape()}"
                    needed = f"{' or '.join(form.dtypes)} with {form.rank} axes"
                    raise InputError(f"{path}: `{name}` is {found}, but {needed} was needed; dump again")
            return header, {name: file.get_tensor(name) for name in forms}
    except FileNotFoundError:
        raise InputError(f"{path}: no such dump; dump this image first") from None
    except InputError:
        raise
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path}: broken {kind} ({shorten(error)}); delete it and dump again") from None


def check_header(path: Path, header: dict, image_id: str | None, size: tuple[int, int] | None, taxonomy_name: str | None) -> None:
    """Refuse a dump of another image, size or taxonomy; None skips a check.

    Raises:
        InputError: naming the file, what it holds and what was needed.
    """
    wanted = {"image_id": image_id, "taxonomy": taxonomy_name}
    for field, value in wanted.items():
        if value is not None and header[field] != value:
            raise InputError(f"{path}: {field} is {header[field]!r}, but {value!r} was needed; dump again with the right data")
    if size is not None and (header["height"], header["width"]) != tuple(size):
        made_for = f"{header['height']}x{header['width']}"
        raise InputError(f"{path}: made for {made_for}, but the image is {size[0]}x{size[1]}; dump again")
