"""Images of any size in overlapping tiles, by any live predictor: its memory is that of a tile, beside the image's own maps.

An image that fits into one tile is predicted as it is. Of a larger one the tiles are predicted one after the other: semantic
logits are blended before the argmax, objects joined across the seams (prediction/tile_joining.py), and a fusion rule works once,
on the whole image. A network that brings images to a size of its own does so with each tile, so tiles should be of a size that
it was trained for.
"""

from collections import Counter

import numpy as np

from prediction.exported.predictor import ExportedPredictor
from prediction.fused import FusedPredictor, Rule
from prediction.predictor import NetworkPredictor, Prediction, Predictor
from prediction.sources.live import LiveInstances, LiveSemantics
from prediction.sources.own import OwnInstances, OwnSemantics
from prediction.tile_joining import JOINERS
from prediction.tile_plan import TilePlan, TileSettings, plan_tiles
from runtime.files import InputError, digest_of

__all__ = ["TilePlan", "TileSettings", "TiledPredictor", "is_live", "plan_tiles", "tiled"]

JOINING_VERSION = "1"
"""Raise it when joining gives other pixels for the same tiles, so that old results are not taken for new ones."""


class TiledPredictor:
    """A predictor that gives its own predictor tiles of an image, and joins what that says.

    Panoptic maps are joined as such. Better is `tiled`, which joins halves and fuses them again.

    Args:
        predictor: a live one, which predicts the pixels that it is given.
    """

    def __init__(self, predictor: Predictor, settings: TileSettings):
        self.predictor, self.settings = predictor, settings
        self.taxonomy, self.gives, self.min_score = predictor.taxonomy, predictor.gives, predictor.min_score

    def fingerprint(self, image_id: str) -> str:
        """See Predictor; it changes with the settings, also where an image fits into one tile."""
        return f"{self.predictor.fingerprint(image_id)}{self.settings.suffix}-{JOINING_VERSION}"

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor.

        Raises:
            InputError: as that of the predictor, and if what it says is not of the tile, or its stride does not fit tiles.
        """
        plan = plan_tiles(image.shape[:2], self.settings)
        if len(plan.tiles) == 1:
            return self.predictor.predict(image_id, image)
        joiners = {name: JOINERS[name](plan, self.taxonomy, image_id) for name in self.gives}
        seconds = Counter()
        for tile in plan.tiles:
            found = self.predictor.predict(image_id, plan.cut(image, tile))
            seconds.update(found.seconds)
            for name, joiner in joiners.items():
                joiner.add(tile, getattr(found, name))
        return Prediction(**{name: joiner.result() for name, joiner in joiners.items()}, seconds=seconds)


class BothHalves:
    """Two predictors as one, so that both see a tile before the next one comes: models that serve both halves run once a tile."""

    gives = ("instances", "semantic")

    def __init__(self, instances: Predictor, semantics: Predictor):
        self.instances, self.semantics = instances, semantics
        self.taxonomy, self.min_score = semantics.taxonomy, instances.min_score

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return f"halves-{digest_of(*(half.fingerprint(image_id) for half in (self.instances, self.semantics)))}"

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor."""
        semantics, instances = (half.predict(image_id, image) for half in (self.semantics, self.instances))
        seconds = Counter(semantics.seconds)
        seconds.update(instances.seconds)
        return Prediction(instances=instances.instances, semantic=semantics.semantic, seconds=seconds)


def tiled(predictor: Predictor, settings: TileSettings, rule: Rule | None = None) -> Predictor:
    """A predictor that works in tiles; the halves of a FusedPredictor do, those of them that are live, and its rule does not.

    Args:
        rule: by which the halves of a predictor that gives both beside a panoptic map are joined on the whole image, such as
            MergeRule(predictor.merging) of a Panoptic FPN; None: its panoptic maps are joined.

    Raises:
        InputError: if nothing is live: what comes from files is of whole images.
    """
    if not isinstance(predictor, FusedPredictor):
        if not is_live(predictor):
            raise InputError("--tile is for live models, but this prediction comes from files; leave it out")
        in_tiles = TiledPredictor(predictor, settings)
        has_both = {"instances", "semantic"} <= set(predictor.gives)
        return FusedPredictor(in_tiles, in_tiles, rule) if rule is not None and has_both else in_tiles
    instances, semantics = predictor.instances, predictor.semantics
    if not any(half is not None and is_live(half) for half in (instances, semantics)):
        raise InputError("--tile is for live models, but neither half is one; leave it out")
    if instances is None:
        return FusedPredictor(None, TiledPredictor(semantics, settings), predictor.rule)
    if is_live(instances) and is_live(semantics):
        both = semantics if instances is semantics else BothHalves(instances, semantics)
        in_tiles = TiledPredictor(both, settings)
        return FusedPredictor(in_tiles, in_tiles, predictor.rule)
    halves = (TiledPredictor(half, settings) if is_live(half) else half for half in (instances, semantics))
    return FusedPredictor(*halves, predictor.rule)


def is_live(predictor: Predictor) -> bool:
    """Whether it predicts the pixels that it is given, and does not look up what was once said of an image."""
    if isinstance(predictor, NetworkPredictor | ExportedPredictor):
        return True
    source = getattr(predictor, "source", None)
    if isinstance(source, OwnInstances | OwnSemantics):
        return is_live(source.predictor)
    return isinstance(source, LiveInstances | LiveSemantics)
