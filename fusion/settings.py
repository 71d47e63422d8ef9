"""Settings of the three fusion rules; they know no array, so that a command can show them at once."""

from dataclasses import dataclass
from typing import Literal

from runtime.files import InputError

DEFAULT_MIN_SCORE = 0.2
"""In the logit fusion, of instances whose model says nothing: SOLOv2's."""
DEFAULT_MERGE_SCORE = 0.5
"""In the merge: that of both published codes."""


@dataclass(frozen=True)
class FusionSettings:
    """How instances are chosen, fused and dropped."""

    min_score: float | None = None
    """Instances below are ignored. None: what suits the model that they are of, else 0.2. EfficientPS takes 0.5 of its box
    scores; SOLOv2's are lower. Tune it on val."""
    max_overlap: float = 0.5
    """An instance of which more than this share is covered by better ones is dropped (intersection / own area)."""
    min_stuff_area: float = 2048
    """Smallest area that a stuff class may have, in pixels of a 1024x2048 image; smaller becomes void (EfficientPS tests)."""
    min_thing_area: float = 0
    """Smallest area of a thing, same unit; its pixels go back to the semantic prediction. The official code has no limit."""
    map_confidence: float = 3.0
    """Logit of a class map's class, and minus that of all others, where a semantic model gives no logits; instances then win
    where their own logits outweigh it."""
    variant: Literal["paper", "official"] = "paper"
    """paper, or official: mask logits times 4, support is the whole box, and outside of it instances score 0, not -inf."""

    def __post_init__(self):
        if self.variant not in ("paper", "official"):
            raise InputError(f"fusion variant {self.variant!r} is unknown; choose paper or official")
        for name in ("min_score", "max_overlap"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) <= 1:
                raise InputError(f"fusion {name} is {getattr(self, name)}, but a share from 0 to 1 is needed")
        for name in ("min_stuff_area", "min_thing_area"):
            if not getattr(self, name) >= 0:
                raise InputError(f"fusion {name} is {getattr(self, name)}, but an area of 0 or more is needed")
        if not 0 < self.map_confidence <= 100:
            raise InputError(f"fusion map_confidence is {self.map_confidence}, but a logit above 0 and up to 100 is needed")

    @property
    def lowest_score(self) -> float:
        """`min_score`, or where there is none the default."""
        return DEFAULT_MIN_SCORE if self.min_score is None else self.min_score


@dataclass(frozen=True)
class MergeSettings:
    """Which instances and which stuff are kept; the defaults are those of both published codes."""

    min_score: float | None = None
    """Instances below are ignored. None: what suits the model that they are of, else 0.5."""
    max_overlap: float = 0.5
    """An instance of which more than this share is taken by better ones is dropped (intersection / own area)."""
    min_stuff_area: float = 4096
    """Smallest area that a stuff class may have, in pixels of a 1024x2048 image; smaller becomes void. The published limit does
    not scale; see fusion/compose.py."""

    def __post_init__(self):
        for name in ("min_score", "max_overlap"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) <= 1:
                raise InputError(f"merge {name} is {getattr(self, name)}, but a share from 0 to 1 is needed")
        if not self.min_stuff_area >= 0:
            raise InputError(f"merge min_stuff_area is {self.min_stuff_area}, but an area of 0 or more is needed")

    @property
    def lowest_score(self) -> float:
        """`min_score`, or where there is none the default."""
        return DEFAULT_MERGE_SCORE if self.min_score is None else self.min_score


@dataclass(frozen=True)
class ClusterSettings:
    """Which proposals are accepted and which segments are kept; the limits of seeds and pixels are the ancestor's."""

    min_candidate_seed: float = 0.5
    """Only pixels with a seed above may belong to a cluster."""
    min_seed: float = 0.9
    """No cluster starts from a seed below (test.py of the ancestor)."""
    min_pixels: float = 128
    """A proposal needs more pixels, and the search more free ones, in pixels of a 1024x2048 image; see fusion/compose.py. The
    ancestor's does not scale."""
    vote: Literal["semantic", "seed"] = "semantic"
    """What names a cluster: the thing class that most of its pixels have in the semantic map, or the seed's largest map."""
    min_thing_area: float = 0
    """Smallest cluster kept after all have taken their pixels, in pixels of a 1024x2048 image; smaller goes to the semantics."""
    min_stuff_area: float = 2048
    """Smallest area that a stuff class may have, in pixels of a 1024x2048 image; smaller becomes void (as EfficientPS's)."""

    def __post_init__(self):
        for name in ("min_candidate_seed", "min_seed"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"clustering {name} is {getattr(self, name)}, but a share from 0 to 1 is needed")
        for name in ("min_pixels", "min_thing_area", "min_stuff_area"):
            if not getattr(self, name) >= 0:
                raise InputError(f"clustering {name} is {getattr(self, name)}, but an area of 0 or more is needed")
        if self.vote not in ("semantic", "seed"):
            raise InputError(f"clustering vote is {self.vote!r}; choose semantic or seed")


RULES: dict[str, tuple[str, type]] = {
    "logit": ("fusion", FusionSettings),
    "heuristic": ("merging", MergeSettings),
    "argmax": ("fusion", FusionSettings),
}
"""Rules that join two halves (prediction/fused.py): name -> prefix of the flags of its settings, and the settings."""
