"""The comparison's bookkeeping: what is trained once, which weights are scored, and how rows are written."""

import json
from types import SimpleNamespace

import pytest
import torch

from data.files import InputError
from efficientps.network import SemanticEfficientPS
from scripts import compare


@pytest.fixture
def commands(monkeypatch) -> list[list[str]]:
    """What compare would have run."""
    ran = []
    monkeypatch.setattr(compare, "run", lambda *command: ran.append([str(part) for part in command]))
    return ran


def test_a_training_that_is_done_is_not_run_again_and_another_command_is_refused(tmp_path, commands):
    compare.train("stage1", tmp_path, "train.py", "--epochs", "3")
    compare.train("stage1", tmp_path, "train.py", "--epochs", "3")
    assert commands == [["train.py", "--epochs", "3"]]
    with pytest.raises(InputError, match="give another --output"):
        compare.train("stage1", tmp_path, "train.py", "--epochs", "4")


def test_seconds_of_interrupted_runs_add_up_and_those_of_killed_ones_are_known_to_be_lost(tmp_path, monkeypatch):
    def fail(*command):
        raise InputError("failed")

    monkeypatch.setattr(compare, "run", fail)
    with pytest.raises(InputError):
        compare.train("x", tmp_path, "train.py")
    first = json.loads((tmp_path / "x.json").read_text())
    assert first["seconds"] > 0
    assert (first["is_done"], first["is_exact"]) == (False, True)

    def die(*command):
        assert json.loads((tmp_path / "x.json").read_text())["is_exact"] is False  # what a kill would leave

    monkeypatch.setattr(compare, "run", die)
    compare.train("x", tmp_path, "train.py")
    second = json.loads((tmp_path / "x.json").read_text())
    assert second["is_done"]
    assert second["seconds"] > first["seconds"]


def test_every_system_is_scored_at_the_end_of_its_budget(tmp_path, commands, monkeypatch):
    monkeypatch.setattr(compare, "find_last", lambda folder: folder / "epoch_3.pth")
    monkeypatch.setattr("sys.argv", ["compare.py", "--output", str(tmp_path), "--joint-epochs", "7"])
    systems = compare.train_and_predict(compare.parse_arguments(), tmp_path)
    assert [system.name for system in systems] == [
        "SOLOv2 + EfficientPS semantics",
        "original EfficientPS (Mask R-CNN)",
        "semantic argmax only",
    ]
    used = {word for command in commands for word in command if word.endswith((".ckpt", ".pth"))}
    assert used == {str(tmp_path / p) for p in ("solov2/epoch_3.pth", "stage2/last.ckpt", "joint/last.ckpt")}


def test_parameters_are_those_of_the_network(tmp_path):
    network = SemanticEfficientPS(num_classes=19, variant="b0", fpn_channels=16)
    weights = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": weights, "hyper_parameters": {}}, tmp_path / "last.ckpt")
    assert compare.count_parameters(tmp_path / "last.ckpt") == sum(p.numel() for p in network.parameters())


def test_rows_say_what_there_is_not_and_what_is_not_exact():
    group = {"pq": 0.5, "sq": 0.75, "rq": None, "n": 1}
    result = {"name": "x", "scores": dict.fromkeys(("All", "Things", "Stuff"), group), "mask_ap": None, "miou": 0.25}
    result |= {"parameters": 1_500_000, "training_seconds": 60.4, "is_time_exact": False}
    row = compare.to_cells(result)
    assert row == ("x", "50.0", "75.0", "n/a", "50.0", "50.0", "n/a", "25.0", "1.5", "> 60")
    table = SimpleNamespace(columns=("a", "b"), rows=((1, 2),))
    assert compare.to_markdown(table) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
