"""The command as a user runs it: what it writes, what it keeps, and the one line that says what is broken."""

import json
import sys
from pathlib import Path

import pytest

from data.drawn.snapshots import TRAIN_SPLIT, VAL_SPLIT, SnapshotsSettings, ensure_snapshots
from data.layouts.coco import CocoSplit, find_splits, panoptic_json_path
from scripts import prepare_coco


@pytest.fixture
def root(tmp_path) -> Path:
    return ensure_snapshots(tmp_path / "snapshots", SnapshotsSettings(num_train=2, num_val=2))


@pytest.fixture
def prepare(monkeypatch, capsys):
    def run(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["prepare_coco.py", *(str(a) for a in arguments)])
        prepare_coco.main()
        return capsys.readouterr().out

    return run


MADE = (("panoptic_stuff", ""), ("instances", ".json"))


def outputs(root: Path) -> list[str]:
    made = [f"{kind}_{split}{end}" for split in (TRAIN_SPLIT, VAL_SPLIT) for kind, end in MADE]
    return [str(root / "annotations" / name) for name in (*made, "panoptic_categories.json")]


def test_everything_is_written_once_and_then_kept(root, prepare):
    said = prepare("--data-root", root)
    num_things, num_crowds = CocoSplit(root, TRAIN_SPLIT).count_things()
    assert f"{TRAIN_SPLIT}: 2 images, {num_things} things, {num_crowds} crowds, 133 classes" in said
    for path in outputs(root):
        assert f"wrote {path}" in said.replace("\n", " ")
        assert Path(path).exists()
    again = prepare("--data-root", root)
    assert "wrote" not in again
    assert all(f"already finished {path}" in again.replace("\n", " ") for path in outputs(root))
    for flag in ("--no-resume", "--again"):
        assert "already finished" not in prepare("--data-root", root, flag)


def test_an_emptied_stuff_map_is_written_again(root, prepare):
    prepare("--data-root", root)
    emptied = next((root / f"annotations/panoptic_stuff_{VAL_SPLIT}").iterdir())
    expected = emptied.read_bytes()
    emptied.write_bytes(b"")
    said = [line for line in prepare("--data-root", root).splitlines() if line.startswith("wrote")]
    assert said == [f"wrote {emptied.parent}"]
    assert emptied.read_bytes() == expected


def test_one_split_can_be_prepared_alone(root, prepare):
    said = prepare("--data-root", root, "--splits", VAL_SPLIT)
    assert VAL_SPLIT in said
    assert TRAIN_SPLIT not in said


def test_what_is_written_is_not_taken_for_a_split(root, prepare):
    before = find_splits(root)
    prepare("--data-root", root)
    assert find_splits(root) == before


def test_broken_images_are_listed_and_end_the_command(root, fails_in_one_line, capsys):
    split = CocoSplit(root, VAL_SPLIT)
    for index in range(2):
        split.png_path(index).write_bytes(b"no PNG")
    assert "2 broken images" in fails_in_one_line(prepare_coco.main, "--data-root", root)
    said = capsys.readouterr().out
    assert all(f"broken: {split.png_path(index)}: cannot be decoded" in said for index in range(2))


def edit(root: Path, split: str, change) -> None:
    path = panoptic_json_path(root, split)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda root: next((root / VAL_SPLIT).iterdir()).unlink(), "no such file, but named in panoptic_val2017.json"),
        (lambda root: edit(root, VAL_SPLIT, lambda c: c["categories"][0].pop("isthing")), "has no `isthing`"),
        (lambda root: edit(root, VAL_SPLIT, lambda c: c["categories"][0].update(name="human")), "other `categories` than"),
        (lambda root: panoptic_json_path(root, VAL_SPLIT).write_text("{"), "not valid JSON"),
    ],
)
def test_a_data_set_that_does_not_fit_ends_in_one_line(root, spoil, line, fails_in_one_line):
    spoil(root)
    assert line in fails_in_one_line(prepare_coco.main, "--data-root", root)


def test_a_folder_without_panoptic_truth_is_refused(tmp_path, fails_in_one_line):
    (tmp_path / "annotations").mkdir()
    assert "no annotations/panoptic_SPLIT.json" in fails_in_one_line(prepare_coco.main, "--data-root", tmp_path)
    assert "no such folder" in fails_in_one_line(prepare_coco.main, "--data-root", tmp_path / "nowhere")
