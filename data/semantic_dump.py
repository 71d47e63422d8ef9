"""Exchange format 2: the semantic logits of one image, from any semantic model; or its class map, where there are no logits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import dump_file
from data.dump_file import VERSION, Form, check_header, grid_size, is_finite, read_dump, to_float16, write_dump
from data.images import PRODUCER_KEY, is_made_by, open_image, upright, write_image
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from runtime.files import InputError

KIND = "semantic-dump"
SUFFIX = ".semantic.safetensors"
MAP_SUFFIX = ".semantic.png"


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


@dataclass(frozen=True)
class SemanticMap:
    """train_ids: (H, W) uint8, VOID_TRAIN_ID where the model names no class."""

    image_id: str
    taxonomy: str
    producer: str
    train_ids: np.ndarray


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
    header, tensors = read_dump(path, KIND, {"logits": Form(("F16",), 3)})
    check_header(path, header, image_id, size, taxonomy.name)
    logits = tensors["logits"]
    needed = (taxonomy.num_classes, *grid_size(header["height"], header["width"], header["stride"]))
    if logits.shape != needed:
        raise InputError(f"{path}: logits are {logits.shape}, but {needed} were needed; dump again")
    if not is_finite(logits):
        raise InputError(f"{path}: NaN or infinite logits; dump again with a model that works")
    fields = {name: header[name] for name in ("image_id", "height", "width", "stride", "taxonomy", "producer")}
    return SemanticLogits(**fields, logits=logits)


def map_path(folder: Path, image_id: str) -> Path:
    """Where the class map of an image lies: an 8-bit grey PNG of train ids."""
    return Path(folder) / f"{image_id}{MAP_SUFFIX}"


def write_semantic_map(folder: Path, semantic: SemanticMap) -> Path:
    """Write one image's class map atomically, with its taxonomy and producer; return the path."""
    path = map_path(folder, semantic.image_id)
    write_image(path, semantic.train_ids, _map_producer(semantic.taxonomy, semantic.producer))
    return path


def is_map_by(folder: Path, image_id: str, taxonomy: Taxonomy, producer: str) -> bool:
    """Whether a whole class map of this image by this producer exists."""
    return is_made_by(map_path(folder, image_id), _map_producer(taxonomy.name, producer))


def read_semantic_map(folder: Path, image_id: str, taxonomy: Taxonomy, size: tuple[int, int] | None = None) -> SemanticMap:
    """Read and check the class map of one image.

    Raises:
        InputError: if it is missing, broken, of another size or taxonomy, or holds a train id that the taxonomy has not.
    """
    path = map_path(folder, image_id)
    with open_image(path) as image:
        if image.mode != "L":
            raise InputError(f"{path}: PNG mode {image.mode}, but a class map is 8-bit grey; predict again")
        train_ids, (name, _, producer) = (
            np.asarray(upright(image)),
            getattr(image, "text", {}).get(PRODUCER_KEY, "").partition(" "),
        )
    if name != taxonomy.name:
        raise InputError(f"{path}: taxonomy is {name!r}, but {taxonomy.name!r} was needed; predict again with the right data")
    if size is not None and train_ids.shape != tuple(size):
        found, needed = (f"{h}x{w}" for h, w in (train_ids.shape, size))
        raise InputError(f"{path}: made for {found}, but the image is {needed}; predict again")
    strangers = np.unique(train_ids[(train_ids >= taxonomy.num_classes) & (train_ids != VOID_TRAIN_ID)])
    if strangers.size:
        known = f"{taxonomy.name} has 0 to {taxonomy.num_classes - 1} and {VOID_TRAIN_ID} for void"
        raise InputError(f"{path}: train ids {strangers[:5].tolist()}, but {known}; predict again")
    return SemanticMap(image_id, taxonomy.name, producer, train_ids)


def write_semantics(folder: Path, semantic: SemanticLogits | SemanticMap) -> Path:
    """Write logits or a class map; the other form of the same image goes first, so that it is never taken for this one."""
    other, write = (map_path, write_semantic) if isinstance(semantic, SemanticLogits) else (dump_path, write_semantic_map)
    other(folder, semantic.image_id).unlink(missing_ok=True)
    return write(folder, semantic)


def read_semantics(
    folder: Path, image_id: str, taxonomy: Taxonomy, size: tuple[int, int] | None = None
) -> SemanticLogits | SemanticMap:
    """The logits of an image, or where there are none its class map.

    Raises:
        InputError: as read_semantic and read_semantic_map.
    """
    if not dump_path(folder, image_id).exists() and map_path(folder, image_id).exists():
        return read_semantic_map(folder, image_id, taxonomy, size)
    return read_semantic(folder, image_id, taxonomy, size)


def _map_producer(taxonomy_name: str, producer: str) -> str:
    return f"{taxonomy_name} {producer}"
