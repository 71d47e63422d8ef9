"""Panoptic PNGs and their JSON, of any tool, as either half: the things with their scores, or the class of each pixel."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.class_matching import ForeignClasses
from data.image_names import names_of_split
from data.panoptic_file import ImageId, PanopticFile, read_panoptic_json, read_panoptic_map
from data.panoptic_png import PanopticMap
from data.split import Split
from data.targets import panoptic_to_semantic
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from prediction.sources.foreign import FoundObject
from runtime.files import InputError, digest_of, file_digest, first_few


class PanopticResults:
    """What both halves share: which annotation is of which image.

    Raises:
        InputError: as read_panoptic_json, or if no image of the file is one of the split.
    """

    min_score = None
    needs_pixels = False

    def __init__(self, json_path: Path, split: Split, taxonomy: Taxonomy | None = None):
        self._file: PanopticFile = read_panoptic_json(json_path, taxonomy=taxonomy, is_prediction=True)
        names = names_of_split(split)
        self._keys: dict[str, ImageId] = {}
        unknown = []
        for key in self._file.annotations:
            image_id = names.find(key)
            if image_id is None and key in self._file.image_files:
                image_id = names.find(self._file.image_files[key])
            if image_id is None:
                unknown.append(key)
            else:
                self._keys[image_id] = key
        if not self._keys:
            found = f"none of its images is one of {split.name}: {first_few(unknown)} against {split.image_id(0)}"
            raise InputError(f"{json_path}: {found}; give predictions of these images")
        self.name = Path(json_path).name
        self.notes = [f"{json_path}: {len(unknown)} images are none of {split.name}; left out"] if unknown else []
        self.taxonomy = self._file.taxonomy

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        annotation = self._file.annotations[self._key(image_id)]
        infos = [segment.to_json() for segment in annotation.segments]
        png = file_digest(self._file.folder / annotation.file_name)
        return digest_of(png, infos, self.taxonomy.to_coco_categories())

    def panoptic(self, image_id: str, image: np.ndarray) -> PanopticMap:
        """The map of an image.

        Raises:
            InputError: if there is none, or it is of another size.
        """
        found = read_panoptic_map(self._file, self._key(image_id))
        if found.segment_ids.shape != image.shape[:2]:
            sizes = ("x".join(map(str, shape)) for shape in (found.segment_ids.shape, image.shape[:2]))
            made_for, needed = sizes
            raise InputError(f"{self._file.json_path}: image {image_id!r} is {made_for}, but {needed} was needed; predict again")
        return found

    def _key(self, image_id: str) -> ImageId:
        if image_id not in self._keys:
            raise InputError(f"{self._file.json_path}: has no image {image_id!r}; predict it, or leave it out")
        return self._keys[image_id]


class PanopticInstances(PanopticResults):
    """Its things, without crowds; a thing without a score has 1."""

    def __init__(self, json_path: Path, split: Split, taxonomy: Taxonomy | None = None):
        super().__init__(json_path, split, taxonomy)
        things = {c.dataset_id: c.name for c in self.taxonomy.categories if c.is_thing}
        self.classes = ForeignClasses(str(json_path), things)

    def objects(self, image_id: str, image: np.ndarray) -> Iterator[FoundObject]:
        """See ForeignInstances."""
        panoptic = self.panoptic(image_id, image)
        for segment in panoptic.segments:
            if segment.category_id in self.classes.names and not segment.is_crowd and segment.area:
                ys, xs = (np.flatnonzero((panoptic.segment_ids == segment.segment_id).any(axis)) for axis in (1, 0))
                y1, x1 = max(ys[0] - 1, 0), max(xs[0] - 1, 0)
                crop = panoptic.segment_ids[y1 : ys[-1] + 2, x1 : xs[-1] + 2]
                score = 1.0 if segment.score is None else segment.score
                yield FoundObject(segment.category_id, score, (int(y1), int(x1)), crop == segment.segment_id)


class PanopticSemantics(PanopticResults):
    """The class of each pixel."""

    def __init__(self, json_path: Path, split: Split, taxonomy: Taxonomy | None = None):
        super().__init__(json_path, split, taxonomy)
        names = {k: c.name for k, c in enumerate(self.taxonomy.categories)}
        self.classes = ForeignClasses(str(json_path), names, "places", frozenset({VOID_TRAIN_ID}))

    def scores(self, image_id: str, image: np.ndarray) -> np.ndarray:
        """See ForeignSemantics."""
        return panoptic_to_semantic(self.panoptic(image_id, image), self.taxonomy)
