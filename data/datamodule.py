"""LightningDataModule of a Cityscapes layout: augmented crops for training, whole images for validation."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.cityscapes import (
    Frame,
    data_root,
    find_frames,
    instance_ids_to_panoptic,
    instance_ids_to_semantic,
    read_instance_ids,
)
from data.epoch_sampler import EpochSampler
from data.files import InputError, read_picture
from data.targets import panoptic_to_instances
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from data.transforms import AugmentationSettings, TrainingAugmentation, normalize, normalize_and_pad, pad_semantic

MIN_INSTANCE_AREA = 16
"""Pixels of an object in a crop below which it is no target: less than a cell of the finest pyramid level."""


class CityscapesDataset(Dataset):
    """Images with their truth: augmented crops where there is an augmentation, else whole images padded to 32.

    An item is a dict: image (3, H, W) float32 normalised, semantic (H, W) int64 train ids with VOID_TRAIN_ID, image_id;
    and where instances are asked for, instances (see instance_targets) and instance_ids, which a whole image keeps as they
    are in its file, (h, w) int32 without padding.

    Raises:
        InputError: on access, if a file is broken or a label has another size than its image.
    """

    def __init__(self, frames: list[Frame], augmentation: TrainingAugmentation | None, has_instances: bool = False):
        self.frames = frames
        self.augmentation = augmentation
        self.has_instances = has_instances

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        index, seed = key if isinstance(key, tuple) else (key, 0)  # EpochSampler gives pairs
        frame = self.frames[index]
        picture = read_picture(frame.image_path)
        instance_ids = read_instance_ids(frame.label_path, picture.shape[:2])
        semantic = instance_ids_to_semantic(instance_ids)
        if self.augmentation is None:
            image, semantic = normalize_and_pad(picture), pad_semantic(semantic)
        else:
            ids = instance_ids.astype(np.uint32) if self.has_instances else None
            picture, semantic, instance_ids = self.augmentation(picture, semantic, ids, seed=seed)
            image = normalize(picture)
        item = {"image": torch.from_numpy(image), "semantic": torch.from_numpy(semantic.astype(np.int64))}
        if self.has_instances:
            instance_ids = instance_ids.astype(np.int32)
            item |= {"instances": instance_targets(instance_ids), "instance_ids": torch.from_numpy(instance_ids)}
        return item | {"image_id": frame.image_id}


def instance_targets(instance_ids: np.ndarray, min_area: int = MIN_INSTANCE_AREA) -> dict[str, Tensor]:
    """What an instance head learns from a crop: its things without crowds.

    Args:
        instance_ids: (H, W) int32, as read_instance_ids gives them.
        min_area: smaller objects are left out, in pixels.

    Returns:
        boxes (N, 4) float32 (x1, y1, x2, y2) in pixels, end exclusive; train_ids (N,) int64; masks (N, H, W) bool.
    """
    masks, train_ids, boxes = panoptic_to_instances(instance_ids_to_panoptic(instance_ids), CITYSCAPES, min_area)
    return {name: torch.from_numpy(a) for name, a in (("boxes", boxes), ("train_ids", train_ids), ("masks", masks))}


def collate(items: list[dict]) -> dict:
    """Stack items; smaller ones are padded at the bottom and on the right, images with 0, targets with VOID_TRAIN_ID.

    Returns:
        image (B, 3, H, W) float32, semantic (B, H, W) int64, image_id: list of B; and where the items have them, instances,
        whose masks are padded with False, and instance_ids, which are not: lists of B.
    """
    height = max(item["semantic"].shape[0] for item in items)
    width = max(item["semantic"].shape[1] for item in items)
    batch = {
        "image": torch.stack([_pad_to(item["image"], height, width, 0.0) for item in items]),
        "semantic": torch.stack([_pad_to(item["semantic"], height, width, VOID_TRAIN_ID) for item in items]),
        "image_id": [item["image_id"] for item in items],
    }
    if "instances" in items[0]:
        padded = [item["instances"] | {"masks": _pad_to(item["instances"]["masks"], height, width, False)} for item in items]
        batch |= {"instances": padded, "instance_ids": [item["instance_ids"] for item in items]}
    return batch


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
        has_instances: whether batches also have instance targets; set by the model.
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
        has_instances: bool = False,
    ):
        super().__init__()
        counts = (("batch_size", batch_size, 1), ("val_batch_size", val_batch_size, 1), ("num_workers", num_workers, 0))
        for name, value, least in (*counts, ("seed", seed or 0, 0)):
            if value < least:
                raise InputError(f"data.{name} is {value}, but {least} or more is needed")
        self.given_root = data_root
        self.train_split, self.val_split = train_split, val_split
        self.batch_size, self.val_batch_size, self.num_workers = batch_size, val_batch_size, num_workers
        self.seed, self.has_instances = seed, has_instances
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
            augmentation = TrainingAugmentation(self.augmentation)
            self.train_set = self._dataset(self.train_split, augmentation)
        if stage in (None, "fit", "validate"):
            self.val_set = self._dataset(self.val_split, None)

    def _dataset(self, split: str, augmentation: TrainingAugmentation | None) -> CityscapesDataset:
        return CityscapesDataset(find_frames(self.root, split), augmentation, self.has_instances)

    def train_dataloader(self) -> DataLoader:
        sampler = self._sampler()
        # A part of a batch stays away: it would weigh its images more, and one crop alone breaks batch statistics.
        return self._loader(self.train_set, self.batch_size, sampler=sampler, drop_last=len(sampler) >= self.batch_size)

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

    def _sampler(self) -> EpochSampler:
        seed = int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed() % 2**32)) if self.seed is None else self.seed
        if (trainer := self.trainer) is None:
            return EpochSampler(len(self.train_set), seed=seed)
        share = {"num_processes": trainer.world_size, "rank": trainer.global_rank}
        # Not current_epoch, which is one behind on a resume.
        epoch = trainer.fit_loop.epoch_progress.current.processed
        return EpochSampler(len(self.train_set), seed=trainer.strategy.broadcast(seed), epoch=epoch, **share)


def _start_worker(worker_id: int) -> None:
    # Each worker is one of the user's cores; OpenCV's own threads would fight the others for them.
    cv2.setNumThreads(0)
