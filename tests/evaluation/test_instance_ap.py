"""Mask AP: pairing by image id, empty results, and drawn cases whose AP can be counted."""

import json

import numpy as np
import pytest
from pycocotools import mask as rle_codec

from evaluation.instance_ap import score_instances
from runtime.files import InputError

CAR, PERSON, BUS = 26, 24, 28
HEIGHT, WIDTH = 48, 64


def box(y1, x1, y2, x2):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


LEFT_CAR, RIGHT_CAR, WALKER = box(20, 4, 40, 30), box(20, 34, 40, 60), box(10, 30, 40, 34)


def encode(mask):
    code = rle_codec.encode(np.asfortranarray(mask, dtype=np.uint8))
    return code | {"counts": code["counts"].decode()}


@pytest.fixture
def truth(tmp_path):
    """Two images: x with two cars and a person, y without any object; the class bus occurs nowhere."""
    annotations = [
        {"id": k, "image_id": 5, "category_id": c, "segmentation": encode(m), "area": int(m.sum()), "iscrowd": 0, "bbox": [0] * 4}
        for k, (c, m) in enumerate(((CAR, LEFT_CAR), (CAR, RIGHT_CAR), (PERSON, WALKER)), start=1)
    ]
    images = [
        {"id": 5, "file_name": "town/x_leftImg8bit.png", "height": HEIGHT, "width": WIDTH},
        {"id": 9, "file_name": "town/y_leftImg8bit.png", "height": HEIGHT, "width": WIDTH},
    ]
    categories = [{"id": CAR, "name": "car"}, {"id": PERSON, "name": "person"}, {"id": BUS, "name": "bus"}]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_the_truth_itself_is_perfect_and_an_absent_class_is_not_available(truth):
    found = [(CAR, 0.9, LEFT_CAR), (CAR, 0.8, RIGHT_CAR), (PERSON, 0.7, WALKER)]
    scores = score_instances(truth, [("x", found), ("y", [])])
    assert scores["AP"] == scores["AP50"] == scores["AP75"] == pytest.approx(1)
    assert scores["per_class"] == {"car": pytest.approx(1), "person": pytest.approx(1), "bus": None}
    assert scores["APl"] is None  # no object covers 96 x 96 pixels


def test_one_of_two_objects_found_is_half_the_recall(truth):
    scores = score_instances(truth, [("y", []), ("x", [(CAR, 0.9, LEFT_CAR)])])
    # Precision 1 up to recall 0.5: that is 51 of COCO's 101 recall points.
    assert scores["per_class"]["car"] == pytest.approx(51 / 101)
    assert scores["per_class"]["person"] == 0


def test_a_mask_and_its_run_length_code_score_the_same(truth):
    found = [(CAR, 0.9, LEFT_CAR), (CAR, 0.3, WALKER)]
    as_codes = [(c, s, encode(m)) for c, s, m in found]
    assert score_instances(truth, [("x", found), ("y", [])]) == score_instances(truth, [("x", as_codes), ("y", [])])


def test_a_model_that_finds_nothing_scores_zero(truth, capsys):
    assert score_instances(truth, [("x", []), ("y", [])])["AP"] == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("detections", "message"),
    [
        ([("x", [])], r"no detections for image 'y' \(1 in all\)"),
        ([("x", []), ("y", []), ("z", [])], "has no image 'z'"),
        ([("x", []), ("x", []), ("y", [])], "image 'x': detections came twice"),
        ([("x", [(3, 0.5, LEFT_CAR)]), ("y", [])], r"image 'x': category id 3, but .* has \[24, 26, 28\]"),
        ([("x", [(CAR, 0.5, LEFT_CAR[:-1])]), ("y", [])], "image 'x': a mask is 47x64, but the image is 48x64"),
        ([("x", [(CAR, float("nan"), LEFT_CAR)]), ("y", [])], "image 'x': a score is nan"),
    ],
)
def test_detections_that_do_not_fit_are_refused(truth, detections, message):
    with pytest.raises(InputError, match=message):
        score_instances(truth, detections)


def test_a_json_of_something_else_is_refused(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text('{"images": []}')
    with pytest.raises(InputError, match="needs `images`, `annotations` and `categories`; give a COCO instances JSON"):
        score_instances(path, [])


@pytest.mark.parametrize(
    ("kind", "name"),
    [("images", "height"), ("annotations", "area"), ("annotations", "segmentation"), ("categories", "name")],
)
def test_a_truth_with_an_entry_that_lacks_something_is_refused(truth, kind, name):
    content = json.loads(truth.read_text())
    del content[kind][1][name]
    truth.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"entry 1 of `{kind}` has no {name}; write the JSON"):
        score_instances(truth, [("x", []), ("y", [])])
