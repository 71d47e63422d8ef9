"""LightningDataModule of labelled pictures: augmented ones for training, whole ones for validation."""

import os
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.layouts.cityscapes import data_root as cityscapes_root
from data.layouts.coco import TRAIN_SPLIT, VAL_SPLIT, CocoPictures, coco_root, split_taxonomy
from data.loading.augmentation import AugmentationSettings, TrainingAugmentation
from data.loading.epoch_sampler import EpochSampler
from data.normalization import NORMALIZATIONS, Normalization, normalize, normalize_and_pad, pad_segment_ids
from data.panoptic_png import PanopticMap, describe_segments
from data.split import CityscapesPictures, LabelledPictures
from data.targets import panoptic_to_instances, panoptic_to_semantic
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID, Taxonomy
from runtime.files import InputError

LAYOUTS = {"cityscapes": ("train", "val"), "coco": (TRAIN_SPLIT, VAL_SPLIT)}
"""Names of the layouts, with their usual training and validation split."""
MIN_INSTANCE_AREA = 16
"""Pixels of an object in a crop below which it is no target: less than a cell of the finest pyramid level."""


class PanopticDataset(Dataset):
    """Pictures with what a network learns from them: augmented where there is an augmentation, else whole.

    Crops have the size that was asked for; other images are padded to multiples of 32, which a network can halve.

    An item is a dict: image (3, H, W) float32 normalised, semantic (H, W) int64 train ids with VOID_TRAIN_ID, image_id;
    where instances are asked for, instances (see instance_targets); and where there is no augmentation, panoptic, the truth
    as it was read, without padding.

    Raises:
        InputError: on access, if a file is broken or a label has another size than its image.
    """

    def __init__(
        self,
        pictures: LabelledPictures,
        augmentation: TrainingAugmentation | None,
        has_instances: bool = False,
        normalization: Normalization = Normalization(),
    ):
        self.pictures = pictures
        self.augmentation = augmentation
        self.has_instances = has_instances
        self.normalization = normalization

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        index, seed = key if isinstance(key, tuple) else (key, 0)  # EpochSampler gives pairs
        picture, truth = self.pictures.read(index)
        ids = truth.segment_ids
        if self.augmentation is not None:
            picture, ids = self.augmentation(picture, ids, seed=seed)
        if self.augmentation is not None and self.augmentation.is_cropping:
            image = normalize(picture, self.normalization)
        else:
            image, ids = normalize_and_pad(picture, self.normalization), pad_segment_ids(ids)
        moved = PanopticMap(ids, truth.segments)
        semantic = panoptic_to_semantic(moved, self.pictures.taxonomy).astype(np.int64)
        item = {"image": torch.from_numpy(image), "semantic": torch.from_numpy(semantic)}
        if self.has_instances:
            item["instances"] = instance_targets(moved, self.pictures.taxonomy)
        if self.augmentation is None:
            item["panoptic"] = truth
        return item | {"image_id": self.pictures.image_id(index)}


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
        whose masks are padded with False, and panoptic, which is not padded: lists of B.
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
    if "panoptic" in items[0]:
        batch["panoptic"] = [item["panoptic"] for item in items]
    return batch


def _pad_to(values: Tensor, height: int, width: int, fill: float) -> Tensor:
    return F.pad(values, (0, width - values.shape[-1], 0, height - values.shape[-2]), value=fill)


class PanopticDataModule(pl.LightningDataModule):
    """Batches of a data set in the Cityscapes or the COCO panoptic layout.

    Args:
        data_root: the data set's folder; None: for Cityscapes $CITYSCAPES_DATASET, $CITYSCAPES_DIR, else the embedded Streets,
            for COCO $COCO_DATASET, else the embedded Snapshots.
        layout: cityscapes (leftImg8bit/ and gtFine/) or coco (annotations/panoptic_SPLIT.json and SPLIT/).
        train_split: name of the training images; None: train, for COCO train2017.
        val_split: name of the validation images; None: val, for COCO val2017.
        batch_size: images a training step and device.
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
        shorter_sides: pixels, of which one is drawn for each training image's shorter side, in place of scale and crop.
        longer_side: pixels that the longer side has at most, with shorter_sides.
        normalization: of the pixels, one of NORMALIZATIONS; the network decides.
        seed: of the order and the augmentation; None follows seed_everything.
        has_instances: whether batches also have instance targets; set by the model.
    """

    def __init__(
        self,
        data_root: str | None = None,
        layout: str = "cityscapes",
        train_split: str | None = None,
        val_split: str | None = None,
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
        shorter_sides: tuple[int, ...] | None = None,
        longer_side: int | None = None,
        normalization: str = "efficientps",
        seed: int | None = None,
        has_instances: bool = False,
    ):
        super().__init__()
        counts = (("batch_size", batch_size, 1), ("val_batch_size", val_batch_size, 1), ("num_workers", num_workers, 0))
        for name, value, least in (*counts, ("seed", seed or 0, 0)):
            if value < least:
                raise InputError(f"data.{name} is {value}, but {least} or more is needed")
        if layout not in LAYOUTS:
            raise InputError(f"data.layout {layout!r} is unknown; choose {' or '.join(LAYOUTS)}")
        if normalization not in NORMALIZATIONS:
            raise InputError(f"data.normalization {normalization!r} is unknown; choose {' or '.join(NORMALIZATIONS)}")
        self.given_root, self.layout, self.normalization = data_root, layout, NORMALIZATIONS[normalization]
        default_train, default_val = LAYOUTS[layout]
        self.train_split, self.val_split = train_split or default_train, val_split or default_val
        self.batch_size, self.val_batch_size, self.num_workers = batch_size, val_batch_size, num_workers
        self.seed, self.has_instances = seed, has_instances
        self.augmentation = AugmentationSettings(
            crop_height,
            crop_width,
            tuple(scale_range),
            flip_probability,
            brightness,
            contrast,
            saturation,
            hue,
            None if shorter_sides is None else tuple(shorter_sides),
            longer_side,
        )

    @cached_property
    def root(self) -> Path:
        """The data set's folder; an embedded one is drawn where it is absent."""
        return coco_root(self.given_root) if self.layout == "coco" else cityscapes_root(self.given_root)

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The classes, known before anything is set up, so that a network can be built for them.

        Raises:
            InputError: as coco_root and split_taxonomy.
        """
        return split_taxonomy(self.root, self.val_split) if self.layout == "coco" else CITYSCAPES

    def prepare_data(self) -> None:
        # Lightning calls this in one process only: the embedded data set is drawn here.
        assert self.root

    def setup(self, stage: str | None = None) -> None:
        """Find the images that a stage (fit, validate) needs.

        Raises:
            InputError: if the folder or a split does not fit, or the splits have different classes.
        """
        if stage in (None, "fit"):
            self.train_set = self._training_set(TrainingAugmentation(self.augmentation))
        if stage in (None, "fit", "validate"):
            self.val_set = self._dataset(self.val_split, None)

    def _training_set(self, augmentation: TrainingAugmentation) -> PanopticDataset:
        return self._dataset(self.train_split, augmentation)

    def _dataset(self, split: str, augmentation: TrainingAugmentation | None) -> PanopticDataset:
        pictures = CocoPictures(self.root, split) if self.layout == "coco" else CityscapesPictures(self.root, split)
        if pictures.taxonomy != self.taxonomy:
            raise InputError(f"{self.root}: split {split} has other `categories` than {self.val_split}; list the same in both")
        return PanopticDataset(pictures, augmentation, self.has_instances, self.normalization)

    def transfer_batch_to_device(self, batch: dict, device: torch.device, dataloader_idx: int) -> dict:
        """Move the tensors; the truth's panoptic maps stay where scores are counted."""
        moved = super().transfer_batch_to_device({k: v for k, v in batch.items() if k != "panoptic"}, device, dataloader_idx)
        return moved | {"panoptic": batch["panoptic"]} if "panoptic" in batch else moved

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
            return self._make_sampler(seed=seed)
        share = {"num_processes": trainer.world_size, "rank": trainer.global_rank}
        # Not current_epoch, which is one behind on a resume.
        epoch = trainer.fit_loop.epoch_progress.current.processed
        return self._make_sampler(seed=trainer.strategy.broadcast(seed), epoch=epoch, **share)

    def _make_sampler(self, **shared) -> EpochSampler:
        return EpochSampler(len(self.train_set), **shared)


def _start_worker(worker_id: int) -> None:
    # Each worker is one of the user's cores; OpenCV's own threads would fight the others for them.
    cv2.setNumThreads(0)
