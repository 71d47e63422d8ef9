"""Data of both steps: crops that generate_crops.py has cut, or whole images; and the foreground weights of either."""

import time
from functools import cached_property
from pathlib import Path

from data.loading.augmentation import TrainingAugmentation
from data.loading.datamodule import PanopticDataModule, PanopticDataset
from data.loading.epoch_sampler import EpochSampler
from pan_secb.crop_cutting import MIN_AREA, CropSettings, default_crop_size, generate
from pan_secb.crops import WEIGHTS_FILE, CropSampler, CropSplit, are_of, default_folder, read_foreground_weights
from runtime.files import InputError
from runtime.processes import process_rank


class PanSECBDataModule(PanopticDataModule):
    """Batches of crops around objects, or of whole images; validation always sees whole images.

    Args:
        on_crops: the first step's crops; false: the second step's whole images.
        crops: <output> of generate_crops.py; None: where it writes by default, outputs/pan_secb/crops/<name of the data root>.
        crops_per_epoch: drawn with replacement.
        balance: 0: every crop is as likely; 1: every class is.
        others: as PanopticDataModule.
    """

    def __init__(
        self, on_crops: bool = False, crops: str | None = None, crops_per_epoch: int = 3000, balance: float = 0.5, **others
    ):
        super().__init__(**others)
        self.on_crops, self.given_crops = on_crops, crops
        self.crops_per_epoch, self.balance = crops_per_epoch, balance

    @cached_property
    def crops(self) -> Path:
        """The folder of the training split's crops."""
        folder = default_folder(self.root) if self.given_crops is None else Path(self.given_crops).expanduser()
        return folder / self.train_split

    @property
    def foreground_weights(self) -> tuple[float, ...]:
        """Of each thing class, counted on what is trained on: "switched" between the steps, as Pan-SECB's description says.

        The crops are cut here where they are absent or of another truth, unless a folder of crops was given.

        Raises:
            InputError: if the given folder is none of generate_crops.py for this data set.
        """
        if self.given_crops is None:
            self._ensure_crops()
        elif (self.crops / WEIGHTS_FILE).is_file() and not are_of(self.crops, self._training_split):
            needed = f"the truth of {self._training_split.name}; cut them again with python pan_secb/generate_crops.py"
            raise InputError(f"{self.crops}: holds crops of other images or labels, but they must be of {needed}")
        return read_foreground_weights(self.crops / WEIGHTS_FILE, self.taxonomy, "crops" if self.on_crops else "full")

    def _ensure_crops(self) -> None:
        """The first of several processes cuts, the others wait."""
        while not are_of(self.crops, self._training_split):
            if process_rank() > 0:
                time.sleep(1)
                continue
            print(f"cutting crops into {self.crops}", flush=True)
            settings = CropSettings(default_crop_size(self._training_split), MIN_AREA)
            generate(self._training_split, self.train_split, self.crops, settings)

    def _training_set(self, augmentation: TrainingAugmentation) -> PanopticDataset:
        if not self.on_crops:
            return super()._training_set(augmentation)
        if self.given_input_size.shorter_side is not None:
            raise InputError("data.input_size.shorter_side is set, but crops are cut at the size of the images; leave it out")
        return PanopticDataset(CropSplit(self.crops, self.taxonomy), augmentation, self.has_instances, self.normalization)

    def _make_sampler(self, **shared) -> EpochSampler:
        if not self.on_crops:
            return super()._make_sampler(**shared)
        return CropSampler(self.train_set.split.train_ids, self.crops_per_epoch, self.balance, **shared)
