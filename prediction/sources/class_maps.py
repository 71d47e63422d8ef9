"""A folder of class-map PNGs, one an image, of its size: 8-bit grey, palette, or 16-bit grey; they hold class numbers."""

from pathlib import Path

import numpy as np

from data.class_map import ClassMap
from data.class_matching import NUMBERINGS, ForeignClasses
from data.images import open_image, upright
from data.split import Split
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from prediction.sources.foreign import FolderOfFiles
from runtime.files import InputError, file_digest, first_few
from runtime.progress import track

SUFFIXES = (".png",)
MODES = ("L", "P", "I;16", "I")


class ClassMapFiles:
    """The maps of such a folder.

    Whether numbers are train ids or the data set's ids the folder must tell, unless a class map says it: a number that only one
    of both has decides. 255 is void, and so is 0 where no class has it.

    Args:
        matching: the class map that will be used, or None.

    Raises:
        InputError: as FolderOfFiles, and if all numbers could be either, or some are neither.
    """

    needs_pixels = False

    def __init__(self, folder: Path, split: Split, taxonomy: Taxonomy, matching: ClassMap | str | None = None):
        self._files = FolderOfFiles(folder, SUFFIXES, split)
        if not self._files.files:
            raise InputError(f"{folder}: no class maps there; give a folder of PNGs, named like the images")
        self.name, self.notes = str(folder), list(self._files.notes)
        used: set[int] = set()
        for path in track(list(self._files.files.values()), "reading classes", len(self._files.files)):
            used |= set(np.unique(read_class_numbers(path)).tolist())
        numbering = self._numbering(used, taxonomy, matching)
        if isinstance(matching, ClassMap):
            void = {VOID_TRAIN_ID, 0} - matching.pairs.keys() - dict(matching.sources).keys()
        else:
            void = {VOID_TRAIN_ID} if numbering == "places" else {VOID_TRAIN_ID, 0} - taxonomy.dataset_id_to_train_id.keys()
        self.classes = ForeignClasses(str(folder), dict.fromkeys(sorted(used - void)), numbering, frozenset(void))

    def _numbering(self, used: set[int], taxonomy: Taxonomy, matching: ClassMap | str | None) -> str:
        """What the numbers are; a note says how that was found out."""
        if isinstance(matching, ClassMap):
            return "ids"
        if matching in NUMBERINGS:
            return NUMBERINGS[matching]
        own, places = taxonomy.dataset_id_to_train_id, range(taxonomy.num_classes)
        as_ids, as_places = used - ({VOID_TRAIN_ID, 0} - own.keys()), used - {VOID_TRAIN_ID}
        are_ids, are_places = as_ids <= own.keys(), as_places <= set(places)
        if are_ids and are_places and (as_ids != as_places or any(own[k] != k for k in as_ids)):
            both = f"{first_few(sorted(used))} could be ids of the data set or train ids"
            raise InputError(f"{self.name}: {both}; say it by --semantics-classes {' or '.join(NUMBERINGS)}, or by a class map")
        numbering = "places" if are_places and not are_ids else "ids"
        self.notes.append(f"{self.name}: numbers are taken for {'train ids' if numbering == 'places' else 'ids of the data set'}")
        return numbering

    def fingerprint(self, image_id: str) -> str:
        """See ForeignSemantics."""
        return file_digest(self._path(image_id))

    def scores(self, image_id: str, image: np.ndarray) -> np.ndarray:
        """See ForeignSemantics."""
        path = self._path(image_id)
        numbers = read_class_numbers(path)
        if numbers.shape != image.shape[:2]:
            found, needed = ("x".join(map(str, shape)) for shape in (numbers.shape, image.shape[:2]))
            raise InputError(f"{path}: made for {found}, but the image is {needed}; write it at the image's size")
        return numbers

    def _path(self, image_id: str) -> Path:
        path = self._files.files.get(image_id)
        if path is None:
            raise InputError(f"{self._files.folder}: no class map of image {image_id!r}; write one, or leave the image out")
        return path


def read_class_numbers(path: Path) -> np.ndarray:
    """(H, W) uint8, or int32 where there are more than 255 classes.

    Raises:
        InputError: if it is broken, or shows colours, which do not say which class they are.
    """
    with open_image(path) as image:
        if image.mode not in MODES:
            found = f"PNG mode {image.mode}, but 8-bit grey, palette or 16-bit grey was needed"
            raise InputError(f"{path}: {found}: write class numbers, not colours")
        numbers = np.asarray(upright(image))
    return numbers if numbers.dtype == np.uint8 else numbers.astype(np.int32)
