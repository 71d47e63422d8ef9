"""Segment ids become Cityscapes' instance ids, with which the official tools agree, and nothing else does."""

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels

from data.images import open_image, write_image
from data.layouts.cityscapes import CityscapesSplit, instance_ids_to_panoptic, read_instance_ids
from data.panoptic_png import PanopticMap, Segment, write_panoptic_png
from data.semantic_dump import SemanticMap, write_semantic_map
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, VOID_TRAIN_ID
from fusion.compose import Claimant, compose
from pan_secb.cityscapes_result import (
    instance_ids_path,
    label_ids_path,
    to_instance_ids,
    to_label_ids,
    write_split,
)
from prediction.run import Run
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


@pytest.fixture
def split(tmp_path) -> CityscapesSplit:
    """One image without a label."""
    path = tmp_path / "data" / "leftImg8bit" / "val" / "ulm" / "ulm_000000_000001_leftImg8bit.png"
    write_image(path, np.zeros((3, 4, 3), np.uint8))
    return CityscapesSplit(tmp_path / "data", "val")


@pytest.fixture
def run(tmp_path, split) -> Run:
    """A run that has kept the drawn map, and another class map than that."""
    run = Run(tmp_path / "out", CITYSCAPES, ("panoptic", "semantic"))
    image_id = split.image_id(0)
    write_panoptic_png(run.png(image_id), drawn_map(), "test")
    semantic = np.array([[ROAD, CAR, VOID_TRAIN_ID, CAR]] * 3, dtype=np.uint8)
    write_semantic_map(run.place("semantic"), SemanticMap(image_id, CITYSCAPES.name, "test", semantic))
    return run


def test_what_is_written_reads_back_as_truth_of_the_same_segments(run, split, tmp_path):
    assert write_split(run, split) == 2
    path = tmp_path / "out" / "gtFine" / "val" / "ulm" / "ulm_000000_000001_gtFine_instanceIds.png"
    assert path == instance_ids_path(run.folder, split, 0)
    found = instance_ids_to_panoptic(read_instance_ids(path))
    assert np.array_equal(found.segment_ids, drawn_map().segment_ids)
    assert [(s.segment_id, s.category_id, s.is_crowd) for s in found.segments] == [
        (7, 7, False),
        (26001, 26, False),
        (26002, 26, False),
    ]
    with open_image(label_ids_path(run.folder, split, 0)) as image:
        assert np.array_equal(np.asarray(image), [[7, 26, 0, 26]] * 3)


def test_labels_are_written_again_only_where_the_map_is_another(run, split):
    write_split(run, split)
    paths = instance_ids_path(run.folder, split, 0), label_ids_path(run.folder, split, 0)
    before = [path.stat().st_mtime_ns for path in paths]
    write_split(run, split)
    assert [path.stat().st_mtime_ns for path in paths] == before
    other = drawn_map()
    write_panoptic_png(run.png(split.image_id(0)), PanopticMap(np.flipud(other.segment_ids).copy(), other.segments), "test")
    write_split(run, split)
    assert read_instance_ids(paths[0])[2, 0] == 26001


def test_every_train_id_has_the_label_id_of_the_official_table():
    train_ids = np.array([[*range(CITYSCAPES.num_classes), VOID_TRAIN_ID]], dtype=np.uint8)
    official = [next(label.id for label in labels if label.trainId == k) for k in range(CITYSCAPES.num_classes)]
    assert to_label_ids(train_ids).tolist() == [[*official, 0]]


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
