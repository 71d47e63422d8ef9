"""What live models of other libraries share: one run an image at a time, whose result both halves may want."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from threading import Lock
from typing import Any

import numpy as np

from data.class_matching import ForeignClasses
from prediction.sources.foreign import FoundObject

NUM_KEPT = 2
"""Results that are kept until the other half asks for them; as many as images are worked on at once."""
LOWEST_SCORE = 0.05
"""Of objects that are looked at, as COCO's evaluation keeps them in torchvision."""


class LiveModel(ABC):
    """A network of another library.

    Args:
        name: as the user gave it.
        digest: changes with the weights and with what is done to an image.
    """

    def __init__(self, name: str, digest: str, names: dict[int, str | None], void: frozenset[int] = frozenset()):
        self.name, self.digest = name, digest
        self.classes = ForeignClasses(name, names, "places", void)
        self._turn, self._kept = Lock(), OrderedDict()

    def result(self, image_id: str, image: np.ndarray) -> Any:
        """What `run` gives, computed once while it is kept."""
        import torch

        key = (image_id, image.shape, image.__array_interface__["data"][0])
        with self._turn, torch.inference_mode():
            if key not in self._kept:
                self._kept[key] = self.run(image)
                while len(self._kept) > NUM_KEPT:
                    self._kept.popitem(last=False)
            return self._kept[key]

    @abstractmethod
    def run(self, image: np.ndarray) -> Any:
        """The network's output of one image, on the CPU."""

    def objects_of(self, result: Any, size: tuple[int, int]) -> list[FoundObject]:
        """The objects in a result, for an image of (height, width)."""
        raise NotImplementedError

    def scores_of(self, result: Any, size: tuple[int, int]) -> np.ndarray:
        """The logits in a result, as ForeignSemantics has them."""
        raise NotImplementedError


class LiveInstances:
    """The instances of a live model; see ForeignInstances."""

    notes = ()
    min_score = None

    def __init__(self, model: LiveModel):
        self.model = model
        self.name, self.classes = model.name, model.classes

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return self.model.digest

    def objects(self, image_id: str, image: np.ndarray) -> list[FoundObject]:
        """See ForeignInstances."""
        return self.model.objects_of(self.model.result(image_id, image), image.shape[:2])


class LiveSemantics:
    """The semantics of a live model; see ForeignSemantics."""

    notes = ()

    def __init__(self, model: LiveModel):
        self.model = model
        self.name, self.classes = model.name, model.classes

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return self.model.digest

    def scores(self, image_id: str, image: np.ndarray) -> np.ndarray:
        """See ForeignSemantics."""
        return self.model.scores_of(self.model.result(image_id, image), image.shape[:2])


def cut_out(logits: np.ndarray) -> tuple[tuple[int, int], np.ndarray] | None:
    """The part of an (h, w) map of mask logits around what is positive, with a margin of one cell; None where nothing is."""
    positive = logits > 0
    ys, xs = np.flatnonzero(positive.any(1)), np.flatnonzero(positive.any(0))
    if not len(ys):
        return None
    y, x = max(int(ys[0]) - 1, 0), max(int(xs[0]) - 1, 0)
    return (y, x), logits[y : int(ys[-1]) + 2, x : int(xs[-1]) + 2]
