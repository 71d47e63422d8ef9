"""The command as a user types it: what it writes, that it goes on, and one line for bad input."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.drawn.streets import StreetsSettings, ensure_streets

SCRIPT = Path(__file__).parents[2] / "scripts" / "prepare_cityscapes.py"


def prepare(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """Run from a folder that is not the repository's."""
    clean = {k: v for k, v in os.environ.items() if k not in ("CITYSCAPES_DATASET", "CITYSCAPES_DIR")}
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", env=clean | environment, check=False)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return ensure_streets(tmp_path_factory.mktemp("data") / "streets", StreetsSettings(128, 256, num_train=3, num_val=2))


@pytest.fixture
def root(drawn, tmp_path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "root"))


@pytest.fixture(scope="module")
def prepared_once(drawn, tmp_path_factory) -> Path:
    root = Path(shutil.copytree(drawn, tmp_path_factory.mktemp("prepared") / "root"))
    assert prepare("--data-root", root).returncode == 0
    return root


@pytest.fixture
def prepared(prepared_once, tmp_path) -> Path:
    """A data set on which the command has run; what it wrote knows no time, so that a copy is as good."""
    return Path(shutil.copytree(prepared_once, tmp_path / "root"))


def outputs(root: Path) -> dict[str, bytes]:
    """What the command wrote: path in the root -> bytes."""
    names = ("annotations/*", "gtFine/cityscapes_panoptic_*.json", "gtFine/cityscapes_panoptic_*/*")
    return {str(p.relative_to(root)): p.read_bytes() for name in names for p in sorted(root.glob(name)) if p.is_file()}


def test_every_split_is_prepared_in_both_id_modes(root):
    result = prepare("--data-root", root)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == f"preparing {root}"
    expected = [
        root / name
        for split in ("train", "val")
        for name in (
            f"annotations/instancesonly_filtered_gtFine_{split}.json",
            f"gtFine/cityscapes_panoptic_{split}.json",
            f"gtFine/cityscapes_panoptic_{split}_trainId.json",
        )
    ]
    said = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("wrote ")]
    assert said == [str(path) for path in expected]
    assert all(path.is_file() for path in expected)
    assert len(list(root.glob("gtFine/cityscapes_panoptic_*/*.png"))) == 2 * (3 + 2)


def test_a_second_run_keeps_what_is_finished(prepared):
    moments = {p: p.stat().st_mtime_ns for p in prepared.rglob("*") if p.is_file()}
    result = prepare("--data-root", prepared)
    assert "wrote" not in result.stdout
    assert result.stdout.count("already finished") == 6
    assert {p: p.stat().st_mtime_ns for p in prepared.rglob("*") if p.is_file()} == moments


def test_a_label_that_changed_without_ageing_is_converted_again(prepared):
    label = next(prepared.glob("gtFine/val/*/*_instanceIds.png"))
    before = label.stat()
    other = next(path for path in prepared.glob("gtFine/val/*/*_instanceIds.png") if path != label)
    label.write_bytes(other.read_bytes())
    os.utime(label, ns=(before.st_atime_ns, before.st_mtime_ns))
    said = prepare("--data-root", prepared).stdout
    assert (said.count("wrote"), said.count("already finished")) == (3, 3)  # val and train
    assert all("val" in line for line in said.splitlines() if line.startswith("wrote"))


def test_an_emptied_png_is_written_again(prepared):
    expected = outputs(prepared)
    next(prepared.glob("gtFine/cityscapes_panoptic_train/*.png")).write_bytes(b"")
    assert prepare("--data-root", prepared).stdout.count("wrote") == 1
    assert outputs(prepared) == expected


@pytest.mark.parametrize("flag", ["--no-resume", "--again"])
def test_all_is_written_anew_on_demand(prepared, flag):
    expected = outputs(prepared)
    result = prepare("--data-root", prepared, "--splits", "val", flag, "--workers", "1")
    assert (result.stdout.count("wrote"), result.stdout.count("already finished")) == (3, 0)
    assert outputs(prepared) == expected


def test_the_environment_names_the_root(root):
    assert f"wrote {root}" in prepare("--splits", "val", CITYSCAPES_DATASET=str(root)).stdout


def test_a_split_without_labels_is_left_out(root):
    shutil.rmtree(root / "gtFine" / "val")
    result = prepare("--data-root", root)
    assert result.returncode == 0, result.stderr
    assert "val: no labels, left out" in result.stdout
    assert not any("val" in name for name in outputs(root))


def remove_a_label(root: Path) -> str:
    path = next(root.glob("gtFine/train/*/*_instanceIds.png"))
    path.unlink()
    return f"its label {path} is missing"


def truncate_a_label(root: Path) -> str:
    path = next(root.glob("gtFine/train/*/*_instanceIds.png"))
    path.write_bytes(path.read_bytes()[:200])
    return f"{path}: cannot be decoded"


def swap_label_kinds(root: Path) -> str:
    path = next(root.glob("gtFine/train/*/*_instanceIds.png"))
    shutil.copy(str(path).replace("instanceIds", "color"), path)
    return f"{path}: PNG mode RGBA, but instance ids are 16-bit grey"


def empty_the_root(root: Path) -> str:
    shutil.rmtree(root)
    root.mkdir()
    return f"{root}: no leftImg8bit/ and no gtFine/ in it"


def remove_the_root(root: Path) -> str:
    shutil.rmtree(root)
    return f"{root}: no such folder"


def remove_the_images(root: Path) -> str:
    shutil.rmtree(root / "leftImg8bit")
    (root / "leftImg8bit").mkdir()
    return f"{root}: no split has images and labels"


def block_the_output(root: Path) -> str:
    (root / "annotations").touch()
    return f"{root / 'annotations'}: "


BROKEN = [
    remove_a_label,
    truncate_a_label,
    swap_label_kinds,
    empty_the_root,
    remove_the_root,
    remove_the_images,
    block_the_output,
]


@pytest.mark.parametrize("spoil", BROKEN, ids=[spoil.__name__ for spoil in BROKEN])
def test_bad_input_gives_one_line_and_no_json(root, spoil):
    complaint = spoil(root)
    result = prepare("--data-root", root)
    assert result.returncode == 1
    *bars, line = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert "Traceback" not in "".join(bars)
    assert complaint in line
    assert not list(root.rglob(".partial-*"))
    assert not any(name.endswith("train.json") for name in outputs(root))


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing_in_the_end(root):
    prepare("--data-root", root)
    undisturbed = outputs(root)
    for name in undisturbed:
        (root / name).unlink()
    moments = random.Random(0)
    for _ in range(10):
        process = subprocess.Popen([sys.executable, SCRIPT, "--data-root", root], stdout=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.3, 0.8))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert prepare("--data-root", root).returncode == 0
    assert outputs(root) == undisturbed
    assert not list(root.rglob(".partial-*"))
