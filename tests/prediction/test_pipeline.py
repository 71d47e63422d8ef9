"""The five lines of Python: any model or pair of halves, image by image, and saving maps of any code."""

import numpy as np
import pytest

from benchmarks.foreign_forms import write_class_maps, write_results
from data.layouts.find import open_data_set
from data.panoptic_file import read_panoptic_folder, read_panoptic_map
from data.taxonomy import CITYSCAPES
from fusion.settings import FusionSettings
from prediction.fused import FusedPredictor, LogitRule
from prediction.pipeline import load_pipeline, save_panoptic
from prediction.sources.find import Halves, HalvesSettings
from runtime.files import InputError
from tests.systems import SYSTEMS, build_system


@pytest.fixture(scope="module")
def split(streets):
    return open_data_set(streets).split()


@pytest.mark.parametrize("system", [name for name in SYSTEMS if name != "two stages"])
def test_each_system_is_called_image_by_image(system, split, tmp_path, monkeypatch):
    predictor = build_system(system, split.root, tmp_path)
    monkeypatch.setattr("prediction.pipeline.load_predictor", lambda path, device: predictor)
    pipeline = load_pipeline(tmp_path / "any.ckpt")
    panoptic = pipeline(split.image_path(0))
    assert panoptic.segment_ids.shape == split.size(0)
    assert pipeline.taxonomy is predictor.taxonomy
    again = pipeline(split.image(0))
    assert np.array_equal(again.segment_ids, panoptic.segment_ids)
    assert again.segments == panoptic.segments


def test_files_of_other_tools_are_joined_as_the_command_joins_them(split, tmp_path):
    results, maps = write_results(tmp_path / "r.json", split), write_class_maps(tmp_path / "maps", split)
    images = split.image_path(0).parent.parent
    given = {"instances_classes": "dataset-ids", "semantics_classes": "cityscapes-ids"}
    settings = {"min_stuff_area": 0}
    pipeline = load_pipeline(instances=results, semantics=maps, images=images, settings=settings, **given)
    halves = Halves(split, str(results), str(maps), HalvesSettings()).find()
    expected = FusedPredictor(*halves, LogitRule(FusionSettings(**settings))).predict(split.image_id(1), split.image(1)).panoptic
    for found in (pipeline(split.image_path(1)), pipeline(split.image(1), split.image_id(1))):
        assert np.array_equal(found.segment_ids, expected.segment_ids)
        assert found.segments == expected.segments
    with pytest.raises(InputError, match="image 'another' is none of `images`"):
        pipeline(split.image(1), "another")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "needs `model`, or `semantics`"),
        ({"model": "a.ckpt", "semantics": "b.ckpt"}, "give one of both"),
        ({"semantics": "a.ckpt", "rule": "best"}, "rule 'best' is unknown; choose one of logit, heuristic, argmax"),
        ({"model": "/nowhere.ckpt"}, "no such checkpoint"),
        ({"semantics": "a.ckpt", "settings": {"min_scores": 1}}, "settings min_scores unknown; choose of min_score"),
        ({"semantics": "a.ckpt", "semantic_classes": "names"}, "argument semantic_classes unknown; choose of checkpoint"),
        ({"semantics": "/nowhere"}, "is not there; give a folder"),
    ],
)
def test_what_cannot_be_loaded_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        load_pipeline(**given)


def test_an_array_that_is_no_image_is_refused(split, tmp_path):
    pipeline = load_pipeline(semantics=write_class_maps(tmp_path / "maps", split), images=split.image_path(0).parent.parent)
    with pytest.raises(InputError, match=r"image is float32 \(2, 2, 3\), but uint8"):
        pipeline(np.zeros((2, 2, 3), np.float32))


def test_files_without_images_say_what_is_missing(split, tmp_path):
    with pytest.raises(InputError, match="give images=FOLDER"):
        load_pipeline(semantics=write_class_maps(tmp_path / "maps", split))


def test_a_map_cannot_leave_its_folder(tmp_path):
    with pytest.raises(InputError, match=r"image id '\.\./a' leaves the folder"):
        save_panoptic(tmp_path / "maps", "../a", np.ones((1, 1), int), [{"id": np.int64(1), "category_id": 7}])


def test_a_saved_map_is_read_back_with_its_areas_and_scores(tmp_path):
    ids = np.array([[1, 1, 0], [2, 2, 2]])
    segments = [{"id": 1, "category_id": 7}, {"id": 2, "category_id": 26, "score": 0.75}]
    path = save_panoptic(tmp_path, "town/a", ids, segments)
    assert path == tmp_path / "town/a_panoptic.png"
    file = read_panoptic_folder(tmp_path, CITYSCAPES)
    found = read_panoptic_map(file, "town/a")
    assert np.array_equal(found.segment_ids, ids)
    assert [(s.segment_id, s.category_id, s.area, s.score) for s in found.segments] == [(1, 7, 2, None), (2, 26, 3, 0.75)]


@pytest.mark.parametrize(
    ("ids", "segments", "words"),
    [
        ([[1, 2]], [{"id": 1, "category_id": 7}], r"segments \[2\] are not once"),
        ([[1, 1]], [{"id": 1, "category_id": 7}, {"id": 2, "category_id": 7}], r"segments \[2\] are not once"),
        ([[1, 1]], [{"id": 1, "category_id": 7}] * 2, r"segments \[1, 1\] are not once"),
        ([[0.5, 1]], [], "but .H, W. of 0 to"),
        ([[2**24]], [], "but .H, W. of 0 to"),
        ([[1]], [{"id": 1}], "needs whole numbers"),
        ([[1]], [{"id": np.int64(1), "category_id": 7}, {"id": 1, "category_id": 7}], "are not once"),
    ],
)
def test_a_map_that_its_list_does_not_fit_is_refused(ids, segments, words, tmp_path):
    with pytest.raises(InputError, match=words):
        save_panoptic(tmp_path, "a", np.array(ids), segments)
    assert not list(tmp_path.iterdir())
