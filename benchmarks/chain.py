"""The whole offline command on prepared dumps: images a second, peak memory, and where the time goes."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from benchmarks.scenes import REPOSITORY, predictions, street_images
from benchmarks.watched import run_watched
from data.images import read_image_size
from data.instance_dump import read_instances, write_instances
from data.layouts.cityscapes import LabelledImage, find_images, read_truth
from data.panoptic_png import write_panoptic_png
from data.semantic_dump import read_semantic, write_semantic
from data.taxonomy import CITYSCAPES
from evaluation.panoptic_quality import match_segments
from fusion.logit_fusion import fuse

FOLDER = REPOSITORY / "outputs" / "benchmark" / "chain"
NUM_INSTANCES = 30


def prepare(num_images: int) -> Path:
    """A data set of so many 1024x2048 images, the eight scenes under ever new ids, with dumps of both stages for each."""
    root = FOLDER / str(num_images)
    shutil.rmtree(root, ignore_errors=True)
    sources = street_images()
    for k in range(num_images):
        source = sources[k % len(sources)]
        instances, semantic = predictions(NUM_INSTANCES, k % len(sources))
        image_id = f"bench_{k:06d}_000000"
        for path in (source.image_path, source.label_path):
            kind = path.parents[2].name
            place = root / kind / "val" / "bench" / f"{image_id}{path.name.removeprefix(source.image_id)}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
        write_instances(root / "instances", replace(instances, image_id=image_id))
        write_semantic(root / "semantics", replace(semantic, image_id=image_id))
    return root


def run_command(root: Path, workers: int) -> tuple[float, float]:
    """(seconds of `solo_fusion.py --workers N` from its start to its end, peak memory in MB)."""
    output = root / "fused"
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, str(REPOSITORY / "fusion/solo_fusion.py"), "--data-root", str(root), "--output", str(output)]
    command += ["--instances", str(root / "instances"), "--semantics", str(root / "semantics"), "--workers", str(workers)]
    return run_watched(command, {"OMP_NUM_THREADS": "1"})


def time_steps(root: Path, num_images: int = 16) -> dict[str, float]:
    """Milliseconds an image of each step of the command, one after the other on one thread."""
    frames = find_images(root, "val")[: num_images + 1]
    spent: dict[str, float] = {}
    for k, frame in enumerate(frames):
        if k == 1:  # the first loads and compiles
            spent.clear()
        _one_image(root, frame, spent)
    return {name: 1000 * seconds / (len(frames) - 1) for name, seconds in spent.items()}


def _one_image(root: Path, frame: LabelledImage, spent: dict[str, float]) -> None:
    def timed(name, function, *arguments):
        start = perf_counter()
        result = function(*arguments)
        spent[name] = spent.get(name, 0) + perf_counter() - start
        return result

    size = timed("read dumps", read_image_size, frame.image_path)
    instances = timed("read dumps", read_instances, root / "instances", frame.image_id, CITYSCAPES, size)
    semantic = timed("read dumps", read_semantic, root / "semantics", frame.image_id, CITYSCAPES, size)
    panoptic = timed("fuse", fuse, instances, semantic, CITYSCAPES)
    timed("write PNG", write_panoptic_png, root / "step.png", panoptic, "benchmark")
    truth = timed("read truth", read_truth, frame)
    timed("match segments", match_segments, truth, panoptic)
