"""The commands that draw an embedded data set: what is given is drawn, the rest is as usual, and older spellings work."""

import sys
from pathlib import Path

import pytest

from data.drawn.snapshots import DEFAULT_ROOT as SNAPSHOTS
from data.drawn.streets import DEFAULT_ROOT as STREETS
from data.layouts.find import open_data_set
from scripts import draw_snapshots, draw_streets

COMMANDS = {"streets": (draw_streets, STREETS), "snapshots": (draw_snapshots, SNAPSHOTS)}


@pytest.mark.parametrize(("command", "root"), COMMANDS.values(), ids=COMMANDS)
def test_the_folder_is_that_of_the_embedded_set_unless_one_is_given(command, root):
    parse = command.build_parser().parse_args
    assert Path(parse([]).data_root) == root
    assert parse(["--data-root", "x"]).data_root == parse(["--root", "x"]).data_root == "x"


@pytest.mark.parametrize(("command", "layout"), [(draw_streets, "cityscapes"), (draw_snapshots, "coco")], ids=COMMANDS)
@pytest.mark.parametrize("flag", ["--data-root", "--root"])
def test_what_is_asked_for_is_drawn(command, layout, flag, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["draw.py", flag, str(tmp_path / "own"), "--num-train", "2", "--num-val", "1"])
    command.main()
    data_set = open_data_set(tmp_path / "own")
    assert data_set.layout == layout
    assert [len(data_set.split(name)) for name in data_set.splits()] == [2, 1]
    assert f"are in {tmp_path / 'own'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (draw_streets, ["--height", "100"], "size is 100x384, but heights from 128 to 1024"),
        (draw_streets, ["--traffic", "9"], "traffic is 9, but 1 to 5"),
        (draw_snapshots, ["--num-val", "-1"], "num_val is -1, but a whole number from 0 on"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(command, arguments, message, tmp_path, fails_in_one_line):
    assert message in fails_in_one_line(command.main, "--data-root", tmp_path / "own", *arguments)
    assert not (tmp_path / "own").exists()


def test_a_drive_is_drawn_with_its_tracks_and_never_into_the_embedded_set(tmp_path, monkeypatch, capsys, fails_in_one_line):
    arguments = ["--height", "128", "--width", "256", "--sequence", "3"]
    monkeypatch.setattr(sys, "argv", ["draw.py", "--data-root", str(tmp_path / "drive"), *arguments])
    draw_streets.main()
    assert len(open_data_set(tmp_path / "drive").split("val")) == 3
    assert f"tracks: {tmp_path / 'drive' / 'gtFine' / 'tracks_val.json'}" in capsys.readouterr().out
    assert "give another --data-root" in fails_in_one_line(draw_streets.main, *arguments)
