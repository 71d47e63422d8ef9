"""LightningDataModule of a Cityscapes layout: augmented crops for training, whole images for validation."""

from pathlib import Path

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.cityscapes import Frame, data_root, find_frames, instance_ids_to_semantic, read_instance_ids
from data.files import read_picture
from data.taxonomy import VOID_TRAIN_ID
from data.transforms import AugmentationSettings, TrainingAugmentation, normalize, normalize_and_pad, pad_semantic


class CityscapesSemantic(Dataset):
    """Images with their semantic map: augmented crops where there is an augmentation, else whole images padded to 32.

    An item is a dict: image (3, H, W) float32 normalised, semantic (H, W) int64 train ids with VOID_TRAIN_ID, image_id.

    Raises:
        InputError: on access, if a file is broken or a label has another size than its image.
    """

    def __init__(self, frames: list[Frame], augmentation: TrainingAugmentation | None):
        self.frames = frames
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> dict:
        frame = self.frames[index]
        picture = read_picture(frame.image_path)
        semantic = instance_ids_to_semantic(read_instance_ids(frame.label_path, picture.shape[:2]))
        if self.augmentation is None:
            image, semantic = normalize_and_pad(picture), pad_semantic(semantic)
        else:
            # torch's generator differs between workers and epochs and follows seed_everything; albumentations' own does not.
            seed = int(torch.randint(2**62, ()))
            picture, semantic, _ = self.augmentation(picture, semantic, seed=seed)
            image = normalize(picture)
        semantic = torch.from_numpy(semantic.astype(np.int64))
        return {"image": torch.from_numpy(image), "semantic": semantic, "image_id": frame.image_id}


def collate(items: list[dict]) -> dict:
    """Stack items; smaller ones are padded at the bottom and on the right, images with 0, targets with VOID_TRAIN_ID.

    Returns:
        image (B, 3, H, W) float32, semantic (B, H, W) int64, image_id: list of B.
    """
    height = max(item["semantic"].shape[0] for item in items)
    width = max(item["semantic"].shape[1] for item in items)
    return {
        "image": torch.stack([_pad_to(item["image"], height, width, 0.0) for item in items]),
        "semantic": torch.stack([_pad_to(item["semantic"], height, width, VOID_TRAIN_ID) for item in items]),
        "image_id": [item["image_id"] for item in items],
    }


def _pad_to(values: Tensor, height: int, width: int, fill: float) -> Tensor:
    return F.pad(values, (0, width - values.shape[-1], 0, height - values.shape[-2]), value=fill)


class CityscapesDataModule(pl.LightningDataModule):
    """Batches of a Cityscapes layout.

    Args:
        data_root: folder with leftImg8bit/ and gtFine/; None: $CITYSCAPES_DATASET, $CITYSCAPES_DIR, else the embedded Streets.
        train_split: folder name of the training images.
        val_split: folder name of the validation images.
        batch_size: crops a training step and device.
        val_batch_size: whole images a validation step and device.
        num_workers: processes that read and augment; 0 reads in the training process.
        crop_height: of a training crop, in pixels.
        crop_width: of a training crop, in pixels.
        scale_range: smallest and largest factor of an image's size.
        flip_probability: of a left-right flip.
        brightness: largest relative change.
        contrast: largest relative change.
        saturation: largest relative change.
        hue: largest shift, in turns of the colour circle.
        seed: of the order and the augmentation; None follows seed_everything.
    """

    def __init__(
        self,
        data_root: str | None = None,
        train_split: str = "train",
        val_split: str = "val",
        batch_size: int = 1,
        val_batch_size: int = 1,
        num_workers: int = 2,
        crop_height: int = 1024,
        crop_width: int = 2048,
        scale_range: tuple[float, float] = (0.5, 2.0),
        flip_probability: float = 0.5,
        brightness: float = 0.25,
        contrast: float = 0.25,
        saturation: float = 0.25,
        hue: float = 0.05,
        seed: int | None = None,
    ):
        super().__init__()
        self.given_root = data_root
        self.train_split, self.val_split = train_split, val_split
        self.batch_size, self.val_batch_size, self.num_workers = batch_size, val_batch_size, num_workers
        self.seed = seed
        self.augmentation = AugmentationSettings(
            crop_height, crop_width, tuple(scale_range), flip_probability, brightness, contrast, saturation, hue
        )
        self.root: Path | None = None

    def prepare_data(self) -> None:
        # Lightning calls this in one process only: the embedded data set is drawn here.
        data_root(self.given_root)

    def setup(self, stage: str | None = None) -> None:
        """Find the images that a stage (fit, validate) needs.

        Raises:
            InputError: as data_root and find_frames.
        """
        self.root = data_root(self.given_root)
        if stage in (None, "fit"):
            self.train_set = CityscapesSemantic(find_frames(self.root, self.train_split), TrainingAugmentation(self.augmentation))
        if stage in (None, "fit", "validate"):
            self.val_set = CityscapesSemantic(find_frames(self.root, self.val_split), None)

    def train_dataloader(self) -> DataLoader:
        # A part of a batch stays away: it would weigh its images more, and one crop alone breaks batch statistics.
        drop_last = len(self.train_set) >= self.batch_size
        return self._loader(self.train_set, self.batch_size, shuffle=True, drop_last=drop_last, generator=self._generator())

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val_set, self.val_batch_size, shuffle=False)

    def _loader(self, dataset: Dataset, batch_size: int, **options) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size,
            num_workers=self.num_workers,
            collate_fn=collate,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
            **options,
        )

    def _generator(self) -> torch.Generator:
        """Seeded by epoch and rank too: a resumed run must not repeat the order of epoch 0, nor two devices see the same one.

        Workers draw their crops from it as well; with num_workers 0 crops follow seed_everything, from its start on a resume.
        """
        trainer = self.trainer
        epoch, rank = (trainer.current_epoch, trainer.global_rank) if trainer is not None else (0, 0)
        seed = torch.initial_seed() if self.seed is None else self.seed
        words = np.random.SeedSequence((seed, epoch, rank)).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


def _start_worker(worker_id: int) -> None:
    # Each worker is one of the user's cores; OpenCV's own threads would fight the others for them.
    cv2.setNumThreads(0)
