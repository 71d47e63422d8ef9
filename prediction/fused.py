"""Offline fusion as a predictor: anybody's instances and anybody's semantics, joined by a rule."""

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Protocol

import numpy as np

from data.instance_dump import InstanceLogits
from data.panoptic_png import PanopticMap
from data.semantic_dump import SemanticLogits, SemanticMap
from data.targets import semantic_to_logits
from data.taxonomy import MAX_INSTANCES_PER_IMAGE, Taxonomy
from fusion.heuristic_merge import merge
from fusion.logit_fusion import fuse, map_only, semantic_argmax, semantic_only
from fusion.settings import FusionSettings, MergeSettings
from prediction.predictor import NetworkPredictor, Prediction, Predictor, needs_pixels
from runtime.files import InputError, digest_of
from runtime.progress import note

MAP_STRIDE = 4
"""Of the logits that are made of a class map, in pixels."""
MOST_AT_ONCE = 64
"""Images that may be predicted at once; threads are made as they are needed."""
RULE_VERSION = "3"
"""Raise it when a rule gives other pixels for the same input, so that old PNGs are not taken for new ones."""


class RuleSettings(Protocol):
    """What the settings of every rule have, beside their own."""

    min_score: float | None

    @property
    def lowest_score(self) -> float:
        """`min_score`, or where there is none the rule's default."""


class Rule(Protocol):
    """How two halves become one panoptic map. A new rule is a class that does this, and one entry in RULES here and there."""

    settings: RuleSettings
    device: str
    """It does the pixel work."""
    needs_instances: bool

    def __init__(self, settings: RuleSettings, device: str): ...

    def fuse(self, instances: InstanceLogits | None, semantic: SemanticLogits | SemanticMap, taxonomy: Taxonomy) -> PanopticMap:
        """Fuse one image; without instances each connected region of a thing class is an object.

        Raises:
            InputError: if the two do not fit each other or the rule.
        """


@dataclass(eq=False)
class LogitRule:
    """EfficientPS's: fusion/logit_fusion.py."""

    settings: FusionSettings = FusionSettings()
    device: str = "cpu"
    needs_instances: ClassVar[bool] = False

    def fuse(self, instances: InstanceLogits | None, semantic: SemanticLogits | SemanticMap, taxonomy: Taxonomy) -> PanopticMap:
        """See Rule; of a class map it makes logits of one certainty."""
        if instances is None:
            return regions_of(semantic, taxonomy, self.settings, self.device)
        if isinstance(semantic, SemanticLogits):
            return fuse(instances, semantic, taxonomy, self.settings, self.device)
        logits = semantic_to_logits(semantic.train_ids, taxonomy, MAP_STRIDE, self.settings.map_confidence)
        about = (semantic.image_id, *semantic.train_ids.shape, MAP_STRIDE, semantic.taxonomy, semantic.producer)
        return fuse(instances, SemanticLogits(*about, logits), taxonomy, self.settings, self.device, train_ids=semantic.train_ids)


@dataclass(eq=False)
class ArgmaxRule:
    """The semantics alone: each connected region of a thing class is an object, whatever instances there are."""

    settings: FusionSettings = FusionSettings()
    device: str = "cpu"
    needs_instances: ClassVar[bool] = False

    def fuse(self, instances: InstanceLogits | None, semantic: SemanticLogits | SemanticMap, taxonomy: Taxonomy) -> PanopticMap:
        """See Rule."""
        return regions_of(semantic, taxonomy, self.settings, self.device)


def regions_of(semantic: SemanticLogits | SemanticMap, taxonomy: Taxonomy, settings: FusionSettings, device: str) -> PanopticMap:
    """As fusion.logit_fusion.semantic_only, also of a class map."""
    if isinstance(semantic, SemanticMap):
        return map_only(semantic.image_id, semantic.train_ids, taxonomy, settings)
    return semantic_only(semantic, taxonomy, settings, device)


@dataclass(eq=False)
class MergeRule:
    """Panoptic FPN's: fusion/heuristic_merge.py; of logits it takes the class map."""

    settings: MergeSettings = MergeSettings()
    device: str = "cpu"
    needs_instances: ClassVar[bool] = True

    def fuse(self, instances: InstanceLogits | None, semantic: SemanticLogits | SemanticMap, taxonomy: Taxonomy) -> PanopticMap:
        """See Rule."""
        is_map = isinstance(semantic, SemanticMap)
        train_ids = semantic.train_ids if is_map else semantic_argmax(semantic, taxonomy, self.device)
        return merge(instances, train_ids, taxonomy, self.settings)


RULES: dict[str, type[Rule]] = {
    "logit": LogitRule,
    "heuristic": MergeRule,
    "argmax": ArgmaxRule,
}
"""By the names of fusion.settings.RULES, which has their settings."""


class FusedPredictor:
    """Two predictors, of which one gives instances and one semantics, and the rule that joins them.

    Args:
        instances: None: no instances at all. The same object as `semantics`: it gives both halves in one run.
        rule: instances below its `min_score` are ignored; where it has none, that of the instances' own model counts.

    Raises:
        InputError: if the two know different classes, or one gives not what it is given for.
    """

    def __init__(self, instances: Predictor | None, semantics: Predictor, rule: Rule):
        if "semantic" not in semantics.gives:
            raise InputError("what was given for the semantics gives none; give a semantic model or its dumps")
        if instances is not None and "instances" not in instances.gives:
            raise InputError("what was given for the instances gives none; give an instance model or its dumps")
        if instances is None and rule.needs_instances:
            raise InputError("the heuristic rule needs instances; give --instances, or take --rule logit")
        if instances is not None and (difference := instances.taxonomy.difference(semantics.taxonomy)):
            raise InputError(
                f"instances and semantics are of different classes, {difference}; "
                "give --instances-classes or --semantics-classes, or --truth-classes where the data set's classes differ"
            )
        self.instances, self.semantics, self.rule = instances, semantics, rule
        self.taxonomy = semantics.taxonomy
        self._pool = _side_by_side(instances, semantics)
        self.gives = ("panoptic", "semantic") if instances is None else ("panoptic", "instances", "semantic")
        self.min_score = rule.settings.min_score
        if self.min_score is None:
            own = self.instances_min_score
            self.min_score = rule.settings.lowest_score if own is None else own
            rule.settings = replace(rule.settings, min_score=self.min_score)

    @property
    def instances_min_score(self) -> float | None:
        """What the instances' own model says, whatever limit the fusion takes."""
        return None if self.instances is None else self.instances.min_score

    @property
    def needs_pixels(self) -> bool:
        """Whether either half looks at pixels."""
        return any(needs_pixels(half) for half in (self.instances, self.semantics) if half is not None)

    @property
    def name(self) -> str | None:
        """Changes with rule, settings and halves; None where a half has no name, as files have none that says all of them."""
        names = ["none" if half is None else getattr(half, "name", None) for half in (self.semantics, self.instances)]
        made_from = [RULE_VERSION, type(self.rule).__name__, asdict(self.rule.settings), *names]
        return None if None in names else f"fused-{digest_of(*made_from)}"

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        made_from = [RULE_VERSION, type(self.rule).__name__, asdict(self.rule.settings), self.taxonomy.to_coco_categories()]
        halves = (self.semantics, self.instances)
        made_from += ["none" if half is None else half.fingerprint(image_id) for half in halves]
        return f"fused-{digest_of(*made_from)}"

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor: both halves and the panoptic map."""
        start = time.perf_counter()
        beside = None if self._pool is None else self._pool.submit(self.instances.predict, image_id, image)
        found = self.semantics.predict(image_id, image)
        semantic, instances, seconds = found.semantic, None, Counter(found.seconds)
        if self.instances is not None:
            is_one_run = self.instances is self.semantics
            other = found if is_one_run else None if beside is None else beside.result()
            other = self.instances.predict(image_id, image) if other is None else other
            instances = other.instances
            seconds.update({} if is_one_run else other.seconds)
            num_wanted = int((instances.scores >= self.min_score).sum())
            if num_wanted > MAX_INSTANCES_PER_IMAGE:
                cut = f"segment ids number {MAX_INSTANCES_PER_IMAGE} of {num_wanted} instances, the others are left out"
                note(f"image {image_id!r}: {cut}")
        if not seconds:
            seconds["halves"] = time.perf_counter() - start
        start = time.perf_counter()
        panoptic = self.rule.fuse(instances, semantic, self.taxonomy)
        seconds["fusion"] += time.perf_counter() - start
        return Prediction(panoptic, instances, semantic, seconds)


def _side_by_side(instances: Predictor | None, semantics: Predictor) -> ThreadPoolExecutor | None:
    """What runs the instances' network while the semantics' runs, where both compute on a CPU of several cores.

    Each then gets half of the threads: two networks of one thread each are faster than one after the other with two, since none
    of them keeps all threads busy.
    """
    halves = (instances, semantics)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if instances is semantics or cores < 2 or not all(getattr(half, "is_on_cpu", False) for half in halves):
        return None
    for half in halves:
        half.threads = max(1, cores // 2)
    return ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="instances")


def with_panoptic(predictor: NetworkPredictor, rule: Rule) -> Predictor:
    """A network's predictor as one that gives panoptic maps: itself, or its own halves joined by the rule.

    Raises:
        InputError: if it gives instances alone.
    """
    if "panoptic" in predictor.gives:
        return predictor
    if "semantic" not in predictor.gives:
        raise InputError(f"{predictor.name}: gives instances alone; give it as --instances, and a semantic model as --semantics")
    return FusedPredictor(predictor if "instances" in predictor.gives else None, predictor, rule)
