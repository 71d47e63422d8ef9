"""Time each part of Pan-SECB: network, clustering, merging, and reading and writing files.

    $ python pan_secb/forward_time.py
    $ python pan_secb/forward_time.py --sizes 1024x2048 --precision fp32 bf16 --channels-last --compile --device cuda
    $ python pan_secb/forward_time.py --checkpoint outputs/pan_secb/cityscapes_finetune/best.ckpt --image-path street.png

network: normalised pixels on the device -> embeddings, bandwidths, seeds and classes of all pixels. clustering: ->
which object each pixel belongs to. merging: -> segment ids on the CPU. read: PNG -> normalised pixels on the device. write:
panoptic PNG.

Without --checkpoint the network has random weights, which cost the same, but would give no clusters: clustering and merging then
get the ideal embeddings of the drawn scene, in which each pixel points exactly at its object's centre. Real ones are noisier.

All times are by the wall clock, between points where the device has nothing left to do, and of one picture.
"""

import os
import platform
import tempfile
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from data.drawn.streets import Scene, StreetsSettings, draw_scene
from data.images import read_image, write_image
from data.layouts.cityscapes import instance_ids_to_panoptic
from data.normalization import IMAGENET, normalize_and_pad
from data.panoptic_png import write_panoptic_png
from data.taxonomy import CITYSCAPES, Taxonomy
from fusion.embedding_clusters import EmbeddingMaps, cluster, to_panoptic
from fusion.settings import ClusterSettings
from pan_secb.embedding_maps import ideal_embeddings, to_embedding_maps
from pan_secb.erfnet import STRIDE
from pan_secb.network import EmbeddingOutput, PanSECB
from pan_secb.predictor import load_predictor
from runtime.device import check_device, default_device
from runtime.files import InputError, one_line_errors, shorten, write_json

PARTS = ("network", "clustering", "merging", "read", "write")
COMPUTED = PARTS[:3]
"""What real time is measured on: from pixels to segment ids in memory."""
SUMS = {"pixels to segments": COMPUTED, "PNG to PNG": PARTS}
MIN_REPEATS, WARM_UP = 3, 5
WARM_UP_SHARE = 0.25
"""Of the time for the repeats; the first run is never counted, however long it takes."""
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Subject:
    """What is timed, and on what.

    ideal: embeddings for clustering and merging in place of the network's own; None: the network's.
    """

    network: PanSECB
    taxonomy: Taxonomy
    clustering: ClusterSettings
    picture: np.ndarray
    ideal: EmbeddingMaps | None


@dataclass(frozen=True)
class Form:
    """How the network is run."""

    device: str
    batch: int = 1
    precision: str = "fp32"
    is_channels_last: bool = False
    is_compiled: bool = False


def parse_size(text: str) -> tuple[int, int]:
    """1024x2048 -> (1024, 2048)."""
    try:
        height, width = map(int, text.split("x"))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no size; give HEIGHTxWIDTH such as 1024x2048") from None
    if min(height, width) < 1 or height % STRIDE or width % STRIDE:
        raise ArgumentTypeError(f"{text}: both sides must be multiples of {STRIDE}, as the network needs them")
    return height, width


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser(prog="forward_time.py", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    sizes = [(1024, 2048), (512, 1024)]
    help_sizes = "heights and widths; default: 1024x2048 512x1024"
    parser.add_argument("--sizes", type=parse_size, nargs="+", default=sizes, metavar="HxW", help=help_sizes)
    parser.add_argument("--batch", type=int, default=1, help="pictures that the network sees at once; default: %(default)s")
    help_precision = "of weights and activations of the network; default: fp32"
    parser.add_argument("--precision", nargs="+", choices=tuple(PRECISIONS), default=["fp32"], help=help_precision)
    parser.add_argument("--channels-last", action="store_true", help="memory format of the network")
    parser.add_argument("--compile", action="store_true", help="by torch.compile, on a GPU with CUDA graphs")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...; default: %(default)s")
    parser.add_argument("--width", type=float, default=1.0, help="of a network with random weights; default: the published 1")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="time a trained network on its own embeddings")
    parser.add_argument("--image-path", type=Path, metavar="PICTURE", help="for --checkpoint; default: a drawn scene")
    help_seconds = f"for the repeats of one row, of which there are {MIN_REPEATS} or more; default: %(default)s"
    parser.add_argument("--seconds", type=float, default=20.0, help=help_seconds)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all times")
    return parser


def load_subject(args: Namespace, size: tuple[int, int], device: str) -> Subject:
    """The network and the picture that the arguments name, the picture at `size` (height, width).

    Raises:
        InputError: if the checkpoint or the picture is broken, or no scene can be drawn at this size.
    """
    if args.checkpoint is not None:
        predictor = load_predictor(args.checkpoint.expanduser(), device)
        picture = _draw(size).image if args.image_path is None else read_image(args.image_path)
        if picture.shape[:2] != size:
            picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
        return Subject(predictor.network, predictor.taxonomy, predictor.clustering, picture, None)
    if args.image_path is not None:
        raise InputError(f"--image-path {args.image_path} needs --checkpoint: random weights find nothing in it; give both")
    torch.manual_seed(0)
    network = PanSECB(CITYSCAPES.num_classes, len(CITYSCAPES.thing_ids), args.width).eval().to(device)
    scene = _draw(size)
    maps = ideal_embeddings(instance_ids_to_panoptic(scene.instance_ids), CITYSCAPES, image_id="drawn")
    return Subject(network, CITYSCAPES, ClusterSettings(), scene.image, to_device(maps, device))


def _draw(size: tuple[int, int]) -> Scene:
    return draw_scene(StreetsSettings(*size, num_val=1), "val", 0)


def to_device(maps: EmbeddingMaps, device: str) -> EmbeddingMaps:
    """The same maps on another device."""
    tensors = {name: value.to(device) for name, value in vars(maps).items() if isinstance(value, Tensor)}
    return EmbeddingMaps(**(vars(maps) | tensors))


def time_parts(subject: Subject, form: Form, seconds: float) -> dict[str, list[float]]:
    """Milliseconds a picture of each part, one entry a repeat.

    Args:
        seconds: after which no new repeat starts, once there are MIN_REPEATS.

    Raises:
        InputError: if the network cannot be compiled here.
    """
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder) / "picture.png"
        write_image(path, subject.picture)
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
    """A function that does all parts once and returns milliseconds a picture."""
    dtype, layout = PRECISIONS[form.precision], torch.channels_last if form.is_channels_last else torch.contiguous_format
    network = subject.network.to(form.device, dtype, memory_format=layout)
    forward = network
    if form.is_compiled:
        forward = torch.compile(network, mode="reduce-overhead" if form.device.startswith("cuda") else None)
    height, width = subject.picture.shape[:2]
    about = {"height": height, "width": width, "taxonomy": subject.taxonomy, "pixels_per_unit": network.pixels_per_unit}

    def read() -> Tensor:
        image = normalize_and_pad(read_image(path), IMAGENET, STRIDE)
        return torch.from_numpy(image)[None].to(form.device)

    def compute(image: Tensor) -> list[EmbeddingMaps]:
        output: EmbeddingOutput = forward(image)
        return [to_embedding_maps(output, k, image_id="timed", **about) for k in range(form.batch)]

    def run_once() -> dict[str, float]:
        clock = _Clock(form.device)
        pixels = read()
        read_time = clock.lap()
        images = pixels.expand(form.batch, -1, -1, -1).to(dtype).contiguous(memory_format=layout)
        clock.lap()
        maps = compute(images)
        network_time = clock.lap() / form.batch
        timed = maps[0] if subject.ideal is None else subject.ideal
        clusters = cluster(timed, subject.taxonomy, subject.clustering)
        cluster_time = clock.lap()
        panoptic = to_panoptic(clusters, timed, subject.taxonomy, subject.clustering)
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
        lines += [f"{row['images_per_second']:.3g} pictures a second, pixels to segments", ""]
    return "\n".join(lines)


def describe_hardware(device: str) -> str:
    """The processor that computes, as its maker names it."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    processor = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")  # on Linux, where platform only knows the architecture
    if facts.is_file():
        names = [line.split(":", 1)[1].strip() for line in facts.read_text().splitlines() if line.startswith("model name")]
        processor = names[0] if names else processor
    return f"{os.cpu_count()} x {processor}, {torch.get_num_threads()} threads"


def run(args: Namespace) -> None:
    """Time every size in every precision and print a table.

    Raises:
        InputError: if a number is out of range, or as load_subject and time_parts.
    """
    if args.batch < 1 or not args.seconds >= 0:
        raise InputError(f"--batch {args.batch} and --seconds {args.seconds}, but at least 1 and 0 are needed")
    device = check_device(default_device() if args.device == "auto" else args.device)
    torch.backends.cudnn.benchmark = True  # sizes do not change
    facts = {"hardware": describe_hardware(device), "torch": torch.__version__, "python": platform.python_version()}
    weights = "random weights, ideal embeddings of a drawn scene" if args.checkpoint is None else str(args.checkpoint)
    print(f"{facts['hardware']}; torch {facts['torch']}; {weights}\n", flush=True)
    rows = []
    for size in args.sizes:
        for precision in args.precision:
            form = Form(device, args.batch, precision, args.channels_last, args.compile)
            rows.append(time_row(load_subject(args, size, device), form, args.seconds))
            print(format_rows(rows[-1:]), flush=True)
    if args.json is not None:
        write_json(args.json.expanduser(), facts | {"weights": weights, "rows": rows})
        print(f"wrote {args.json}")


def time_row(subject: Subject, form: Form, seconds: float) -> dict:
    """All numbers of one size and form; see format_rows."""
    taken = time_parts(subject, form, seconds)
    summary = summarize(taken)
    height, width = subject.picture.shape[:2]
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


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args())


if __name__ == "__main__":
    main()
