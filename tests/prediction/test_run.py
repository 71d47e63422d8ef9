"""The one loop: what is done stays, what is not is done, whatever happens in between; and the result is always the same."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from data.drawn.streets import StreetsSettings, ensure_streets
from data.images import read_image, write_image
from data.instance_dump import full_masks, read_instances
from data.layouts.find import open_data_set
from data.layouts.image_files import ImageFiles
from data.panoptic_png import PanopticMap, describe_segments
from data.semantic_dump import SemanticLogits, SemanticMap
from data.taxonomy import CITYSCAPES
from data.videos import video_writer
from evaluation.instance_ap import instances_to_detections
from prediction.fused import FusedPredictor, LogitRule, MergeRule
from prediction.parts import remove_parts
from prediction.predictor import Prediction
from prediction.run import join_parts, predict_split
from prediction.run_folder import Run
from prediction.score import score
from prediction.selection import KINDS, Shard
from prediction.sources.coco_results import CocoResults
from prediction.sources.dumps import DumpedInstances, DumpedSemantics
from prediction.sources.foreign import MappedInstances
from prediction.sources.truth import Truth
from runtime.files import InputError
from tests.systems import build_system

NUM_KILLS = 5


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return open_data_set(ensure_streets(tmp_path_factory.mktemp("s"), StreetsSettings(128, 256, num_train=1, num_val=5))).split()


@pytest.fixture(scope="module")
def dumps(split, tmp_path_factory) -> Run:
    """The truth, kept as a run."""
    return predict_split(split, Truth(split), tmp_path_factory.mktemp("dumps"), ("panoptic", "instances", "semantic"))


@pytest.fixture(scope="module")
def predictors(split, dumps, tmp_path_factory):
    """One of every kind."""
    folder = tmp_path_factory.mktemp("predictors")
    entries = []
    for index in range(len(split)):
        image_id = split.image_id(index)
        for category_id, value, code in instances_to_detections(dumps.instances(image_id), CITYSCAPES):
            code = code | {"counts": code["counts"].decode()}
            entry = {"image_id": image_id, "category_id": category_id, "score": value, "segmentation": code}
            entries.append(entry)
    results = folder / "results.json"
    results.write_text(json.dumps(entries))
    semantics = DumpedSemantics(dumps.folder, CITYSCAPES)
    return {
        "truth": Truth(split),
        "dumps": FusedPredictor(DumpedInstances(dumps.folder, CITYSCAPES), semantics, LogitRule()),
        "merged dumps": FusedPredictor(DumpedInstances(dumps.folder, CITYSCAPES), semantics, MergeRule()),
        "result file": FusedPredictor(MappedInstances(CocoResults(results, split), CITYSCAPES), semantics, LogitRule()),
        "no instances": FusedPredictor(None, semantics, LogitRule()),
        "network": build_system("Pan-SECB", split.root, folder),
        "two networks": build_system("two stages", split.root, folder),
        "network of both halves": build_system("original EfficientPS", split.root, folder),
    }


KINDS_OF_PREDICTORS = pytest.mark.parametrize(
    "kind",
    ["truth", "dumps", "merged dumps", "result file", "no instances", "network", "two networks", "network of both halves"],
)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@KINDS_OF_PREDICTORS
def test_a_run_killed_five_times_ends_in_the_same_bytes(kind, split, predictors, tmp_path, kill_at_random_moments):
    torch.set_num_threads(1)
    predictor, keep = predictors[kind], KINDS if kind == "truth" else ("panoptic", "instances", "semantic")
    if kind == "no instances":
        keep = ("panoptic", "semantic")
    whole = predict_split(split, predictor, tmp_path / "whole", keep)

    def work() -> None:
        predict_split(split, predictor, tmp_path / "killed", keep, workers=1)

    kill_at_random_moments(work, 0.4, NUM_KILLS)
    killed = predict_split(split, predictor, tmp_path / "killed", keep)
    assert content(killed.folder) == content(whole.folder)


@KINDS_OF_PREDICTORS
def test_workers_and_shards_change_no_byte(kind, split, predictors, tmp_path):
    predictor = predictors[kind]
    one = predict_split(split, predictor, tmp_path / "one", workers=1)
    many = predict_split(split, predictor, tmp_path / "many", workers=4)
    for number in (2, 1, 3):
        sharded = predict_split(split, predictor, tmp_path / "sharded", shard=Shard(number, 3))
    assert not sharded.panoptic_json.exists()
    join_parts(sharded)
    remove_parts(sharded.folder)
    assert content(one.folder) == content(many.folder) == content(sharded.folder)


@pytest.mark.parametrize("kind", ["truth", "dumps", "merged dumps", "result file", "no instances"])
def test_predictions_in_files_need_no_pixels_of_the_images(kind, split, predictors, tmp_path, monkeypatch):
    expected = content(predict_split(split, predictors[kind], tmp_path / "expected").folder)
    monkeypatch.setattr(type(split), "image", lambda *_: pytest.fail("an image was decoded"))
    assert content(predict_split(split, predictors[kind], tmp_path / "run").folder) == expected


def test_an_image_with_damaged_pixels_is_fused_from_files_and_left_out_by_a_network(split, predictors, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(split.root, root)
    damaged = open_data_set(root).split()
    image = damaged.image_path(0)
    whole, run = image.read_bytes(), tmp_path / "run"
    image.write_bytes(whole[: len(whole) // 2])
    assert len(list(predict_split(damaged, predictors["dumps"], run).place("panoptic").glob("*.png"))) == len(split)
    with pytest.raises(InputError, match=re.escape(image.name)):
        predict_split(damaged, predictors["network"], tmp_path / "network")


def test_the_same_call_without_a_shard_joins_them(split, predictors, tmp_path):
    whole = predict_split(split, predictors["dumps"], tmp_path / "whole")
    for number in (1, 2):
        predict_split(split, predictors["dumps"], tmp_path / "sharded", shard=Shard(number, 2))
    joined = predict_split(split, predictors["dumps"], tmp_path / "sharded")
    assert content(joined.folder) == content(whole.folder)


def test_what_is_done_is_not_done_again(split, predictors, tmp_path, capsys):
    class Counting:
        taxonomy, min_score, gives, calls = CITYSCAPES, None, ("panoptic", "instances", "semantic"), 0

        def fingerprint(self, image_id):
            return "counting"

        def predict(self, image_id, image):
            Counting.calls += 1
            return predictors["dumps"].predict(image_id, image)

    for expected, options in ((5, {}), (5, {}), (10, {"resume": False})):
        predict_split(split, Counting(), tmp_path, **options)
        assert Counting.calls == expected
    assert "5 images predicted, 0 were done" in capsys.readouterr().out


@pytest.mark.parametrize("spoil", ["emptied", "removed", "cut", "another producer"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_whole_or_not_its_own_is_done_again(kind, spoil, split, predictors, tmp_path):
    predictor = predictors["truth"]
    run = predict_split(split, predictor, tmp_path / "run", KINDS)
    before = content(run.folder)
    victim = next(path for path in sorted(run.place(kind).rglob("*")) if path.is_file())
    if spoil == "emptied":
        times = victim.stat()
        victim.write_bytes(b"")
        os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif spoil == "removed":
        victim.unlink()
    elif spoil == "cut":
        victim.write_bytes(victim.read_bytes()[:-20])
    else:
        other = predict_split(split, Truth(split, stride=8), tmp_path / "other", KINDS)
        shutil.copy(other.place(kind) / victim.relative_to(run.place(kind)), victim)
    predict_split(split, predictor, run.folder, KINDS)
    assert content(run.folder) == before


def test_another_image_of_the_same_name_and_time_is_not_taken_for_done(predictors, tmp_path):
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    write_image(folder / "a.png", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    times = (folder / "a.png").stat()
    run = predict_split(ImageFiles(folder), predictors["network"], tmp_path / "run", ("panoptic", "semantic"))
    before = run.semantic("a").producer
    write_image(folder / "a.png", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    os.utime(folder / "a.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    run = predict_split(ImageFiles(folder), predictors["network"], tmp_path / "run", ("panoptic", "semantic"))
    assert run.semantic("a").producer != before


def test_a_broken_image_is_named_and_the_others_are_done(predictors, tmp_path, capsys):
    folder = tmp_path / "images"
    for name in ("a", "c"):
        write_image(folder / f"{name}.png", np.zeros((64, 64, 3), np.uint8))
    (folder / "b.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1 of 3 images were left out, the first one: .*b\.png"):
        predict_split(ImageFiles(folder), predictors["network"], tmp_path / "run")
    listed = json.loads((tmp_path / "run/panoptic.json").read_text())["annotations"]
    assert [entry["image_id"] for entry in listed] == ["a", "c"]


def test_a_cut_off_video_is_named_and_its_frames_are_done(predictors, tmp_path):
    folder = tmp_path / "images"
    with video_writer(folder / "whole.avi", 5.0) as write:
        for k in range(30):
            write(np.full((64, 64, 3), 8 * k, np.uint8))
    data = (folder / "whole.avi").read_bytes()
    (folder / "whole.avi").write_bytes(data[: len(data) // 2])
    (folder / "none.mp4").write_bytes(b"no video")
    write_image(folder / "a.png", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="left out"):
        predict_split(ImageFiles(folder), predictors["network"], tmp_path / "run")
    listed = json.loads((tmp_path / "run/panoptic.json").read_text())["annotations"]
    assert "a" in [entry["image_id"] for entry in listed]


def test_a_video_of_overlays_is_that_of_the_frames_that_are_there(predictors, tmp_path):
    with video_writer(tmp_path / "images/drive.mp4", 5.0) as write:
        for k in range(3):
            write(np.random.default_rng(k).integers(0, 255, (64, 96, 3), dtype=np.uint8))
    split, predictor = ImageFiles(tmp_path / "images"), predictors["network"]
    run = predict_split(split, predictor, tmp_path / "run", ("overlay",))
    drawn = run.place("overlay") / "drive.mp4"
    before = drawn.read_bytes()
    drawn.write_bytes(b"of another model")  # as if a kill had come between the new frames and their video
    (run.place("overlay") / "drive.json").write_text('{"made_from": "others"}')
    predict_split(split, predictor, tmp_path / "run", ("overlay",))
    assert drawn.read_bytes() == before


def test_the_frames_of_a_video_get_ids_that_stay_beside_their_maps(predictors, tmp_path):
    with video_writer(tmp_path / "images/drive.mp4", 5.0) as write:
        for k in range(3):
            write(np.random.default_rng(k).integers(0, 255, (64, 96, 3), dtype=np.uint8))
    split = ImageFiles(tmp_path / "images")
    run = predict_split(split, predictors["network"], tmp_path / "run")
    listed = json.loads((run.folder / "tracks.json").read_text())["annotations"]
    assert [entry["image_id"] for entry in listed] == [split.image_id(k) for k in range(3)]
    before = {path: path.stat().st_mtime_ns for path in (run.folder / "tracks").rglob("*.png")}
    predict_split(split, predictors["network"], tmp_path / "run")
    assert {path: path.stat().st_mtime_ns for path in before} == before  # done


def test_logits_of_another_model_are_not_read_for_a_class_map(split, predictors, tmp_path):
    with_logits = predict_split(split, predictors["dumps"], tmp_path, ("panoptic", "semantic"))
    assert isinstance(with_logits.semantic(split.image_id(0)), SemanticLogits)
    with_maps = predict_split(split, predictors["network"], tmp_path, ("panoptic", "semantic"))
    assert isinstance(with_maps.semantic(split.image_id(0)), SemanticMap)


def test_what_sums_up_older_maps_goes_before_the_first_new_one(split, predictors, tmp_path):
    run = predict_split(split, predictors["dumps"], tmp_path)
    for name in ("scores.json", "results.md"):
        (run.folder / name).write_text("{}")
    predict_split(split, predictors["dumps"], tmp_path)
    assert (run.folder / "scores.json").exists()
    predict_split(split, predictors["network"], tmp_path, shard=Shard(1, 2))
    assert not {"scores.json", "results.md", "panoptic.json"} & {path.name for path in run.folder.iterdir()}


def test_halves_that_give_nothing_of_what_they_are_given_for_are_refused(split, dumps):
    instances, semantics = DumpedInstances(dumps.folder, CITYSCAPES), DumpedSemantics(dumps.folder, CITYSCAPES)
    with pytest.raises(InputError, match="given for the semantics gives none"):
        FusedPredictor(instances, instances, LogitRule())
    with pytest.raises(InputError, match="given for the instances gives none"):
        FusedPredictor(semantics, semantics, LogitRule())
    with pytest.raises(InputError, match="the heuristic rule needs instances"):
        FusedPredictor(None, semantics, MergeRule())


def test_an_output_among_the_images_is_refused(predictors, tmp_path):
    write_image(tmp_path / "out/panoptic/a.png", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="also finds images in the output"):
        predict_split(ImageFiles(tmp_path), predictors["network"], tmp_path / "out")


def test_what_cannot_be_kept_is_refused(split, dumps, tmp_path):
    instances = DumpedInstances(dumps.folder, CITYSCAPES)
    with pytest.raises(InputError, match="gives instances; leave `panoptic` out of --keep, or fuse it first"):
        predict_split(split, instances, tmp_path)
    with pytest.raises(InputError, match="gives instances; leave `semantic` out of --keep"):
        predict_split(split, instances, tmp_path, ("semantic",))
    with pytest.raises(InputError, match="give one or more of panoptic"):
        predict_split(split, instances, tmp_path, ("masks",))


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_shard_that_cannot_be_is_refused(text):
    with pytest.raises(InputError, match="i/n with 1 <= i <= n"):
        Shard.parse(text)


def test_the_truth_scores_all_and_a_map_gives_what_is_kept_of_it(split, tmp_path):
    class MapAlone:
        taxonomy, min_score, gives = CITYSCAPES, None, ("panoptic",)

        def fingerprint(self, image_id):
            return "map"

        def predict(self, image_id, image):
            truth = split.truth(split.index_of[image_id])
            ids, by_id = truth.segment_ids, {s.segment_id: s for s in truth.segments if not s.is_crowd}
            ids = np.where(np.isin(ids, list(by_id)), ids, 0)
            return Prediction(PanopticMap(ids, describe_segments(ids, lambda k: by_id[k].category_id)))

    run = predict_split(split, MapAlone(), tmp_path, ("panoptic", "instances", "semantic"))
    scores = score(run, split)
    assert scores.quality["All"]["pq"] == 1
    assert scores.mask_ap["AP"] == 1
    assert scores.semantic["miou"] > 0.99  # crowds are in the truth's classes, and not in the map
    assert all(size["recall"] in (None, 1.0) for size in scores.sizes.values())


def test_kept_instances_are_those_that_were_predicted(split, dumps):
    image_id = split.image_id(0)
    expected = Truth(split).predict(image_id, split.image(0)).instances
    found = read_instances(dumps.place("instances"), image_id, CITYSCAPES)
    assert found.scores.tolist() == expected.scores.tolist()
    for mask, other in zip(full_masks(found), full_masks(expected), strict=True):
        np.testing.assert_array_equal(mask, other)


def test_an_overlay_shows_the_image_and_a_legend(split, predictors, tmp_path):
    run = predict_split(split, predictors["truth"], tmp_path, ("overlay",))
    drawn = read_image(run.drawing(split.image_id(0)))
    height, width = split.size(0)
    assert drawn.shape[1] % width == 0
    assert drawn.shape[0] > height * drawn.shape[1] // width
    times = drawn.shape[1] // width
    road = split.truth(0).segment_ids == 7
    brightness = drawn[: height * times : times, ::times][road].mean(axis=-1)
    assert np.subtract(*np.percentile(brightness, [75, 25])) > 2  # the image shows through; a class alone has one colour


def test_a_folder_of_something_else_is_no_run(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="no run of this program"):
        Run.open(tmp_path)


def test_an_image_that_a_network_cannot_take_is_left_out_and_the_others_are_done(streets, tmp_path, capsys):
    write_image(tmp_path / "images" / "strip.png", np.zeros((3000, 1, 3), np.uint8))
    write_image(tmp_path / "images" / "usual.png", np.zeros((64, 96, 3), np.uint8))
    predictor = build_system("Pan-SECB", streets, tmp_path)
    with pytest.raises(InputError, match=r"1 of 2 images were left out, the first one: image 'strip': .* cut a strip into parts"):
        predict_split(ImageFiles(tmp_path / "images"), predictor, tmp_path / "run")
    assert (tmp_path / "run/panoptic/usual_panoptic.png").exists()
    assert "left out: image 'strip'" in capsys.readouterr().err
