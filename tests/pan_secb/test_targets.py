"""Targets hold each object's pixels once, whatever the batch's padding."""

import torch

from data.layouts.cityscapes import CityscapesSplit
from data.loading.datamodule import PanopticDataset, collate
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from pan_secb.targets import EmbeddingTargets, instance_map


def test_the_map_holds_the_number_of_each_mask():
    masks = torch.zeros(3, 2, 4, dtype=torch.bool)
    masks[0, 0, :2] = masks[1, :, 3] = masks[2, 1, 0] = True
    assert instance_map(masks).tolist() == [[1, 1, 0, 2], [3, 0, 0, 2]]


def test_an_image_without_objects_has_an_empty_map():
    found = instance_map(torch.zeros(0, 2, 3, dtype=torch.bool))
    assert found.dtype == torch.int16
    assert found.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_a_batch_holds_the_objects_of_its_images(streets):
    dataset = PanopticDataset(CityscapesSplit(streets, "val"), None, has_instances=True)
    items = [dataset[0], dataset[1]]
    small = items[1] | {"image": items[1]["image"][:, :96], "semantic": items[1]["semantic"][:96]}
    small["instances"] = items[1]["instances"] | {"masks": items[1]["instances"]["masks"][:, :96]}
    targets = EmbeddingTargets.of_batch(collate([items[0], small]))
    assert targets.instance_map.shape == targets.semantic.shape == (2, 128, 256)
    assert (targets.semantic[1, 96:] == VOID_TRAIN_ID).all()
    assert (targets.instance_map[1, 96:] == 0).all()
    for item, semantic, numbers, train_ids in zip(items, *targets, strict=True):
        masks = item["instances"]["masks"]
        assert len(train_ids) == len(masks) > 2
        for k, (mask, train_id) in enumerate(zip(masks, train_ids, strict=True)):
            rows = slice(96 if item is items[1] else 128)
            assert torch.equal(numbers[rows] == k + 1, mask[rows])
            assert (semantic[rows][mask[rows]] == train_id).all()
        assert set(train_ids.tolist()) <= set(CITYSCAPES.thing_ids)
