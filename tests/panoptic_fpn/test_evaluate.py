"""evaluate.py: its numbers are the official evaluator's on what it wrote, it goes on where it was stopped, and bad input."""

import json
import sys

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import evaluatePanoptic

from data.layouts.cityscapes import find_frames, instances_json_path, panoptic_json_path, read_truth, write_panoptic
from data.panoptic_file import read_panoptic_json
from data.panoptic_png import read_segment_ids
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, VOID_TRAIN_ID
from evaluation.panoptic_quality import evaluate_files
from evaluation.results_table import results_table
from panoptic_fpn import evaluate
from panoptic_fpn.network import build_network, to_plain
from panoptic_fpn.predictor import PanopticFPNPredictor
from runtime.files import InputError

pytestmark = pytest.mark.slow
FLAGS = ("--min-score", "0.3", "--min-stuff-area", "500", "--device", "cpu")


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
    evaluate.main()


@pytest.fixture(scope="module")
def evaluated(checkpoint, streets, tmp_path_factory):
    """The folder that the command wrote."""
    output = tmp_path_factory.mktemp("evaluated")
    args = evaluate.build_parser().parse_args(
        ["--checkpoint", str(checkpoint), "--data-root", str(streets), "--output", str(output), *FLAGS]
    )
    evaluate.run(args)
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


def test_the_table_is_written_for_people(evaluated):
    scores = json.loads((evaluated / "scores.json").read_text())
    text = (evaluated / "results.md").read_text()
    assert text.startswith(results_table(scores))
    assert "- weights: " in text
    assert "6 images, split val" in text


def test_miou_is_that_of_the_maps_that_it_wrote(evaluated, streets):
    """Counted by hand, class by class, from the PNGs; where the branch says "other", the merged thing counts."""
    hits, unions = np.zeros(CITYSCAPES.num_classes), np.zeros(CITYSCAPES.num_classes)
    train_ids = np.full(40_000, VOID_TRAIN_ID)
    for train_id, dataset_id in enumerate(CITYSCAPES.dataset_ids):
        train_ids[dataset_id] = train_id
    for frame in find_frames(streets, "val"):
        truth = read_truth(frame)
        of_segment = {s.segment_id: train_ids[s.category_id] for s in truth.segments} | {0: VOID_TRAIN_ID}
        real = np.vectorize(of_segment.get)(truth.segment_ids)
        guess = train_ids[read_segment_ids(evaluated / "semantic" / f"{frame.image_id}_semantic.png")]
        guess[real == VOID_TRAIN_ID] = VOID_TRAIN_ID
        for k in range(CITYSCAPES.num_classes):
            hits[k] += ((real == k) & (guess == k)).sum()
            unions[k] += ((real == k) | (guess == k)).sum()
    miou = (hits[unions > 0] / unions[unions > 0]).mean()
    assert json.loads((evaluated / "scores.json").read_text())["semantic"]["miou"] == pytest.approx(miou, abs=1e-12)


def test_mask_ap_counts_what_is_below_the_merges_limit_too(evaluated, streets):
    """As published: AP is of the instances before the merge. The scores of those that are listed say so."""
    assert instances_json_path(streets, "val").is_file()
    found = [json.loads(path.read_text())["detections"] for path in (evaluated / "instances").iterdir()]
    scores = [detection["score"] for of_image in found for detection in of_image]
    assert len(found) == 6
    assert min(scores) < 0.3 < max(scores)
    ap = json.loads((evaluated / "scores.json").read_text())["mask_ap"]
    assert 0 <= ap["AP"] <= ap["AP50"] <= 1


def test_only_what_is_missing_is_predicted_again(evaluated, checkpoint, streets, monkeypatch, capsys):
    scores = (evaluated / "scores.json").read_text()
    pngs = sorted((evaluated / "panoptic").iterdir())
    before = {path: path.stat().st_mtime_ns for path in pngs}
    pngs[1].write_bytes(pngs[1].read_bytes()[:100])  # a disk that was full
    predicted = []
    predict = PanopticFPNPredictor.predict
    monkeypatch.setattr(PanopticFPNPredictor, "predict", lambda self, *args: predicted.append(args[0]) or predict(self, *args))
    same = ("--checkpoint", checkpoint, "--data-root", streets, "--output", evaluated, *FLAGS)
    call(monkeypatch, *same)
    assert predicted == [pngs[1].name.removesuffix("_panoptic.png")]
    assert {path for path in pngs if path.stat().st_mtime_ns != before[path]} == {pngs[1]}
    again = json.loads((evaluated / "scores.json").read_text())
    for name in ("All", "per_class", "mask_ap", "semantic"):
        assert again[name] == json.loads(scores)[name]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"checkpoint {checkpoint} (panoptic-fpn-resnet18-")
    assert any(line.startswith("mask AP ") for line in lines)
    predicted.clear()
    call(monkeypatch, *same, "--max-overlap", "0.4")  # another merge is another result
    assert len(predicted) == 6


def test_a_checkpoint_of_other_classes_is_refused(checkpoint, snapshots, tmp_path, fails_in_one_line):
    given = ("--checkpoint", checkpoint, "--output", tmp_path, "--device", "cpu")
    line = fails_in_one_line(evaluate.main, *given, "--layout", "coco", "--data-root", snapshots)
    assert "19 classes of cityscapes, but the data has 133 of coco_panoptic" in line
    with pytest.raises(InputError, match="belong together"):
        evaluate.check_classes(CITYSCAPES, COCO_PANOPTIC)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--min-score", "2"), "merge min_score is 2.0, but a share from 0 to 1"),
        (("--shorter-side", "7"), "input.shorter_side is 7, but at least 32"),
        (("--longer-side", "700"), "needs a shorter_side"),
        (("--device", "cuda:99"), "device 'cuda:99' cannot be used here"),
        (("--split", "moon"), "splits with images: train, val"),
        (("--checkpoint", "/none.ckpt"), "no such checkpoint; train first"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, checkpoint, streets, tmp_path, fails_in_one_line):
    given = ("--checkpoint", checkpoint, "--data-root", streets, "--output", tmp_path, "--device", "cpu")
    assert message in fails_in_one_line(evaluate.main, *given, *arguments)
