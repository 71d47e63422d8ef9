"""How long each part of Pan-SECB takes: network, clustering, merging, and reading and writing files."""

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.drawn.streets import Scene, StreetsSettings, draw_scene
from data.images import read_image, write_image
from data.input_size import InputSize
from data.layouts.cityscapes import instance_ids_to_panoptic
from data.layouts.image_files import ImageFiles
from data.network_input import NetworkImage, NetworkInput
from data.normalization import IMAGENET
from data.panoptic_png import write_panoptic_png
from data.resizing import resize_image
from data.taxonomy import CITYSCAPES, Taxonomy
from fusion.embedding_clusters import EmbeddingMaps, cluster, to_panoptic
from fusion.settings import ClusterSettings
from pan_secb.embedding_maps import ideal_embeddings, to_embedding_maps
from pan_secb.network import EmbeddingOutput, PanSECB
from pan_secb.predictor import load_predictor
from prediction.exported.predictor import enlarge
from runtime.files import InputError, shorten
from runtime.processor import describe_processor

PARTS = ("network", "clustering", "merging", "read", "write")
COMPUTED = PARTS[:3]
"""What real time is measured on: from pixels to segment ids in memory."""
SUMS = {"pixels to segments": COMPUTED, "PNG to PNG": PARTS}
MIN_REPEATS, WARM_UP = 3, 5
WARM_UP_SHARE = 0.25
"""Of the time for the repeats; the first run is never counted, however long it takes."""
PRECISIONS = {"32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Subject:
    """What is timed, and on what.

    image: (H, W, 3) uint8 RGB. network_input: how it becomes what the network sees.
    ideal: embeddings for clustering and merging in place of the network's own; None: the network's.
    """

    network: PanSECB
    network_input: NetworkInput
    taxonomy: Taxonomy
    clustering: ClusterSettings
    image: np.ndarray
    ideal: EmbeddingMaps | None

    @property
    def seen_size(self) -> tuple[int, int]:
        """(height, width) at which the network sees the image, without padding."""
        return self.network_input.size.of(self.image.shape[:2])


@dataclass(frozen=True)
class Form:
    """How the network is run."""

    device: str
    batch: int = 1
    precision: str = "32"
    is_channels_last: bool = False
    is_compiled: bool = False


def load_subject(checkpoint: Path, images: str | None, size: tuple[int, int] | None, device: str) -> Subject:
    """A trained network with its own normalisation, input size and clustering, and the image that it is timed on.

    Args:
        images: as --images; of several the first is taken. None: a drawn scene.
        size: (height, width) at which the network is to see it; None: the one that the checkpoint says.

    Raises:
        InputError: if the checkpoint or the image is broken, or no scene can be drawn at this size.
    """
    predictor = load_predictor(checkpoint, device)
    network_input = predictor.network_input
    image = draw(size or DRAWN_SIZE).image if images is None else ImageFiles(images).image(0)
    if size is not None:
        image, network_input = resize_image(image, size), replace(network_input, size=InputSize())
    return Subject(predictor.network, network_input, predictor.taxonomy, predictor.clustering, image, None)


DRAWN_SIZE = (1024, 2048)
"""Of the scene that a checkpoint without an image is timed on: Cityscapes'."""


def random_subject(size: tuple[int, int], width: float, device: str) -> Subject:
    """A network with random weights, a drawn scene, and its ideal embeddings.

    Args:
        width: see PanSECB.

    Raises:
        InputError: if no scene can be drawn at this size.
    """
    torch.manual_seed(0)
    network = PanSECB(CITYSCAPES.num_classes, len(CITYSCAPES.thing_ids), width).eval().to(device)
    scene = draw(size)
    maps = ideal_embeddings(instance_ids_to_panoptic(scene.instance_ids), CITYSCAPES, image_id="drawn")
    network_input = NetworkInput(normalization=IMAGENET)
    return Subject(network, network_input, CITYSCAPES, ClusterSettings(), scene.image, to_device(maps, device))


def draw(size: tuple[int, int]) -> Scene:
    """One street scene of (height, width)."""
    return draw_scene(StreetsSettings(*size, num_val=1), "val", 0)


def to_device(maps: EmbeddingMaps, device: str) -> EmbeddingMaps:
    """The same maps on another device."""
    tensors = {name: value.to(device) for name, value in vars(maps).items() if isinstance(value, Tensor)}
    return EmbeddingMaps(**(vars(maps) | tensors))


def time_row(subject: Subject, form: Form, seconds: float) -> dict:
    """All numbers of one size and form; see format_rows."""
    taken = time_parts(subject, form, seconds)
    summary = summarize(taken)
    height, width = subject.seen_size
    return {
        "size": f"{height}x{width}",
        "batch": form.batch,
        "precision": form.precision,
        "channels_last": form.is_channels_last,
        "compiled": form.is_compiled,
        "repeats": len(taken["network"]),
        "milliseconds": summary,
        "images_per_second": 1000 / summary["pixels to segments"]["median"],
    }


def time_parts(subject: Subject, form: Form, seconds: float) -> dict[str, list[float]]:
    """Milliseconds an image of each part, one entry a repeat.

    Args:
        seconds: after which no new repeat starts, once there are MIN_REPEATS.

    Raises:
        InputError: if the network cannot be compiled here.
    """
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder) / "image.png"
        write_image(path, subject.image)
        run_once = _make_run(subject, form, path)
        _warm_up(run_once, WARM_UP_SHARE * seconds)
        taken: dict[str, list[float]] = {part: [] for part in PARTS}
        start = time.perf_counter()
        while len(taken["network"]) < MIN_REPEATS or time.perf_counter() - start < seconds:
            for part, milliseconds in run_once().items():
                taken[part].append(milliseconds)
    return taken


def _warm_up(run_once: Callable[[], dict], seconds: float) -> None:
    """WARM_UP runs, fewer where they take too long, but at least one."""
    start = time.perf_counter()
    for _ in range(WARM_UP):
        try:
            run_once()
        except torch._dynamo.exc.TorchDynamoException as error:
            raise InputError(f"torch.compile fails here ({shorten(error)}); leave --compile out") from None
        if time.perf_counter() - start > seconds:
            return


def _make_run(subject: Subject, form: Form, path: Path) -> Callable[[], dict[str, float]]:
    """A function that does all parts once and returns milliseconds an image."""
    dtype, layout = PRECISIONS[form.precision], torch.channels_last if form.is_channels_last else torch.contiguous_format
    network = subject.network.to(form.device, dtype, memory_format=layout)
    forward = network
    if form.is_compiled:
        forward = torch.compile(network, mode="reduce-overhead" if form.device.startswith("cuda") else None)
    height, width = subject.seen_size
    about = {"height": height, "width": width, "taxonomy": subject.taxonomy, "pixels_per_unit": network.pixels_per_unit}

    def read() -> NetworkImage:
        return subject.network_input.apply(read_image(path), torch.device(form.device))

    def compute(image: Tensor) -> list[EmbeddingMaps]:
        output: EmbeddingOutput = forward(image)
        return [to_embedding_maps(output, k, image_id="timed", **about) for k in range(form.batch)]

    def run_once() -> dict[str, float]:
        clock = _Clock(form.device)
        pixels = read()
        read_time = clock.lap()
        images = pixels.tensor.expand(form.batch, -1, -1, -1).to(dtype).contiguous(memory_format=layout)
        clock.lap()
        maps = compute(images)
        network_time = clock.lap() / form.batch
        timed = maps[0] if subject.ideal is None else subject.ideal
        clusters = cluster(timed, subject.taxonomy, subject.clustering)
        cluster_time = clock.lap()
        panoptic = to_panoptic(clusters, timed, subject.taxonomy, subject.clustering)
        panoptic = enlarge(panoptic, subject.image.shape[:2])
        merge_time = clock.lap()
        write_panoptic_png(path.with_name("panoptic.png"), panoptic, "forward_time")
        return dict(zip(PARTS, (network_time, cluster_time, merge_time, read_time, clock.lap()), strict=True))

    return run_once


class _Clock:
    """Milliseconds since the lap before, when the device has nothing left to do."""

    def __init__(self, device: str):
        self.is_cuda = device.startswith("cuda")
        self.device, self.before = device, 0.0
        self.lap()

    def lap(self) -> float:
        if self.is_cuda:
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        taken, self.before = 1000 * (now - self.before), now
        return taken


def summarize(taken: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """{part or sum of parts: {median, p95, min}}; sums are of the parts of one repeat, not of medians."""
    values = {part: np.array(times) for part, times in taken.items()}
    values |= {name: sum(values[part] for part in parts) for name, parts in SUMS.items()}
    return {
        name: {"median": float(np.median(v)), "p95": float(np.percentile(v, 95)), "min": float(v.min())}
        for name, v in values.items()
    }


def format_rows(rows: Iterable[dict]) -> str:
    """A block for each row: median, p95 and min of all parts in milliseconds."""
    lines = []
    for row in rows:
        head = f"{row['size']}, batch {row['batch']}, {row['precision']}{', channels last' * row['channels_last']}"
        head += f"{', compiled' * row['compiled']}: {row['repeats']} repeats"
        lines += [head, f"{'':20}{'median':>10}{'p95':>10}{'min':>10}  ms"]
        for name, times in row["milliseconds"].items():
            lines.append(f"{name:20}{times['median']:10.2f}{times['p95']:10.2f}{times['min']:10.2f}")
        lines += [f"{row['images_per_second']:.3g} images a second, pixels to segments", ""]
    return "\n".join(lines)


def describe_hardware(device: str) -> str:
    """The processor that computes, as its maker names it."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{describe_processor()}, {torch.get_num_threads()} threads"
