"""A result list of another tool, read image by image: seconds and peak memory, beside pycocotools' decode of the same masks."""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from benchmarks.scenes import REPOSITORY
from data.split import FileSplit
from data.taxonomy import CITYSCAPES
from prediction.sources.coco_results import CocoResults
from prediction.sources.foreign import MappedInstances
from runtime.files import atomic_path

FOLDER = REPOSITORY / "outputs" / "benchmark" / "result_lists"
SIZE, OBJECTS = (1024, 2048), 30
NUM_IMAGES = (100, 1000)
DIFFERENT_MASKS = 60


class Names(FileSplit):
    """Images that are never read."""

    name = "benchmark"

    def __init__(self, num_images: int):
        self.num_images = num_images

    def __len__(self) -> int:
        return self.num_images

    def image_id(self, index: int) -> str:
        """See Split."""
        return f"image_{index:06d}"

    def image_path(self, index: int) -> Path:
        """See FileSplit."""
        return Path(f"image_{index:06d}.png")


def write_list(num_images: int) -> Path:
    """A list of OBJECTS masks an image: discs of radius 10 to 200 with holes of 8x8 pixels."""
    path = FOLDER / f"{num_images}.json"
    if path.exists():
        return path
    rng, masks = np.random.default_rng(0), []
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    for _ in range(DIFFERENT_MASKS):
        y, x, radius = rng.integers(0, SIZE[0]), rng.integers(0, SIZE[1]), rng.integers(10, 200)
        holes = (rng.random((SIZE[0] // 8, SIZE[1] // 8)) < 0.1).repeat(8, 0).repeat(8, 1)
        mask = ((rows - y) ** 2 + (columns - x) ** 2 < radius**2) & ~holes
        rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        masks.append({"size": list(SIZE), "counts": rle["counts"].decode()})
    FOLDER.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial, partial.open("w") as file:
        for k in range(num_images * OBJECTS):
            entry = {"image_id": f"image_{k // OBJECTS:06d}", "category_id": 26, "score": 0.5, "bbox": [0, 0, 1, 1]}
            file.write(("," if k else "[") + json.dumps(entry | {"segmentation": masks[k % DIFFERENT_MASKS]}))
        file.write("]")
    return path


def measure(num_images: int) -> dict[str, float]:
    """CPU seconds to open, and to read and convert all images; megabytes of peak memory above what was loaded before."""
    split, path, image = Names(num_images), write_list(num_images), np.zeros((*SIZE, 3), np.uint8)
    warm = MappedInstances(CocoResults(write_list(1), Names(1)), CITYSCAPES)
    warm.predict("image_000000", image)
    before, start = peak_megabytes(), time.process_time()
    predictor = MappedInstances(CocoResults(path, split), CITYSCAPES)
    opened = time.process_time()
    for index in range(num_images):
        predictor.predict(split.image_id(index), image)
    ended = time.process_time()
    return {"open": opened - start, "read": ended - opened, "megabytes": peak_megabytes() - before}


def decode_seconds(num_images: int) -> float:
    """CPU seconds of pycocotools' decode of the masks, one by one, from parsed JSON."""
    masks = [entry["segmentation"] for entry in json.loads(write_list(num_images).read_text())]
    entries = [mask | {"counts": mask["counts"].encode()} for mask in masks]
    start = time.process_time()
    for entry in entries:
        coco_mask.decode(entry)
    return time.process_time() - start


def peak_megabytes() -> float:
    """Of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":  # in a fresh process each, since peaks stay
    print(json.dumps(measure(int(sys.argv[1]))))
