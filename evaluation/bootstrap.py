"""How far PQ, or the gain of one run over another, could be due to the choice of images: percentile bootstrap (Efron 1979).

Images are drawn with replacement, as many as there are; the counts of a draw are the sums of its images', and its PQ follows from
them as evaluation/panoptic_quality.py has it. Two runs are compared on the same draws, so that what makes an image hard for both
cancels out. Images are the unit: neighbours in a video are alike, and then an interval is too narrow.
"""

from array import array
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data.taxonomy import Taxonomy
from evaluation.panoptic_quality import GROUPS, ImageMatches
from runtime.files import InputError, first_few

NUM_DRAWS = 2000
FEWEST_IMAGES = 20
"""Below it there is no interval: so few images hardly differ between draws, and the interval would be too narrow."""
LOW, HIGH = 0.025, 0.975
"""Quantiles that bound an interval of 95 %."""
LARGEST_CHUNK = 2**20
"""Drawn images that are held at once, over all draws of a chunk."""


class ImageCounts:
    """Counts of one run by image: 34 bytes for each class that an image shows, and its id."""

    def __init__(self, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        self._places: dict[Hashable, int] = {}
        self._ends, self._train_ids, self._numbers = array("Q"), array("H"), array("d")
        """Of each image where its classes end; of each class of an image its train id, and tp, fp, fn and the sum of IoUs."""

    def add(self, image_id: Hashable, matches: ImageMatches) -> None:
        """Keep the counts of one image.

        Raises:
            InputError: if the image was added before, or a category is not in the taxonomy.
        """
        if image_id in self._places:
            raise InputError(f"image {image_id!r} was counted before; give each image once")
        found = matches.counts
        strangers = sorted(found.keys() - self.taxonomy.dataset_id_to_train_id.keys())
        if strangers:
            known = f"taxonomy {self.taxonomy.name} has {self.taxonomy.dataset_ids.tolist()}"
            raise InputError(f"image {image_id!r}: category ids {strangers} were counted, but {known}; give theirs")
        self._places[image_id] = len(self._places)
        for category_id, counts in found.items():
            self._train_ids.append(self.taxonomy.dataset_id_to_train_id[category_id])
            self._numbers.extend((counts.tp, counts.fp, counts.fn, counts.iou_sum))
        self._ends.append(len(self._train_ids))

    @property
    def image_ids(self) -> tuple[Hashable, ...]:
        """In the order in which they were added."""
        return tuple(self._places)

    def array(self, image_ids: tuple[Hashable, ...] | None = None) -> np.ndarray:
        """(N, 4, C) float64: tp, fp, fn and the sum of IoUs of each image, by train id.

        Args:
            image_ids: their order; default is that of `image_ids`.
        """
        ends = np.array(self._ends, np.int64)
        images = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
        counts = np.zeros((len(ends), 4, self.taxonomy.num_classes))
        counts[images, :, np.array(self._train_ids, np.int64)] = np.array(self._numbers).reshape(-1, 4)
        return counts if image_ids is None else counts[[self._places[k] for k in image_ids]]


@dataclass(frozen=True)
class Interval:
    """PQ of one run as a fraction of 1, None where no class occurs; low and high bound 95 %, None without an interval."""

    pq: float | None
    low: float | None
    high: float | None
    num_images: int
    draws: int

    def in_words(self) -> str:
        """As `44.1 PQ, 95 % from 42.0 to 46.2 (bootstrap over 500 images)`, in percent."""
        if self.pq is None:
            return "no PQ, since no class of the group occurs"
        return f"{_percent(self.pq)} PQ{_interval_in_words(self, 'bootstrap')}"


@dataclass(frozen=True)
class Difference:
    """What the second run gains over the first: a difference of PQ as a fraction of 1, None where one of them has none.

    low, high: bound 95 %. probability: share of the draws in which the second run is better, ties by half. Without an interval
    these are None.
    """

    gain: float | None
    low: float | None
    high: float | None
    num_images: int
    draws: int
    probability: float | None

    def in_words(self) -> str:
        """As `+0.4 PQ, 95 % from -0.3 to 1.1 (paired bootstrap over 500 images)`, in points of 100."""
        if self.gain is None:
            return "no difference in PQ, since a run has no class of the group"
        return f"{_percent(self.gain, '+')} PQ{_interval_in_words(self, 'paired bootstrap')}"


def _interval_in_words(found: Interval | Difference, method: str) -> str:
    if found.low is None:
        images = "1 image is" if found.num_images == 1 else f"{found.num_images} images are"
        return f"; no interval, since {images} too few ({FEWEST_IMAGES} are needed)"
    return f", 95 % from {_percent(found.low)} to {_percent(found.high)} ({method} over {found.num_images} images)"


def _percent(value: float, sign: str = "-") -> str:
    return f"{round(100 * value, 1) + 0.0:{sign}.1f}"  # + 0.0: no minus before a zero


def draw_images(num_images: int, draws: int = NUM_DRAWS, seed: int = 0) -> Iterator[np.ndarray]:
    """Positions of the images of each draw, in chunks of (D, N) int64, D * N at most LARGEST_CHUNK unless D is 1."""
    rng = np.random.default_rng(seed)
    at_once = max(1, LARGEST_CHUNK // max(1, num_images))
    for first in range(0, draws, at_once):
        yield rng.integers(0, num_images, (min(at_once, draws - first), num_images))


def pq_of_counts(counts: np.ndarray, is_thing: np.ndarray) -> np.ndarray:
    """PQ of all classes, of the things and of the stuff, as PanopticQuality.scores; NaN where no class of them has counts.

    Args:
        counts: (..., 4, C) tp, fp, fn and sum of IoUs.
        is_thing: (C,) bool.

    Returns:
        (..., 3) float64, fractions of 1, in the order of GROUPS.
    """
    tp, fp, fn, iou_sum = np.moveaxis(counts, -2, 0)
    weight = tp + 0.5 * fp + 0.5 * fn
    is_seen = weight > 0
    quality = np.divide(iou_sum, weight, out=np.zeros_like(weight), where=is_seen)
    members = np.stack([np.ones_like(is_thing), is_thing, ~is_thing], axis=1).astype(np.float64)  # (C, 3)
    num_seen = is_seen.astype(np.float64) @ members
    return np.divide(quality @ members, num_seen, out=np.full(num_seen.shape, np.nan), where=num_seen > 0)


def pq_intervals(counts: ImageCounts, draws: int = NUM_DRAWS, seed: int = 0) -> dict[str, Interval]:
    """PQ of one run with its interval, for "All", "Things" and "Stuff".

    Args:
        draws: how often the images are drawn.
        seed: of the draws.

    Raises:
        InputError: if there is no image, or no draw.
    """
    found, drawn = _draw_pq([counts], draws, seed)
    num_images = len(counts.image_ids)
    intervals = {}
    for k, name in enumerate(GROUPS):
        low, high = _bounds(drawn[0, :, k], found[0, k], num_images)
        intervals[name] = Interval(_none_if_nan(found[0, k]), low, high, num_images, draws)
    return intervals


def paired_differences(
    a: ImageCounts | Sequence[ImageCounts], b: ImageCounts | Sequence[ImageCounts], draws: int = NUM_DRAWS, seed: int = 0
) -> dict[str, Difference]:
    """What run `b` gains over run `a` on the same images, for "All", "Things" and "Stuff".

    Args:
        a, b: of several trainings, which differ in their seeds, the mean PQ counts; the interval is still over images alone.
        draws: how often the images are drawn.
        seed: of the draws.

    Raises:
        InputError: if the runs are of different images or classes, there is no image, or no draw.
    """
    of_a, of_b = ([runs] if isinstance(runs, ImageCounts) else list(runs) for runs in (a, b))
    for other in (*of_a[1:], *of_b):
        _check_same_images(of_a[0], other)
    found, drawn = _draw_pq([*of_a, *of_b], draws, seed)
    gains, drawn_gains = (pq[len(of_a) :].mean(0) - pq[: len(of_a)].mean(0) for pq in (found, drawn))
    num_images = len(of_a[0].image_ids)
    differences = {}
    for k, name in enumerate(GROUPS):
        low, high = _bounds(drawn_gains[:, k], gains[k], num_images)
        signs = np.sign(drawn_gains[:, k])
        probability = None if low is None else float(np.nanmean(0.5 + 0.5 * signs))
        differences[name] = Difference(_none_if_nan(gains[k]), low, high, num_images, draws, probability)
    return differences


def _check_same_images(a: ImageCounts, b: ImageCounts) -> None:
    if difference := a.taxonomy.difference(b.taxonomy):
        raise InputError(f"the two runs have different classes ({difference}); compare runs on the same truth")
    only_a, only_b = set(a.image_ids) - set(b.image_ids), set(b.image_ids) - set(a.image_ids)
    if only_a or only_b:
        sides = (("first", only_a), ("second", only_b))
        found = " and ".join(f"{first_few(sorted(ids, key=str))} only in the {side}" for side, ids in sides if ids)
        raise InputError(f"the two runs have different images: {found}; compare runs on the same truth")


def paired_difference(a: ImageCounts, b: ImageCounts, group: str = "All", draws: int = NUM_DRAWS, seed: int = 0) -> Difference:
    """As paired_differences, for one of "All", "Things" and "Stuff"."""
    return paired_differences(a, b, draws, seed)[group]


def _draw_pq(runs: list[ImageCounts], draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """PQ of each run, (R, 3), and of each of its draws, (R, D, 3); no draws of too few images."""
    image_ids, is_thing = runs[0].image_ids, runs[0].taxonomy.is_thing
    if not image_ids:
        raise InputError("no image was counted, but at least one is needed; add the images of a run first")
    if draws < 1:
        raise InputError(f"{draws} draws of images, but at least 1 is needed; 2000 are usual")
    counts = [run.array(image_ids) for run in runs]  # R times (N, 4, C)
    found = np.stack([pq_of_counts(c.sum(0), is_thing) for c in counts])
    if len(image_ids) < FEWEST_IMAGES:
        return found, np.full((len(runs), draws, 3), np.nan)
    parts = []
    for positions in draw_images(len(image_ids), draws, seed):
        num, size = positions.shape
        rows = positions + size * np.arange(num)[:, None]
        weights = np.bincount(rows.ravel(), minlength=num * size).reshape(num, size).astype(np.float64)
        parts.append([pq_of_counts((weights @ c.reshape(size, -1)).reshape(num, 4, -1), is_thing) for c in counts])
    return found, np.concatenate(parts, axis=1)


def _bounds(drawn: np.ndarray, value: float, num_images: int) -> tuple[float | None, float | None]:
    """Of 95 % of the draws that have a value."""
    drawn = drawn[~np.isnan(drawn)]
    if num_images < FEWEST_IMAGES or np.isnan(value) or not len(drawn):
        return None, None
    low, high = np.quantile(drawn, (LOW, HIGH))
    return float(low), float(high)


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
