"""Crops around objects, as generate_crops.py writes them: where they lie, how they are read, which come in an epoch.

<folder>/crops_26/<image id>_<segment id>.png and ..._panoptic.png, so 26 for cars; the segment id is that of the object in the
middle, as in the truth. <folder>/foreground_weights.json comes last, and names the classes.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.loading.epoch_sampler import EpochSampler
from data.panoptic_png import PanopticMap, read_panoptic_png
from data.split import FileSplit, Split, truths_digest
from data.taxonomy import Taxonomy
from runtime.command_line import OUTPUTS
from runtime.files import InputError, read_json

WEIGHTS_FILE = "foreground_weights.json"
WEIGHT_COLUMNS = ("crops", "full")
TRUTH_SUFFIX = "_panoptic.png"
CROPS = OUTPUTS / "pan_secb" / "crops"


def default_folder(root: Path) -> Path:
    """Where the splits of a data set's crops lie unless another place is given: named after the data set's folder."""
    return CROPS / Path(root).resolve().name


def class_folder(folder: Path, taxonomy: Taxonomy, train_id: int) -> Path:
    """Where the crops around the objects of a class lie."""
    return Path(folder) / f"crops_{taxonomy.dataset_ids[train_id]}"


class CropSplit(FileSplit):
    """The crops of a split, class by class, then by name; for training.

    Args:
        folder: <output>/<split> of generate_crops.py.
        taxonomy: of the data set.

    Raises:
        InputError: if the folder is missing, unfinished or empty, or a crop lacks its truth.
    """

    def __init__(self, folder: Path, taxonomy: Taxonomy):
        folder = Path(folder)
        if not (folder / WEIGHTS_FILE).is_file():
            found = "unfinished" if folder.is_dir() else "no such folder"
            raise InputError(f"{folder}: {found}; cut the crops with python pan_secb/generate_crops.py")
        self.name, self.taxonomy = f"crops in {folder}", taxonomy
        self.image_paths: list[Path] = []
        train_ids = []
        for train_id in taxonomy.thing_ids:
            place = class_folder(folder, taxonomy, train_id)
            found = sorted(path for path in place.glob("*.png") if not path.name.endswith(TRUTH_SUFFIX))
            self.image_paths += found
            train_ids += [train_id] * len(found)
        if not self.image_paths:
            raise InputError(f"{folder}: no crops_*/*.png there; cut them again with python pan_secb/generate_crops.py")
        for path in self.image_paths:
            if not truth_path(path).is_file():
                raise InputError(f"{path}: its truth {truth_path(path)} is missing; run python pan_secb/generate_crops.py again")
        self.train_ids = np.array(train_ids)
        """(N,) int64: the class of the object in the middle."""

    def __len__(self) -> int:
        return len(self.image_paths)

    def image_path(self, index: int) -> Path:
        """Where the crop lies."""
        return self.image_paths[index]

    def image_id(self, index: int) -> str:
        """<image id>_<segment id> of the object in the middle."""
        return self.image_paths[index].stem

    def has_truth(self, index: int) -> bool:
        """See Split."""
        return True

    def truth(self, index: int) -> PanopticMap:
        """See Split; objects keep their ids, also those that the crop cuts."""
        path = truth_path(self.image_paths[index])
        found = read_panoptic_png(path)
        if found is None or found.segment_ids.shape != self.size(index):
            raise InputError(f"{path}: is broken, or of another size than its image; cut the crops again")
        return found


def truth_path(image_path: Path) -> Path:
    """Where the truth of a crop lies."""
    return image_path.with_name(image_path.stem + TRUTH_SUFFIX)


class CropSampler(EpochSampler):
    """Draws the crops of an epoch, anew in each, with the seeds of their augmentation; see EpochSampler.

    The ancestor draws 3000 an epoch from the crops of one class. Of several classes, a class's share is its number of crops to
    the power of 1 - balance: by default between one that shows almost only cars and persons, and one that shows the few
    trains over and over. Ours: the published shares are not known.

    Args:
        train_ids: (N,), of each crop.
        crops_per_epoch: drawn with replacement, of all processes together.
        balance: 0: every crop is as likely; 1: every class is.
        seed, others: as EpochSampler.

    Raises:
        InputError: if a value is out of range.
    """

    def __init__(self, train_ids: np.ndarray, crops_per_epoch: int = 3000, balance: float = 0.5, *, seed: int, **others):
        if crops_per_epoch < 1:
            raise InputError(f"crops_per_epoch {crops_per_epoch}, but 1 or more is needed")
        if not 0 <= balance <= 1:
            raise InputError(f"balance {balance} must lie in 0 (every crop as likely) to 1 (every class as likely)")
        super().__init__(crops_per_epoch, seed=seed, **others)
        _, classes, counts = np.unique(train_ids, return_inverse=True, return_counts=True)
        likelihoods = counts[classes] ** -float(balance)
        self.likelihoods = likelihoods / likelihoods.sum()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        drawn = rng.choice(len(self.likelihoods), self.num_drawn, p=self.likelihoods).tolist()
        for place, augmentation_seed in super().__iter__():
            yield drawn[place], augmentation_seed

    @property
    def num_drawn(self) -> int:
        """Crops of an epoch, of all processes together."""
        return len(self.dataset)


def are_of(folder: Path, split: Split) -> bool:
    """Whether a folder's crops are whole, and were cut from the split's truth as it is now."""
    try:
        return read_json(folder / WEIGHTS_FILE)["truth"] == truths_digest(split)
    except (InputError, KeyError, TypeError):
        return False


def read_foreground_weights(path: Path, taxonomy: Taxonomy, column: str) -> tuple[float, ...]:
    """What generate_crops.py computed, for LossSettings.foreground_weights.

    Args:
        column: crops, for the training on crops; full, for the fine-tuning on whole images.

    Returns:
        One a thing class, ascending by train id; 1 for a class without objects, which has no pixel to weigh.

    Raises:
        InputError: if the file does not fit.
    """
    if column not in WEIGHT_COLUMNS:
        raise InputError(f"foreground weights {column!r} are unknown; choose {' or '.join(WEIGHT_COLUMNS)}")
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; cut the crops first with python pan_secb/generate_crops.py")
    content = read_json(path)
    try:
        found = [content["classes"][taxonomy.categories[k].name][column] for k in taxonomy.thing_ids]
    except (KeyError, TypeError, AttributeError):
        needed = f"weights {column!r} of every thing class of {taxonomy.name}"
        raise InputError(f"{path}: lacks {needed}; write it with python pan_secb/generate_crops.py") from None
    return tuple(1.0 if weight is None else float(weight) for weight in found)
