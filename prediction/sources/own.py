"""Predictions of this project in other classes than the data's: a checkpoint, dumps or a run, behind a class map."""

from collections.abc import Iterator

import numpy as np

from data.class_matching import ForeignClasses
from data.semantic_dump import SemanticLogits
from data.taxonomy import VOID_TRAIN_ID
from prediction.predictor import Predictor, needs_pixels
from prediction.sources.foreign import FoundObject


class OwnInstances:
    """Its instances, as those of a foreign tool; see ForeignInstances.

    Args:
        place: what the user gave, for messages.
    """

    notes = ()

    def __init__(self, predictor: Predictor, place: str):
        self.predictor, self.name, self.min_score = predictor, place, predictor.min_score
        self.needs_pixels = needs_pixels(predictor)
        self.classes = _classes_of(predictor, place)

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return self.predictor.fingerprint(image_id)

    def objects(self, image_id: str, image: np.ndarray) -> Iterator[FoundObject]:
        """See ForeignInstances."""
        found = self.predictor.predict(image_id, image).instances
        for k, crop in enumerate(found.crops):
            y, x = found.crop_boxes[k, :2].tolist()
            yield FoundObject(int(found.train_ids[k]), float(found.scores[k]), (y, x), crop, found.stride)


class OwnSemantics:
    """Its semantics, in the same way."""

    notes = ()

    def __init__(self, predictor: Predictor, place: str):
        self.predictor, self.name = predictor, place
        self.needs_pixels = needs_pixels(predictor)
        self.classes = _classes_of(predictor, place)

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return self.predictor.fingerprint(image_id)

    def scores(self, image_id: str, image: np.ndarray) -> np.ndarray:
        """See ForeignSemantics."""
        found = self.predictor.predict(image_id, image).semantic
        return found.logits if isinstance(found, SemanticLogits) else found.train_ids


def _classes_of(predictor: Predictor, place: str) -> ForeignClasses:
    names = {train_id: c.name for train_id, c in enumerate(predictor.taxonomy.categories)}
    return ForeignClasses(place, names, "places", frozenset({VOID_TRAIN_ID}))
