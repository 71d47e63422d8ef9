"""Snapshots: deterministic, resumable, in the layout of COCO, with all that makes COCO hard."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.drawn.snapshot_scenes import MIN_VISIBLE, Snapshot
from data.drawn.snapshots import DRAWN_CLASSES, TRAIN_SPLIT, VAL_SPLIT, SnapshotsSettings, ensure_snapshots, image_key, snapshot
from data.panoptic_file import read_panoptic_json, read_panoptic_map
from data.taxonomy import COCO_PANOPTIC
from runtime.files import InputError

TINY = SnapshotsSettings(num_train=3, num_val=2)
IS_THING = {c.name: c.is_thing for c in COCO_PANOPTIC.categories}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return ensure_snapshots(tmp_path_factory.mktemp("snapshots") / "tiny", TINY)


@pytest.fixture(scope="module")
def drawn() -> list[Snapshot]:
    return [snapshot(SnapshotsSettings(), TRAIN_SPLIT, index) for index in range(60)]


def digests(root: Path) -> dict[str, str]:
    """Relative path -> hash, of all files that are no lock."""
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and p.name != ".lock"]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_same_settings_give_the_same_bytes(root, tmp_path):
    assert digests(ensure_snapshots(tmp_path / "again", TINY)) == digests(root)


def test_another_seed_and_another_index_and_another_split_give_other_pictures():
    settings = SnapshotsSettings()
    first = snapshot(settings, TRAIN_SPLIT, 0)
    for other in (
        snapshot(replace(settings, seed=1), TRAIN_SPLIT, 0),
        snapshot(settings, TRAIN_SPLIT, 5),
        snapshot(settings, VAL_SPLIT, 0),
    ):
        assert first.image.shape != other.image.shape or (first.image != other.image).any()


def test_a_killed_drawing_goes_on_to_the_same_bytes(root, tmp_path, kill_at_random_moments):
    again = tmp_path / "again"
    kill_at_random_moments(lambda: ensure_snapshots(again, TINY), 0.5, 5)
    assert digests(ensure_snapshots(again, TINY)) == digests(root)


def test_the_files_lie_as_in_coco_and_png_and_json_agree(root):
    for split, count in ((TRAIN_SPLIT, 3), (VAL_SPLIT, 2)):
        file = read_panoptic_json(root / f"annotations/panoptic_{split}.json")
        assert list(file.annotations) == [image_key(TINY, split, k) for k in range(count)]
        for key, annotation in file.annotations.items():
            assert annotation.file_name == f"{key:012d}.png"
            assert file.image_files[key] == f"{key:012d}.jpg"
            truth = read_panoptic_map(file, key)  # refuses ids that are only in one of both
            with Image.open(root / split / file.image_files[key]) as image:
                assert image.format == "JPEG"
                assert image.size[::-1] == truth.segment_ids.shape


def test_the_json_lists_all_133_classes_or_the_drawn_ones(root, tmp_path):
    assert read_panoptic_json(root / f"annotations/panoptic_{VAL_SPLIT}.json").taxonomy is COCO_PANOPTIC
    settings = SnapshotsSettings(num_train=1, num_val=0, categories="drawn")
    ensure_snapshots(tmp_path / "own", settings)
    listed = json.loads((tmp_path / f"own/annotations/panoptic_{TRAIN_SPLIT}.json").read_text())["categories"]
    assert {c["name"] for c in listed} == set(DRAWN_CLASSES)
    assert {c["id"] for c in listed} <= set(COCO_PANOPTIC.dataset_ids.tolist())


def test_every_class_occurs_and_no_other(drawn):
    assert {name for one in drawn for name, _ in one.classes.values()} == set(DRAWN_CLASSES)
    assert set(DRAWN_CLASSES) <= set(IS_THING)


def test_sizes_grey_pictures_void_and_crowds_occur(drawn):
    shapes = {one.image.shape[:2] for one in drawn}
    assert any(h > w for h, w in shapes)
    assert any(w > h for h, w in shapes)
    assert all(160 <= side <= 260 for shape in shapes for side in shape)
    assert 0 < sum(one.is_grey for one in drawn) < 10
    assert sum((one.segment_ids == 0).any() for one in drawn) > 10
    crowds = [name for one in drawn for name, is_crowd in one.classes.values() if is_crowd]
    assert len(crowds) > 2
    assert all(IS_THING[name] for name in crowds)


def test_a_stuff_class_is_one_segment_and_a_thing_has_a_size_to_be_seen(drawn):
    for one in drawn:
        stuff = [name for name, _ in one.classes.values() if not IS_THING[name]]
        assert len(stuff) == len(set(stuff))
        ids, areas = np.unique(one.segment_ids[one.segment_ids > 0], return_counts=True)
        assert set(ids.tolist()) == set(one.classes)
        assert areas.min() >= MIN_VISIBLE


def test_ids_need_more_than_16_bits(drawn):
    assert max(int(one.segment_ids.max()) for one in drawn) > 2**20


def test_colour_alone_does_not_tell_the_class_of_a_thing(drawn):
    found = []
    for k, one in enumerate(drawn):
        for segment_id, (name, _) in one.classes.items():
            if IS_THING[name]:
                found.append((k, name, one.image[one.segment_ids == segment_id].mean(0)))
    num_right = 0
    for image, name, color in found:  # nearest mean colour of the other images' things
        others = {n: np.mean([c for k, m, c in found if m == n and k != image], axis=0) for n in {m for _, m, _ in found}}
        num_right += min(others, key=lambda n: np.linalg.norm(others[n] - color)) == name
    assert num_right / len(found) < 0.35


def test_a_folder_of_something_else_is_refused(root, tmp_path):
    with pytest.raises(InputError, match=r"holds Snapshots with num_val=2, but num_val=3 was wanted"):
        ensure_snapshots(root, replace(TINY, num_val=3))
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match=r"holds files but no snapshots\.json, so it is no Snapshots"):
        ensure_snapshots(tmp_path, TINY)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_train": -1}, "num_train is -1"),
        ({"num_val": 10**6}, "at most 100000 each"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"categories": "some"}, "choose all or drawn"),
    ],
)
def test_settings_that_cannot_be_drawn_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        SnapshotsSettings(**settings)
