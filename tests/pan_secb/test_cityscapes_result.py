"""Segment ids become Cityscapes' instance ids, with which the official tools agree, and nothing else does."""

import numpy as np
import pytest

from data.images import open_image
from data.layouts.cityscapes import Frame, instance_ids_to_panoptic, read_instance_ids
from data.panoptic_png import PanopticMap, Segment
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, VOID_TRAIN_ID
from fusion.compose import Claimant, compose
from pan_secb.cityscapes_result import (
    instance_ids_path,
    label_ids_path,
    to_instance_ids,
    to_label_ids,
    to_train_ids,
    write_labels,
)
from runtime.files import InputError

ROAD, CAR = (next(k for k, c in enumerate(CITYSCAPES.categories) if c.name == name) for name in ("road", "car"))


def drawn_map() -> PanopticMap:
    """Road, two cars, void below."""
    winner = np.full((3, 4), -1, dtype=np.int16)
    winner[0, 0], winner[1, 1:3] = 0, 1
    semantic = np.full((3, 4), ROAD, dtype=np.uint8)
    semantic[2] = VOID_TRAIN_ID
    return compose(winner, [Claimant(CAR, 0.9), Claimant(CAR, 0.8)], semantic, CITYSCAPES, min_stuff_area=0)


def test_things_are_numbered_from_one_and_void_is_unlabeled():
    expected = [[26001, 7, 7, 7], [7, 26002, 26002, 7], [0, 0, 0, 0]]
    assert to_instance_ids(drawn_map()).tolist() == expected


def test_what_is_written_reads_back_as_truth_of_the_same_segments(tmp_path):
    frame = Frame("ulm_000000_000001", tmp_path / "leftImg8bit" / "val" / "ulm" / "ulm_000000_000001_leftImg8bit.png", None)
    semantic = np.array([[ROAD, CAR, VOID_TRAIN_ID, CAR]] * 3, dtype=np.uint8)
    write_labels(tmp_path, "val", frame, drawn_map(), semantic)
    path = tmp_path / "gtFine" / "val" / "ulm" / "ulm_000000_000001_gtFine_instanceIds.png"
    assert path == instance_ids_path(tmp_path, "val", frame)
    found = instance_ids_to_panoptic(read_instance_ids(path))
    expected = drawn_map()
    assert np.array_equal(found.segment_ids, expected.segment_ids)
    assert [(s.segment_id, s.category_id, s.is_crowd) for s in found.segments] == [
        (7, 7, False),
        (26001, 26, False),
        (26002, 26, False),
    ]
    with open_image(label_ids_path(tmp_path, "val", frame)) as image:
        assert np.array_equal(np.asarray(image), [[7, 26, 0, 26]] * 3)


def test_every_train_id_has_a_label_id_and_comes_back():
    train_ids = np.array([[*range(CITYSCAPES.num_classes), VOID_TRAIN_ID]], dtype=np.uint8)
    assert np.array_equal(to_train_ids(to_label_ids(train_ids)), train_ids)


@pytest.mark.parametrize(
    ("segment_id", "category_id", "words"),
    [
        (26, 26, "a car has 26001 to 26999"),  # would be a group of cars
        (26000, 26, "a car has"),
        (27001, 26, "a car has"),
        (7001, 7, "a road has 7 to 7"),
        (1, COCO_PANOPTIC.categories[0].dataset_id, "not of Cityscapes"),
    ],
)
def test_a_segment_whose_id_does_not_say_its_class_is_refused(segment_id, category_id, words):
    panoptic = PanopticMap(np.full((2, 2), segment_id, np.uint32), (Segment(segment_id, category_id, 4, (0, 0, 2, 2)),))
    with pytest.raises(InputError, match=words):
        to_instance_ids(panoptic)
