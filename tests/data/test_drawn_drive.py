"""Drives: the same bytes each time, ids that stay with what moves, and a layout that our readers and the official ones read."""

from itertools import pairwise

import numpy as np
import pytest

from data.drawn.drives import DriveFrame, draw_drive, frame_id, write_drive
from data.drawn.streets import StreetsSettings
from data.layouts import cityscapes
from data.panoptic_file import read_panoptic_json, read_panoptic_map
from data.taxonomy import CITYSCAPES
from evaluation.video_quality import score_videos
from prediction.tracking import Tracker
from runtime.files import InputError

TINY = StreetsSettings(128, 256)
NUM_FRAMES = 12


@pytest.fixture(scope="module")
def frames() -> list[DriveFrame]:
    return list(draw_drive(TINY, 0, NUM_FRAMES))


def things(frame: DriveFrame) -> dict[int, np.ndarray]:
    """Segment id -> (x, y) middle of the box, of the things."""
    found = [s for s in frame.panoptic.segments if s.segment_id >= 1000]
    return {s.segment_id: np.array((s.bbox[0] + s.bbox[2] / 2, s.bbox[1] + s.bbox[3] / 2)) for s in found}


def test_the_same_seed_gives_the_same_drive_and_another_one_another(frames):
    again, other = list(draw_drive(TINY, 0, NUM_FRAMES)), next(draw_drive(TINY, 1, NUM_FRAMES))
    assert all((a.image == b.image).all() for a, b in zip(frames, again, strict=True))
    assert all(a.panoptic.segments == b.panoptic.segments for a, b in zip(frames, again, strict=True))
    assert (other.image != frames[0].image).any()


def test_things_keep_their_ids_and_move_little_from_frame_to_frame(frames):
    for before, after in pairwise(frames):
        first, second = things(before), things(after)
        assert len(first.keys() & second.keys()) >= len(first) / 2
        steps = [np.abs(first[k] - second[k]).max() for k in first.keys() & second.keys()]
        assert np.median(steps) < 8  # of 256 pixels: one metre of street, which is much only near the camera


def test_the_drive_moves(frames):
    assert all((a.panoptic.segment_ids != b.panoptic.segment_ids).mean() > 0.01 for a, b in pairwise(frames))
    assert set(things(frames[-1])) - set(things(frames[0]))  # something came into sight
    assert set(things(frames[0])) - set(things(frames[-1]))  # and something was passed


def test_every_class_of_a_thing_is_that_of_its_id(frames):
    seen = {s for frame in frames for s in frame.panoptic.segments if s.segment_id >= 1000}
    assert seen
    assert all(s.category_id == s.segment_id // 1000 and not s.is_crowd for s in seen)


def test_true_masks_are_tracked_nearly_as_the_truth_says(frames):
    tracker = Tracker(CITYSCAPES)
    scores = score_videos([("drive", f.panoptic, tracker.step(f.panoptic)) for f in frames], CITYSCAPES)
    assert scores["stq"]["sq"] == scores["vpq"]["windows"][1]["All"]["pq"] == 1
    assert scores["vpq"]["All"]["vpq"] > 0.9  # things that jump by more than their size, as near ones do, lose their ids


def test_files_are_those_of_cityscapes_and_hold_the_tracks(tmp_path):
    path = write_drive(tmp_path / "drive", TINY, 3, 2)
    drawn = list(draw_drive(TINY, 3, 2))
    file = read_panoptic_json(path)
    assert list(file.annotations) == [frame_id(3, 0), frame_id(3, 1)] == ["rosenau_000003_000000", "rosenau_000003_000001"]
    images = cityscapes.find_images(tmp_path / "drive", "val")
    assert [image.image_id for image in images] == list(file.annotations)
    for image, frame in zip(images, drawn, strict=True):
        from_json, from_layout = read_panoptic_map(file, image.image_id), cityscapes.read_truth(image)
        assert (from_json.segment_ids == frame.panoptic.segment_ids).all()
        assert (from_layout.segment_ids == frame.panoptic.segment_ids).all()
        assert from_json.segments == frame.panoptic.segments == from_layout.segments


def test_a_drive_that_is_there_is_left_and_another_one_is_refused(tmp_path):
    path = write_drive(tmp_path, TINY, 0, 1)
    time = path.stat().st_mtime_ns
    write_drive(tmp_path, TINY, 0, 1)
    assert path.stat().st_mtime_ns == time
    with pytest.raises(InputError, match="holds Drive with num_frames=1, but num_frames=2 was wanted"):
        write_drive(tmp_path, TINY, 0, 2)


@pytest.mark.parametrize("num_frames", [0, 101, 2.0])
def test_a_drive_of_no_or_too_many_frames_is_refused(num_frames):
    with pytest.raises(InputError, match="1 to 100 can be drawn"):
        next(draw_drive(TINY, 0, num_frames))
