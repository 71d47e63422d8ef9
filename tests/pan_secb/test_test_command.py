"""test.py: what it writes scores the same by the official tools and by ours, is kept, and fails in one line."""

import contextlib
import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import evaluatePanoptic
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic

from data.layouts.cityscapes import CityscapesSplit
from data.loading.datamodule import PanopticDataModule
from data.panoptic_file import read_panoptic_json
from data.panoptic_png import PanopticMap
from data.targets import panoptic_to_semantic
from data.taxonomy import CITYSCAPES
from evaluation.panoptic_quality import PanopticQuality
from pan_secb import test as command
from pan_secb.embedding_maps import ideal_embeddings
from pan_secb.module import NetworkSettings, PanSECBModule
from pan_secb.predictor import PanSECBPredictor, load_predictor
from prediction.views import ViewSettings
from runtime.files import read_json

SHIFT = 3
"""Pixels by which the predictions are wrong."""


class ShiftedTruth(PanSECBPredictor):
    """Says of each image what its truth says a little further to the left, and counts how often it was asked."""

    asked: list
    split: CityscapesSplit

    def maps_of_all(self, images):
        return [self.shifted(image_id) for image_id, _ in images]

    def shifted(self, image_id: str):
        self.asked.append(image_id)
        truth = self.split.truth(self.split.index_of[image_id])
        ids = np.roll(truth.segment_ids, SHIFT, axis=1)
        return ideal_embeddings(PanopticMap(ids, truth.segments), CITYSCAPES, image_id=image_id, pixels_per_unit=128)


@pytest.fixture
def shifted(checkpoint, streets, monkeypatch) -> type[ShiftedTruth]:
    """In place of every checkpoint's predictor."""
    ShiftedTruth.asked, ShiftedTruth.split = [], CityscapesSplit(streets, "val")
    changes = {"min_seed": 0.9, "min_candidate_seed": 0.5, "min_pixels": 0}

    def load(path: Path, device: str, views: ViewSettings, clustering: dict) -> PanSECBPredictor:
        loaded = load_predictor(path, device, views, changes | clustering)
        return ShiftedTruth(loaded.network, loaded.taxonomy, loaded.name, clustering=loaded.clustering)

    monkeypatch.setattr("pan_secb.predictor.load_predictor", load)
    return ShiftedTruth


@pytest.fixture
def predict(streets, checkpoint, tmp_path, monkeypatch, capsys):
    """Run the command; return what it printed."""

    def run(*more: str | Path, root: Path = streets) -> str:
        arguments = ["--data-root", root, "--checkpoint", checkpoint, "--output", tmp_path / "out", "--device", "cpu", *more]
        monkeypatch.setattr(sys, "argv", ["test.py", *map(str, arguments)])
        command.main()
        return capsys.readouterr().out

    return run


def official(truth: Path, prediction: Path, folder: Path) -> dict:
    """Scores of two gtFine folders by cityscapesscripts alone: createPanopticImgs on both, then its evaluator."""
    with contextlib.redirect_stdout(io.StringIO()):
        for name, gt_fine in (("truth", truth), ("prediction", prediction)):
            (folder / name).mkdir(parents=True)
            convert2panoptic(str(gt_fine), str(folder / name), False, ["val"])
        files = [folder / name / f"cityscapes_panoptic_val{end}" for name in ("truth", "prediction") for end in (".json", "")]
        return evaluatePanoptic(*map(str, files), str(folder / "official.json"))


@pytest.mark.parity
def test_the_official_tools_on_the_labels_and_our_scores_of_the_panoptic_files_are_the_same(predict, shifted, streets, tmp_path):
    printed = predict()
    theirs = official(streets / "gtFine", tmp_path / "out" / "gtFine", tmp_path / "official")
    ours = read_json(tmp_path / "out" / "scores.json")
    for group in ("All", "Things", "Stuff"):
        # Added up in an order that depends on the number of cores.
        assert ours[group] == pytest.approx(theirs[group], rel=1e-12)
        assert 0.2 < ours[group]["pq"] < 0.98  # the predictions are neither perfect nor worthless
        assert f"{100 * theirs[group]['pq']:.1f}" in next(line for line in printed.splitlines() if f"| {group}" in line)
    assert all(entry["iscrowd"] == 0 for e in official_segments(tmp_path) for entry in e)


def official_segments(tmp_path: Path) -> list[list[dict]]:
    content = json.loads((tmp_path / "official" / "prediction" / "cityscapes_panoptic_val.json").read_text())
    return [annotation["segments_info"] for annotation in content["annotations"]]


def test_the_panoptic_files_of_a_trained_network_hold_what_it_says(predict, streets, checkpoint, tmp_path):
    printed = predict()
    predictor, quality, split = load_predictor(checkpoint), PanopticQuality(), CityscapesSplit(streets, "val")
    correct = total = 0
    for index in range(len(split)):
        truth = split.truth(index)
        found = predictor.predict(split.image_id(index), split.image(index))
        quality.add(truth, found.panoptic)
        semantic = panoptic_to_semantic(truth, CITYSCAPES)
        correct += ((found.semantic.train_ids == semantic) & (semantic < CITYSCAPES.num_classes)).sum()
        total += (semantic < CITYSCAPES.num_classes).sum()
    scores = read_json(tmp_path / "out" / "scores.json")
    assert scores["All"] == quality.scores(CITYSCAPES)["All"]
    assert scores["semantic"]["pixel_accuracy"] == pytest.approx(correct / total)
    assert "mIoU" in printed
    assert f"wrote {tmp_path / 'out' / 'scores.json'}" in printed
    assert len(list((tmp_path / "out" / "panoptic").glob("*.png"))) == 6


def test_flags_change_the_settings_of_the_checkpoint(checkpoint, tmp_path):
    given = ["--checkpoint", str(checkpoint), "--device", "cpu"]
    parser = command.build_parser()
    plain = command.predictor_of(parser.parse_args(given))
    more = ["--min-stuff-area", "300", "--clustering.vote", "seed", "--tta.flip", "true"]
    changed = command.predictor_of(parser.parse_args([*given, *more]))
    assert plain.clustering == load_predictor(checkpoint).clustering
    assert changed.clustering == replace(plain.clustering, min_stuff_area=300, vote="seed")
    assert changed.views == ViewSettings(flip=True)
    assert plain.fingerprint("a") != changed.fingerprint("a")


def test_labels_that_are_missing_are_written_again_without_predicting(predict, shifted, tmp_path):
    printed = predict()
    labels = tmp_path / "out" / "gtFine" / "val"
    assert f"wrote 12 PNGs in the form of Cityscapes' labels to {labels}" in printed
    before = {path: path.read_bytes() for path in labels.glob("*/*.png")}
    assert len(before) == 12
    next(labels.glob("*/*_gtFine_instanceIds.png")).unlink()
    next(labels.glob("*/*_gtFine_labelIds.png")).write_bytes(b"cut off")
    shifted.asked.clear()
    predict()
    assert shifted.asked == []
    assert {path: path.read_bytes() for path in labels.glob("*/*.png")} == before


def test_images_without_labels_are_predicted_and_the_others_scored(predict, shifted, streets, tmp_path):
    root = tmp_path / "data"
    for folder in ("leftImg8bit", "gtFine"):
        shutil.copytree(streets / folder, root / folder)
    next((root / "gtFine" / "val").glob("*/*_gtFine_instanceIds.png")).unlink()
    printed = predict(root=root)
    assert "not scored: 1 of 6 images have no label" in printed
    assert len(read_json(tmp_path / "out" / "scores.json")["per_image"]) == 5
    assert len(list((tmp_path / "out" / "gtFine" / "val").glob("*/*_gtFine_instanceIds.png"))) == 6
    assert len(read_json(tmp_path / "out" / "panoptic.json")["annotations"]) == 6


def test_the_coco_layout_is_scored_and_has_no_labels_of_cityscapes(predict, snapshots, tmp_path):
    torch.manual_seed(0)
    data = PanopticDataModule(snapshots, normalization="imagenet")
    module = PanSECBModule(data.taxonomy, data.network_input, NetworkSettings(0.25, pixels_per_unit=128))
    content = {"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}
    torch.save(content, tmp_path / "coco.ckpt")
    printed = predict("--checkpoint", tmp_path / "coco.ckpt", root=snapshots)
    assert "form of Cityscapes" not in printed
    assert not (tmp_path / "out" / "gtFine").exists()
    truth = read_panoptic_json(snapshots / "annotations" / "panoptic_val2017.json")
    found = read_panoptic_json(tmp_path / "out" / "panoptic.json")
    assert list(found.annotations) == list(truth.annotations)
    assert read_json(tmp_path / "out" / "scores.json")["All"]["n"] > 0


def test_bad_input_is_one_line(streets, checkpoint, tmp_path, fails_in_one_line):
    given = ("--data-root", streets, "--checkpoint", checkpoint, "--output", tmp_path / "out", "--device", "cpu")
    assert "no such checkpoint" in fails_in_one_line(command.main, *given, "--checkpoint", tmp_path / "none.ckpt")
    assert "no known layout is there" in fails_in_one_line(command.main, *given, "--data-root", tmp_path)
    assert "splits with images: train, val" in fails_in_one_line(command.main, *given, "--split", "vall")
    assert "device 'abacus'" in fails_in_one_line(command.main, *given, "--device", "abacus")
    assert "offers no test-time scales [0.5]" in fails_in_one_line(command.main, *given, "--tta.scales", "0.5")
    assert "min_seed is 2.0" in fails_in_one_line(command.main, *given, "--min-seed", "2")

    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["taxonomy"] = "other"
    content["hyper_parameters"]["categories"][0]["name"] = "lane"
    torch.save(content, tmp_path / "other.ckpt")
    line = fails_in_one_line(command.main, *given, "--checkpoint", tmp_path / "other.ckpt")
    assert "the model knows other classes, 'lane' (id 7, stuff) against 'road' (id 7, stuff)" in line

    broken = tmp_path / "broken"
    shutil.copytree(streets, broken)
    image = sorted((broken / "leftImg8bit" / "val").glob("*/*.png"))[2]
    image.write_bytes(image.read_bytes()[:3000])
    line = fails_in_one_line(command.main, *given, "--data-root", broken)
    assert image.name in line
    assert "cannot be decoded" in line


def test_a_file_named_test_beside_the_commands_hides_no_library(run_command):
    result = run_command("pan_secb/test.py", "--help-all")
    assert result.returncode == 0, result.stderr
    assert "--min-candidate-seed" in result.stdout
