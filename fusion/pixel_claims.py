"""Which instance each pixel goes to: the boxes, the order and the result that both ways to it share.

pixel_claims_compiled.py does the pixel work on a CPU, pixel_claims_torch.py on any device that torch has.
"""

from dataclasses import dataclass

import numpy as np

from data.instance_dump import InstanceLogits
from data.taxonomy import MAX_INSTANCES_PER_IMAGE


@dataclass(frozen=True)
class Claims:
    """Who gets what, on an (H, W) image.

    winner: (H, W) int16, rank of the instance that a pixel goes to, -1 where none. semantic_train_ids: (H, W) uint8, the
    semantic argmax; ties go to the lower id.
    """

    winner: np.ndarray
    semantic_train_ids: np.ndarray


@dataclass(frozen=True)
class Box:
    """A rectangle of image pixels, ends exclusive."""

    y1: int
    x1: int
    y2: int
    x2: int

    @classmethod
    def of(cls, instances: InstanceLogits, k: int) -> "Box":
        """The box of instance k, grown to whole pixels and cut at the image's edges."""
        x1, y1, x2, y2 = instances.boxes[k]
        y1, x1 = max(int(np.floor(y1)), 0), max(int(np.floor(x1)), 0)
        return cls(y1, x1, min(int(np.ceil(y2)), instances.height), min(int(np.ceil(x2)), instances.width))

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """(y1, x1, y2, x2)."""
        return self.y1, self.x1, self.y2, self.x2

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.y1, self.y2), slice(self.x1, self.x2)

    def intersection(self, other: "Box") -> "Box":
        """The common rectangle; empty where there is none."""
        y1, x1 = max(self.y1, other.y1), max(self.x1, other.x1)
        return Box(y1, x1, max(y1, min(self.y2, other.y2)), max(x1, min(self.x2, other.x2)))


def best_first(instances: InstanceLogits, min_score: float) -> list[int]:
    """Indices of the instances from `min_score` on, best first, as many as segment ids can number.

    Ties are broken by content, so that the order of the file does not matter.
    """

    def key(k: int) -> tuple:
        place = (*instances.crop_boxes[k].tolist(), *instances.boxes[k].tolist())
        return -instances.scores[k], instances.train_ids[k], place, instances.crops[k].tobytes()

    return sorted(np.flatnonzero(instances.scores >= min_score).tolist(), key=key)[:MAX_INSTANCES_PER_IMAGE]
