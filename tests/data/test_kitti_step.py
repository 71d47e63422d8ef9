"""KITTI-STEP's truth: classes, tracks, crowds and void out of the three channels, sequence by sequence."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.layouts.kitti_step import KITTI_STEP, MOTCHALLENGE_STEP, find_sequences, read_frame, read_sequences
from data.taxonomy import CITYSCAPES
from runtime.files import InputError

ROAD, PERSON, RIDER, CAR, VOID = 0, 11, 12, 13, 255
"""Train ids, from the table of g3doc/setup/kitti_step.md."""


def write(path: Path, *rows: list[tuple[int, int]]) -> Path:
    """A PNG of (class, instance) pixels, as the documentation encodes them."""
    pixels = [[(label, instance // 256, instance % 256) for label, instance in row] for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(pixels, np.uint8)).save(path)
    return path


def describe(path: Path, taxonomy=KITTI_STEP) -> list[tuple[str, int, bool]]:
    """(class, pixels, is a crowd) of each segment."""
    names = {c.dataset_id: c.name for c in taxonomy.categories}
    return [(names[s.category_id], s.area, s.is_crowd) for s in read_frame(path, taxonomy).segments]


def test_the_channels_are_class_and_instance(tmp_path):
    path = write(tmp_path / "0.png", [(ROAD, 0), (CAR, 1), (CAR, 1), (CAR, 300)], [(ROAD, 0), (PERSON, 1), (CAR, 44), (VOID, 0)])
    assert describe(path) == [("road", 2, False), ("person", 1, False), ("car", 2, False), ("car", 1, False), ("car", 1, False)]
    found = read_frame(path).segment_ids
    assert found[1, 3] == 0
    assert len(set(found.flat)) == 6  # void and five segments: 300 is 1 * 256 + 44, which is not 44


def test_an_id_means_the_same_in_every_frame_and_is_of_one_class(tmp_path):
    first = read_frame(write(tmp_path / "0.png", [(CAR, 7), (PERSON, 7)])).segment_ids
    second = read_frame(write(tmp_path / "1.png", [(ROAD, 0), (CAR, 7)])).segment_ids
    assert first[0, 0] == second[0, 1] != first[0, 1]


def test_instance_0_of_a_thing_is_a_crowd_and_what_is_not_tracked_is_stuff(tmp_path):
    path = write(tmp_path / "0.png", [(CAR, 0), (CAR, 0), (RIDER, 0), (RIDER, 0)])
    assert describe(path) == [("rider", 2, False), ("car", 2, True)]


def test_category_ids_are_those_of_the_taxonomy(tmp_path):
    path = write(tmp_path / "0.png", [(ROAD, 0), (CAR, 1)])
    assert [s.category_id for s in read_frame(path).segments] == [7, 26]
    assert [s.category_id for s in read_frame(path, CITYSCAPES.with_train_ids()).segments] == [0, 13]
    assert [c.name for c in KITTI_STEP.categories if c.is_thing] == ["person", "car"]


def test_motchallenge_has_seven_classes_of_its_own_numbers(tmp_path):
    path = write(tmp_path / "0.png", [(4, 3), (1, 0), (6, 0)])
    assert describe(path, MOTCHALLENGE_STEP) == [("building", 1, False), ("person", 1, False), ("bicycle", 1, False)]


def test_sequences_and_frames_come_in_order_of_their_numbers(tmp_path):
    for name in ("0010/000001", "0002/000010", "0002/000009"):
        write(tmp_path / "panoptic_maps/val" / f"{name}.png", [(ROAD, 0)])
    found = [(name, [frame for frame, _ in frames]) for name, frames in read_sequences(tmp_path, "val")]
    assert found == [("0002", ["0002/000009", "0002/000010"]), ("0010", ["0010/000001"])]


def test_what_is_no_kitti_step_is_refused_in_a_line(tmp_path):
    with pytest.raises(InputError, match="no PNGs there, but KITTI-STEP has panoptic_maps/val/0000/"):
        find_sequences(tmp_path, "val")
    write(tmp_path / "panoptic_maps/val/0000/first.png", [(ROAD, 0)])
    with pytest.raises(InputError, match="named by numbers"):
        find_sequences(tmp_path, "val")
    with pytest.raises(InputError, match="holds class 19"):
        read_frame(write(tmp_path / "strange.png", [(19, 0)]))
    grey = tmp_path / "grey.png"
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(grey)
    with pytest.raises(InputError, match="mode L, but 8-bit RGB PNG was needed"):
        read_frame(grey)
