"""Streets: deterministic, resumable, and read by the unmodified official tools exactly as we mean it."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import name2label
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from PIL import Image

from data.drawn import streets
from data.drawn.streets import LABELS, Scene, StreetsSettings, draw_scene, ensure_streets, write_streets
from data.panoptic_png import describe_segments, read_segment_ids
from data.taxonomy import CITYSCAPES
from runtime.files import PARTIAL, InputError

TINY = StreetsSettings(128, 256, num_train=3, num_val=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return ensure_streets(tmp_path_factory.mktemp("streets") / "tiny", TINY)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(TINY, "val", index) for index in range(40)]


def digests(root: Path) -> dict[str, str]:
    """Relative path -> hash, of all files that are no lock."""
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and p.name != ".lock"]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def count_things(scene: Scene) -> int:
    return int((np.unique(scene.instance_ids) >= 1000).sum())


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_the_same_settings_give_the_same_bytes(root, tmp_path):
    write_streets(tmp_path / "again", TINY)
    assert digests(tmp_path / "again") == digests(root)


def test_another_seed_and_another_index_and_another_split_give_other_pictures():
    first = draw_scene(TINY, "train", 0)
    others = (draw_scene(replace(TINY, seed=1), "train", 0), draw_scene(TINY, "train", 1), draw_scene(TINY, "val", 0))
    assert all((first.image != other.image).any() and (first.instance_ids != other.instance_ids).any() for other in others)


def test_more_traffic_is_more_things():
    busy = replace(TINY, traffic=3)
    counts = {settings: [count_things(draw_scene(settings, "val", index)) for index in range(10)] for settings in (TINY, busy)}
    assert sum(counts[busy]) > 1.5 * sum(counts[TINY])


def test_the_marker_of_usual_traffic_is_that_of_sets_from_before_there_was_a_choice(root):
    assert "traffic" not in json.loads((root / streets.MARKER).read_text())


@pytest.mark.parametrize(("there", "wanted"), [(1, 2), (2, 1)])
def test_a_set_of_other_traffic_is_refused(there, wanted, tmp_path):
    few = replace(TINY, num_train=0, num_val=1)
    write_streets(tmp_path, replace(few, traffic=there))
    names = {1: "as usual", 2: "2"}
    with pytest.raises(InputError, match=f"with traffic={names[there]}, but traffic={names[wanted]} was wanted"):
        ensure_streets(tmp_path, replace(few, traffic=wanted))


def test_files_are_named_as_in_cityscapes(root):
    images = sorted(root.glob("leftImg8bit/*/*/*_leftImg8bit.png"))
    assert [path.parts[-3] for path in images] == ["train"] * 3 + ["val"] * 2
    for path in images:
        city, sequence, frame = path.name.removesuffix("_leftImg8bit.png").split("_")
        assert (city, len(sequence), len(frame)) == (path.parent.name, 6, 6)
        for suffix in ("instanceIds.png", "labelIds.png", "color.png", "polygons.json"):
            assert (root / "gtFine" / path.parts[-3] / city / f"{city}_{sequence}_{frame}_gtFine_{suffix}").is_file()


def test_our_label_table_is_the_official_one():
    assert all((name2label[name].id, name2label[name].color) == entry for name, entry in LABELS.items())
    assert all(name2label[name].hasInstances == (name in streets.COUNTED) for name in LABELS)


@pytest.mark.parity
def test_the_official_tools_make_our_id_maps_from_our_polygons(root, tmp_path):
    for polygons in sorted(root.glob("gtFine/*/*/*_polygons.json")):
        stem = str(polygons).removesuffix("polygons.json")
        annotation = Annotation()
        annotation.fromJsonFile(str(polygons))
        instance_ids = np.array(createInstanceImage(annotation, "ids"))  # its own saving of mode I fails on new Pillow
        json2labelImg(str(polygons), str(tmp_path / "label.png"), "ids")
        json2labelImg(str(polygons), str(tmp_path / "color.png"), "color")
        with Image.open(f"{stem}instanceIds.png") as ours:
            assert ours.mode in ("I;16", "I")  # 16 bits; Pillow before 11 opens them as I
        np.testing.assert_array_equal(read(f"{stem}instanceIds.png"), instance_ids)
        np.testing.assert_array_equal(read(f"{stem}labelIds.png"), read(tmp_path / "label.png"))
        np.testing.assert_array_equal(read(f"{stem}color.png")[..., :3], read(tmp_path / "color.png")[..., :3])


@pytest.mark.parity
def test_the_official_panoptic_conversion_keeps_every_scored_segment(root, tmp_path):
    convert2panoptic(str(root / "gtFine"), str(tmp_path), setNames=["val"])
    annotations = json.loads((tmp_path / "cityscapes_panoptic_val.json").read_text())["annotations"]
    scored = [c.dataset_id for c in CITYSCAPES.categories]
    assert len(annotations) == TINY.num_val
    for annotation in annotations:
        name = annotation["file_name"].replace("_panoptic.png", "_instanceIds.png")
        ours = read(next(root.glob(f"gtFine/val/*/{name}"))).astype(np.int64)
        label_ids = np.where(ours >= 1000, ours // 1000, ours)
        expected = np.where(np.isin(label_ids, scored), ours, 0)
        np.testing.assert_array_equal(read_segment_ids(tmp_path / "cityscapes_panoptic_val" / annotation["file_name"]), expected)
        found = {entry["id"]: entry["area"] for entry in annotation["segments_info"]}
        assert found == {s.segment_id: s.area for s in describe_segments(expected, lambda segment_id: segment_id)}


def test_every_scored_class_and_the_void_labels_occur(scenes):
    seen = {int(v) for scene in scenes for v in np.unique(scene.instance_ids)}
    label_ids = {v // 1000 if v >= 1000 else v for v in seen}
    assert label_ids >= {c.dataset_id for c in CITYSCAPES.categories}
    assert label_ids >= {LABELS[name][0] for name in ("unlabeled", "ego vehicle", "rectification border", "out of roi", "static")}


def test_groups_keep_the_plain_class_id_and_instance_numbers_have_gaps(scenes):
    groups, num_with_gaps = set(), 0
    for scene in scenes:
        values = np.unique(scene.instance_ids).tolist()
        groups |= {v for v in values if v in [LABELS[name][0] for name in ("person", "car", "bicycle")]}
        cars = [v % 1000 for v in values if v // 1000 == LABELS["car"][0]]
        num_with_gaps += cars != list(range(len(cars)))
    assert len(groups) == 3
    assert num_with_gaps > 0


def test_every_rider_sits_on_a_two_wheeler(scenes):
    for scene in scenes:
        labels = [entry["label"] for entry in scene.polygons["objects"]]
        assert labels.count("rider") <= labels.count("bicycle") + labels.count("motorcycle")


def test_polygons_lie_inside_the_picture(scenes):
    for scene in scenes:
        points = np.array([point for entry in scene.polygons["objects"] for point in entry["polygon"]])
        assert points.min() >= 0
        assert (points.max(0) <= (TINY.width - 1, TINY.height - 1)).all()


@pytest.mark.parametrize("height", [128, 256, pytest.param(1024, marks=pytest.mark.slow)])
def test_all_sizes_show_the_same_street(height):
    small, large = draw_scene(TINY, "train", 2), draw_scene(replace(TINY, height=height, width=2 * height), "train", 2)
    assert large.image.shape == (height, 2 * height, 3)
    assert large.image.dtype == np.uint8
    assert large.instance_ids.shape == (height, 2 * height)
    step = height // 128
    road = LABELS["road"][0]
    agree = (large.instance_ids[step // 2 :: step, step // 2 :: step] == road) == (small.instance_ids == road)
    assert agree.mean() > 0.97  # all but the pixels along the road's outline


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"height": 64, "width": 128}, "size is 64x128"),
        ({"height": 256, "width": 256}, "size is 256x256"),
        ({"height": 2048, "width": 4096}, "size is 2048x4096"),
        ({"num_train": -1}, "num_train is -1"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"num_val": 10**6}, "1000000 val images"),
        ({"traffic": 0}, "traffic is 0"),
    ],
)
def test_settings_that_cannot_be_drawn_are_refused_in_one_line(values, said):
    with pytest.raises(InputError, match=said) as error:
        StreetsSettings(**values)
    assert "\n" not in str(error.value)


def test_drawing_killed_half_way_goes_on_to_the_same_bytes(root, tmp_path, monkeypatch):
    again = tmp_path / "again"
    written = []

    def write_image_or_die(path, pixels, **options):
        written.append(path)
        if len(written) == 10:
            (path.parent / f"{PARTIAL}{2**22 + 1}-abc.png").write_bytes(b"what a killed writer leaves")
            raise KeyboardInterrupt
        original(path, pixels, **options)

    original = streets.write_image
    monkeypatch.setattr(streets, "write_image", write_image_or_die)
    with pytest.raises(KeyboardInterrupt):
        write_streets(again, TINY)
    assert not (again / streets.MARKER).exists()
    drawn_before = {path: path.stat().st_mtime_ns for path in again.rglob("*_leftImg8bit.png")}
    assert drawn_before
    monkeypatch.setattr(streets, "write_image", original)
    ensure_streets(again, TINY)
    assert digests(again) == digests(root)
    assert all(path.stat().st_mtime_ns == time for path, time in drawn_before.items())


def test_a_finished_set_is_not_drawn_again(root, monkeypatch):
    monkeypatch.setattr(streets, "draw_scene", None)
    assert ensure_streets(root, TINY) == root


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_set_of_other_settings_is_refused_and_left_alone(tmp_path, is_finished):
    before = streets._drawn_set(tmp_path, replace(TINY, seed=5)).marker
    marker = tmp_path / (streets.MARKER if is_finished else f"unfinished-{streets.MARKER}")
    marker.write_text(json.dumps(before))
    with pytest.raises(InputError, match="holds Streets with seed=5, but seed=0 was wanted; remove the folder"):
        ensure_streets(tmp_path, TINY)
    assert json.loads(marker.read_text()) == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(InputError, match=r"holds files but no streets\.json"):
        ensure_streets(tmp_path, TINY)
