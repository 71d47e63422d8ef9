"""Exchange format 1: the scored soft masks of one image, from any instance model."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import dump_file
from data.dump_file import VERSION, Form, check_header, grid_size, is_finite, read_dump, to_float16, write_dump
from data.resizing import Axis, sample
from data.taxonomy import Taxonomy
from runtime.files import InputError

KIND = "instance-dump"
SUFFIX = ".instances.safetensors"
TENSORS = {
    "train_ids": Form(("I64",), 1),
    "scores": Form(("F32",), 1),
    "boxes": Form(("F32",), 2),
    "crop_boxes": Form(("I32",), 2),
    "logits": Form(("F16",), 1),
}


@dataclass(frozen=True)
class InstanceLogits:
    """Scored mask logits of one image, each cropped to its object.

    train_ids: (N,) int64. scores: (N,) float32 in [0, 1], descending. boxes: (N, 4) float32, (x1, y1, x2, y2) in pixels
    of the image, of the binary mask. crop_boxes: (N, 4) int32, (y1, x1, y2, x2) in cells of the stride's grid, end
    exclusive. crops: N float16 arrays (y2 - y1, x2 - x1) of mask logits; a mask is where its logit, upsampled
    bilinearly to the image, is above 0. Cell (i, j) covers pixels [stride i, stride i + stride) x [stride j, ...).
    """

    image_id: str
    height: int
    width: int
    stride: int
    taxonomy: str
    producer: str
    train_ids: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    crop_boxes: np.ndarray
    crops: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.scores)


def from_full_logits(
    mask_logits: Iterable[np.ndarray],
    train_ids: Sequence[int],
    scores: Sequence[float],
    *,
    image_id: str,
    size: tuple[int, int],
    stride: int,
    taxonomy: Taxonomy,
    producer: str,
) -> InstanceLogits:
    """Crop full-frame logits to their objects and sort them by score, best first.

    Args:
        mask_logits: N maps (ceil(H / stride), ceil(W / stride)); one is held at a time.
        size: (height, width) of the image in pixels.

    An instance without a positive logit has no mask and is left out. A crop keeps one cell around the positive
    logits, so that bilinear upsampling inside the box equals that of the full frame.
    """
    grid = grid_size(*size, stride)

    def whole() -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        for logits in mask_logits:
            assert logits.shape == grid, (logits.shape, size, stride)
            yield (0, 0), logits

    about = {"image_id": image_id, "size": size, "stride": stride, "taxonomy": taxonomy, "producer": producer}
    return from_crops(whole(), train_ids, scores, **about)


def from_crops(
    crops: Iterable[tuple[tuple[int, int], np.ndarray]],
    train_ids: Sequence[int],
    scores: Sequence[float],
    *,
    image_id: str,
    size: tuple[int, int],
    stride: int,
    taxonomy: Taxonomy,
    producer: str,
) -> InstanceLogits:
    """As from_full_logits, of logits that were cut out: (row, column) of the first cell, and a map that ends one cell or more
    beyond each object's positive logits, or where the grid ends."""
    height, width = size
    found, kept, boxes, crop_boxes = [], [], [], []
    for k, ((top, left), logits) in enumerate(crops):
        rows, columns = logits.shape
        positive = logits > 0
        ys, xs = np.flatnonzero(positive.any(1)), np.flatnonzero(positive.any(0))
        if len(ys) == 0:
            continue
        y1, y2, x1, x2 = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
        box = ((left + x1) * stride, (top + y1) * stride, (left + x2) * stride, (top + y2) * stride)
        boxes.append((*box[:2], min(box[2], width), min(box[3], height)))
        y1, x1, y2, x2 = max(y1 - 1, 0), max(x1 - 1, 0), min(y2 + 1, rows), min(x2 + 1, columns)
        crop_boxes.append((top + y1, left + x1, top + y2, left + x2))
        found.append(to_float16(logits[y1:y2, x1:x2]))
        kept.append(k)
    kept = np.array(kept, dtype=np.int64)
    scores = np.asarray(scores, dtype=np.float32)[kept]
    order = np.argsort(-scores, kind="stable")
    return InstanceLogits(
        image_id=image_id,
        height=height,
        width=width,
        stride=stride,
        taxonomy=taxonomy.name,
        producer=producer,
        train_ids=np.asarray(train_ids, dtype=np.int64)[kept][order],
        scores=scores[order],
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4)[order],
        crop_boxes=np.array(crop_boxes, dtype=np.int32).reshape(-1, 4)[order],
        crops=tuple(found[k] for k in order),
    )


def full_masks(instances: InstanceLogits) -> Iterator[np.ndarray]:
    """The (H, W) bool mask of each instance, one by one: its logit, upsampled bilinearly, is above 0."""
    stride = instances.stride
    for (y1, x1, y2, x2), crop in zip(instances.crop_boxes.tolist(), instances.crops, strict=True):
        axes = (Axis.enlarged(cells, cells * stride, 1 / stride) for cells in crop.shape)
        enlarged = sample(crop.astype(np.float32)[None], *axes)[0] > 0
        canvas = np.zeros((instances.height, instances.width), dtype=bool)
        window = canvas[y1 * stride : y2 * stride, x1 * stride : x2 * stride]
        window[:] = enlarged[: window.shape[0], : window.shape[1]]
        yield canvas


def dump_path(folder: Path, image_id: str) -> Path:
    """Where the dump of an image lies; the file's name holds the full image id."""
    return Path(folder) / f"{image_id}{SUFFIX}"


def write_instances(folder: Path, instances: InstanceLogits) -> Path:
    """Write one image's instances atomically; return the path."""
    path = dump_path(folder, instances.image_id)
    header = {
        "format": KIND,
        "version": VERSION,
        "image_id": instances.image_id,
        "height": instances.height,
        "width": instances.width,
        "stride": instances.stride,
        "taxonomy": instances.taxonomy,
        "producer": instances.producer,
    }
    flat = np.concatenate([c.ravel() for c in instances.crops]) if instances.crops else np.zeros(0, np.float16)
    tensors = {
        "train_ids": instances.train_ids.astype(np.int64),
        "scores": instances.scores.astype(np.float32),
        "boxes": instances.boxes.astype(np.float32).reshape(-1, 4),
        "crop_boxes": instances.crop_boxes.astype(np.int32).reshape(-1, 4),
        "logits": flat.astype(np.float16),
    }
    write_dump(path, header, tensors)
    return path


def is_dumped_by(folder: Path, image_id: str, producer: str) -> bool:
    """Whether a whole dump of this image by this producer exists; a broken one counts as none."""
    return dump_file.is_dumped_by(dump_path(folder, image_id), KIND, producer)


def read_instances(folder: Path, image_id: str, taxonomy: Taxonomy, size: tuple[int, int] | None = None) -> InstanceLogits:
    """Read and check the dump of one image.

    Args:
        size: (height, width) that the image has; None believes the dump.

    Raises:
        InputError: if the dump is missing, broken, of another image, size or taxonomy, or holds values that cannot be.
    """
    path = dump_path(folder, image_id)
    header, tensors = read_dump(path, KIND, TENSORS)
    check_header(path, header, image_id, size, taxonomy.name)
    crop_boxes = tensors["crop_boxes"]
    _check_values(path, header, tensors, taxonomy)
    ends = np.cumsum((crop_boxes[:, 2:] - crop_boxes[:, :2]).prod(1))
    parts = np.split(tensors["logits"], ends[:-1]) if len(crop_boxes) else []
    crops = tuple(part.reshape(y2 - y1, x2 - x1) for part, (y1, x1, y2, x2) in zip(parts, crop_boxes.tolist(), strict=True))
    fields = {name: header[name] for name in ("image_id", "height", "width", "stride", "taxonomy", "producer")}
    return InstanceLogits(**fields, **{name: tensors[name] for name in TENSORS if name != "logits"}, crops=crops)


def _check_values(path: Path, header: dict, tensors: dict[str, np.ndarray], taxonomy: Taxonomy) -> None:
    crop_boxes, scores, train_ids = tensors["crop_boxes"], tensors["scores"], tensors["train_ids"]
    rows, columns = grid_size(header["height"], header["width"], header["stride"])
    problem = None
    if not tensors["boxes"].shape[1] == crop_boxes.shape[1] == 4:
        raise InputError(f"{path}: boxes and crop boxes must be (N, 4); dump again with a model that works")
    sides = crop_boxes[:, 2:].astype(np.int64) - crop_boxes[:, :2]
    if not len(train_ids) == len(scores) == len(tensors["boxes"]) == len(crop_boxes):
        problem = f"{len(train_ids)} classes, {len(scores)} scores and {len(crop_boxes)} boxes, but one each is needed"
    elif not all(is_finite(tensors[name]) for name in ("scores", "boxes", "logits")):
        problem = "NaN or infinite values"
    elif not np.isin(train_ids, taxonomy.thing_ids).all():
        strangers = sorted(set(train_ids.tolist()) - set(taxonomy.thing_ids))
        problem = f"train ids {strangers}, but things of {taxonomy.name} are {taxonomy.thing_ids}"
    elif ((scores < 0) | (scores > 1)).any() or (np.diff(scores) > 0).any():
        problem = "scores must lie in 0..1 and descend"
    elif (crop_boxes[:, :2] < 0).any() or (crop_boxes[:, 2:] > (rows, columns)).any() or (sides <= 0).any():
        problem = f"a crop leaves the {rows}x{columns} grid or is empty"
    elif sides.prod(1).sum() != len(tensors["logits"]):
        problem = f"{len(tensors['logits'])} logits do not fill the crops"
    elif not _are_inside(tensors["boxes"], crop_boxes.astype(np.int64) * header["stride"]):
        problem = "a box leaves its crop or is empty"
    elif (tensors["boxes"][:, 2:] > (header["width"], header["height"])).any():
        problem = f"a box leaves the image, {header['height']}x{header['width']}"
    if problem:
        raise InputError(f"{path}: {problem}; dump again with a model that works")


def _are_inside(boxes: np.ndarray, crops: np.ndarray) -> bool:
    """Whether boxes (x1, y1, x2, y2) are not empty and lie in crops (y1, x1, y2, x2), all in pixels."""
    starts, ends = crops[:, [1, 0]], crops[:, [3, 2]]
    return bool((boxes[:, :2] >= starts).all() and (boxes[:, 2:] <= ends).all() and (boxes[:, 2:] > boxes[:, :2]).all())
