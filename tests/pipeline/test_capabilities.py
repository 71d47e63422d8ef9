"""What every system can do, each cell of the table a test: layouts, images without truth, video, views, what is kept, scores."""

import json

import cv2
import numpy as np
import pytest

from data.layouts.find import open_data_set
from data.layouts.image_files import ImageFiles
from data.panoptic_file import read_panoptic_json, read_panoptic_map
from data.semantic_dump import SemanticLogits
from evaluation.file_scores import evaluate_files
from prediction.fused import FusedPredictor, LogitRule, MergeRule
from prediction.run import Run, predict_split
from prediction.score import score
from prediction.selection import KINDS
from prediction.sources.dumps import DumpedInstances, DumpedSemantics
from prediction.views import ViewSettings
from runtime.files import InputError
from tests.systems import SYSTEMS

ALL_SYSTEMS = pytest.mark.parametrize("system", SYSTEMS)
ALL_DATA = pytest.mark.parametrize("data_set", ["streets", "snapshots", "boxes"])


@ALL_SYSTEMS
@ALL_DATA
def test_a_split_is_predicted_and_scored_with_the_classes_of_its_data(system, data_set, data_sets, build, tmp_path):
    split = open_data_set(data_sets[data_set]).split()
    predictor = build(system, data_set)
    assert predictor.taxonomy.difference(split.taxonomy) is None
    run = predict_split(split, predictor, tmp_path / "run", KINDS)
    scores = score(run, split)
    assert set(scores.quality["per_class"]) == {c.name for c in split.taxonomy.categories}
    assert 0 <= scores.quality["All"]["pq"] <= 1
    assert set(scores.mask_ap["per_class"]) == {c.name for c in split.taxonomy.categories if c.is_thing}
    assert scores.semantic["miou"] is not None
    assert sum(size["total"] for size in scores.sizes.values()) > 0
    assert set(scores.per_image) == {split.image_id(k) for k in range(len(split))}
    # Another scorer reads the same result from the files.
    file = read_panoptic_json(run.panoptic_json)
    assert file.taxonomy.difference(split.taxonomy) is None
    if data_set != "streets":
        truth = read_panoptic_json(data_sets[data_set] / f"annotations/panoptic_{split.split}.json")
        assert evaluate_files(truth, file).scores == scores.quality


@ALL_SYSTEMS
def test_images_and_videos_without_truth_are_predicted_and_drawn(system, images, build, tmp_path):
    split, predictor = ImageFiles(images), build(system, "streets")
    ids = [split.image_id(k) for k in range(len(split))]
    assert ids == ["grey", "drive/000000", "drive/000001", "drive/000002", "odd"]
    run = predict_split(split, predictor, tmp_path / "run", ("panoptic", "overlay"))
    file = read_panoptic_json(run.panoptic_json)
    assert [*file.annotations] == ids
    for index, image_id in enumerate(ids):
        assert read_panoptic_map(file, image_id).segment_ids.shape == split.size(index)
    assert (tmp_path / "run/overlay/odd.png").is_file()
    video = cv2.VideoCapture(str(tmp_path / "run/overlay/drive.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    with pytest.raises(InputError, match="no image has a truth"):
        score(run, split)


@ALL_SYSTEMS
def test_views_change_the_result_and_its_fingerprint(system, data_sets, build):
    split = open_data_set(data_sets["streets"]).split()
    image_id, image = split.image_id(0), split.image(0)
    plain, flipped = build(system, "streets"), build(system, "streets", views=ViewSettings(flip=True))
    assert plain.fingerprint(image_id) != flipped.fingerprint(image_id)
    assert flipped.predict(image_id, image).panoptic.segment_ids.shape == image.shape[:2]
    scales = ViewSettings((0.5, 1.0))
    if system == "Pan-SECB":
        with pytest.raises(InputError, match="unit is a number of pixels"):
            build(system, "streets", views=scales)
    else:
        scaled = build(system, "streets", views=scales).predict(image_id, image)
        assert scaled.panoptic.segment_ids.shape == image.shape[:2]


@ALL_SYSTEMS
def test_kept_halves_are_sources_of_another_fusion(system, data_sets, build, tmp_path):
    split = open_data_set(data_sets["snapshots"]).split()
    predictor = build(system, "snapshots")
    run = predict_split(split, predictor, tmp_path / "run", ("panoptic", "instances", "semantic"))
    instances, semantics = DumpedInstances(run.folder, run.taxonomy), DumpedSemantics(run.folder, run.taxonomy)
    live = predictor.instances if isinstance(predictor, FusedPredictor) else predictor
    assert instances.min_score == (None if live is None else live.min_score)  # None: regions of the semantics alone
    has_logits = isinstance(run.semantic(split.image_id(0)), SemanticLogits)
    fused = FusedPredictor(instances, semantics, LogitRule() if has_logits else MergeRule())
    again = predict_split(split, fused, tmp_path / "again")
    for index in range(len(split)):
        assert again.panoptic(split.image_id(index)).segment_ids.shape == split.size(index)


@ALL_SYSTEMS
def test_a_run_says_what_it_is(system, data_sets, build, tmp_path):
    split = open_data_set(data_sets["boxes"]).split()
    predict_split(split, build(system, "boxes"), tmp_path / "run", command="python x.py")
    run = Run.open(tmp_path / "run")
    assert run.taxonomy.difference(split.taxonomy) is None
    assert run.kept == ("panoptic",)
    assert json.loads((tmp_path / "run/run.json").read_text())["command"] == "python x.py"


@ALL_SYSTEMS
def test_a_larger_image_is_brought_to_the_size_of_the_training(system, data_sets, build):
    split = open_data_set(data_sets["streets"]).split()
    predictor, image = build(system, "streets"), split.image(0)
    large = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)  # its means of areas are the image itself
    small_map, large_map = (predictor.predict("x", picture).panoptic for picture in (image, large))
    classes_of = {s.segment_id: s.category_id for s in (*small_map.segments, *large_map.segments)} | {0: 0}
    table = np.zeros(max(classes_of) + 1, int)
    table[list(classes_of)] = list(classes_of.values())
    same = table[small_map.segment_ids] == table[large_map.segment_ids][::2, ::2]
    assert same.mean() > 0.9


@ALL_SYSTEMS
def test_a_data_set_of_other_classes_is_refused_with_the_difference(system, data_sets, build, tmp_path):
    split = open_data_set(data_sets["boxes"]).split()
    with pytest.raises(InputError, match="the model knows other classes, 19 classes against 2, without 'road'"):
        predict_split(split, build(system, "streets"), tmp_path / "run")
