"""Peak memory of predicting a large image in tiles, from halves that are made up: a car of 64x64 pixels every 96 pixels.

$ python -m benchmarks.tile_memory 8192 16384
"""

import json
import sys

import numpy as np

from benchmarks.side_by_side import memory_status
from data.panoptic_png import PanopticMap, describe_segments
from data.semantic_dump import SemanticLogits
from data.targets import panoptic_to_instance_logits
from data.taxonomy import CITYSCAPES
from prediction.fused import FusedPredictor, LogitRule
from prediction.predictor import NetworkPredictor, Prediction
from prediction.tiles import TileSettings, tiled

GRID, CAR = 96, 64
ROAD_ID, FIRST_CAR = 7, 1000
CAR_CATEGORY = 26
SMOOTH = 32
"""Cells of the stride within which the made-up logits are equal; white noise in every cell takes more, and no model gives it."""


class MadeUp(NetworkPredictor):
    """Says of a tile what is there in the whole image, whose pixels hold their own place in units of 32 pixels."""

    gives = ("instances", "semantic")

    def run(self, image_id: str, image: np.ndarray) -> Prediction:
        """See NetworkPredictor."""
        height, width = image.shape[:2]
        top, left = 32 * int(image[0, 0, 0]), 32 * (int(image[0, 0, 1]) + 256 * int(image[0, 0, 2]))
        ids = np.full((height, width), ROAD_ID, np.uint32)
        for y in range(top // GRID * GRID, top + height, GRID):
            for x in range(left // GRID * GRID, left + width, GRID):
                rows, columns = (slice(max(k - start, 0), max(k - start + CAR, 0)) for k, start in ((y, top), (x, left)))
                ids[rows, columns] = FIRST_CAR + y // GRID * 200 + x // GRID
        panoptic = PanopticMap(ids, describe_segments(ids, lambda k: ROAD_ID if k == ROAD_ID else CAR_CATEGORY))
        instances = panoptic_to_instance_logits(panoptic, CITYSCAPES, image_id=image_id, stride=4, producer="")
        cells = (CITYSCAPES.num_classes, height // 4 // SMOOTH, width // 4 // SMOOTH)
        logits = np.random.default_rng(top + left).normal(0, 3, cells).astype(np.float32)
        logits = logits.repeat(SMOOTH, 1).repeat(SMOOTH, 2)
        about = (image_id, height, width, 4, CITYSCAPES.name, "")
        return Prediction(instances=instances, semantic=SemanticLogits(*about, logits))


def measure(height: int, width: int) -> dict[str, float]:
    """MB of the process with the image, and at its peak; how many objects were joined, and how many there are."""
    image = np.zeros((height, width, 3), np.uint8)
    rows, columns = np.arange(height) // 32, np.arange(width) // 32
    image[:, :, 0] = rows[:, None]
    image[:, :, 1], image[:, :, 2] = columns % 256, columns // 256
    before = memory_status("VmRSS")
    made_up = MadeUp(CITYSCAPES, "made up")
    found = tiled(FusedPredictor(made_up, made_up, LogitRule()), TileSettings()).predict("image", image)
    num_cars = -(-height // GRID) * -(-width // GRID)
    peak = memory_status("VmHWM")
    return {"before": before / 1024, "peak": peak / 1024, "joined": len(found.instances), "cars": num_cars}


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
