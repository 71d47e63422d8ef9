"""scripts/evaluate_video.py on a drawn drive: perfect tracks, tracks of a run, and one line for what does not fit."""

import json
import sys

import pytest

from data.drawn.drives import write_drive
from data.drawn.streets import StreetsSettings
from data.layouts.cityscapes import CityscapesSplit
from prediction.run import predict_split
from prediction.sources.truth import Truth
from prediction.tracking import numbered_images_of
from runtime.files import write_json
from scripts import evaluate_video


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    root = tmp_path_factory.mktemp("drive")
    return root, write_drive(root, StreetsSettings(128, 256), seed=0, num_frames=6)


def score(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["evaluate_video.py", *map(str, arguments)])
    evaluate_video.main()


def test_the_truth_against_itself_is_perfect(drive, tmp_path, monkeypatch, capsys):
    _, tracks = drive
    score(monkeypatch, "--truth", tracks, "--prediction", tracks, "--output", tmp_path / "s.json")
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["vpq"]["All"]["vpq"] == 1.0
    assert scores["stq"]["stq"] == pytest.approx(1.0)
    assert [entry["name"] for entry in scores["stq"]["sequences"]] == ["rosenau_000000"]
    assert scores["provenance"]["files"]["prediction"]["pngs"] == 6
    assert "VPQ" in capsys.readouterr().out


def test_a_run_over_numbered_images_gets_tracks_that_are_scored(drive, tmp_path, monkeypatch):
    root, tracks = drive
    split = CityscapesSplit(root, "val")
    run = predict_split(split, Truth(split), tmp_path / "run", films=numbered_images_of(split))
    score(monkeypatch, "--truth", tracks, "--prediction", run.folder, "--output", tmp_path / "s.json")
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["stq"]["sq"] == pytest.approx(1.0)
    assert scores["vpq"]["windows"]["1"]["All"]["pq"] == 1.0
    assert 0.5 < scores["stq"]["aq"] <= 1  # masks are perfect, so that only ids can be lost


def test_what_does_not_fit_is_refused_in_one_line(drive, tmp_path, fails_in_one_line):
    _, tracks = drive
    assert "--truth and --prediction are needed" in fails_in_one_line(evaluate_video.main)
    (tmp_path / "run").mkdir()
    files = ("--truth", tracks, "--prediction", tmp_path / "run")
    assert "predict a film, or numbered images with --sequences" in fails_in_one_line(evaluate_video.main, *files)
    files = ("--truth", tmp_path, "--prediction", tracks)
    assert "holds neither panoptic_maps/ of KITTI-STEP" in fails_in_one_line(evaluate_video.main, *files)
    content = json.loads(tracks.read_text())
    content["annotations"] = content["annotations"][:3]
    write_json(tmp_path / "part.json", content)
    (tmp_path / "part").symlink_to(tracks.with_suffix(""))
    files = ("--truth", tracks, "--prediction", tmp_path / "part.json")
    assert "predict every frame that has a truth" in fails_in_one_line(evaluate_video.main, *files)
