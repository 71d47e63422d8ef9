"""Predictions that somebody else has made: what is read, what is refused, and when it counts as another."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from data.instance_dump import write_instances
from data.layouts.coco import CocoSplit
from data.layouts.find import open_data_set
from data.layouts.image_files import ImageFiles
from data.semantic_dump import write_semantic
from data.targets import panoptic_to_instance_logits, panoptic_to_semantic, panoptic_to_semantic_logits
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from fusion.logit_fusion import semantic_argmax
from prediction.predictor import Predictor
from prediction.sources import CocoResultInstances, DumpedInstances, DumpedSemantics, Truth
from runtime.files import InputError

IMAGE_ID = "town_000001_000019"
SIZE = (6, 8)
IMAGE = np.zeros((*SIZE, 3), np.uint8)
MASK = np.zeros(SIZE, dtype=np.uint8)
MASK[1:4, 2:7] = 1


def result(**changes) -> dict:
    rle = coco_mask.encode(np.asfortranarray(MASK))
    entry = {"image_id": IMAGE_ID, "category_id": 26, "score": 0.75}
    return entry | {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}} | changes


def source(tmp_path: Path, content: object, images: list[dict] | None = None) -> CocoResultInstances:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    images_json = None
    if images is not None:
        images_json = tmp_path / "annotations.json"
        images_json.write_text(json.dumps({"images": images}))
    return CocoResultInstances(path, CITYSCAPES, images_json)


def read(tmp_path: Path, content: object, images: list[dict] | None = None):
    return source(tmp_path, content, images).predict(IMAGE_ID, IMAGE).instances


def test_a_compressed_and_an_uncompressed_rle_give_the_same_mask(tmp_path):
    runs, value, counts = MASK.ravel(order="F"), 0, [0]
    for pixel in runs:
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    for segmentation in (result()["segmentation"], {"size": list(SIZE), "counts": counts}):
        instances = read(tmp_path, [result(segmentation=segmentation)])
        assert instances.boxes.tolist() == [[2, 1, 7, 4]]
        assert instances.scores.tolist() == [0.75]
        assert [CITYSCAPES.categories[i].name for i in instances.train_ids] == ["car"]
        assert (instances.crops[0] > 0).sum() == MASK.sum()


def test_a_numbered_image_is_found_through_the_annotation_file(tmp_path):
    images = [{"id": 3, "file_name": "town/town_000001_000019_leftImg8bit.png"}, {"id": 4, "file_name": "x.png"}]
    assert len(read(tmp_path, [result(image_id=3), result(image_id=4)], images)) == 1


def test_an_image_without_results_has_no_instances(tmp_path):
    assert len(read(tmp_path, [result(image_id="another")])) == 0


@pytest.mark.parametrize(
    ("content", "images", "words"),
    [
        ({"annotations": []}, None, "give a COCO result list"),
        ([{"image_id": 1, "category_id": 26, "bbox": [0, 0, 1, 1], "score": 1}], None, "with masks, not boxes"),
        ([result(image_id=3)], None, "--instances-images"),
        ([result(image_id=9)], [{"id": 3, "file_name": "a.png"}], "image id 9"),
        ([result(image_id=9)], [{"id": 3}], "entry 0 of `images` lacks `file_name`"),
        ([result(category_id=7)], None, "category id 7, but things are"),
        ([result(segmentation={"size": [6, 9], "counts": "0"})], None, "size \\[6, 8\\]"),
        ([result(segmentation=[[0, 0, 5, 0, 5, 5]])], None, "an RLE"),
        ([result(score="high")], None, "`score` 'high'"),
        ([result(score=float("nan"))], None, "score nan"),
        ([result(segmentation={"size": list(SIZE)})], None, "cannot be decoded"),
        ([result(category_id=[26])], None, "`category_id`"),
    ],
)
def test_results_that_do_not_fit_are_refused(tmp_path, content, images, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, content, images)


def test_results_are_others_once_one_of_the_files_changes(tmp_path):
    images = [{"id": 3, "file_name": "a.png"}]
    found = [
        source(tmp_path, [result()], images).fingerprint(IMAGE_ID),
        source(tmp_path, [result(score=0.5)], images).fingerprint(IMAGE_ID),
        source(tmp_path, [result(score=0.5)], [{"id": 3, "file_name": "b.png"}]).fingerprint(IMAGE_ID),
    ]
    assert len(set(found)) == 3
    assert source(tmp_path, [result()], images).fingerprint(IMAGE_ID) == found[0]


@pytest.fixture(params=["cityscapes", "coco"])
def split(request):
    """The validation split of each layout."""
    return open_data_set(request.getfixturevalue({"cityscapes": "streets", "coco": "snapshots"}[request.param])).split()


def test_the_truth_says_what_the_labels_say(split):
    predictor = Truth(split, stride=1)
    assert isinstance(predictor, Predictor)
    for index in range(2):
        truth, found = split.truth(index), predictor.predict(split.image_id(index), split.image(index))
        assert found.panoptic.segments == truth.segments
        things = [s for s in truth.segments if split.taxonomy.is_thing[split.taxonomy.dataset_id_to_train_id[s.category_id]]]
        assert len(found.instances) == sum(not s.is_crowd for s in things)
        expected = panoptic_to_semantic(truth, split.taxonomy)
        is_known = expected != VOID_TRAIN_ID
        assert np.array_equal(semantic_argmax(found.semantic, split.taxonomy)[is_known], expected[is_known])


def test_the_truth_of_images_that_have_none_is_refused(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="has no truth; give dumps or a model instead"):
        Truth(ImageFiles(tmp_path))


def test_the_fingerprint_of_the_truth_follows_the_labels_and_the_stride(split):
    ids = [split.image_id(index) for index in range(2)]
    prints = [Truth(split, stride).fingerprint(image_id) for stride in (1, 4) for image_id in ids]
    assert len(set(prints)) == 4


@pytest.fixture
def dumps(snapshots, tmp_path):
    """A split, and a run folder with the truth of its first image as dumps."""
    split = CocoSplit(snapshots, "val2017")
    about = {"image_id": split.image_id(0), "stride": 4, "producer": "test"}
    write_instances(tmp_path / "run/instances", panoptic_to_instance_logits(split.truth(0), split.taxonomy, **about))
    write_semantic(tmp_path / "run/semantic", panoptic_to_semantic_logits(split.truth(0), split.taxonomy, **about))
    return split, tmp_path / "run"


@pytest.mark.parametrize("inner", [("", ""), ("instances", "semantic")], ids=["run", "folder"])
def test_dumps_are_read_from_their_folder_or_from_the_run_that_kept_them(dumps, inner):
    split, run = dumps
    (run / "run.json").write_text(json.dumps({"min_score": 0.5, "instances_min_score": 0.35}))
    instances, semantics = DumpedInstances(run / inner[0], split.taxonomy), DumpedSemantics(run / inner[1], split.taxonomy)
    image_id, image = split.image_id(0), split.image(0)
    expected = Truth(split).predict(image_id, image)
    assert len(instances.predict(image_id, image).instances) == len(expected.instances)
    found = semantics.predict(image_id, image).semantic.logits
    assert np.array_equal(np.argmax(found, 0), np.argmax(expected.semantic.logits.astype(np.float16), 0))
    assert instances.min_score == 0.35
    assert isinstance(instances, Predictor)
    assert isinstance(semantics, Predictor)


@pytest.mark.parametrize("inner", ["", "instances"])
def test_dumps_that_an_earlier_run_left_are_refused(dumps, inner):
    split, run = dumps
    (run / "run.json").write_text(json.dumps({"kept": ["panoptic"]}))
    with pytest.raises(InputError, match=r"instances: is of an earlier run, as .*run\.json says; predict with --keep instances"):
        DumpedInstances(run / inner, split.taxonomy)


def test_a_dump_of_another_content_has_another_fingerprint_and_an_absent_one_is_refused(dumps):
    split, run = dumps
    image_id = split.image_id(0)
    predictors = DumpedInstances(run, split.taxonomy), DumpedSemantics(run, split.taxonomy)
    before = [p.fingerprint(image_id) for p in predictors]
    about = {"image_id": image_id, "stride": 4, "producer": "another"}
    write_instances(run / "instances", panoptic_to_instance_logits(split.truth(0), split.taxonomy, **about))
    write_semantic(run / "semantic", panoptic_to_semantic_logits(split.truth(0), split.taxonomy, **about))
    assert all(p.fingerprint(image_id) != old for p, old in zip(predictors, before, strict=True))
    for predictor in predictors:
        with pytest.raises(InputError, match="no such file"):
            predictor.fingerprint(split.image_id(1))


def test_a_folder_without_dumps_is_refused(dumps, tmp_path):
    split, run = dumps
    (tmp_path / "empty").mkdir()
    for kind, name in ((DumpedInstances, "instances"), (DumpedSemantics, "semantic")):
        with pytest.raises(InputError, match=f"no {name} dumps there; predict them first"):
            kind(tmp_path / "empty", split.taxonomy)
    with pytest.raises(InputError, match="no instances dumps there"):
        DumpedInstances(run / "semantic", split.taxonomy)


def test_a_folder_that_lies_in_a_run_but_is_no_part_of_it_does_not_follow_it(dumps):
    split, run = dumps
    (run / "run.json").write_text(json.dumps({"kept": ["panoptic"], "instances_min_score": 0.35}))
    (run / "instances").rename(run / "mine")
    assert DumpedInstances(run / "mine", split.taxonomy).min_score is None
