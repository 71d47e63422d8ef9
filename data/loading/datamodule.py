"""LightningDataModule of images with their truth: augmented ones for training, whole ones for validation."""

import os
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeInt, PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.class_map import class_map_of
from data.input_size import InputSize
from data.layouts.find import open_data_set
from data.loading.augmentation import AugmentationSettings, TrainingAugmentation
from data.loading.epoch_sampler import EpochSampler
from data.network_input import NetworkInput
from data.normalization import NORMALIZATIONS, Normalization, normalize, normalize_and_pad, pad_segment_ids
from data.panoptic_png import PanopticMap, describe_segments
from data.resizing import resize_image, resize_segment_ids
from data.split import Split
from data.targets import panoptic_to_instances, panoptic_to_semantic
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from runtime.files import InputError
from runtime.processes import end_with_parent

NUM_MEASURED = 200
"""Training images whose sizes are read, at most twice as many: all of a large data set would take long on a network drive."""
MIN_INSTANCE_AREA = 16
"""Pixels of an object in a crop below which it is no target: less than a cell of the finest pyramid level."""


class PanopticDataset(Dataset):
    """Images with what a network learns from them: augmented where there is an augmentation, else whole.

    Crops have the size that was asked for; other images are padded to multiples of 32, which a network can halve.

    An item is a dict: image (3, H, W) float32 normalised, semantic (H, W) int64 train ids with VOID_TRAIN_ID, image_id;
    where instances are asked for, instances (see instance_targets); and where there is no augmentation, seen_size, the
    (height, width) that the network sees without padding, and panoptic, the truth as it was read.

    Args:
        input_size: to what size an image is brought, before it is augmented or, where it is not, before the network.

    Raises:
        InputError: on access, if a file is broken or a label has another size than its image.
    """

    def __init__(
        self,
        split: Split,
        augmentation: TrainingAugmentation | None,
        has_instances: bool = False,
        normalization: Normalization = Normalization(),
        input_size: InputSize = InputSize(),
    ):
        self.split = split
        self.augmentation = augmentation
        self.has_instances = has_instances
        self.normalization = normalization
        self.input_size = input_size

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        index, seed = key if isinstance(key, tuple) else (key, 0)  # EpochSampler gives pairs
        truth = self.split.truth(index)
        if truth is None:
            raise InputError(f"{self.split.image_id(index)}: has no truth, but it is needed; add its label or remove the image")
        is_cropping = self.augmentation is not None and self.augmentation.is_cropping
        image, ids = self.split.image(index), truth.segment_ids
        if self.augmentation is None or is_cropping:
            seen_size = self.input_size.of(ids.shape)
            image, ids = resize_image(image, seen_size), resize_segment_ids(ids, seen_size)
        if self.augmentation is not None:
            image, ids = self.augmentation(image, ids, seed=seed)
        if is_cropping:
            normalized = normalize(image, self.normalization)
        else:
            normalized, ids = normalize_and_pad(image, self.normalization), pad_segment_ids(ids)
        moved = PanopticMap(ids, truth.segments)
        semantic = panoptic_to_semantic(moved, self.split.taxonomy).astype(np.int64)
        item = {"image": torch.from_numpy(normalized), "semantic": torch.from_numpy(semantic)}
        if self.has_instances:
            item["instances"] = instance_targets(moved, self.split.taxonomy)
        if self.augmentation is None:
            item |= {"panoptic": truth, "seen_size": seen_size}
        return item | {"image_id": self.split.image_id(index)}


def instance_targets(panoptic: PanopticMap, taxonomy: Taxonomy, min_area: int = MIN_INSTANCE_AREA) -> dict[str, Tensor]:
    """What an instance head learns from an image: its things without crowds.

    Args:
        panoptic: its segments may be those of a larger image that it is a crop of; areas and boxes are counted anew.
        min_area: smaller objects are left out, in pixels.

    Returns:
        boxes (N, 4) float32 (x1, y1, x2, y2) in pixels, end exclusive; train_ids (N,) int64; masks (N, H, W) bool.
    """
    by_id = {segment.segment_id: segment for segment in panoptic.segments}
    counted = describe_segments(panoptic.segment_ids, lambda k: by_id[k].category_id, lambda k: by_id[k].is_crowd)
    masks, train_ids, boxes = panoptic_to_instances(PanopticMap(panoptic.segment_ids, counted), taxonomy, min_area)
    return {name: torch.from_numpy(a) for name, a in (("boxes", boxes), ("train_ids", train_ids), ("masks", masks))}


def collate(items: list[dict]) -> dict:
    """Stack items; smaller ones are padded at the bottom and on the right, images with 0, targets with VOID_TRAIN_ID.

    Returns:
        image (B, 3, H, W) float32, semantic (B, H, W) int64, image_id: list of B; and where the items have them, instances,
        whose masks are padded with False, panoptic, which is not padded, and seen_size: lists of B.
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
        batch["instances"] = padded
    for name in ("panoptic", "seen_size"):
        if name in items[0]:
            batch[name] = [item[name] for item in items]
    return batch


def _pad_to(values: Tensor, height: int, width: int, fill: float) -> Tensor:
    return F.pad(values, (0, width - values.shape[-1], 0, height - values.shape[-2]), value=fill)


class PanopticDataModule(pl.LightningDataModule):
    """Batches of a data set of any layout.

    Args:
        data_root: the data set's folder.
        layout: cityscapes (leftImg8bit/ and gtFine/), coco (annotations/panoptic_SPLIT.json and SPLIT/), or auto.
        train_split: name of the training images; None: the layout's usual one, such as train or train2017.
        val_split: name of the validation images; None: the layout's usual one, such as val or val2017.
        batch_size: images a training step and device.
        val_batch_size: whole images a validation step and device.
        num_workers: processes that read and augment; 0 reads in the training process.
        augmentation: what a training image goes through.
        input_size: to what size an image is brought before it is augmented, validated or predicted.
        truth_classes: class map that the truth goes through, a shipped one by name or a YAML file.
        normalization: of the pixels, one of NORMALIZATIONS; None: what the network of a training wants, else EfficientPS's.
        seed: of the order and the augmentation; None follows seed_everything.
    """

    has_instances = False
    """Whether batches also have instance targets; the training sets it, as its model needs it."""

    def __init__(
        self,
        data_root: str | Path,
        layout: str = "auto",
        train_split: str | None = None,
        val_split: str | None = None,
        batch_size: PositiveInt = 1,
        val_batch_size: PositiveInt = 1,
        num_workers: NonNegativeInt = 2,
        augmentation: AugmentationSettings = AugmentationSettings(),
        input_size: InputSize = InputSize(),
        truth_classes: str | None = None,
        normalization: Literal["efficientps", "imagenet", "lite"] | None = None,
        seed: NonNegativeInt | None = None,
    ):
        super().__init__()
        class_map = class_map_of(truth_classes)
        self.data_set = open_data_set(data_root, layout, class_map=class_map)
        self.train_split = train_split or self.data_set.usual_split(for_training=True)
        self.val_split = val_split or self.data_set.usual_split()
        self.batch_size, self.val_batch_size, self.num_workers = batch_size, val_batch_size, num_workers
        self.augmentation, self.given_input_size = augmentation, input_size
        self.normalization = NORMALIZATIONS[normalization or "efficientps"]
        self.seed = seed

    @property
    def root(self) -> Path:
        """The data set's folder."""
        return self.data_set.root

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The classes, known before anything is set up, so that a network can be built for them.

        Raises:
            InputError: if the validation split is missing or names no classes.
        """
        return self.data_set.taxonomy(self.val_split)

    @cached_property
    def input_size(self) -> InputSize:
        """What the network will see in use: as given, and what sizes the training images have."""
        if self.given_input_size.shorter_side is not None:
            return self.given_input_size
        split = self._training_split
        step = max(1, len(split) // NUM_MEASURED)
        sides = [min(split.size(index)) for index in range(0, len(split), step)]
        return replace(self.given_input_size, trained_sides=(min(sides), max(sides)))

    @property
    def network_input(self) -> NetworkInput:
        """The same with the pixels' normalisation: what a checkpoint must know of its input."""
        return NetworkInput(self.input_size, self.normalization)

    @cached_property
    def _training_split(self) -> Split:
        return self._open(self.train_split)

    def setup(self, stage: str | None = None) -> None:
        """Find the images that a stage (fit, validate) needs.

        Raises:
            InputError: if the folder or a split does not fit, or the splits have different classes.
        """
        if stage in (None, "fit"):
            self.train_set = self._training_set(TrainingAugmentation(self.augmentation))
        if stage in (None, "fit", "validate"):
            self.val_set = self._dataset(self._open(self.val_split), None, self.input_size)

    def _training_set(self, augmentation: TrainingAugmentation) -> PanopticDataset:
        return self._dataset(self._training_split, augmentation, self.given_input_size)

    def _dataset(self, split: Split, augmentation: TrainingAugmentation | None, input_size: InputSize) -> PanopticDataset:
        return PanopticDataset(split, augmentation, self.has_instances, self.normalization, input_size)

    def _open(self, name: str) -> Split:
        split = self.data_set.split(name, for_training=True)
        if difference := split.taxonomy.difference(self.taxonomy):
            raise InputError(
                f"{self.root}: split {name} has other classes than {self.val_split}, {difference}; list the same in both"
            )
        return split

    def transfer_batch_to_device(self, batch: dict, device: torch.device, dataloader_idx: int) -> dict:
        """Move the tensors; the truth's panoptic maps stay where scores are counted."""
        moved = super().transfer_batch_to_device({k: v for k, v in batch.items() if k != "panoptic"}, device, dataloader_idx)
        return moved | {"panoptic": batch["panoptic"]} if "panoptic" in batch else moved

    def train_dataloader(self) -> DataLoader:
        sampler = self._sampler()
        # The last, smaller batch is dropped: its images would weigh more in the mean gradient, and one crop alone breaks
        # batch statistics.
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
            worker_init_fn=partial(_start_worker, os.getpid()),
            **options,
        )

    def _sampler(self) -> EpochSampler:
        seed = int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed() % 2**32)) if self.seed is None else self.seed
        if (trainer := self.trainer) is None:
            return self._make_sampler(seed=seed)
        share = {"num_processes": trainer.world_size, "rank": trainer.global_rank}
        # Not current_epoch, which is one behind on a resume.
        epoch = trainer.fit_loop.epoch_progress.current.processed
        return self._make_sampler(seed=trainer.strategy.broadcast(seed), epoch=epoch, **share)

    def _make_sampler(self, **shared) -> EpochSampler:
        return EpochSampler(len(self.train_set), **shared)


def _start_worker(parent: int, worker_id: int) -> None:
    end_with_parent(parent)
    # Each worker is one of the user's cores; OpenCV's own threads would fight the others for them.
    cv2.setNumThreads(0)
