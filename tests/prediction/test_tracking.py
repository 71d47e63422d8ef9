"""Tracks: ids stay with what moves, are never used again, and depend on the maps alone, however often a run was cut."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.panoptic_png import PanopticMap, Segment, describe_segments, read_panoptic_png, write_panoptic_png
from data.taxonomy import CITYSCAPES, Taxonomy
from prediction.run import Run
from prediction.tracking import Tracker, TrackingSettings, films_of, numbered_images_of, track_run, tracks_png
from runtime.files import InputError

ROAD, PERSON, CAR = (next(c.dataset_id for c in CITYSCAPES.categories if c.name == name) for name in ("road", "person", "car"))
SIZE = (24, 40)
NO_CARS = Taxonomy("no cars", tuple(replace(c, is_thing=c.is_thing and c.name != "car") for c in CITYSCAPES.categories))


def frame(*things: tuple[int, int, int, int], size: tuple[int, int] = SIZE, side: int = 6) -> PanopticMap:
    """Road with squares (category, number, top, left), numbered as a model does: without regard for the frame before."""
    ids = np.full(size, ROAD, np.uint32)
    for category, number, top, left in things:
        ids[top : top + side, left : left + side] = category * 1000 + number
    return PanopticMap(ids, describe_segments(ids, lambda k: k // 1000 if k >= 1000 else k))


def ids_of(panoptic: PanopticMap) -> list[int]:
    """Segment ids of the things, from left to right."""
    things = [s for s in panoptic.segments if s.category_id != ROAD]
    return [s.segment_id for s in sorted(things, key=lambda s: s.bbox[0])]


def track(*frames: PanopticMap, **settings) -> list[list[int]]:
    tracker = Tracker(CITYSCAPES, TrackingSettings(**settings))
    return [ids_of(tracker.step(each)) for each in frames]


def test_an_id_stays_with_what_moves_slowly_whatever_the_model_numbers():
    films = track(frame((CAR, 1, 2, 2), (CAR, 2, 2, 20)), frame((CAR, 2, 3, 4), (CAR, 1, 2, 18)))
    assert films == [[CAR * 1000 + 1, CAR * 1000 + 2]] * 2


def test_stuff_keeps_its_id_and_pixels_and_scores_stay():
    before = frame((CAR, 7, 2, 2))
    before = PanopticMap(before.segment_ids, (before.segments[0], Segment(CAR * 1000 + 7, CAR, 36, (2, 2, 6, 6), score=0.75)))
    after = Tracker(CITYSCAPES).step(before)
    assert (after.segment_ids == np.where(before.segment_ids == CAR * 1000 + 7, CAR * 1000 + 1, ROAD)).all()
    assert after.segments == (before.segments[0], Segment(CAR * 1000 + 1, CAR, 36, (2, 2, 6, 6), score=0.75))


def test_a_car_never_becomes_a_person():
    assert track(frame((CAR, 1, 2, 2)), frame((PERSON, 1, 2, 2))) == [[CAR * 1000 + 1], [PERSON * 1000 + 1]]


def test_the_better_overlap_is_served_first():
    # The thing at 4 overlaps the track at 2 by 4 of 6 columns, the one at 1 by 5: the nearer one continues it.
    assert track(frame((CAR, 1, 2, 2)), frame((CAR, 1, 2, 1), (CAR, 2, 12, 4)), min_form_iou=2) == [[26001], [26001, 26002]]


def test_what_vanished_keeps_its_id_for_as_many_frames_as_asked():
    gone = frame()
    for gap, expected in ((0, 26001), (1, 26001), (2, 26001), (3, 26002)):
        assert track(frame((CAR, 1, 2, 2)), *[gone] * gap, frame((CAR, 1, 2, 2)), max_age=2)[-1] == [expected], gap


def test_an_id_is_never_used_again():
    far_apart = [frame((CAR, 1, 2, left)) for left in (0, 30)] * 3
    assert [ids[0] for ids in track(*far_apart, max_age=0)] == [26001, 26002, 26003, 26004, 26005, 26006]


def test_a_fast_thing_is_followed_by_its_speed():
    # 4 pixels a frame at first, which is IoU (6 - 4) / (6 + 4) = 0.2; then it is hidden for one frame and is 8 further.
    film = [frame((CAR, 1, 2, left)) for left in (0, 4, 8)] + [frame(), frame((CAR, 1, 2, 16))]
    assert track(*film, min_iou=0.2, min_form_iou=2)[-1] == [26001]
    assert track(*film, min_iou=0.2, min_form_iou=2, follows_motion=False)[-1] == [26002]


def test_what_moves_farther_than_its_size_at_first_sight_is_known_by_its_form():
    film = [frame((CAR, 1, 2, 2)), frame((CAR, 1, 2, 2 + 8))]
    assert track(*film)[-1] == [26001]  # 8 pixels are less than 1.5 of its 6
    assert track(*film, reach=1.0)[-1] == [26002]
    wide = film[1].segment_ids.copy()
    wide[:, 10:16] = ROAD
    wide[2:4, 10:34] = 26001  # 2 x 24 laid on 6 x 6: 12 of 72 pixels
    other_form = PanopticMap(wide, describe_segments(wide, lambda k: k // 1000 if k >= 1000 else k))
    assert track(film[0], other_form, reach=9)[-1] == [26002]


def test_one_that_passes_behind_another_keeps_its_id():
    def at(k: int) -> PanopticMap:
        return frame((PERSON, 1, 2, 30 - 3 * k), (PERSON, 2, 2, 3 + 3 * k))  # the second one is in front

    tracker = Tracker(CITYSCAPES)
    found = [ids_of(tracker.step(at(k))) for k in range(10)]
    first, second = PERSON * 1000 + 2, PERSON * 1000 + 1  # numbered by their segment ids, from left to right
    assert found[0] == [first, second]
    assert found[-1] == [second, first]


def test_the_order_of_the_segments_makes_no_difference():
    film = [frame((CAR, 1, 2, 2 + k), (CAR, 2, 2, 12 - k), (PERSON, 1, 12, 3 * k)) for k in range(4)]
    turned = [PanopticMap(each.segment_ids, each.segments[::-1]) for each in film]
    assert track(*film) == track(*turned)


def test_after_999_tracks_of_a_class_ids_run_on_behind_all_classes():
    tracker = Tracker(CITYSCAPES, TrackingSettings(max_age=0, min_form_iou=2))
    spots = [frame((CAR, 1, 1, 1), size=(8, 16)), frame((CAR, 1, 1, 9), size=(8, 16))]
    ids = [ids_of(tracker.step(spots[k % 2]))[0] for k in range(1002)]
    assert ids[:999] == [CAR * 1000 + k for k in range(1, 1000)]
    assert ids[999:] == [34001, 34002, 34003]  # the last class of Cityscapes is 33
    assert ids_of(tracker.step(frame((PERSON, 1, 1, 1), size=(8, 16)))) == [PERSON * 1000 + 1]


def test_segments_of_one_stuff_class_become_one():
    """Things of a class that the truth does not count, as KITTI-STEP's bicycles, are stuff there."""
    found = Tracker(NO_CARS).step(frame((CAR, 1, 2, 2), (CAR, 2, 10, 20)))
    assert [(s.segment_id, s.area, s.bbox) for s in found.segments if s.category_id == CAR] == [(CAR, 72, (2, 2, 24, 14))]
    assert set(np.unique(found.segment_ids)) == {ROAD, CAR}


def test_void_stays_void():
    ids = np.zeros(SIZE, np.uint32)
    ids[2:8, 2:8] = 26005
    found = Tracker(CITYSCAPES).step(PanopticMap(ids, describe_segments(ids, lambda k: k // 1000)))
    assert (found.segment_ids == np.where(ids, 26001, 0)).all()


def test_frames_of_another_size_and_strange_classes_are_refused():
    tracker = Tracker(CITYSCAPES)
    tracker.step(frame())
    with pytest.raises(InputError, match="8x8 pixels after frames of 24x40"):
        tracker.step(frame(size=(8, 8)))
    with pytest.raises(InputError, match=r"category ids \[99\] are not in cityscapes"):
        tracker.step(frame((99, 1, 2, 2)))


@pytest.mark.parametrize("wrong", [{"min_iou": 0}, {"min_iou": 1.5}, {"max_age": -1}, {"max_age": 2.5}, {"reach": float("nan")}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match="tracking: "):
        TrackingSettings(**wrong)


class Film:
    """As much of a split as tracks need: two films, and an image of its own."""

    name, split, taxonomy, problems = "films", "images", None, ()
    ids = ("a/000000", "a/000001", "a/000002", "b/000000", "b/000001", "still")

    def __len__(self) -> int:
        return len(self.ids)

    def image_id(self, index: int) -> str:
        return self.ids[index]

    def key(self, index: int) -> str:
        return self.ids[index]

    def file_name(self, index: int) -> str:
        return f"{self.ids[index]}.png"

    def video_of(self, index: int) -> str | None:
        name, _, number = self.ids[index].partition("/")
        return name if number else None

    def size(self, index: int) -> tuple[int, int]:
        return SIZE


@pytest.fixture
def run(tmp_path) -> Run:
    """The maps of Film, a car that moves by 2 pixels a frame and has another number in each."""
    made = Run(tmp_path / "run", CITYSCAPES, ("panoptic",))
    for k, image_id in enumerate(Film.ids):
        write_panoptic_png(made.png(image_id), frame((CAR, 5 + k, 2, 2 + 2 * k)), f"model-{k}")
    return made


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_gets_tracks_beside_its_maps_which_stay(run):
    before = tree(run.folder / "panoptic")
    path = track_run(run, Film())
    assert tree(run.folder / "panoptic") == before
    content = json.loads(path.read_text())
    assert [entry["image_id"] for entry in content["annotations"]] == list(Film.ids[:5])
    cars = [[s["id"] for s in entry["segments_info"] if s["category_id"] == CAR] for entry in content["annotations"]]
    assert cars == [[26001]] * 5  # ids are those of a film: the car of b is another one
    for entry in content["annotations"]:
        read = read_panoptic_png(run.folder / "tracks" / entry["file_name"])
        assert [s.to_json() for s in read.segments] == entry["segments_info"]


def test_what_is_done_is_not_written_again_and_a_changed_map_changes_the_frames_behind_it_too(run):
    track_run(run, Film())
    times = {path: path.stat().st_mtime_ns for path in (run.folder / "tracks").rglob("*.png")}
    track_run(run, Film())
    assert {path: path.stat().st_mtime_ns for path in times} == times
    write_panoptic_png(run.png("a/000001"), frame((CAR, 1, 16, 33)), "another model")
    track_run(run, Film())
    assert {p.relative_to(run.folder / "tracks").parts[0] for p in times if p.stat().st_mtime_ns != times[p]} == {"a"}
    assert ids_of(read_panoptic_png(tracks_png(run, "a/000001"))) == [26002]


def test_tracks_that_were_cut_short_end_as_if_they_were_not(run, tmp_path):
    track_run(run, Film())
    whole = tree(run.folder)
    tracks_png(run, "a/000001").unlink()
    (run.folder / "tracks.json").unlink()
    tracks_png(run, "b/000001").write_bytes(tracks_png(run, "b/000001").read_bytes()[:-20])
    track_run(run, Film())
    assert tree(run.folder) == whole


def test_other_settings_make_other_tracks(run):
    track_run(run, Film())
    track_run(run, Film(), TrackingSettings(min_iou=1, min_form_iou=2, follows_motion=False))
    assert [ids_of(read_panoptic_png(tracks_png(run, image_id))) for image_id in Film.ids[:3]] == [[26001], [26002], [26003]]


def test_a_frame_that_was_left_out_is_skipped(run):
    run.png("a/000001").unlink()
    content = json.loads(track_run(run, Film()).read_text())
    assert [entry["image_id"] for entry in content["annotations"]] == ["a/000000", "a/000002", "b/000000", "b/000001"]
    assert ids_of(read_panoptic_png(tracks_png(run, "a/000002"))) == [26001]


def test_images_can_be_named_as_a_film(run):
    assert films_of(Film()) == {"a": [0, 1, 2], "b": [3, 4]}
    track_run(run, Film(), films={"all": [0, 3, 5]})
    assert ids_of(read_panoptic_png(tracks_png(run, "still"))) == [26001]


class Images(Film):
    ids = ("0002/000010", "0002/000009", "city_000001_000003", "city_000001_000002", "00007", "portrait")

    def video_of(self, index: int) -> str | None:
        return None


def test_images_with_numbers_are_films_in_the_order_of_their_last_number():
    assert numbered_images_of(Images()) == {"0002": [1, 0], "city_000001": [3, 2], "images": [4]}
    assert films_of(Images()) == {}
    assert numbered_images_of(Film()) == {}  # frames of videos are of their video


def test_what_the_truth_does_not_track_can_be_stuff(run):
    content = json.loads(track_run(run, Film(), taxonomy=NO_CARS).read_text())
    assert [s["id"] for s in content["annotations"][1]["segments_info"]] == [ROAD, CAR]
    assert {c["name"]: c["isthing"] for c in content["categories"]}["car"] == 0


def test_a_run_without_films_gets_no_tracks(run):
    assert track_run(run, Film(), films={}) is None
    assert not (run.folder / "tracks").exists()


def test_a_run_without_panoptic_maps_is_refused(tmp_path):
    with pytest.raises(InputError, match="keeps no panoptic maps"):
        track_run(Run(tmp_path, CITYSCAPES, ("instances",)), Film())


def test_a_film_that_changes_its_size_is_named_and_the_others_are_done(run):
    write_panoptic_png(run.png("a/000001"), frame(size=(8, 8)), "model")
    with pytest.raises(InputError, match="1 of 2 films got no tracks, the first one: film 'a': a/000001: a frame of 8x8 pixels"):
        track_run(run, Film())
    content = json.loads((run.folder / "tracks.json").read_text())
    assert [entry["image_id"] for entry in content["annotations"]] == ["b/000000", "b/000001"]
