"""The settings of a fusion rule that give the best panoptic quality, found on kept predictions without running a network.

Score and overlap limits are fused anew, all pairs of them. The stuff limit needs no fusion: a segment below it leaves the map and
changes no other, so that its match is what is taken back. The thing limit gives pixels back to the semantics, and is fused again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

from data.panoptic_png import PanopticMap
from data.split import Split
from data.taxonomy import Taxonomy
from evaluation.panoptic_quality import ImageMatches, PanopticQuality, match_segments
from fusion.compose import pixel_limit
from prediction.fused import Rule, RuleSettings
from prediction.predictor import Predictor, image_for, needs_pixels
from runtime.files import InputError
from runtime.progress import track
from runtime.threads import in_threads

SWEEPS: dict[str, tuple[float, ...]] = {
    "min_score": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7),
    "max_overlap": (0.3, 0.5, 0.7),
    "min_stuff_area": (0, 256, 512, 1024, 2048, 4096, 8192, 16384),
    "min_thing_area": (0, 64, 256, 512, 1024, 2048),
}
"""Values that are tried; areas in pixels of a 1024x2048 image."""
STAGES = (("min_score", "max_overlap"), ("min_stuff_area",), ("min_thing_area",))
"""Settings that are tried together, one stage after the other, each with the best of those before."""


@dataclass(frozen=True)
class Trial:
    """PQ of all classes with some settings: on the images that are tuned on, and on the others, None without any."""

    settings: Mapping[str, float]
    tuned: float
    held_out: float | None


@dataclass(frozen=True)
class Tuning:
    """start, best: with the settings at first and at the end. stages: of each the trials, in the order of their values."""

    start: Trial
    best: Trial
    stages: tuple[tuple[Trial, ...], ...]
    num_tuned: int
    num_held_out: int


def is_held_out(image_id: str, share: float) -> bool:
    """Whether an image is kept for the report: by a hash of its id, so that new images change no old one's place."""
    return int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:4], "big") < share * 2**32


def tune(
    split: Split,
    instances: Predictor,
    semantics: Predictor,
    make_rule: Callable[[RuleSettings], Rule],
    settings: RuleSettings,
    *,
    held_out_share: float = 0.5,
    workers: int = 2,
    sweeps: Mapping[str, Sequence[float]] = SWEEPS,
) -> Tuning:
    """Find the settings with the best PQ on a part of a split.

    Args:
        settings: to begin with; those that the rule has not are not tried.
        held_out_share: of the images that are only reported on.

    Raises:
        InputError: if no image has a truth, or one of both parts would be empty.
    """
    indices = [index for index in range(len(split)) if split.has_truth(index)]
    if not indices:
        raise InputError(f"{split.name}: no image has a truth; tune on images with labels")
    held = [held_out_share > 0 and is_held_out(split.image_id(index), held_out_share) for index in indices]
    if held_out_share > 0 and (all(held) or not any(held)):
        raise InputError(f"{split.name}: {len(indices)} images are too few to tune on some and report on others; give --all")

    def measure(candidates: list[RuleSettings], title: str) -> tuple[Trial, ...]:
        work = partial(_match_image, split, instances, semantics, make_rule, candidates)
        sums = [(PanopticQuality(), PanopticQuality()) for _ in candidates]
        results = track(in_threads(work, indices, workers), title, len(indices))
        for is_held, matches in zip(held, results, strict=True):
            for qualities, of_image in zip(sums, matches, strict=True):
                qualities[is_held].add_matches(of_image)
        return tuple(_trial(candidate, qualities, split.taxonomy) for candidate, qualities in zip(candidates, sums, strict=True))

    start = measure([settings], "as it is")[0]
    stages, best = [], settings
    for names in STAGES:
        known = [name for name in names if hasattr(settings, name) and name in sweeps]
        if not known:
            continue
        values = [sorted({*sweeps[name], getattr(best, name)}) for name in known]
        candidates = [replace(best, **dict(zip(known, chosen, strict=True))) for chosen in product(*values)]
        trials = measure(candidates, f"trying {' and '.join(known)}")
        # Of equal ones the first to be as good as what is there already, which then stays.
        place = max(range(len(trials)), key=lambda k: (trials[k].tuned, candidates[k] == best))
        best = candidates[place]
        stages.append(trials)
        end = trials[place]
    return Tuning(start, end, tuple(stages), held.count(False), held.count(True))


def _trial(settings: RuleSettings, qualities: tuple[PanopticQuality, PanopticQuality], taxonomy: Taxonomy) -> Trial:
    tuned, held_out = (quality.scores(taxonomy)["All"]["pq"] for quality in qualities)
    named = {name: getattr(settings, name) for name in SWEEPS if hasattr(settings, name)}
    return Trial(named, tuned or 0.0, held_out)


def _match_image(
    split: Split,
    instances: Predictor,
    semantics: Predictor,
    make_rule: Callable[[RuleSettings], Rule],
    candidates: list[RuleSettings],
    index: int,
) -> list[ImageMatches]:
    """The comparison with the truth for each of the candidates; what differs only in the stuff limit is fused once."""
    image = image_for(instances if needs_pixels(instances) else semantics, split, index)
    image_id, truth = split.image_id(index), split.truth(index)
    semantic = semantics.predict(image_id, image).semantic
    found = instances.predict(image_id, image).instances
    fused: dict[RuleSettings, tuple[PanopticMap, ImageMatches]] = {}
    results = []
    for candidate in candidates:
        whole = replace(candidate, min_stuff_area=0)
        if whole not in fused:
            panoptic = make_rule(whole).fuse(found, semantic, split.taxonomy)
            fused[whole] = panoptic, match_segments(truth, panoptic)
        results.append(without_small_stuff(*fused[whole], split.taxonomy, candidate.min_stuff_area))
    return results


def without_small_stuff(panoptic: PanopticMap, matches: ImageMatches, taxonomy: Taxonomy, min_stuff_area: float) -> ImageMatches:
    """The matches of a map after its stuff below a limit became void.

    Args:
        matches: of the map itself. A stuff class has one segment in it.
        min_stuff_area: as in FusionSettings.
    """
    limit = pixel_limit(min_stuff_area, panoptic.segment_ids.size)
    is_thing = {c.dataset_id: c.is_thing for c in taxonomy.categories}
    small = {s.category_id for s in panoptic.segments if not is_thing[s.category_id] and s.area < limit}
    if not small:
        return matches
    lost = [match for match in matches.matches if match[2] in small]
    return ImageMatches(
        tuple(match for match in matches.matches if match[2] not in small),
        (*matches.missed, *(match[2] for match in lost)),
        tuple(category_id for category_id in matches.invented if category_id not in small),
    )
