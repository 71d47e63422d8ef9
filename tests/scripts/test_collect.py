"""Shards and their collection: in any number and order, killed and restarted, the files of one process."""

import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from data.drawn.streets import StreetsSettings, ensure_streets
from data.layouts.find import open_data_set
from fusion import solo_fusion
from prediction.parts import part_path
from prediction.run import predict_split
from prediction.selection import Shard
from prediction.sources.truth import Truth
from prediction.views import PLAIN, ViewSettings
from runtime.command_line import REPOSITORY
from runtime.files import InputError
from scripts import collect
from tests.systems import build_system

NUM_IMAGES = 9


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return ensure_streets(tmp_path_factory.mktemp("s"), StreetsSettings(128, 256, num_train=1, num_val=NUM_IMAGES))


@pytest.fixture(scope="module")
def dumps(root, tmp_path_factory) -> Path:
    """The truth as halves: class maps and scored instances."""
    split = open_data_set(root).split()
    return predict_split(split, Truth(split), tmp_path_factory.mktemp("dumps"), ("instances", "semantic")).folder


def flags(root, dumps, output, *more) -> list[str]:
    halves = [
        "--instances",
        dumps / "instances",
        "--semantics",
        dumps / "semantic",
        "--keep",
        "panoptic",
        "instances",
        "semantic",
    ]
    return [str(flag) for flag in ("--data-root", root, *halves, "--output", output, "--workers", "1", *more)]


@pytest.fixture
def fuse(monkeypatch):
    """The command in this process."""

    def run(arguments: list[str], **environment: str) -> None:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["fusion/solo_fusion.py", *arguments])
            solo_fusion.main()

    return run


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.parent.name != "parts"
    }


def collected(folder, capsys) -> str:
    collect.run(collect.build_parser().parse_args([str(folder)]))
    return capsys.readouterr().out


def test_shards_of_the_command_one_of_them_killed_give_the_files_of_one_process(root, dumps, tmp_path, capsys, fuse):
    output = tmp_path / "run"
    fuse(flags(root, dumps, output))
    whole = content(output)
    assert {"panoptic.json", "scores.json", "results.md", "run.json"} <= whole.keys()
    shutil.rmtree(output)
    for number in (3, 1):
        fuse(flags(root, dumps, output, "--shard", f"{number}/3"))
    before = len(list((output / "panoptic").glob("*.png")))
    victim = [sys.executable, "fusion/solo_fusion.py", *flags(root, dumps, output, "--shard", "2/3")]
    process = subprocess.Popen(victim, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list((output / "panoptic").glob("*.png"))) == before and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.wait()
    with pytest.raises(InputError, match="the parts of --shard 2/3 are missing"):
        collected(output, capsys)
    by_slurm = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "0"}
    fuse(flags(root, dumps, output), **by_slurm)
    assert "panoptic.json" not in content(output)
    assert f"{NUM_IMAGES} images of 3 parts" in collected(output, capsys)
    assert content(output) == whole


def test_seven_shards_of_the_loop_and_a_broken_image_that_one_of_them_leaves_out(root, tmp_path, capsys):
    broken = tmp_path / "s"
    shutil.copytree(root, broken)
    split = open_data_set(broken).split()
    split.image_path(4).write_bytes(b"no image")
    for number in (7, 2, 1, 5, 3, 4, 6):
        shard = Shard(number, 7)
        with pytest.raises(InputError, match="1 of") if shard.holds(split.image_id(4)) else nullcontext():
            predict_split(split, Truth(split), tmp_path / "run", shard=shard)
    with pytest.raises(InputError, match=rf"1 of {NUM_IMAGES} images were left out, the first one: .*{split.image_path(4).name}"):
        collected(tmp_path / "run", capsys)
    with pytest.raises(InputError, match=f"1 of {NUM_IMAGES} images were left out"):
        predict_split(split, Truth(split), tmp_path / "whole")
    assert (tmp_path / "run/panoptic.json").read_bytes() == (tmp_path / "whole/panoptic.json").read_bytes()


def test_a_missing_part_is_named_and_nothing_is_written(root, tmp_path, capsys):
    split = open_data_set(root).split()
    for number in (1, 2):
        predict_split(split, Truth(split), tmp_path, shard=Shard(number, 2))
    part_path(tmp_path, Shard(1, 2)).unlink()
    with pytest.raises(InputError, match="the parts of --shard 1/2 are missing"):
        collected(tmp_path, capsys)
    assert not (tmp_path / "panoptic.json").exists()


def test_a_folder_of_no_run_is_refused(tmp_path, capsys):
    with pytest.raises(InputError, match="has no parts"):
        collected(tmp_path, capsys)


def test_shards_of_another_model_are_not_joined(root, tmp_path, capsys):
    split = open_data_set(root).split()
    folder = tmp_path / "checkpoints"
    for number, views in ((1, PLAIN), (2, ViewSettings(flip=True))):
        predict_split(split, build_system("two stages", root, folder, views), tmp_path / "run", shard=Shard(number, 2))
    with pytest.raises(InputError, match=r"part-00002\.jsonl: is of other settings than part-00001"):
        collected(tmp_path / "run", capsys)
