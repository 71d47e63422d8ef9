"""evaluate.py: its numbers are the official evaluator's on what it wrote, flags change the checkpoint's settings, bad input."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import evaluatePanoptic

from data.input_size import InputSize
from data.instance_dump import read_instances
from data.layouts.cityscapes import CityscapesSplit, panoptic_json_path, write_panoptic
from data.panoptic_file import read_panoptic_json
from data.semantic_dump import read_semantics
from data.targets import panoptic_to_semantic
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, VOID_TRAIN_ID, Taxonomy
from evaluation.file_scores import evaluate_files
from evaluation.results_table import results_table
from panoptic_fpn import evaluate
from panoptic_fpn.arguments import predictor_of
from panoptic_fpn.network import build_network, to_plain
from panoptic_fpn.predictor import PanopticFPNPredictor
from prediction.views import ViewSettings

pytestmark = pytest.mark.slow
FLAGS = ("--min-score", "0.3", "--min-stuff-area", "500", "--device", "cpu")


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
    evaluate.main()


@pytest.fixture(scope="module")
def evaluated(checkpoint, streets, tmp_path_factory):
    """The folder that the command wrote."""
    output = tmp_path_factory.mktemp("evaluated")
    given = ("--checkpoint", checkpoint, "--data-root", streets, "--output", output, *FLAGS)
    with pytest.MonkeyPatch.context() as patch:
        call(patch, *given)
    return output


def test_its_numbers_are_the_official_evaluators_on_what_it_wrote(evaluated, streets, tmp_path):
    write_panoptic(streets, "val")
    truth = panoptic_json_path(streets, "val")
    written = tmp_path / "official.json"
    prediction = evaluated / "panoptic.json"
    theirs = evaluatePanoptic(str(truth), str(truth.with_suffix("")), str(prediction), str(evaluated / "panoptic"), str(written))
    ours = json.loads((evaluated / "scores.json").read_text())
    for group in ("All", "Things", "Stuff"):
        assert {key: ours[group][key] for key in ("pq", "sq", "rq", "n")} == pytest.approx(theirs[group], abs=1e-12)
    assert ours["Stuff"]["pq"] > 0.05  # the network has learned a street: no comparison of zeros


def test_the_table_is_written_for_people(evaluated, streets):
    scores = json.loads((evaluated / "scores.json").read_text())
    text = (evaluated / "results.md").read_text()
    assert text.startswith(results_table(scores))
    assert "- weights: " in text
    assert f"- data: 6 images, val of {streets}" in text
    assert "- command: python " in text


def test_miou_is_that_of_the_maps_that_it_wrote(evaluated, streets):
    """Counted by hand, class by class, from the files; where the branch says "other", the merged thing counts."""
    hits, unions = np.zeros(CITYSCAPES.num_classes), np.zeros(CITYSCAPES.num_classes)
    split = CityscapesSplit(streets, "val")
    for index in range(len(split)):
        real = panoptic_to_semantic(split.truth(index), CITYSCAPES)
        guess = read_semantics(evaluated / "semantic", split.image_id(index), CITYSCAPES).train_ids.copy()
        guess[real == VOID_TRAIN_ID] = VOID_TRAIN_ID
        for k in range(CITYSCAPES.num_classes):
            hits[k] += ((real == k) & (guess == k)).sum()
            unions[k] += ((real == k) | (guess == k)).sum()
    miou = (hits[unions > 0] / unions[unions > 0]).mean()
    assert json.loads((evaluated / "scores.json").read_text())["semantic"]["miou"] == pytest.approx(miou, abs=1e-12)


def test_mask_ap_counts_what_is_below_the_merges_limit_too(evaluated, streets):
    """As published: AP is of the instances before the merge. The scores of those that are dumped say so."""
    split = CityscapesSplit(streets, "val")
    found = [read_instances(evaluated / "instances", split.image_id(k), CITYSCAPES).scores for k in range(len(split))]
    scores = np.concatenate(found)
    assert scores.min() < 0.3 < scores.max()
    ap = json.loads((evaluated / "scores.json").read_text())["mask_ap"]
    assert 0 <= ap["AP"] <= ap["AP50"] <= 1


def test_flags_change_the_settings_of_the_checkpoint(checkpoint, streets, tmp_path):
    given = ["--checkpoint", str(checkpoint), "--device", "cpu"]
    parser = evaluate.build_parser("evaluate.py", "", tmp_path, ("panoptic",))
    plain = predictor_of(parser.parse_args(given))
    merging = ("--min-score", "0.2", "--merging.max_overlap", "0.4")
    sides = ("--shorter-side", "64", "--input_size.longer_side", "99")
    changed = predictor_of(parser.parse_args([*given, *merging, *sides]))
    assert changed.merging == replace(plain.merging, min_score=0.2, max_overlap=0.4)
    assert changed.network_input == replace(plain.network_input, size=InputSize(64, 99))
    views = predictor_of(parser.parse_args([*given, "--tta.scales", "[0.5,1]", "--tta.flip", "true"])).views
    assert views == ViewSettings((0.5, 1.0), flip=True)


def test_a_size_of_0_leaves_images_as_they_are(small, save_checkpoint, tmp_path):
    network = build_network(to_plain(small, CITYSCAPES))
    trained = save_checkpoint(tmp_path / "best.ckpt", network, CITYSCAPES, InputSize(64, trained_sides=(32, 64)))
    parser = evaluate.build_parser("evaluate.py", "", tmp_path, ("panoptic",))
    for more, size in (((), (64, 128)), (("--shorter-side", "0"), (200, 400))):
        args = parser.parse_args(["--checkpoint", str(trained), "--device", "cpu", *more])
        assert predictor_of(args).network_input.size.of((200, 400)) == size


def test_another_merge_is_another_result(evaluated, checkpoint, streets, monkeypatch):
    predicted = []
    predict = PanopticFPNPredictor.predict
    monkeypatch.setattr(PanopticFPNPredictor, "predict", lambda self, *args: predicted.append(args[0]) or predict(self, *args))
    same = ("--checkpoint", checkpoint, "--data-root", streets, "--output", evaluated, *FLAGS)
    before = json.loads((evaluated / "scores.json").read_text())
    call(monkeypatch, *same)
    assert predicted == []
    again = json.loads((evaluated / "scores.json").read_text())
    assert {name: part for name, part in again.items() if name != "facts"} == {k: v for k, v in before.items() if k != "facts"}
    call(monkeypatch, *same, "--max-overlap", "0.4")
    assert len(predicted) == 6


def test_a_checkpoint_of_other_classes_is_refused_by_the_difference(checkpoint, snapshots, tmp_path, fails_in_one_line):
    given = ("--checkpoint", checkpoint, "--output", tmp_path, "--device", "cpu")
    line = fails_in_one_line(evaluate.main, *given, "--layout", "coco", "--data-root", snapshots)
    assert "the model knows other classes, 19 classes against 133, without " in line
    assert "with 'airplane', 'boat', " in line


def test_one_renamed_class_is_named(small, save_checkpoint, streets, tmp_path, fails_in_one_line):
    categories = tuple(replace(c, name="lane") if c.name == "road" else c for c in CITYSCAPES.categories)
    network = build_network(to_plain(small, CITYSCAPES))
    checkpoint = save_checkpoint(tmp_path / "lane.ckpt", network, Taxonomy("lanes", categories))
    given = ("--checkpoint", checkpoint, "--data-root", streets, "--output", tmp_path / "out", "--device", "cpu")
    assert "'lane' (id 7, stuff) against 'road' (id 7, stuff)" in fails_in_one_line(evaluate.main, *given)


def test_the_coco_layout_keeps_its_image_ids(small, save_checkpoint, snapshots, tmp_path, monkeypatch):
    """By a network that has learned nothing: what counts are the files, and that scripts/evaluate.py's scorer agrees."""
    torch.manual_seed(0)
    network = build_network(to_plain(small, COCO_PANOPTIC))
    checkpoint = save_checkpoint(tmp_path / "random.ckpt", network, COCO_PANOPTIC)
    merging = ("--min-score", "0.05", "--min-stuff-area", "0", "--device", "cpu")
    output = tmp_path / "out"
    given = ("--checkpoint", checkpoint, "--layout", "coco", "--data-root", snapshots, "--output", output)
    call(monkeypatch, *given, *merging)
    truth = read_panoptic_json(snapshots / "annotations" / "panoptic_val2017.json")
    prediction = read_panoptic_json(output / "panoptic.json")
    assert list(prediction.annotations) == list(truth.annotations)
    assert prediction.image_files == truth.image_files
    scores = json.loads((output / "scores.json").read_text())
    again = evaluate_files(truth, prediction).scores
    assert {name: scores[name] for name in again} == again
    assert scores["All"]["n"] > 0


def test_images_without_truth_belong_to_another_command(checkpoint, streets, tmp_path, fails_in_one_line):
    image = next((streets / "leftImg8bit" / "val").rglob("*.png"))
    given = ("--checkpoint", checkpoint, "--images", image, "--output", tmp_path / "out", "--device", "cpu")
    assert "has no truth to score; take panoptic_fpn/inference.py" in fails_in_one_line(evaluate.main, *given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--min-score", "2"), "merge min_score is 2.0, but a share from 0 to 1"),
        (("--shorter-side", "-7"), "input_size.shorter_side is -7, but at least 1"),
        (("--longer-side", "700"), "needs a shorter_side"),
        (("--device", "cuda:99"), "device 'cuda:99' cannot be used here"),
        (("--split", "moon"), "splits with images: train, val"),
        (("--checkpoint", "/none.ckpt"), "no such checkpoint; train first"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, checkpoint, streets, tmp_path, fails_in_one_line):
    given = ("--checkpoint", checkpoint, "--data-root", streets, "--output", tmp_path, "--device", "cpu")
    assert message in fails_in_one_line(evaluate.main, *given, *arguments)
