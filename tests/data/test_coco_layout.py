"""The COCO layout is paired by id and file name, its classes are the JSON's, and what does not fit is named in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.layouts.coco import CocoSplit, check_root, find_splits, panoptic_json_path, split_taxonomy
from data.panoptic_png import ids_to_rgb
from data.taxonomy import COCO_PANOPTIC
from runtime.files import InputError

CATEGORIES = [
    {"id": 7, "name": "pump", "isthing": 1, "color": [200, 0, 0]},
    {"id": 300, "name": "hall", "isthing": 0},
    {"id": 12, "name": "valve", "isthing": 1},
]
IDS = np.array([[9, 9, 70000], [9, 5, 70000], [9, 5, 0]])
SEGMENTS = [
    {"id": 70000, "category_id": 7, "iscrowd": 1},
    {"id": 9, "category_id": 300, "iscrowd": 0},
    {"id": 5, "category_id": 12, "iscrowd": 0},
]


@pytest.fixture
def own(tmp_path) -> Path:
    """Two images with classes of their own; JSON, PNGs and images are each in another order."""
    annotations = [
        {"image_id": 20, "file_name": "b.png", "segments_info": SEGMENTS},
        {"image_id": 4, "file_name": "a.png", "segments_info": [{"id": 1, "category_id": 300}]},
    ]
    images = [
        {"id": 4, "file_name": "z.jpg", "height": 2, "width": 4},
        {"id": 20, "file_name": "deep/m.png", "height": 3, "width": 3},
    ]
    save(tmp_path / "annotations/panoptic_plant/b.png", ids_to_rgb(IDS))
    save(tmp_path / "annotations/panoptic_plant/a.png", ids_to_rgb(np.ones((2, 4), int)))
    save(tmp_path / "plant/deep/m.png", np.full((3, 3, 3), 40, np.uint8))
    save(tmp_path / "plant/z.jpg", np.full((2, 4), 200, np.uint8))  # grey, as some of COCO's are
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    panoptic_json_path(tmp_path, "plant").write_text(json.dumps(content))
    return tmp_path


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def edit(root: Path, change) -> None:
    path = panoptic_json_path(root, "plant")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_images_and_truth_are_paired_by_id(own):
    split = CocoSplit(own, "plant")
    assert [split.key(k) for k in range(2)] == [20, 4]
    assert [split.image_id(k) for k in range(2)] == ["m", "z"]
    assert [split.file_name(k) for k in range(2)] == ["deep/m.png", "z.jpg"]
    assert [split.size(k) for k in range(2)] == [(3, 3), (2, 4)]
    assert (split.image(0) == 40).all()
    assert np.array_equal(split.truth(0).segment_ids, IDS)
    grey = split.image(1)
    assert grey.shape == (2, 4, 3)
    assert abs(int(grey[0, 0, 0]) - 200) < 4


def test_segments_keep_the_order_of_the_json_and_are_counted_from_the_png(own):
    truth = CocoSplit(own, "plant").truth(0)
    found = [(s.segment_id, s.category_id, s.area, s.bbox, s.is_crowd) for s in truth.segments]
    assert found == [
        (70000, 7, 2, (2, 0, 1, 2), True),
        (9, 300, 4, (0, 0, 2, 3), False),
        (5, 12, 2, (1, 1, 1, 2), False),
    ]


def test_classes_are_those_of_the_json_and_their_name_says_which_whatever_the_folder(own, tmp_path_factory):
    taxonomy = CocoSplit(own, "plant").taxonomy
    assert taxonomy == split_taxonomy(own, "plant")
    moved = Path(shutil.copytree(own, tmp_path_factory.mktemp("moved") / "elsewhere"))
    assert CocoSplit(moved, "plant").taxonomy.name == taxonomy.name
    edit(moved, lambda c: c["categories"][0].update(name="motor"))
    assert CocoSplit(moved, "plant").taxonomy.name != taxonomy.name
    assert [(c.name, c.dataset_id, c.is_thing) for c in taxonomy.categories] == [
        ("pump", 7, True),
        ("hall", 300, False),
        ("valve", 12, True),
    ]
    assert CocoSplit(own, "plant").count_things() == (1, 1)


def test_the_drawn_set_has_cocos_classes_and_truth_of_every_image(snapshots):
    assert find_splits(snapshots) == ["train2017", "val2017"]
    split = CocoSplit(snapshots, "train2017")
    assert split.taxonomy is COCO_PANOPTIC
    assert len(split) == 10
    for index in range(len(split)):
        assert split.image(index).shape == (*split.truth(index).segment_ids.shape, 3)
        assert split.has_truth(index)
        assert int(split.image_id(index)) == split.key(index)


def remove(path: str):
    return lambda root: (root / path).unlink()


def without_isthing(content: dict) -> None:
    del content["categories"][1]["isthing"]


def test_a_root_without_annotations_is_refused(own):
    check_root(own)
    with pytest.raises(InputError, match=r"nowhere: no such folder; the COCO layout has annotations/"):
        check_root(own / "nowhere")
    with pytest.raises(InputError, match=r"plant: no annotations/ in it"):
        check_root(own / "plant")


def test_category_ids_may_be_any_whole_numbers(own):
    def renumber(content: dict) -> None:
        new = {7: -3, 300: 999, 12: 123456}
        for entry in content["categories"]:
            entry["id"] = new[entry["id"]]
        for segment in (s for a in content["annotations"] for s in a["segments_info"]):
            segment["category_id"] = new[segment["category_id"]]

    edit(own, renumber)
    split = CocoSplit(own, "plant")
    assert [s.category_id for s in split.truth(0).segments] == [-3, 999, 123456]
    assert split.count_things() == (1, 1)


def test_the_digest_of_a_truth_follows_its_png_its_segments_and_the_classes(own):
    def digest() -> str:
        return CocoSplit(own, "plant").truth_digest(0)

    found = [digest()]
    assert digest() == found[0]
    save(own / "annotations/panoptic_plant/b.png", ids_to_rgb(IDS[::-1].copy()))
    found.append(digest())
    edit(own, lambda c: c["annotations"][0]["segments_info"][0].update(iscrowd=0))
    found.append(digest())
    edit(own, lambda c: c["annotations"][0]["segments_info"][0].update(category_id=12))
    found.append(digest())
    edit(own, lambda c: c["categories"][2].update(name="tap"))
    found.append(digest())
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("plant/z.jpg"), r"plant/z\.jpg: no such file, but named in panoptic_plant\.json \(1 of 2 are missing\)"),
        (remove("annotations/panoptic_plant/a.png"), r"a\.png: no such file, but named in"),
        (lambda root: edit(root, lambda c: c["images"].pop()), r"image id 20 has an annotation, but is not in `images`"),
        (lambda root: edit(root, lambda c: c["annotations"].pop()), r"image id 4 is in `images`, but has no annotation"),
        (lambda root: edit(root, without_isthing), r"category .*'hall'.* has no `isthing`, but 1 \(true\) or 0 \(false\)"),
        (
            lambda root: edit(root, lambda c: c["annotations"][0]["segments_info"].append({"id": 0, "category_id": 7})),
            "a segment has id 0, which in the PNG is void",
        ),
        (
            lambda root: edit(root, lambda c: c["images"][0].update(file_name="deep/m.png")),
            "than one image, first 'deep/m.png'",
        ),
        (lambda root: edit(root, lambda c: c["images"][0].update(file_name="../x.jpg")), r"'\.\./x\.jpg' leaves its folder"),
        (lambda root: panoptic_json_path(root, "plant").unlink(), r"splits with a panoptic JSON: none"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused_before_training(own, spoil, message):
    spoil(own)
    with pytest.raises(InputError, match=message) as error:
        CocoSplit(own, "plant")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda root: save(root / "plant/deep/m.png", np.zeros((3, 4, 3), np.uint8)),
            r"b\.png: 3x3 pixels, but its image has 3x4",
        ),
        (
            lambda root: edit(root, lambda c: c["annotations"][0]["segments_info"].pop()),
            "segment ids 5 are in the PNG, but not in the list",
        ),
        (lambda root: save(root / "annotations/panoptic_plant/b.png", IDS.astype(np.uint8)), r"b\.png: PNG mode L"),
        (lambda root: (root / "plant/deep/m.png").write_bytes(b"\x89PNG"), r"m\.png: cannot be decoded"),
    ],
)
def test_a_broken_image_or_truth_is_named_when_it_is_read(own, spoil, message):
    spoil(own)
    split = CocoSplit(own, "plant")
    with pytest.raises(InputError, match=message):
        split.image(0), split.truth(0)


def test_files_that_the_json_does_not_name_are_no_harm(own):
    shutil.copy(own / "plant/z.jpg", own / "plant/other.jpg")
    assert len(CocoSplit(own, "plant")) == 2


def test_the_example_of_the_documentation_is_read(tmp_path):
    text = (Path(__file__).parents[2] / "docs/custom_data.md").read_text()
    content = text.split("```json\n")[1].split("```")[0]
    ids = np.zeros((480, 640), np.uint32)
    ids[100:], ids[200:300, 50:90], ids[350:, 400:] = 1, 2, 300
    save(tmp_path / "annotations/panoptic_plant/hall_0001.png", ids_to_rgb(ids))
    assert ids_to_rgb(ids)[400, 500].tolist() == [44, 1, 0]
    save(tmp_path / "plant/hall_0001.jpg", np.zeros((480, 640, 3), np.uint8))
    panoptic_json_path(tmp_path, "plant").write_text(content)
    truth = CocoSplit(tmp_path, "plant").truth(0)
    assert {s.segment_id: (s.category_id, s.is_crowd) for s in truth.segments} == {
        1: (10, False),
        2: (20, False),
        300: (20, True),
    }
