"""The COCO layout is paired by id and file name, its classes are the JSON's, and what does not fit is named in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.layouts.coco import TRAIN_SPLIT, VAL_SPLIT, CocoPictures, coco_root, find_splits, panoptic_json_path, split_taxonomy
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
    """Two pictures with classes of their own; JSON, PNGs and pictures are each in another order."""
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


def test_pictures_and_truth_are_paired_by_id(own):
    pictures = CocoPictures(own, "plant")
    assert pictures.keys == [20, 4]
    assert [pictures.image_id(k) for k in range(2)] == ["m", "z"]
    picture, truth = pictures.read(0)
    assert (picture == 40).all()
    assert np.array_equal(truth.segment_ids, IDS)
    grey, _ = pictures.read(1)
    assert grey.shape == (2, 4, 3)
    assert abs(int(grey[0, 0, 0]) - 200) < 4


def test_segments_keep_the_order_of_the_json_and_are_counted_from_the_png(own):
    _, truth = CocoPictures(own, "plant").read(0)
    found = [(s.segment_id, s.category_id, s.area, s.bbox, s.is_crowd) for s in truth.segments]
    assert found == [
        (70000, 7, 2, (2, 0, 1, 2), True),
        (9, 300, 4, (0, 0, 2, 3), False),
        (5, 12, 2, (1, 1, 1, 2), False),
    ]


def test_classes_are_those_of_the_json_named_like_the_folder(own):
    taxonomy = CocoPictures(own, "plant").taxonomy
    assert taxonomy == split_taxonomy(own, "plant")
    assert taxonomy.name == own.name
    assert [(c.name, c.dataset_id, c.is_thing) for c in taxonomy.categories] == [
        ("pump", 7, True),
        ("hall", 300, False),
        ("valve", 12, True),
    ]
    assert CocoPictures(own, "plant").count_things() == (1, 1)


def test_the_drawn_set_has_cocos_classes_and_truth_of_every_picture(snapshots):
    assert find_splits(snapshots) == [TRAIN_SPLIT, VAL_SPLIT]
    pictures = CocoPictures(snapshots, TRAIN_SPLIT)
    assert pictures.taxonomy is COCO_PANOPTIC
    assert len(pictures) == 10
    for index in range(len(pictures)):
        picture, truth = pictures.read(index)
        assert picture.shape == (*truth.segment_ids.shape, 3)
        assert int(pictures.image_id(index)) == pictures.keys[index]


def remove(path: str):
    return lambda root: (root / path).unlink()


def without_isthing(content: dict) -> None:
    del content["categories"][1]["isthing"]


def test_the_root_is_given_or_in_the_environment(own, monkeypatch):
    assert coco_root(own) == own
    monkeypatch.setenv("COCO_DATASET", str(own))
    assert coco_root() == own
    with pytest.raises(InputError, match=r"nowhere: no such folder; --data-root must name"):
        coco_root(own / "nowhere")
    monkeypatch.setenv("COCO_DATASET", str(own / "plant"))
    with pytest.raises(InputError, match=r"no annotations/ in it; \$COCO_DATASET must name"):
        coco_root()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("plant/z.jpg"), r"plant/z\.jpg: no such file, but named in panoptic_plant\.json \(1 of 2 are missing\)"),
        (remove("annotations/panoptic_plant/a.png"), r"a\.png: no such file, but named in"),
        (lambda root: edit(root, lambda c: c["images"].pop()), r"image id 20 has an annotation, but is not in `images`"),
        (lambda root: edit(root, lambda c: c["annotations"].pop()), r"image id 4 is in `images`, but has no annotation"),
        (lambda root: edit(root, without_isthing), r"category .*'hall'.* has no `isthing`; .*1 \(thing\) or 0 \(stuff\)"),
        (lambda root: edit(root, lambda c: c["images"][0].update(file_name="m.jpg")), r"would both be image id 'm'"),
        (lambda root: edit(root, lambda c: c["images"][0].update(file_name="../x.jpg")), r"'\.\./x\.jpg' leaves its folder"),
        (lambda root: panoptic_json_path(root, "plant").unlink(), r"splits with a panoptic JSON: none"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused_before_training(own, spoil, message):
    spoil(own)
    with pytest.raises(InputError, match=message) as error:
        CocoPictures(own, "plant")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: save(root / "plant/deep/m.png", np.zeros((3, 4, 3), np.uint8)), r"b\.png: 3x3 pixels, but 3x4 were needed"),
        (lambda root: edit(root, lambda c: c["annotations"][0]["segments_info"].pop()), r"segment ids \[5\] are in only one"),
        (
            lambda root: edit(root, lambda c: c["annotations"][0]["segments_info"].append({"id": 0, "category_id": 7})),
            r"ids \[0\]",
        ),
        (lambda root: save(root / "annotations/panoptic_plant/b.png", IDS.astype(np.uint8)), r"b\.png: PNG mode L"),
        (lambda root: (root / "plant/deep/m.png").write_bytes(b"\x89PNG"), r"m\.png: cannot be decoded"),
    ],
)
def test_a_broken_picture_or_truth_is_named_when_it_is_read(own, spoil, message):
    spoil(own)
    with pytest.raises(InputError, match=message):
        CocoPictures(own, "plant").read(0)


def test_files_that_the_json_does_not_name_are_no_harm(own):
    shutil.copy(own / "plant/z.jpg", own / "plant/other.jpg")
    assert len(CocoPictures(own, "plant")) == 2


def test_the_example_of_the_documentation_is_read(tmp_path):
    text = (Path(__file__).parents[2] / "docs/custom_data.md").read_text()
    content = text.split("```json\n")[1].split("```")[0]
    ids = np.zeros((480, 640), np.uint32)
    ids[100:], ids[200:300, 50:90], ids[350:, 400:] = 1, 2, 300
    save(tmp_path / "annotations/panoptic_plant/hall_0001.png", ids_to_rgb(ids))
    assert ids_to_rgb(ids)[400, 500].tolist() == [44, 1, 0]
    save(tmp_path / "plant/hall_0001.jpg", np.zeros((480, 640, 3), np.uint8))
    panoptic_json_path(tmp_path, "plant").write_text(content)
    _, truth = CocoPictures(tmp_path, "plant").read(0)
    assert {s.segment_id: (s.category_id, s.is_crowd) for s in truth.segments} == {
        1: (10, False),
        2: (20, False),
        300: (20, True),
    }
