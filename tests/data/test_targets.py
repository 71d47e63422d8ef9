"""What networks learn from and fusions read is what the panoptic map says."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data.instance_dump import read_instances, write_instances
from data.layouts.cityscapes import instance_ids_to_panoptic, instance_ids_to_semantic
from data.panoptic_png import PanopticMap, Segment, describe_segments
from data.targets import (
    INSTANCE_GAIN,
    cell_logits,
    panoptic_to_instance_logits,
    panoptic_to_instances,
    panoptic_to_semantic,
    panoptic_to_semantic_logits,
)
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from runtime.files import InputError

ABOUT = {"image_id": "a", "producer": "truth"}
ROAD, CAR = (next(k for k, c in enumerate(CITYSCAPES.categories) if c.name == name) for name in ("road", "car"))


@pytest.fixture
def panoptic(scene) -> PanopticMap:
    return instance_ids_to_panoptic(scene)


def upsample(logits: np.ndarray, size: tuple[int, int], stride: int) -> np.ndarray:
    """As a fusion does: bilinear, cell (i, j) covering its pixels, cut to the image."""
    full = F.interpolate(torch.from_numpy(logits.astype(np.float32))[None], scale_factor=stride, mode="bilinear")[0]
    return full[:, : size[0], : size[1]].numpy()


def test_the_semantic_map_equals_that_of_the_pixels(panoptic, scene):
    assert np.array_equal(panoptic_to_semantic(panoptic, CITYSCAPES), instance_ids_to_semantic(scene))


def test_the_semantic_map_is_the_same_where_the_files_hold_train_ids(panoptic, scene):
    taxonomy = CITYSCAPES.with_train_ids()
    changed = instance_ids_to_panoptic(scene, taxonomy)
    assert np.array_equal(panoptic_to_semantic(changed, taxonomy), panoptic_to_semantic(panoptic, CITYSCAPES))


def test_an_image_of_void_has_no_targets():
    void = PanopticMap(np.zeros((3, 5), np.uint32), ())
    assert (panoptic_to_semantic(void, CITYSCAPES) == VOID_TRAIN_ID).all()
    masks, train_ids, boxes = panoptic_to_instances(void, CITYSCAPES)
    assert (masks.shape, train_ids.shape, boxes.shape) == ((0, 3, 5), (0,), (0, 4))
    assert len(panoptic_to_instance_logits(void, CITYSCAPES, stride=4, **ABOUT)) == 0


def test_a_category_of_another_taxonomy_is_refused():
    stranger = PanopticMap(np.ones((1, 1), np.uint32), (Segment(1, 200, 1, (0, 0, 1, 1)),))
    with pytest.raises(InputError, match="segment 1: category 200 is not in cityscapes"):
        panoptic_to_semantic(stranger, CITYSCAPES)


@pytest.mark.parametrize("stranger", [5, 9])  # below and above the listed id
def test_pixels_of_no_listed_segment_are_refused(stranger):
    mixed = PanopticMap(np.array([[7, stranger]], np.uint32), (Segment(7, 7, 1, (0, 0, 1, 1)),))
    with pytest.raises(InputError, match=rf"segments \[{stranger}\] are in the panoptic map, but not in its list"):
        panoptic_to_semantic(mixed, CITYSCAPES)


def test_instances_are_the_things_without_crowds(panoptic, scene):
    masks, train_ids, boxes = panoptic_to_instances(panoptic, CITYSCAPES)
    values = [24000, 24007, 25003, 26012, 31000]  # ascending; 24 and 26 are groups, 29001 is not scored
    assert CITYSCAPES.dataset_ids[train_ids].tolist() == [value // 1000 for value in values]
    assert all(np.array_equal(mask, scene == value) for mask, value in zip(masks, values, strict=True))
    assert boxes[3].tolist() == [0, 2, 3, 3]  # the car in two parts: x 0..2, y 2


def test_instances_below_an_area_are_left_out(panoptic, scene):
    masks, train_ids, boxes = panoptic_to_instances(panoptic, CITYSCAPES, min_area=2)
    assert [int(mask.sum()) for mask in masks] == [2, 2]  # the person 24000 and the car 26012
    assert (len(train_ids), len(boxes)) == (2, 2)


def test_at_stride_1_the_logits_are_the_masks(panoptic):
    masks, train_ids, _ = panoptic_to_instances(panoptic, CITYSCAPES)
    instances = panoptic_to_instance_logits(panoptic, CITYSCAPES, stride=1, confidence=10, **ABOUT)
    assert instances.train_ids.tolist() == train_ids.tolist()
    for mask, crop, (y1, x1, y2, x2) in zip(masks, instances.crops, instances.crop_boxes, strict=True):
        full = np.full(mask.shape, -10.0 * INSTANCE_GAIN)
        full[y1:y2, x1:x2] = crop
        assert np.array_equal(full, np.where(mask, 10.0, -10.0) * INSTANCE_GAIN)


def test_at_stride_1_the_semantic_logits_are_the_map(panoptic):
    logits = panoptic_to_semantic_logits(panoptic, CITYSCAPES, stride=1, confidence=10, **ABOUT).logits
    semantic = panoptic_to_semantic(panoptic, CITYSCAPES)
    expected = np.where(semantic == np.arange(CITYSCAPES.num_classes)[:, None, None], 10, -10)
    np.testing.assert_allclose(logits, expected, rtol=1e-6)


def test_a_void_cell_prefers_no_class(panoptic, scene):
    logits = panoptic_to_semantic_logits(panoptic, CITYSCAPES, stride=1, **ABOUT).logits
    assert len(np.unique(logits[:, 3, 8])) == 1  # label id 6


def test_a_cell_holds_the_logit_of_the_covered_share():
    mask = np.zeros((2, 6), bool)
    mask[0, 0] = mask[:, 2:4] = mask[0, 4:] = True
    expected = [[np.log(0.25 / 0.75), 3.0, 0.0]]  # a quarter; all, clipped; half
    np.testing.assert_allclose(cell_logits(mask, 2, confidence=3.0), expected, rtol=1e-6)


def test_a_cell_at_the_edge_counts_the_pixels_that_exist():
    mask = np.zeros((5, 6), bool)
    mask[4, 4] = True  # the last cell of stride 4 has one row and two columns
    assert cell_logits(mask, 4, confidence=3.0)[1, 1] == pytest.approx(0, abs=1e-6)


def test_logits_of_a_box_equal_those_of_the_whole_frame():
    segment_ids = np.zeros((13, 19), np.uint32)
    segment_ids[5:13, 6:19] = 26000
    segment_ids[1:9, 1:9] = 26001
    segments = describe_segments(segment_ids, category_of=lambda value: value // 1000)
    instances = panoptic_to_instance_logits(PanopticMap(segment_ids, segments), CITYSCAPES, stride=4, **ABOUT)
    for k, segment_id in enumerate((26000, 26001)):
        full = INSTANCE_GAIN * cell_logits(segment_ids == segment_id, 4, confidence=3.0)
        y1, x1, y2, x2 = instances.crop_boxes[k]
        assert np.array_equal(instances.crops[k], full[y1:y2, x1:x2].astype(np.float16))


def test_a_thing_that_fills_no_cell_by_more_than_half_is_left_out():
    segment_ids = np.zeros((8, 8), np.uint32)
    segment_ids[2:6, 2:6] = 26000  # a quarter of each of four cells
    panoptic = PanopticMap(segment_ids, (Segment(26000, 26, 16, (2, 2, 4, 4)),))
    assert len(panoptic_to_instance_logits(panoptic, CITYSCAPES, stride=4, **ABOUT)) == 0


@pytest.mark.parametrize("size", [(36, 48), (37, 49)])
def test_at_stride_4_a_disc_comes_back_but_for_its_rim(size):
    y, x = np.ogrid[: size[0], : size[1]]
    distance = np.hypot(y - 20, x - 24)
    segment_ids = np.where(distance < 14, 26000, 7).astype(np.uint32)
    segments = describe_segments(segment_ids, category_of=lambda value: 26 if value == 26000 else 7)
    semantic = panoptic_to_semantic_logits(PanopticMap(segment_ids, segments), CITYSCAPES, stride=4, **ABOUT)
    classes = upsample(semantic.logits, size, 4).argmax(0)
    inner, outer = distance < 13, distance > 15  # a quarter of a cell to either side
    assert (classes[inner] == CAR).all()
    assert (classes[outer] == ROAD).all()


def test_truth_as_logits_is_a_dump_that_a_reader_accepts(tmp_path, panoptic, scene):
    write_instances(tmp_path, panoptic_to_instance_logits(panoptic, CITYSCAPES, stride=1, **ABOUT))
    assert len(read_instances(tmp_path, "a", CITYSCAPES, scene.shape)) == 5


def test_ids_of_24_bits_get_their_class():
    ids = np.array([[2**24 - 1, 70000], [0, 2**24 - 1]], np.uint32)
    car, road = (next(c.dataset_id for c in CITYSCAPES.categories if c.name == name) for name in ("car", "road"))
    segments = (Segment(2**24 - 1, car, 2, (0, 0, 2, 2)), Segment(70000, road, 1, (1, 0, 1, 1)))
    found = panoptic_to_semantic(PanopticMap(ids, segments), CITYSCAPES)
    of = CITYSCAPES.dataset_id_to_train_id
    assert found.tolist() == [[of[car], of[road]], [VOID_TRAIN_ID, of[car]]]
