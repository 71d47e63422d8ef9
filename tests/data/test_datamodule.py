"""Batches follow the seed, differ between epochs and workers, and a broken file is named."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from data.drawn.snapshots import SnapshotsSettings, ensure_snapshots
from data.images import read_image
from data.input_size import InputSize
from data.layouts.cityscapes import find_images, instance_ids_to_panoptic, instance_ids_to_semantic, read_instance_ids, read_truth
from data.layouts.coco import CocoSplit
from data.loading.augmentation import AugmentationSettings
from data.loading.datamodule import MIN_INSTANCE_AREA, PanopticDataModule, instance_targets
from data.normalization import IMAGENET, normalize
from data.panoptic_png import PanopticMap
from data.resizing import resize_segment_ids
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, VOID_TRAIN_ID
from runtime.files import InputError, one_line_errors

CROP = {"augmentation": AugmentationSettings(32, 64)}


@pytest.fixture
def tree(tmp_path, draw) -> Path:
    """Six training images of 48x96 and three of other sizes for validation, all of noise."""
    random = np.random.default_rng(0)
    sizes = {"train": [(48, 96)] * 6, "val": [(32, 64), (33, 64), (20, 70)]}
    for split, of_split in sizes.items():
        for k, size in enumerate(of_split):
            picture = random.integers(0, 256, (*size, 3), dtype=np.uint8)
            draw(tmp_path, split, f"ulm_{k:06d}_000019", random.choice([0, 7, 11, 26001], size), picture)
    return tmp_path


def module(root: Path, **settings) -> PanopticDataModule:
    """Args: has_instances: is set as a training does."""
    has_instances = settings.pop("has_instances", False)
    data = PanopticDataModule(str(root), **{"num_workers": 0, "batch_size": 2, **CROP, **settings})
    data.has_instances = has_instances
    data.setup("fit")
    return data


def epochs(loader, number: int) -> list[list[dict]]:
    found = []
    for epoch in range(number):
        loader.sampler.set_epoch(epoch)  # as Lightning does
        found.append(list(loader))
    return found


def is_equal(first: list[dict], second: list[dict]) -> bool:
    same_order = [b["image_id"] for b in first] == [b["image_id"] for b in second]
    return same_order and all(torch.equal(a["image"], b["image"]) for a, b in zip(first, second, strict=True))


def test_a_training_batch_is_crops_with_their_classes(tree):
    batch = next(iter(module(tree).train_dataloader()))
    assert (batch["image"].shape, batch["image"].dtype) == ((2, 3, 32, 64), torch.float32)
    assert (batch["semantic"].shape, batch["semantic"].dtype) == ((2, 32, 64), torch.int64)
    assert len(batch["image_id"]) == 2


def test_validation_images_are_whole_and_padded_with_void(tree):
    data = module(tree, val_batch_size=3)
    assert data.input_size == InputSize(trained_sides=(48, 48))
    data.val_set.input_size = InputSize()  # as they are
    (batch,) = data.val_dataloader()
    assert batch["image"].shape == (3, 3, 64, 96)  # the largest height and width, each to a multiple of 32
    for k, image in enumerate(find_images(tree, "val")):
        pixels = read_image(image.image_path)
        height, width = pixels.shape[:2]
        semantic = instance_ids_to_semantic(read_instance_ids(image.label_path))
        assert batch["image_id"][k] == image.image_id
        assert torch.equal(batch["image"][k, :, :height, :width], torch.from_numpy(normalize(pixels)))
        assert torch.equal(batch["semantic"][k, :height, :width], torch.from_numpy(semantic.astype(np.int64)))
        assert (batch["semantic"][k, height:] == VOID_TRAIN_ID).all()
        assert (batch["semantic"][k, :, width:] == VOID_TRAIN_ID).all()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_same_seed_gives_the_same_epochs_which_differ(tree, num_workers):
    runs = []
    for _ in range(2):
        pl.seed_everything(3, workers=True, verbose=False)
        runs.append(epochs(module(tree, num_workers=num_workers).train_dataloader(), 2))
    for first, second in zip(*runs, strict=True):
        assert is_equal(first, second)
    assert not is_equal(*runs[0])


def test_another_seed_gives_other_batches(tree):
    batches = []
    for seed in (3, 4):
        pl.seed_everything(seed, verbose=False)
        batches.append(list(module(tree).train_dataloader()))
    assert not is_equal(*batches)


def test_workers_do_not_draw_the_same_crops(tmp_path, draw):
    picture = np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8)
    for k in range(4):
        draw(tmp_path, "train", f"ulm_{k:06d}_000019", np.full((48, 96), 7), picture)
        draw(tmp_path, "val", f"ulm_{k:06d}_000019", np.full((48, 96), 7), picture)
    loader = module(tmp_path, num_workers=2, batch_size=1).train_dataloader()
    crops = [batch["image"] for batch in loader]
    assert not any(torch.equal(a, b) for k, a in enumerate(crops) for b in crops[:k])


class Trainer(SimpleNamespace):
    """What the data module asks Lightning's trainer."""

    def __init__(self, epoch: int, rank: int = 0, world_size: int = 1):
        super().__init__(global_rank=rank, world_size=world_size, strategy=SimpleNamespace(broadcast=lambda value: value))
        self.fit_loop = SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=epoch)))


def order(root: Path, trainer: Trainer) -> list[str]:
    data = module(root, seed=0, batch_size=1)
    data.trainer = trainer
    return [image_id for batch in data.train_dataloader() for image_id in batch["image_id"]]


def test_a_resumed_run_does_not_see_the_first_epoch_again(tree):
    first, second = order(tree, Trainer(0)), order(tree, Trainer(1))
    assert first != second
    assert sorted(first) == sorted(second)


def test_devices_share_the_images(tree):
    shares = [order(tree, Trainer(0, rank, world_size=2)) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == sorted(order(tree, Trainer(0)))


def test_fewer_images_than_a_batch_still_give_a_batch(tree):
    (batch,) = module(tree, batch_size=8).train_dataloader()
    assert len(batch["image_id"]) == 6


def test_a_rest_smaller_than_a_batch_stays_away_from_training(tree):
    assert [len(batch["image_id"]) for batch in module(tree, batch_size=4).train_dataloader()] == [4]


def test_a_label_of_another_size_than_its_image_is_refused(tree, draw):
    draw(tree, "train", "ulm_000000_000019", np.full((4, 8), 7), picture=np.zeros((48, 96, 3), np.uint8))
    with pytest.raises(InputError, match=r"ulm_000000_000019_gtFine_instanceIds\.png: 4x8 pixels, but its image has 48x96"):
        list(module(tree).train_dataloader())


def test_a_file_that_a_worker_cannot_read_ends_a_command_with_one_line(tree):
    path = find_images(tree, "val")[0].label_path
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(SystemExit) as end, one_line_errors():
        list(module(tree, num_workers=1).val_dataloader())
    assert end.value.code.startswith(f"error: {path}: cannot be decoded")
    assert "\n" not in end.value.code


def test_a_missing_split_is_refused_before_training(tree):
    with pytest.raises(InputError, match=r"splits with images: train, val"):
        module(tree, train_split="trian")


@pytest.fixture
def objects(tmp_path, draw) -> Path:
    """Two images for training and validation, each with a car, a person, a crowd of persons, and a speck of a bus."""
    ids = np.full((48, 96), 7)
    ids[4:30, 6:40], ids[20:44, 50:62], ids[2:20, 66:90], ids[40:42, 2:5] = 26003, 24001, 24, 28000
    picture = np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8)
    for split in ("train", "val"):
        for k in range(2):
            draw(tmp_path, split, f"ulm_{k:06d}_000019", ids, picture)
    return tmp_path


def train_id(name: str) -> int:
    return next(k for k, c in enumerate(CITYSCAPES.categories) if c.name == name)


def test_instances_are_the_counted_objects_of_a_whole_image(objects):
    data = module(objects, has_instances=True, val_batch_size=2)
    (batch,) = data.val_dataloader()
    for instances, truth in zip(batch["instances"], batch["panoptic"], strict=True):
        ids = torch.from_numpy(truth.segment_ids.astype(np.int64))
        assert ids.shape == (48, 96)  # not padded: what is predicted is scored at this size
        assert instances["train_ids"].tolist() == [train_id("person"), train_id("car")]  # no crowd, and no speck of 6 pixels
        assert instances["boxes"].tolist() == [[50, 20, 62, 44], [6, 4, 40, 30]]
        assert instances["masks"].shape == (2, 64, 96)
        assert torch.equal(instances["masks"][:, :48], torch.stack([ids == 24001, ids == 26003]))
        assert not instances["masks"][:, 48:].any()


@pytest.mark.parametrize("seed", range(5))
def test_instances_of_a_crop_move_with_its_classes(objects, seed):
    pl.seed_everything(seed, verbose=False)
    for batch in module(objects, has_instances=True).train_dataloader():
        for semantic, instances in zip(batch["semantic"], batch["instances"], strict=True):
            for box, k, mask in zip(instances["boxes"].int().tolist(), instances["train_ids"], instances["masks"], strict=True):
                ys, xs = mask.nonzero(as_tuple=True)
                assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
                assert mask.sum() >= MIN_INSTANCE_AREA
                assert (semantic[mask] == k).all()
                if k == train_id("car"):
                    assert torch.equal(mask, semantic == k)


def test_a_crop_without_objects_has_empty_targets():
    targets = instance_targets(instance_ids_to_panoptic(np.full((32, 64), 7, dtype=np.int32)), CITYSCAPES)
    assert {name: tuple(t.shape) for name, t in targets.items()} == {"boxes": (0, 4), "train_ids": (0,), "masks": (0, 32, 64)}


def test_instances_change_nothing_else_and_come_only_where_they_are_asked_for(objects):
    batches = []
    for has_instances in (False, True):
        pl.seed_everything(0, verbose=False)
        batches.append(next(iter(module(objects, has_instances=has_instances).train_dataloader())))
    plain, more = batches
    assert set(more) - set(plain) == {"instances"}
    assert torch.equal(plain["image"], more["image"])
    assert torch.equal(plain["semantic"], more["semantic"])


def test_the_truth_of_a_whole_image_is_as_it_was_read(objects):
    (batch,) = module(objects, val_batch_size=2).val_dataloader()
    for image, truth in zip(find_images(objects, "val"), batch["panoptic"], strict=True):
        expected = read_truth(image)
        assert np.array_equal(truth.segment_ids, expected.segment_ids)
        assert truth.segments == expected.segments
    assert "panoptic" not in next(iter(module(objects).train_dataloader()))


COCO = {"augmentation": AugmentationSettings(96, 128)}


def test_classes_are_known_before_anything_is_set_up(snapshots, objects):
    assert PanopticDataModule(str(snapshots)).taxonomy is COCO_PANOPTIC
    assert PanopticDataModule(str(objects)).taxonomy is CITYSCAPES


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_the_coco_layout_have_its_classes(snapshots, num_workers):
    data = module(snapshots, **COCO, has_instances=True, num_workers=num_workers)
    assert (data.train_split, data.val_split) == ("train2017", "val2017")
    data.val_set.input_size = InputSize()
    seen = set()
    for batch in data.train_dataloader():
        assert batch["image"].shape == (2, 3, 96, 128)
        for semantic, instances in zip(batch["semantic"], batch["instances"], strict=True):
            seen |= set(semantic.unique().tolist())
            assert COCO_PANOPTIC.is_thing[instances["train_ids"].numpy()].all()
            for k, mask in zip(instances["train_ids"], instances["masks"], strict=True):
                assert (semantic[mask] == k).all()
    assert len(seen - {VOID_TRAIN_ID}) > 10
    split = CocoSplit(snapshots, "val2017")
    for index, batch in enumerate(data.val_dataloader()):
        image = split.image(index)
        assert batch["image_id"] == [split.image_id(index)]
        assert torch.equal(batch["image"][0, :, : len(image), : image.shape[1]], torch.from_numpy(normalize(image)))
        assert batch["panoptic"][0].segments == split.truth(index).segments
        assert [side % 32 for side in batch["image"].shape[2:]] == [0, 0]


def test_resized_images_are_whole_and_padded(snapshots):
    sizes = AugmentationSettings(shorter_sides=(64, 96), longer_side=120)
    data = module(snapshots, augmentation=sizes, has_instances=True, batch_size=3)
    for batch in data.train_dataloader():
        height, width = batch["image"].shape[2:]
        assert (height % 32, width % 32) == (0, 0)
        assert max(height, width) <= 128  # 120, to a multiple of 32
        assert batch["semantic"].shape == (3, height, width)
        assert all(instances["masks"].shape[1:] == (height, width) for instances in batch["instances"])


def test_an_own_data_set_is_read_with_its_own_classes(tmp_path):
    settings = SnapshotsSettings(num_train=3, num_val=2, categories="drawn")
    root = ensure_snapshots(tmp_path / "mine", settings)
    for split, own in (("train2017", "seen"), ("val2017", "unseen")):  # splits of any name
        (root / split).rename(root / own)
        for suffix in ("", ".json"):
            (root / f"annotations/panoptic_{split}{suffix}").rename(root / f"annotations/panoptic_{own}{suffix}")
    data = module(root, **COCO, train_split="seen", val_split="unseen", has_instances=True)
    assert data.taxonomy.difference(settings.taxonomy) is None
    assert sum(len(batch["image_id"]) for batch in data.val_dataloader()) == 2
    (batch,) = data.train_dataloader()
    assert max(k for k in batch["semantic"].unique().tolist() if k != VOID_TRAIN_ID) < data.taxonomy.num_classes


def test_splits_of_different_classes_are_refused(tmp_path):
    root = ensure_snapshots(tmp_path / "mine", SnapshotsSettings(num_train=1, num_val=1, categories="drawn"))
    path = root / "annotations/panoptic_train2017.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 999, "name": "unicorn", "isthing": 1})
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="train2017 has other classes than val2017, 25 classes against 24, without 'unicorn'"):
        module(root, **COCO)


def test_an_unknown_layout_and_a_folder_that_is_none_are_refused(tree):
    with pytest.raises(InputError, match="layout 'voc' is unknown; choose one of auto, cityscapes, coco"):
        PanopticDataModule(tree, layout="voc")
    with pytest.raises(InputError, match="no such folder; --data-root must name"):
        PanopticDataModule(tree / "nowhere")


def test_what_a_checkpoint_must_know_of_its_input_is_measured_on_the_training_images(tree, draw):
    draw(tree, "train", "ulm_000009_000019", np.full((33, 96), 7))
    data = module(tree, normalization="imagenet")
    assert data.network_input.size == InputSize(trained_sides=(33, 48))
    assert data.network_input.normalization == IMAGENET
    assert module(tree, input_size=InputSize(64, 128)).network_input.size == InputSize(64, 128)


def test_validation_sees_images_at_a_size_that_training_had_and_keeps_their_truth(tree):
    data = module(tree)  # all training images have a shorter side of 48
    for batch, image in zip(data.val_dataloader(), find_images(tree, "val"), strict=True):
        truth = read_truth(image)
        height, width = truth.segment_ids.shape
        seen = (48, int(width * 48 / height + 0.5))
        assert batch["seen_size"] == [seen]
        assert batch["image"].shape[2:] == tuple(-(-side // 32) * 32 for side in seen)
        assert (batch["semantic"][0, seen[0] :] == VOID_TRAIN_ID).all()
        assert np.array_equal(batch["panoptic"][0].segment_ids, truth.segment_ids)


def test_images_are_brought_to_the_given_size_before_they_are_cropped(tree):
    augmentation = AugmentationSettings(24, 48, scale_range=(1, 1), flip_probability=0)
    data = module(tree, input_size=InputSize(24), augmentation=augmentation)  # 48x96 becomes 24x48: the crop is all of it
    for batch in data.train_dataloader():
        assert batch["image"].shape[2:] == (24, 48)
        for k, image_id in enumerate(batch["image_id"]):
            image = next(image for image in find_images(tree, "train") if image.image_id == image_id)
            labels = instance_ids_to_semantic(read_instance_ids(image.label_path))
            assert np.array_equal(batch["semantic"][k], resize_segment_ids(labels.astype(np.uint32), (24, 48)))


def test_an_image_without_truth_is_refused_before_training(tree, draw):
    draw(tree, "train", "ulm_000009_000019", None)
    with pytest.raises(InputError, match=r"ulm_000009_000019_leftImg8bit\.png: its label .* is missing"):
        module(tree)


class CountsBatches(pl.LightningModule):
    """Sees what Lightning hands to a module, and learns one number from it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_index):
        self.seen.extend(batch["image_id"])
        return self.weight * batch["image"].mean()

    def validation_step(self, batch, batch_index):
        assert isinstance(batch["panoptic"][0], PanopticMap)  # which Lightning refuses to move

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_lightning_shows_every_image_once_an_epoch(tree, tmp_path):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    network = CountsBatches()
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", default_root_dir=tmp_path, **quiet)
    trainer.fit(network, datamodule=PanopticDataModule(str(tree), num_workers=0, batch_size=3, **CROP))
    ids = [image.image_id for image in find_images(tree, "train")]
    assert sorted(network.seen[:6]) == sorted(network.seen[6:]) == ids
