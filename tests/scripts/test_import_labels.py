"""The command as a user runs it: the data set that it makes, what it reports, what it keeps, and the line where it refuses."""

import json
import os
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from data.label_formats.conversion import ImportSettings
from data.layouts.coco import panoptic_json_path
from data.layouts.find import open_data_set
from scripts import import_labels
from tests.label_exports import EXPORTS, MEANING, NAMES, letters, photo, write

DECLARED = ("ade20k-150", "bdd100k", "kitti-step", "segments-ai", "vistas")


@pytest.fixture
def run(monkeypatch, capsys):
    def run_command(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["import_labels.py", *(str(a) for a in arguments)])
        import_labels.main()
        return capsys.readouterr().out

    return run_command


def flags(name: str, source: Path, output: Path) -> list[str | Path]:
    words: list[str | Path] = ["--from", name, "--source", source, "--output", output, "--workers", "1", "--val-share", "0.3"]
    return words if name in DECLARED else [*words, "--stuff", NAMES.get(name, {}).get("road", "road"), "--others", "things"]


def snapshot(folder: Path) -> dict[str, tuple]:
    """Name -> bytes, rights and time of change of every file."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mode, p.stat().st_mtime_ns) for p in found}


@pytest.fixture
def labelme(tmp_path) -> tuple[Path, Path]:
    """Twelve images, and where they are to go."""
    for k in range(12):
        EXPORTS["labelme"](tmp_path / "source", f"image{k:02}", seed=k)
    return tmp_path / "source", tmp_path / "output"


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_becomes_a_data_set_with_the_drawn_pixels(name, tmp_path, run):
    source, output = tmp_path / "source", tmp_path / "output"
    EXPORTS[name](source)
    before = snapshot(source)
    run(*flags(name, source, output))
    data_set = open_data_set(output, "coco")
    assert data_set.layout == "coco"
    for split_name in data_set.splits():
        split = data_set.split(split_name)
        names = {c.dataset_id: c.name for c in split.taxonomy.categories}
        for index in range(len(split)):
            truth = split.truth(index)
            assert split.image(index).shape == (*letters().shape, 3)
            found = {(names[s.category_id], (truth.segment_ids == s.segment_id).tobytes()) for s in truth.segments}
            called = NAMES.get(name, {})
            assert found == {(called.get(c, c), (letters() == letter).tobytes()) for letter, c in MEANING.items()}
    assert snapshot(source) == before


def test_splits_of_the_source_stay_and_its_folders_too(tmp_path, run):
    EXPORTS["kitti-step"](tmp_path / "source")
    run(*flags("kitti-step", tmp_path / "source", tmp_path / "output"))
    assert (tmp_path / "output" / "val" / "0002" / "000000.png").is_file()
    assert (tmp_path / "output" / "annotations" / "panoptic_train" / "0000" / "000000.png").is_file()


def test_the_report_says_what_was_lost(labelme, run):
    output = labelme[1]
    said = run(*flags("labelme", *labelme))
    assert "car over road 228 pixels, car over car 24 pixels" in said  # twelve times 19 and 2
    assert "unlabelled: 16.7% of the pixels" in said  # one row of six
    assert "left out: 12 points" in said
    assert "made 12 PNGs, 0 were already finished" in said
    report = json.loads((output / "import_report.json").read_text())
    assert report["is_complete"]
    assert report["settings"]["seed"] == 0
    assert report["total"]["overlaps"] == [["car", "road", 228], ["car", "car", 24]]
    assert sum(report["splits"].values()) == 12
    assert {name for split in report["images"].values() for name in split} == {f"image{k:02}.png" for k in range(12)}


def test_the_same_command_again_makes_nothing(labelme, run):
    run(*flags("labelme", *labelme))
    before = snapshot(labelme[1])
    said = run(*flags("labelme", *labelme))
    assert "made 0 PNGs, 12 were already finished" in said
    assert "12 kept" in said
    after = snapshot(labelme[1])
    assert {name: content for name, (content, *_) in after.items()} == {name: content for name, (content, *_) in before.items()}
    unchanged = {name for name in after if name.endswith(".png")}
    assert all(after[name] == before[name] for name in unchanged)


def test_new_images_and_changed_labels_are_made_and_the_rest_is_kept(labelme, run):
    source, output = labelme
    run(*flags("labelme", *labelme))
    splits = {p.name: p.parent.name for p in output.glob("[tv]*/*.png")}
    EXPORTS["labelme"](source, "image99")
    content = json.loads((source / "image03.json").read_text())
    content["shapes"][1]["points"] = [[0, 0], [2, 2]]
    write(source / "image03.json", content)
    assert "made 2 PNGs, 11 were already finished" in run(*flags("labelme", *labelme))
    assert splits.items() <= {p.name: p.parent.name for p in output.glob("[tv]*/*.png")}.items()


def test_what_a_kill_left_behind_is_completed(labelme, run):
    output = labelme[1]
    run(*flags("labelme", *labelme))
    finished = {name: content for name, (content, *_) in snapshot(output).items()}
    report = json.loads((output / "import_report.json").read_text())
    write(output / "import_report.json", {key: report[key] for key in ("settings", "categories")} | {"is_complete": False})
    for path in (panoptic_json_path(output, "train"), output / "train" / "image00.png", output / "val" / "image00.png"):
        path.unlink(missing_ok=True)
    damaged = next((output / "annotations" / "panoptic_train").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-20])
    (output / "train" / f".partial-{os.uname().nodename}-999999999-x.png").write_bytes(b"half")
    assert "made 1 PNGs" in run(*flags("labelme", *labelme))
    assert {name: content for name, (content, *_) in snapshot(output).items()} == finished


def test_jsons_go_before_pngs_of_other_classes_are_made(labelme, run, fails_in_one_line):
    source, output = labelme
    run(*flags("labelme", *labelme))
    first, last = ((source / f"image{k:02}.json").read_text() for k in (0, 11))
    write(source / "image00.json", first.replace('"car"', '"bus"'))  # the first class, so that all ids move
    write(source / "image11.json", last.replace('"points": [[0, 0], [8, 0], [8, 5], [0, 5]]', '"points": [[0, 0], [8, 5]]'))
    fails_in_one_line(import_labels.main, *flags("labelme", *labelme))
    assert not panoptic_json_path(output, "train").exists()
    write(source / "image11.json", last)
    run(*flags("labelme", *labelme))
    assert [c["name"] for c in json.loads(panoptic_json_path(output, "train").read_text())["categories"]] == [
        "bus",
        "car",
        "road",
    ]
    for name in open_splits(output):
        split = open_data_set(output).split(name)
        assert all(len(split.truth(index).segments) == 3 for index in range(len(split)))


def test_every_split_has_its_json_again_when_the_labels_of_all_have_changed(labelme, run):
    source, output = labelme
    run(*flags("labelme", *labelme))
    assert open_splits(output) == ["train", "val"]
    for path in source.glob("*.json"):
        write(path, path.read_text().replace('"car"', '"bus"'))
    assert "made 12 PNGs" in run(*flags("labelme", *labelme))
    assert open_splits(output) == ["train", "val"]
    for image in [p.name for p in output.glob("val/*.png")]:
        (source / image).with_suffix(".json").unlink()
    run(*flags("labelme", *labelme))
    assert open_splits(output) == ["train"]  # no image of val is left


def test_a_broken_label_leaves_no_json(labelme, fails_in_one_line):
    source, output = labelme
    content = json.loads((source / "image07.json").read_text())
    content["shapes"][0]["points"] = [[0, 0], [4, 4]]
    write(source / "image07.json", content)
    line = fails_in_one_line(import_labels.main, *flags("labelme", *labelme))
    assert "image07.json: shape 0 (road): polygon of 2 points" in line
    assert not list((output / "annotations").glob("*.json"))
    assert open_splits(output) == []


def open_splits(output: Path) -> list[str]:
    return open_data_set(output, "coco").splits()


def test_images_are_hard_links_or_copies_but_never_links_by_name(labelme, run):
    source, output = labelme
    (source / "image00.png").rename(source.parent / "elsewhere.png")
    (source / "image00.png").symlink_to(source.parent / "elsewhere.png")
    assert "12 hard links" in run(*flags("labelme", *labelme))
    images = sorted(output.glob("[tv]*/*.png"))
    assert len(images) == 12
    assert not any(path.is_symlink() for path in images)
    assert all(path.stat().st_nlink == 2 for path in images)
    assert "12 copies" in run(*flags("labelme", *labelme), "--copies")
    assert all(path.stat().st_nlink == 1 for path in images)


def test_images_are_copied_where_they_cannot_be_linked(labelme, run, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    before = snapshot(labelme[0])
    assert "12 copies" in run(*flags("labelme", *labelme))
    assert snapshot(labelme[0]) == before


def test_small_segments_become_unlabelled(labelme, run):
    said = run(*flags("labelme", *labelme), "--min-area", "8")  # of car a seven pixels are left
    assert "lost segments, with fewer than 8 pixels left: car 12" in said


def test_classes_of_a_file(labelme, run):
    entries = "classes:\n- {id: 40, name: road, isthing: 0}\n- {id: 50, name: car, isthing: 1, color: '#0000ff'}\n"
    path = write(labelme[0].parent / "classes.yaml", entries)
    run("--from", "labelme", "--source", labelme[0], "--output", labelme[1], "--classes", path)
    taxonomy = open_data_set(labelme[1]).taxonomy("train")
    assert [(c.dataset_id, c.name, c.is_thing, c.color) for c in taxonomy.categories][1] == (50, "car", True, (0, 0, 255))


def test_all_images_can_stay_in_one_split(labelme, run):
    said = run(*flags("labelme", *labelme), "--val-share", "0")
    assert "splits, in images: train 12\n" in said
    assert open_splits(labelme[1]) == ["train"]


REFUSED = {
    "format": (["--from", "cvat"], "--from 'cvat' is no known format; choose one of ade20k, ade20k-150, bdd100k"),
    "unsaid": (["--others", "nothing"], "--others 'nothing', but one of things, stuff, void"),
    "unknown name": (["--things", "cars"], "class cars is not in the source; near: car"),
    "share": (["--val-share", "1.5"], "--val-share 1.5, but a number from 0 to 1"),
    "area": (["--min-area", "0"], "--min-area 0, but 1 or more pixels"),
    "both": (["--classes", "x.yaml"], "leave out --things"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_do_not_fit_are_refused(case, labelme, fails_in_one_line):
    words, message = REFUSED[case]
    assert message in fails_in_one_line(import_labels.main, *flags("labelme", *labelme), *words)
    assert not labelme[1].exists()


def test_every_format_has_an_example_in_the_docs_that_the_command_takes():
    text = (Path(__file__).parents[2] / "docs" / "labels.md").read_text()
    commands = [line for line in text.splitlines() if line.startswith("python scripts/import_labels.py ")]
    given = [import_labels.build_parser().parse_args(shlex.split(line)[2:]) for line in commands]
    assert {getattr(arguments, "from") for arguments in given} == set(EXPORTS)
    assert all(name in import_labels.build_parser().format_help() for name in EXPORTS)


def test_classes_are_asked_for(labelme, fails_in_one_line):
    line = fails_in_one_line(import_labels.main, "--from", "labelme", "--source", labelme[0], "--output", labelme[1])
    assert "nobody says whether car road are things or stuff" in line
    assert "--things NAME" in line
    assert "--stuff NAME" in line
    assert not labelme[1].exists()


def test_a_source_and_an_output_in_each_other_are_refused(labelme, fails_in_one_line):
    source, _ = labelme
    for output in (source, source / "made", source.parent):
        line = fails_in_one_line(import_labels.main, *flags("labelme", source, output))
        assert "must stay as it is; give another --output" in line


def test_a_folder_of_somebody_else_is_refused(labelme, fails_in_one_line):
    photo(labelme[1] / "holiday.png")
    assert "is not empty, and no import was begun there" in fails_in_one_line(import_labels.main, *flags("labelme", *labelme))


def test_an_import_of_other_settings_is_refused(labelme, run, fails_in_one_line):
    run(*flags("labelme", *labelme))
    line = fails_in_one_line(import_labels.main, *flags("labelme", *labelme), "--seed", "1")
    assert "holds an import of other settings (seed 0); give another --output" in line


def test_a_source_without_labels_is_refused(tmp_path, fails_in_one_line):
    (tmp_path / "source").mkdir()
    line = fails_in_one_line(import_labels.main, *flags("labelme", tmp_path / "source", tmp_path / "output"))
    assert "no labelled images of labelme there; labelme needs images with one JSON each" in line
    line = fails_in_one_line(import_labels.main, *flags("labelme", tmp_path / "absent", tmp_path / "output"))
    assert "no such folder; --source must name" in line


def test_a_setting_has_a_line_in_the_report():
    assert set(vars(ImportSettings("labelme", "/source"))) == {"format", "source", "val_share", "seed", "min_area"}


def test_masks_are_equal_whatever_the_number_of_workers(labelme, run, tmp_path):
    run(*flags("labelme", *labelme))
    run(*flags("labelme", labelme[0], tmp_path / "again"), "--workers", "3")
    for name in ("train", "val"):
        one, three = (open_data_set(output).split(name) for output in (labelme[1], tmp_path / "again"))
        for index in range(len(one)):
            np.testing.assert_array_equal(one.truth(index).segment_ids, three.truth(index).segment_ids)
