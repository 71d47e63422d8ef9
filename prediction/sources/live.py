"""What live models of other libraries share: one run an image at a time, whose result both halves may want."""

import hashlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from threading import Lock
from typing import Any

import numpy as np

from data.class_matching import ForeignClasses
from prediction.sources.foreign import FoundObject

NUM_KEPT = 8
"""Results that are kept at most until the other half asks for them."""
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
        self.halves: set[str] = set()
        """Which halves it is asked for."""

    def result(self, image: np.ndarray) -> Any:
        """What `run` gives; where it serves both halves, the second one gets what the first one did."""
        key = hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest() + repr(image.shape).encode()
        with self._turn:
            if (result := self._kept.pop(key, None)) is not None:
                return result
            result = self.run(image)
            if len(self.halves) > 1:
                self._kept[key] = result
                while len(self._kept) > NUM_KEPT:
                    self._kept.popitem(last=False)
            return result

    @abstractmethod
    def run(self, image: np.ndarray) -> Any:
        """The network's output of one image, on the CPU; called by one thread at a time. One of torch turns gradients off."""

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
        model.halves.add("instances")

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return self.model.digest

    def objects(self, image_id: str, image: np.ndarray) -> list[FoundObject]:
        """See ForeignInstances."""
        return self.model.objects_of(self.model.result(image), image.shape[:2])


class LiveSemantics:
    """The semantics of a live model; see ForeignSemantics."""

    notes = ()

    def __init__(self, model: LiveModel):
        self.model = model
        self.name, self.classes = model.name, model.classes
        model.halves.add("semantics")

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return self.model.digest

    def scores(self, image_id: str, image: np.ndarray) -> np.ndarray:
        """See ForeignSemantics."""
        return self.model.scores_of(self.model.result(image), image.shape[:2])
