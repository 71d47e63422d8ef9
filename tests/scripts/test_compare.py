"""The comparison's bookkeeping: what is trained once, which weights are scored, and how rows are written."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import comparison
from benchmarks.systems import Configs, System, all_systems
from data.drawn.streets import StreetsSettings, ensure_streets
from data.layouts.find import open_data_set
from data.taxonomy import CITYSCAPES
from efficientps.network import SemanticEfficientPS
from evaluation.bootstrap import ImageCounts
from evaluation.panoptic_quality import GROUPS, ImageMatches, PanopticQuality
from evaluation.size_breakdown import SIZES
from prediction.fused import LogitRule, with_panoptic
from prediction.models import load_predictor
from runtime.files import InputError, read_json
from scripts import compare
from tests.systems import pan_secb


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return ensure_streets(tmp_path_factory.mktemp("streets"), StreetsSettings(128, 256, num_train=1, num_val=2))


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
    monkeypatch.setattr(compare, "children_seconds", itertools.count().__next__)  # each run takes a second
    with pytest.raises(InputError):
        compare.train("x", tmp_path, "train.py")
    first = json.loads((tmp_path / "x.json").read_text())
    assert first["seconds"] == 1
    assert (first["is_done"], first["is_exact"]) == (False, True)

    def die(*command):
        assert json.loads((tmp_path / "x.json").read_text())["is_exact"] is False  # what a kill would leave

    monkeypatch.setattr(compare, "run", die)
    compare.train("x", tmp_path, "train.py")
    second = json.loads((tmp_path / "x.json").read_text())
    assert second["is_done"]
    assert second["seconds"] == 2


CONFIGS = {name: config for name, (config, _) in compare.TRAININGS.items()}


def configs_with(epochs=(), more=()) -> Configs:
    """What compare.py makes of its arguments."""
    lengths = {name: default for name, (_, default) in compare.TRAININGS.items()} | compare.read_choices("epochs", [*epochs], int)
    flags = {name: tuple(value.split()) for name, value in compare.read_choices("more", [*more], str).items()}
    return Configs(**CONFIGS, epochs=lengths, more=flags)


@pytest.fixture
def systems(tmp_path, monkeypatch) -> tuple[System, ...]:
    """Of a comparison whose joint training is shorter."""
    monkeypatch.setattr("benchmarks.systems.find_last", lambda folder: folder / "epoch_3.pth")
    return all_systems(tmp_path, tmp_path, configs_with(["joint=7"]))


def test_every_system_is_scored_at_the_end_of_its_budget(systems, tmp_path):
    assert [system.name for system in systems] == [
        "SOLOv2 + EfficientPS semantics",
        "original EfficientPS (Mask R-CNN)",
        "semantic argmax only",
        "Panoptic FPN",
        "Pan-SECB",
    ]
    used = {path for system in systems for path in system.checkpoints()}
    last = {tmp_path / name / "last.ckpt" for name in ("stage2", "joint", "panoptic_fpn", "finetune")}
    assert used == last | {tmp_path / "stage1" / "epoch_3.pth"}
    (joint,) = systems[1].trainings.values()
    assert joint[joint.index("--epochs") + 1] == "7"


def test_each_system_has_a_run_folder_of_its_own(systems):
    assert len({system.run for system in systems}) == len(systems)


def test_a_training_may_have_flags_of_its_own(tmp_path):
    systems = all_systems(tmp_path, tmp_path, configs_with(more=["joint=--trainer.devices 2 --data.batch_size 2"]))
    (joint,) = systems[1].trainings.values()
    assert joint[-4:] == ("--trainer.devices", "2", "--data.batch_size", "2")
    assert "--trainer.devices" not in systems[0].trainings["stage2"]


def test_the_second_step_of_pan_secb_starts_from_the_first(systems, tmp_path):
    crops, finetune = systems[-1].trainings.values()
    assert crops[crops.index("--output") + 1] / "last.ckpt" == finetune[finetune.index("--weights") + 1]
    (cut,) = systems[-1].preparations
    assert (
        cut[cut.index("--output") + 1] == crops[crops.index("--data.crops") + 1] == finetune[finetune.index("--data.crops") + 1]
    )


@pytest.mark.parametrize("given", ["joint=0", "joint", "stage3=2", "joint=two"])
def test_a_budget_that_is_none_is_refused(given, fails_in_one_line):
    assert "needed are stage1 stage2 joint" in fails_in_one_line(compare.main, "--epochs", given)


def test_a_system_is_predicted_and_scored_from_its_checkpoint(data_root, tmp_path):
    split = open_data_set(data_root).split()
    checkpoint = pan_secb(data_root, tmp_path)
    load = lambda: with_panoptic(load_predictor(checkpoint), LogitRule())  # noqa: E731
    system = System("x", {"finetune": ()}, tmp_path / "run", lambda: (checkpoint,), load)
    (tmp_path / "finetune.json").write_text('{"seconds": 3.0, "is_exact": true}')
    found = comparison.score_system(system, split, tmp_path)
    assert found["training_seconds"] == 3
    assert found["parameters"] == comparison.count_parameters(checkpoint) > 0
    assert found["milliseconds"] > 0
    assert set(found["sizes"]) == set(SIZES)
    assert set(found["scores"]) == {*GROUPS, "per_class"}
    assert read_json(tmp_path / "run/panoptic.json")["annotations"]


def test_parameters_are_those_of_the_network(tmp_path):
    network = SemanticEfficientPS(num_classes=19, variant="b0", fpn_channels=16)
    weights = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": weights, "hyper_parameters": {}}, tmp_path / "last.ckpt")
    assert comparison.count_parameters(tmp_path / "last.ckpt") == sum(p.numel() for p in network.parameters())


def test_rows_say_what_there_is_not_and_what_is_not_exact():
    group = {"pq": 0.5, "sq": 0.75, "rq": None, "n": 1}
    result = {"name": "x", "scores": dict.fromkeys(("All", "Things", "Stuff"), group), "mask_ap": None, "miou": 0.25}
    result |= {"parameters": 1_500_000, "training_seconds": 60.4, "is_time_exact": False, "milliseconds": 12.6}
    table = comparison.systems_table([[result]], "a note")
    assert table.rows == (("x", "50.0", "75.0", "n/a", "50.0", "50.0", "n/a", "25.0", "1.5", "> 60", "13"),)
    assert len(table.columns) == len(table.rows[0])
    better = result | {"scores": dict.fromkeys(("All", "Things", "Stuff"), group | {"pq": 0.52}), "training_seconds": 70.4}
    (row,) = comparison.systems_table([[result, better]], "a note").rows
    assert (row[1], row[3], row[-2]) == ("51.0 ± 1.4", "n/a", "> 65")  # 2 / sqrt(2)
    assert comparison.to_markdown(SimpleNamespace(columns=("a", "b"), rows=((1, 2),))).splitlines()[2] == "| 1   |   2 |"


def test_everything_that_is_written_is_named_and_shows_the_results(tmp_path, capsys):
    scores = PanopticQuality().scores(CITYSCAPES)  # of nothing
    results = []
    for name, quality in (("one", 0.5), ("two", 0.25)):
        groups = {group: {"pq": quality, "sq": 0.75, "rq": 0.5, "n": 1} for group in GROUPS}
        sizes = {size: {"recall": quality, "total": 4} for size in SIZES}
        row = {"name": name, "scores": scores | groups, "mask_ap": None, "miou": 0.25, "sizes": sizes, "parameters": 1}
        counts = ImageCounts(CITYSCAPES)
        for image in range(3):
            counts.add(image, ImageMatches(((7, 7, 7, quality),), (), ()))
        row |= {"mask_ap_of": {}, "training_seconds": 60.4, "is_time_exact": True, "milliseconds": 12.6}
        results.append([row | {"counts": counts}])
    written = compare.write_comparison(results, "a note", tmp_path, CITYSCAPES, num_images=3, truth={"split": "val"})
    assert sorted(written) == sorted(tmp_path.iterdir())
    assert {path.suffix for path in written} == {".md", ".json", ".html", ".png"}
    for (seed,) in results:
        del seed["counts"]  # what the intervals need of each image
    content = read_json(tmp_path / "compare.json")
    assert content["systems"] == results
    assert content["tables"][0]["rows"][0][:2] == ["one", "50.0"]
    assert content["gains"]["two"]["All"]["gain"] == -0.25
    assert content["provenance"]["files"] == {"truth": {"split": "val"}}
    assert "-25.0 PQ; no interval, since 3 images are too few" in (tmp_path / "compare.md").read_text()
    assert "| one | 50.0 |" in capsys.readouterr().out.replace("\n", " ")
    assert (tmp_path / "compare.md").read_text().startswith("|     |   PQ |   SQ |")
    images = [np.asarray(Image.open(path)) for path in written if path.suffix == ".png"]
    assert len(images) == 3
    assert all(len(np.unique(image)) > 2 for image in images)
    assert "Classes and groups below are those of one." in (tmp_path / "report.html").read_text()


def test_seconds_are_cpu_time_of_the_command():
    before = compare.children_seconds()
    compare.run("-c", "import time; time.sleep(0.5)")
    waited = compare.children_seconds() - before
    compare.run("-c", "import time; t = time.process_time()\nwhile time.process_time() < t + 0.5: pass")
    assert compare.children_seconds() - before - waited > waited + 0.25


def test_seeds_are_flags_of_every_training_in_folders_of_their_own(tmp_path, data_root, commands, monkeypatch):
    scored = []
    monkeypatch.setattr("benchmarks.systems.find_last", lambda folder: folder / "epoch_3.pth")
    monkeypatch.setattr(comparison, "score_system", lambda system, split, folder: scored.append((system.name, folder)) or {})
    monkeypatch.setattr(compare, "write_comparison", lambda results, *others: [str(results)])
    arguments = ["--data-root", str(data_root), "--output", str(tmp_path), "--seeds", "2", "--systems", "original", "two_stages"]
    compare.compare(compare.build_parser().parse_args(arguments))
    assert [command[command.index("--seed") + 1] for command in commands] == ["0"] * 3 + ["1"] * 3
    assert [Path(command[command.index("--output") + 1]).parent.name for command in commands] == ["seed0"] * 3 + ["seed1"] * 3
    names = ["SOLOv2 + EfficientPS semantics", "original EfficientPS (Mask R-CNN)"]
    assert scored == [(name, tmp_path / f"seed{seed}") for seed in (0, 1) for name in names]


def test_every_name_of_a_system_is_one(tmp_path):
    assert [len(all_systems(tmp_path, tmp_path, configs_with(), names=[name])) for name in compare.SYSTEMS] == [1] * 5
    assert len(all_systems(tmp_path, tmp_path, configs_with())) == len(compare.SYSTEMS)
