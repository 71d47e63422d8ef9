"""The truth of a split as a predictor."""

from functools import cached_property

import numpy as np

from data.split import Split
from data.targets import panoptic_to_instance_logits, panoptic_to_semantic_logits
from prediction.predictor import Prediction
from runtime.files import InputError


class Truth:
    """The truth of a split as a perfect model would say it: masks and classes as logits, and the map itself.

    Args:
        stride: of the logits, in pixels.
    """

    gives = ("panoptic", "instances", "semantic")
    min_score = None
    needs_pixels = False

    def __init__(self, split: Split, stride: int = 4):
        if split.taxonomy is None:
            raise InputError(f"{split.name}: has no truth; give dumps or a model instead of `truth`")
        self.split, self.stride, self.taxonomy = split, stride, split.taxonomy

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return f"truth-{self.stride}-{self.split.truth_digest(self._index_of[image_id])}"

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor."""
        truth = self.split.truth(self._index_of[image_id])
        about = {"image_id": image_id, "stride": self.stride, "producer": "truth"}
        return Prediction(
            truth,
            panoptic_to_instance_logits(truth, self.taxonomy, **about),
            panoptic_to_semantic_logits(truth, self.taxonomy, **about),
        )

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {self.split.image_id(index): index for index in range(len(self.split))}
