"""What an image costs where a system is deployed: network, post-processing, fusion and files, by engine, threads and size.

Engines: torch as the predictors run it (channels last), torch.compile, onnxruntime, and onnxruntime in int8, calibrated on
training images. The two stages are the demo's, trained; the other systems have random weights, so that what follows their
networks is not that of a trained one. Images are the demo's, enlarged to the size, which is also that of the network's input.
Times are the best of several, in milliseconds of the clock: nothing else may run.

    $ make demo
    $ python scripts/benchmark.py deploy --output outputs/benchmark/deploy.json
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import solov2  # noqa: F401, before torch: it sets what torch reads when it is loaded

# isort: split
import cv2
import numpy as np
import torch

from benchmarks.operators import time_operators
from data.drawn.embedded import find_data_set
from data.images import read_image, write_image
from data.network_input import NetworkInput
from data.panoptic_png import write_panoptic_png
from data.split import Split
from data.taxonomy import CITYSCAPES
from detection.instance_head import InstanceHeadSettings
from efficientps.network import EfficientPS
from efficientps.predictor import EfficientPSPredictor
from evaluation.results_table import markdown_table
from pan_secb.network import PanSECB
from pan_secb.predictor import PanSECBPredictor
from panoptic_fpn.network import NetworkSettings, PanopticFPN
from panoptic_fpn.predictor import PanopticFPNPredictor
from prediction.exported.model_folder import ModelFolder
from prediction.exported.predictor import ExportedPredictor, load_predictor
from prediction.fused import FusedPredictor, LogitRule
from prediction.models import load_predictor as load_checkpoint
from prediction.onnx_export import Exportable, export
from prediction.predictor import NetworkPredictor
from prediction.quantization import NUM_IMAGES, quantize
from prediction.run import predict_split
from prediction.score import score
from runtime.command_line import OUTPUTS

SIZES = ((512, 1024), (1024, 2048))
THREADS = (1, 2)
PROFILED, NUM_OPERATORS = (512, 1024), 8
ENGINES = ("torch", "torch.compile", "onnxruntime", "int8")
STAGES = ("SOLOv2 Lite0", "EfficientPS semantics Lite0")
CHECKPOINTS = (OUTPUTS / "solov2/streets_lite0/epoch_6.pth", OUTPUTS / "efficientps/streets_lite0/best.ckpt")


@dataclass(frozen=True)
class Measured:
    """One row: milliseconds of the network by engine, None where it does not run; of what follows it, and of files."""

    system: str
    size: tuple[int, int]
    threads: int
    network: dict[str, float | None]
    post: float
    files: float


def predictors() -> Iterator[tuple[str, NetworkPredictor]]:
    """Every system, on the CPU."""
    for name, path in zip(STAGES, CHECKPOINTS, strict=True):
        yield name, load_checkpoint(path)
    torch.manual_seed(0)
    things, about = list(CITYSCAPES.thing_ids), (CITYSCAPES, "random", NetworkInput())
    head = {"anchor_sizes": InstanceHeadSettings().anchor_sizes}
    original = EfficientPS(CITYSCAPES.num_classes, things, head, variant="lite0").eval()
    yield "original EfficientPS Lite0", EfficientPSPredictor(original, *about)
    fpn = PanopticFPN(CITYSCAPES.is_thing.tolist(), NetworkSettings("lite0")).eval()
    yield "Panoptic FPN Lite0", PanopticFPNPredictor(fpn, *about)
    yield "Pan-SECB", PanSECBPredictor(PanSECB(CITYSCAPES.num_classes, len(things)).eval(), *about)


def best_of(run: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the fastest call, after one that is not timed."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def exportable_of(predictor: NetworkPredictor) -> Exportable:
    """What of a system is exported."""
    return import_module(f"{type(predictor).__module__.partition('.')[0]}.export").export_of(predictor)


def export_both(predictor: NetworkPredictor, split: Split, folder: Path) -> tuple[Exportable, ModelFolder, ModelFolder]:
    """A network in float32, and in int8."""
    exportable = exportable_of(predictor)
    plain = export(exportable, folder / "float32")
    images = (split.image(index) for index in range(min(NUM_IMAGES, len(split))))
    return exportable, plain, quantize(plain, images, folder / "int8")


def measure(repeats: int, sizes=SIZES, threads=THREADS, names: tuple[str, ...] = ()) -> Iterator[Measured]:
    """All rows, system by system.

    Args:
        names: systems; default: all.
    """
    data_set = find_data_set(None, "cityscapes", None)
    train, image = data_set.split("train"), data_set.split().image(0)
    for name, predictor in predictors():
        if names and name not in names:
            continue
        with TemporaryDirectory() as scratch:
            exportable, *folders = export_both(predictor, train, Path(scratch))
            for size in sizes:
                enlarged = cv2.resize(image, size[::-1])
                for number in threads:
                    engines, exported = open_engines(exportable, folders, number)
                    found = {engine: time_engine(run, exportable, enlarged, repeats) for engine, run in engines.items()}
                    yield Measured(name, size, number, found, *time_rest(exported, exportable, enlarged, Path(scratch), repeats))


def open_engines(
    exportable: Exportable, folders: list[ModelFolder], threads: int
) -> tuple[dict[str, Callable[[np.ndarray], object]], ExportedPredictor]:
    """What runs a (1, 3, H, W) input by engine, and the float32 model as a predictor."""
    torch.set_num_threads(threads)
    network = exportable.network.to(memory_format=torch.channels_last)
    torch.compiler.reset()  # else what was compiled for other numbers of threads counts against the limit of compilations
    compiled = torch.compile(network, dynamic=False)
    exported = [load_predictor(folder.path, threads=threads) for folder in folders]

    def by_torch(module: Callable) -> Callable[[np.ndarray], object]:
        def run(pixels: np.ndarray) -> object:
            tensor = torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode():
                return module(tensor, *([torch.tensor(pixels.shape[2:])] if exportable.takes_size else []))

        return run

    by_session = [lambda pixels, p=p: p.session.run("image", pixels, pixels.shape[2:]) for p in exported]
    return dict(zip(ENGINES, (by_torch(network), by_torch(compiled), *by_session), strict=True)), exported[0]


def input_of(exportable: Exportable, image: np.ndarray) -> np.ndarray:
    """(1, 3, H, W) float32, at the image's own size."""
    pixels = (image - np.float32(exportable.mean)) / np.float32(exportable.std)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)


def time_engine(run: Callable, exportable: Exportable, image: np.ndarray, repeats: int) -> float | None:
    """Milliseconds; None where an engine cannot take the network."""
    pixels = input_of(exportable, image)
    try:
        return best_of(lambda: run(pixels), repeats)
    except Exception as error:  # of the compiler, of no common class
        print(f"does not run: {str(error).strip().splitlines()[0][:120]}", flush=True)
        return None


def time_rest(
    exported: ExportedPredictor, exportable: Exportable, image: np.ndarray, folder: Path, repeats: int
) -> tuple[float, float]:
    """Milliseconds of what follows the network, with the fusion of a system that has one; and of reading and writing."""
    size = image.shape[:2]
    found = exported.session.run("image", input_of(exportable, image), size)
    write_image(folder / "image.png", image)
    prediction = exported.to_prediction(found, size, "image", size)

    def files() -> None:
        read_image(folder / "image.png")
        if prediction.panoptic is not None:
            write_panoptic_png(folder / "map.png", prediction.panoptic, "benchmark")

    return best_of(lambda: exported.to_prediction(found, size, "image", size), repeats), best_of(files, repeats)


def time_fusion(size: tuple[int, int], repeats: int) -> float:
    """Milliseconds of the logit fusion of the demo's two stages, at a size."""
    image = cv2.resize(find_data_set(None, "cityscapes", None).split().image(0), size[::-1])
    halves = [load_checkpoint(path).predict("image", image) for path in CHECKPOINTS]
    rule = LogitRule()
    return best_of(lambda: rule.fuse(halves[0].instances, halves[1].semantic, CITYSCAPES), repeats)


def quality() -> dict[str, float]:
    """PQ of the demo's two stages on the val images of Streets, by engine."""
    data_set, found = find_data_set(None, "cityscapes", None), {}
    split = data_set.split()
    with TemporaryDirectory() as scratch:
        folders = []
        for path in CHECKPOINTS:
            folders.append(Path(scratch) / path.stem)
            export_both(load_checkpoint(path), data_set.split("train"), folders[-1])
        pairs = {"torch": FusedPredictor(*map(load_checkpoint, CHECKPOINTS), LogitRule())}
        for name, form in zip(ENGINES[2:], ("float32", "int8"), strict=True):
            pairs[name] = FusedPredictor(*(load_predictor(folder / form) for folder in folders), LogitRule())
        for name, predictor in pairs.items():
            run = predict_split(split, predictor, Path(scratch) / name)
            found[name] = score(run, split).quality["All"]["pq"]
    return found


def profile() -> dict[str, dict[str, float]]:
    """Milliseconds by operator of both stages at PROFILED, float32 and int8: "stage, precision, threads" -> operator -> ms."""
    train, found = find_data_set(None, "cityscapes", None).split("train"), {}
    for name, path in zip(STAGES, CHECKPOINTS, strict=True):
        with TemporaryDirectory() as scratch:
            _, *folders = export_both(load_checkpoint(path), train, Path(scratch))
            for folder, threads in product(folders, THREADS):
                found[f"{name}, {folder.precision}, {threads}"] = dict(time_operators(folder, PROFILED, threads))
    return found


def profile_table(found: dict[str, dict[str, float]]) -> str:
    """Milliseconds of the operators that take most, in Markdown: a row an operator, a column a network, precision and threads."""
    totals = Counter({name: sum(times.get(name, 0) for times in found.values()) for name in set().union(*found.values())})
    shown = [name for name, _ in totals.most_common(NUM_OPERATORS)]
    lines = [[name, *(f"{times.get(name, 0):.1f}" for times in found.values())] for name in shown]
    rest = [f"{sum(ms for name, ms in times.items() if name not in shown):.1f}" for times in found.values()]
    return markdown_table(["operator", *found], [*lines, ["all others", *rest]])


def table(rows: list[Measured]) -> str:
    """Milliseconds, and how many times as fast as torch, in Markdown."""
    header = ["system", "size", "threads", *(f"{engine}, ms" for engine in ENGINES), "onnxruntime, times", "int8, times"]
    lines = []
    for row in rows:
        times = [row.network[engine] for engine in ENGINES]
        shown = ["not run" if value is None else f"{value:.0f}" for value in times]
        factors = [f"{times[0] / times[k]:.1f}" if times[0] and times[k] else "" for k in (2, 3)]
        lines.append([row.system, "x".join(map(str, row.size)), str(row.threads), *shown, *factors])
    return markdown_table(
        [*header, "post, ms", "files, ms"], [[*line, f"{r.post:.0f}", f"{r.files:.0f}"] for line, r in zip(lines, rows)]
    )


def run(repeats: int) -> dict:
    """Measure all, print the tables, return the numbers."""
    rows = []
    for row in measure(repeats):
        rows.append(row)
        rest = f"post {row.post:.0f}, files {row.files:.0f}"
        print(f"{row.system}, {row.size[0]}x{row.size[1]}, {row.threads} threads: {row.network}, {rest}", flush=True)
    fusion = {f"{h}x{w}": time_fusion((h, w), repeats) for h, w in SIZES}
    operators, found = profile(), quality()
    print(f"\n{table(rows)}\n\nlogit fusion: {', '.join(f'{size} {ms:.0f} ms' for size, ms in fusion.items())}")
    print("PQ of the two stages on Streets: " + ", ".join(f"{name} {100 * pq:.1f}" for name, pq in found.items()))
    print(f"\nmilliseconds by operator at {PROFILED[0]}x{PROFILED[1]}\n\n{profile_table(operators)}")
    return {"rows": [asdict(row) for row in rows], "fusion": fusion, "pq": found, "operators": operators}
