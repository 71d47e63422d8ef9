"""Mask AP of images that come one by one: drawn cases whose AP can be counted, and COCO's own evaluator on files."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.panoptic_png import PanopticMap, describe_segments
from data.targets import panoptic_to_annotations, panoptic_to_scored_instances
from data.taxonomy import Category, Taxonomy
from evaluation.instance_ap import InstanceAP, instances_to_detections, panoptic_to_detections
from runtime.files import InputError

CAR, PERSON, BUS, ROAD = 26, 24, 28, 7
TAXONOMY = Taxonomy(
    "toy",
    tuple(
        Category(name, k, k != ROAD, (1, 1, 1)) for name, k in (("road", ROAD), ("person", PERSON), ("car", CAR), ("bus", BUS))
    ),
)
HEIGHT, WIDTH = SIZE = (48, 64)


def box(y1, x1, y2, x2):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


LEFT_CAR, RIGHT_CAR, WALKER = box(20, 4, 40, 30), box(20, 34, 40, 60), box(10, 30, 40, 34)


def encode(mask):
    code = rle_codec.encode(np.asfortranarray(mask, dtype=np.uint8))
    return code | {"counts": code["counts"].decode()}


TRUTH = [
    {"category_id": c, "segmentation": encode(m), "area": int(m.sum()), "iscrowd": 0, "bbox": [0] * 4}
    for c, m in ((CAR, LEFT_CAR), (CAR, RIGHT_CAR), (PERSON, WALKER))
]


def score(detections) -> dict:
    """Of two images: one with two cars and a person, and one without any object; buses occur nowhere."""
    collected = InstanceAP(TAXONOMY)
    collected.add(TRUTH, detections, SIZE)
    collected.add([], [], SIZE)
    return collected.scores()


def test_the_truth_itself_is_perfect_and_an_absent_class_is_not_available():
    scores = score([(CAR, 0.9, LEFT_CAR), (CAR, 0.8, RIGHT_CAR), (PERSON, 0.7, WALKER)])
    assert scores["AP"] == scores["AP50"] == scores["AP75"] == pytest.approx(1)
    assert scores["per_class"] == {"car": pytest.approx(1), "person": pytest.approx(1), "bus": None}
    assert scores["APl"] is None  # no object covers 96 x 96 pixels


def test_one_of_two_objects_found_is_half_the_recall():
    scores = score([(CAR, 0.9, LEFT_CAR)])
    # Precision 1 up to recall 0.5: that is 51 of COCO's 101 recall points.
    assert scores["per_class"]["car"] == pytest.approx(51 / 101)
    assert scores["per_class"]["person"] == 0


def test_a_mask_and_its_run_length_codes_score_the_same():
    found = [(CAR, 0.9, LEFT_CAR), (CAR, 0.3, WALKER)]
    runs = {"size": list(SIZE), "counts": [20 + 4 * HEIGHT, *([20, 28] * 25), 20, 8 + 34 * HEIGHT]}  # uncompressed
    assert score(found) == score([(c, s, encode(m)) for c, s, m in found]) == score([(CAR, 0.9, runs), found[1]])


def test_a_model_that_finds_nothing_scores_zero(capsys):
    assert score([])["AP"] == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("detection", "message"),
    [
        ((3, 0.5, LEFT_CAR), r"category id 3, but things are \[24, 26, 28\]"),
        ((ROAD, 0.5, LEFT_CAR), "category id 7, but things are"),
        ((CAR, 0.5, LEFT_CAR[:-1]), "a mask is 47x64, but the image is 48x64"),
        ((CAR, float("nan"), LEFT_CAR), "a score is nan"),
    ],
)
def test_detections_that_do_not_fit_are_refused(detection, message):
    with pytest.raises(InputError, match=message):
        InstanceAP(TAXONOMY).add([], [detection], SIZE)


def draw_random(rng: np.random.Generator) -> PanopticMap:
    """Six things of any class, some of them crowds, over a road."""
    ids = np.full(SIZE, ROAD, np.uint32)
    crowds = set()
    for k in range(6):
        (y1, y2), (x1, x2) = (np.sort(rng.choice(side + 1, 2, replace=False)) for side in SIZE)
        segment_id = int(rng.choice([PERSON, CAR, BUS])) * 1000 + k
        ids[y1:y2, x1:x2] = segment_id
        if rng.random() < 0.2:
            crowds.add(segment_id)
    return PanopticMap(ids, describe_segments(ids, lambda i: i if i < 1000 else i // 1000, crowds.__contains__))


@pytest.mark.parity
def test_scores_are_those_of_cocos_evaluator_on_files():
    rng = np.random.default_rng(0)
    collected, images, annotations, results = InstanceAP(TAXONOMY), [], [], []
    for k in range(12):
        truth = draw_random(rng)
        shifted = np.roll(truth.segment_ids, int(rng.integers(0, 5)), axis=1)
        guess = PanopticMap(shifted, describe_segments(shifted, lambda i: i if i < 1000 else i // 1000))
        instances = panoptic_to_scored_instances(guess, TAXONOMY, image_id=str(k), producer="test")
        found = [(c, float(rng.random()), code) for c, _, code in instances_to_detections(instances, TAXONOMY)]
        listed = panoptic_to_annotations(truth, TAXONOMY)
        collected.add(listed, found, SIZE)
        image_id = 500 - k
        images.append({"id": image_id, "height": HEIGHT, "width": WIDTH})
        annotations += [entry | {"id": len(annotations) + n, "image_id": image_id} for n, entry in enumerate(listed, start=1)]
        results += [{"image_id": image_id, "category_id": c, "score": s, "segmentation": code} for c, s, code in found]
    official = COCO()
    official.dataset = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": c.dataset_id, "name": c.name} for c in TAXONOMY.categories if c.is_thing],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        official.createIndex()
        evaluator = COCOeval(official, official.loadRes(results), "segm")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    scores = collected.scores()
    expected = evaluator.stats[:6]
    assert 0.1 < scores["AP"] < 0.9
    for name, value in zip(("AP", "AP50", "AP75", "APs", "APm", "APl"), expected, strict=True):
        assert scores[name] == (value if value > -1 else None)


def test_segments_with_a_score_are_detections_and_others_are_not():
    ids = np.full(SIZE, ROAD, np.uint32)
    ids[LEFT_CAR], ids[WALKER] = 26001, 24001
    scored = {26001: 0.75, 24001: 0.5}
    segments = describe_segments(ids, lambda i: i if i < 1000 else i // 1000)
    panoptic = PanopticMap(ids, tuple(replace(s, score=scored.get(s.segment_id)) for s in segments))
    found = panoptic_to_detections(panoptic)
    assert [(category_id, value) for category_id, value, _ in found] == [(PERSON, 0.5), (CAR, 0.75)]
    for (_, _, code), mask in zip(found, (WALKER, LEFT_CAR), strict=True):
        assert np.array_equal(rle_codec.decode(code).astype(bool), mask)
