"""Exchange format 2: the semantic logits of one image, from any semantic model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import dump_file
from data.dump_file import VERSION, check_header, grid_size, is_finite, read_dump, to_float16, write_dump
from data.taxonomy import Taxonomy
from runtime.files import InputError

KIND = "semantic-dump"
SUFFIX = ".semantic.safetensors"


@dataclass(frozen=True)
class SemanticLogits:
    """logits: (C, ceil(H / stride), ceil(W / stride)) float16 or float32, by train id, before any softmax.

    Cell (i, j) covers pixels [stride i, stride i + stride) x [stride j, ...), as in InstanceLogits.
    """

    image_id: str
    height: int
    width: int
    stride: int
    taxonomy: str
    producer: str
    logits: np.ndarray


def dump_path(folder: Path, image_id: str) -> Path:
    """Where the dump of an image lies; the file's name holds the full image id."""
    return Path(folder) / f"{image_id}{SUFFIX}"


def write_semantic(folder: Path, semantic: SemanticLogits) -> Path:
    """Write one image's logits as float16, atomically; return the path."""
    path = dump_path(folder, semantic.image_id)
    header = {"format": KIND, "version": VERSION}
    header |= {name: getattr(semantic, name) for name in ("image_id", "height", "width", "stride", "taxonomy", "producer")}
    write_dump(path, header, {"logits": to_float16(semantic.logits)})
    return path


def is_dumped_by(folder: Path, image_id: str, producer: str) -> bool:
    """Whether a whole dump of this image by this producer exists; a broken one counts as none."""
    return dump_file.is_dumped_by(dump_path(folder, image_id), KIND, producer)


def read_semantic(folder: Path, image_id: str, taxonomy: Taxonomy, size: tuple[int, int] | None = None) -> SemanticLogits:
    """Read and check the dump of one image.

    Raises:
        InputError: if the dump is missing, broken, of another image, size or taxonomy, or holds NaN.
    """
    path = dump_path(folder, image_id)
    header, tensors = read_dump(path, KIND, ("logits",))
    check_header(path, header, image_id, size, taxonomy.name)
    logits = tensors["logits"]
    needed = (taxonomy.num_classes, *grid_size(header["height"], header["width"], header["stride"]))
    if logits.shape != needed:
        raise InputError(f"{path}: logits are {logits.shape}, but {needed} were needed; dump again")
    if not is_finite(logits):
        raise InputError(f"{path}: NaN or infinite logits; dump again with a model that works")
    fields = {name: header[name] for name in ("image_id", "height", "width", "stride", "taxonomy", "producer")}
    return SemanticLogits(**fields, logits=logits)
