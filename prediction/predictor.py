"""What is said of an image, and who says it: a network, a folder of dumps, a result file, the truth, or two of them fused."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np

from data.instance_dump import InstanceLogits
from data.panoptic_png import PanopticMap
from data.semantic_dump import SemanticLogits, SemanticMap
from data.split import Split
from data.taxonomy import Taxonomy
from prediction.batches import Batches, Named


@dataclass(frozen=True)
class Prediction:
    """What is said of one image; any part may be absent. seconds: what it took, by kind of work, such as "network"."""

    panoptic: PanopticMap | None = None
    instances: InstanceLogits | None = None
    semantic: SemanticLogits | SemanticMap | None = None
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)


@runtime_checkable
class Predictor(Protocol):
    """Images in, predictions out. `predict` may be called from several threads at once. See needs_pixels for files."""

    taxonomy: Taxonomy
    gives: tuple[str, ...]
    """Which parts of a Prediction are there."""
    min_score: float | None
    """From which score on its instances are worth fusing; None where it does not know."""

    def fingerprint(self, image_id: str) -> str:
        """Another text whenever `predict` would give something else for the same pixels.

        A network's depends on its weights and settings alone, a file's on the file.

        Raises:
            InputError: if there is nothing for this image.
        """

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """Predict one image.

        Args:
            image: (H, W, 3) uint8 RGB, of any size.

        Raises:
            InputError: if there is nothing for this image, or what is there is broken, of another size or of other classes.
        """


def needs_pixels(source: object) -> bool:
    """Whether a predictor, or the source of a half, looks at more of an image than its size.

    One that reads files has `needs_pixels = False`; one without the attribute looks at pixels.
    """
    return getattr(source, "needs_pixels", True)


def image_for(predictor: Predictor, split: Split, index: int) -> np.ndarray:
    """An image as the predictor needs it, (H, W, 3) uint8: decoded, or for one that needs no pixels black, without memory.

    Decoding a PNG of 1024x2048 takes longer than fusing it.

    Raises:
        InputError: if the file is broken; missing pixels go unnoticed where none are needed.
    """
    if needs_pixels(predictor):
        return split.image(index)
    return np.broadcast_to(np.uint8(0), (*split.size(index), 3))


class NetworkPredictor(ABC):
    """Base of predictors that run a network: one batch at a time, since it uses all cores, and its memory counts once."""

    taxonomy: Taxonomy
    min_score: float | None = None
    gives: tuple[str, ...] = ("panoptic", "instances", "semantic")
    threads: int | None = None
    """That compute on a CPU; None: torch's own number."""

    def __init__(self, taxonomy: Taxonomy, name: str):
        """Set what every predictor has; `name` changes with the weights and with every setting that the result depends on."""
        self.taxonomy, self.name = taxonomy, name
        self._batches = Batches(self.predict_batch)

    @property
    def batch_size(self) -> int:
        """How many images of one size the network sees at once, where so many wait."""
        return self._batches.size

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        self._batches.size = value

    @property
    def is_on_cpu(self) -> bool:
        """Whether the network computes on a CPU; what has no `network` of torch does."""
        parameters = getattr(getattr(self, "network", None), "parameters", None)
        return parameters is None or next(parameters()).device.type == "cpu"

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return self.name

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor."""
        prediction, seconds = self._batches(image_id, image)
        own = sum(prediction.seconds.values())
        return replace(prediction, seconds={"network": seconds - own, **prediction.seconds})

    def predict_batch(self, images: Sequence[Named]) -> list[Prediction]:
        """Predict images of one size at once.

        Raises:
            InputError: as predict, of any of them.
        """
        import torch

        if self.threads is not None and torch.get_num_threads() != self.threads:  # each thread of Python has a number of its own
            torch.set_num_threads(self.threads)
        with torch.inference_mode():
            return self.run_batch(images)

    def run_batch(self, images: Sequence[Named]) -> list[Prediction]:
        """As `run`, of images of one size; a network that takes several at once does so here."""
        return [self.run(image_id, image) for image_id, image in images]

    @abstractmethod
    def run(self, image_id: str, image: np.ndarray) -> Prediction:
        """Predict one image; called by one thread at a time, without gradients.

        Raises:
            InputError: if the network gives NaN.
        """
