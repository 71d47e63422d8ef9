"""Mean intersection over union of semantic maps, as cityscapesscripts' evalPixelLevelSemanticLabeling defines it."""

from collections.abc import Mapping

import numpy as np

from data.panoptic_png import PanopticMap
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from runtime.files import InputError, first_few


class SemanticIoU:
    """Collects a confusion matrix image by image.

    Pixels whose truth is void are ignored. A void prediction on any other pixel is a miss of the truth's class and an
    error of no other class.
    """

    def __init__(self, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        self.confusion = np.zeros((taxonomy.num_classes, taxonomy.num_classes + 1), dtype=np.int64)
        """(C, C + 1) pixels: row is the truth's train id, column the predicted one, the last column void."""

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Count one image.

        Args:
            truth, prediction: (H, W) train ids, VOID_TRAIN_ID for void; of any integer type.

        Raises:
            InputError: if the sizes differ, or a train id is outside the taxonomy.
        """
        if truth.shape != prediction.shape:
            sizes = " and ".join("x".join(str(n) for n in ids.shape) for ids in (truth, prediction))
            raise InputError(f"truth and prediction are {sizes} pixels; resize the prediction to the truth")
        num_classes = self.taxonomy.num_classes
        # int64 before any arithmetic: uint8 would wrap, and a negative id would look like a class.
        true_ids, predicted_ids = (ids.ravel().astype(np.int64) for ids in (truth, prediction))
        for side, ids in (("truth", true_ids), ("prediction", predicted_ids)):
            strange = ids[((ids < 0) | (ids >= num_classes)) & (ids != VOID_TRAIN_ID)]
            if strange.size:
                needed = f"{self.taxonomy.name} has 0..{num_classes - 1} and {VOID_TRAIN_ID} for void"
                raise InputError(f"{side}: train ids {np.unique(strange)[:5].tolist()}, but {needed}; convert the map first")
        is_scored = true_ids != VOID_TRAIN_ID
        columns = np.minimum(predicted_ids[is_scored], num_classes)
        flat = true_ids[is_scored] * (num_classes + 1) + columns
        self.confusion += np.bincount(flat, minlength=self.confusion.size).reshape(self.confusion.shape)

    def add_overlaps(self, truth: PanopticMap, prediction: PanopticMap, overlaps: Mapping[tuple[int, int], int]) -> None:
        """Count one image from the pixels of each pair of segments, which panoptic quality needs as well.

        The same as add() of the two maps by data.targets.panoptic_to_semantic: pixels of a crowd count as their class.

        Args:
            overlaps: (truth id, predicted id) -> pixels of the two maps (evaluation.pair_counts.count_pairs).

        Raises:
            InputError: if a category is not in the taxonomy, or a map holds an id that its segments do not list.
        """
        rows, columns = self._train_ids("truth", truth), self._train_ids("prediction", prediction)
        for side, train_ids, k in (("truth", rows, 0), ("prediction", columns, 1)):
            strangers = sorted({pair[k] for pair in overlaps} - train_ids.keys())
            if strangers:
                found = f"{side}: segments {first_few(strangers)} are in the map, but not in its list of segments"
                raise InputError(f"{found}; write both again")
        for (truth_id, predicted_id), pixels in overlaps.items():
            if (row := rows[truth_id]) != VOID_TRAIN_ID:
                self.confusion[row, min(columns[predicted_id], self.taxonomy.num_classes)] += pixels

    def _train_ids(self, side: str, panoptic: PanopticMap) -> dict[int, int]:
        """Segment id -> train id, VOID_TRAIN_ID for void."""
        train_ids = {0: VOID_TRAIN_ID}
        for segment in panoptic.segments:
            train_id = self.taxonomy.dataset_id_to_train_id.get(segment.category_id)
            if train_id is None:
                stranger = f"segment {segment.segment_id} has category {segment.category_id}"
                needed = f"{self.taxonomy.name} has {self.taxonomy.dataset_ids.tolist()}"
                raise InputError(f"{side}: {stranger}, but {needed}; use the same taxonomy for both")
            train_ids[segment.segment_id] = train_id
        return train_ids

    def scores(self) -> dict:
        """{"miou", "fwiou", "pixel_accuracy", "per_class": {name: IoU}}, fractions of 1.

        fwiou weighs each class's IoU by its share of the truth's pixels (Long et al., CVPR 2015). A class that neither
        truth nor prediction hold has None and enters no mean; without any class the mean is None.
        """
        hits = self.confusion.diagonal()
        unions = self.confusion.sum(1) + self.confusion[:, :-1].sum(0) - hits
        per_class = {
            category.name: float(hit / union) if union else None
            for category, hit, union in zip(self.taxonomy.categories, hits, unions, strict=True)
        }
        seen = [iou for iou in per_class.values() if iou is not None]
        num_pixels = int(self.confusion.sum())
        shares = self.confusion.sum(1) / max(num_pixels, 1)
        weighted = shares * (hits / np.maximum(unions, 1))  # a class without a union has no share
        return {
            "miou": sum(seen) / len(seen) if seen else None,
            "fwiou": float(weighted.sum()) if num_pixels else None,
            "pixel_accuracy": float(hits.sum() / num_pixels) if num_pixels else None,
            "per_class": per_class,
        }
