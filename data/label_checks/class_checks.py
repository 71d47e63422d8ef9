"""What only all images of a split together tell: classes of one split, classes that occur once, odd areas, much void."""

from array import array
from collections.abc import Mapping, Sequence

import numpy as np

from data.label_checks.findings import Finding, count_of, name_segment
from data.label_checks.json_checks import LabelClass
from data.panoptic_file import ImageId
from data.panoptic_png import Segment
from runtime.files import shorten

FEWEST_SEGMENTS, FEWEST_IMAGES = 30, 20
"""Of which quartiles are taken."""
FENCE = 3.0
"""Times the distance between the quartiles: Tukey's outer fence."""
LEAST_VOID = 0.3


class SplitStatistics:
    """Collects the images of a split, 24 bytes a segment and 8 an image."""

    def __init__(self) -> None:
        self.image_ids: list[ImageId] = []
        self.void = array("d")
        self.areas: dict[int, array] = {}
        """Category id -> logarithms of the shares of the image."""
        self.places: dict[int, array] = {}
        """Category id -> number of the image and segment id, in turns."""

    def add(self, image_id: ImageId, segments: Sequence[Segment], num_pixels: int, void_share: float) -> None:
        """Count the segments of an image; crowds have no area of one object."""
        for segment in segments:
            area = np.nan if segment.is_crowd else np.log(segment.area / num_pixels)
            self.areas.setdefault(segment.category_id, array("d")).append(area)
            self.places.setdefault(segment.category_id, array("q")).extend((len(self.image_ids), segment.segment_id))
        self.image_ids.append(image_id)
        self.void.append(void_share)

    def counts(self) -> dict[int, int]:
        """Segments of each category id."""
        return {category_id: len(areas) for category_id, areas in self.areas.items()}

    def findings(self, classes: Mapping[int, LabelClass]) -> list[Finding]:
        """What stands out."""
        return [*self._once(classes), *self._odd_areas(classes), *self._much_void()]

    def _once(self, classes: Mapping[int, LabelClass]) -> list[Finding]:
        found = []
        for category_id, areas in sorted(self.areas.items()):
            if len(areas) == 1 and category_id in classes:
                image, segment_id = self.places[category_id]
                text = f"{name_segment(segment_id, classes[category_id].name)} is the only one of its class in this split"
                found.append(Finding("class-once", self.image_ids[image], segment_ids=(segment_id,), text=text))
        return found

    def _odd_areas(self, classes: Mapping[int, LabelClass]) -> list[Finding]:
        found = []
        for category_id, areas in sorted(self.areas.items()):
            values, of_class = np.array(areas), classes.get(category_id)
            known = values[~np.isnan(values)]
            if of_class is None or not of_class.is_thing or len(known) < FEWEST_SEGMENTS:
                continue
            low, high = np.quantile(known, (0.25, 0.75))
            distance = np.where(values > high, values - high, low - values)
            for k in np.flatnonzero(distance > FENCE * (high - low)).tolist():
                image, segment_id = self.places[category_id][2 * k : 2 * k + 2]
                share, usual = np.exp(values[k]), np.exp(np.median(known))
                text = f"covers {100 * share:.3g} % of the image, and half of its class more than {100 * usual:.3g} %"
                text = f"{name_segment(segment_id, of_class.name)}: {text}"
                weight, numbers = float(distance[k]), {"share": float(share), "median": float(usual)}
                place = (self.image_ids[image], "truth", (segment_id,), None)
                found.append(Finding("area-outlier", *place, text, weight, numbers))
        return found

    def _much_void(self) -> list[Finding]:
        shares, found = np.array(self.void), []
        limit = np.inf
        if len(shares) >= FEWEST_IMAGES:
            low, high = np.quantile(shares, (0.25, 0.75))
            limit = max(LEAST_VOID, high + FENCE * (high - low))
        for k in np.flatnonzero((shares > limit) & (shares < 1)).tolist():
            usual = f"of half of the images less than {100 * np.median(shares):.0f} %"
            text = f"{100 * shares[k]:.0f} % of the image is void, and {usual}"
            numbers = {"share": float(shares[k])}
            found.append(Finding("much-void", self.image_ids[k], text=text, weight=float(shares[k]), numbers=numbers))
        return found


def compare_classes(
    trained: Mapping[int, int], validated: Mapping[int, int], classes: Mapping[int, LabelClass], splits: tuple[str, str]
) -> list[Finding]:
    """Classes that only one of both splits has.

    Args:
        trained, validated: category id -> segments in the training and the validation split.
        splits: the names of both.
    """
    found = []
    for category_id in sorted({*trained, *validated} & classes.keys()):
        name = f"class {category_id} ({shorten(classes[category_id].name, 40)})"
        in_train, in_val = trained.get(category_id, 0), validated.get(category_id, 0)
        numbers = {"category": category_id, splits[0]: in_train, splits[1]: in_val}
        if not in_train:
            text = f"{name} has {count_of(in_val, 'segment')} in {splits[1]}, and none in {splits[0]}"
            found.append(Finding("class-untrained", None, text=text, weight=in_val, numbers=numbers))
        if not in_val:
            text = f"{name} has {count_of(in_train, 'segment')} in {splits[0]}, and none in {splits[1]}"
            found.append(Finding("class-unvalidated", None, text=text, weight=in_train, numbers=numbers))
    return found
