"""The viewer's folder: what a page decodes is what was compared; whole or not at all; nothing of the user's is deleted."""

import base64
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from data.panoptic_png import PanopticMap, describe_segments
from data.taxonomy import CITYSCAPES
from evaluation.error_kinds import KINDS, KINDS_OF_ERRORS, ErrorKinds
from evaluation.file_scores import compare_maps
from evaluation.viewer import Finding, Problem, Summary, ViewedRun, encode_map, open_viewer
from runtime.files import InputError


def decode(entry, size):
    """As the page does: inflate, then add each row to the one above, modulo 2^bits."""
    kind = {8: "<u1", 16: "<u2"}[entry["bits"]]
    rows = np.frombuffer(zlib.decompress(base64.b64decode(entry["data"])), kind).reshape(size)
    return np.add.accumulate(rows, axis=0, dtype=kind)


def compare(truth, prediction):
    return compare_maps("x", truth, prediction)


def arguments_of(script):
    """What the call in a data file is given, as JSON."""
    text = script.read_text(encoding="ascii")
    return json.loads("[" + text[text.index("(") + 1 : text.rindex(")")] + "]")


@pytest.mark.parametrize("num_segments", [3, 255, 256, 700])
def test_a_map_is_the_place_of_each_segment_in_the_list(num_segments):
    ids = np.random.default_rng(0).integers(0, num_segments + 1, (60, 90)).astype(np.uint32) * 1000
    ids.flat[: num_segments + 1] = np.arange(num_segments + 1) * 1000  # each occurs
    segments = describe_segments(ids, lambda i: 26)
    entry = encode_map(PanopticMap(ids, segments))
    assert entry["bits"] == (8 if num_segments < 256 else 16)
    expected = np.searchsorted([0, *(s.segment_id for s in segments)], ids)
    assert (decode(entry, ids.shape) == expected).all()


def test_an_image_says_of_each_segment_what_became_of_it(tmp_path, draw, toy):
    truth, prediction = draw("aaaassss", "rrrrrrrr", "........"), draw("bbbbssss", "rrrrrrpp", "........")
    Image.new("RGB", (8, 3), (9, 9, 9)).save(tmp_path / "x.png")
    found = compare(truth, prediction)
    with open_viewer(tmp_path / "v", toy, ["x"], {"x": tmp_path / "x.png"}) as viewer:
        entry = viewer.write_image("x", truth, [found], [Finding(0, "a text", "truth", (26000,), (0, 0, 4, 1))])
        viewer.add(entry)
        errors = ErrorKinds(toy)
        errors.add(found.outcomes, found.matches, 24)
        run = ViewedRun("mine", errors.quality.scores(toy), errors)
        viewer.finish(Summary("T", {"a": 1, "b": None}, [run], problems=[Problem("broken", "k", 1, "t", "e")]))
    (run,) = arguments_of(tmp_path / "v" / "data" / "run.js")
    assert run["runs"][0]["scores"]["All"] == errors.quality.scores(toy)["All"]
    assert run["facts"] == [["a", "1"]]
    assert run["meanings"] == [KINDS_OF_ERRORS[kind].meaning for kind in run["kinds"]]
    assert [entry["gain"] for entry in run["runs"][0]["kinds"]] == [errors.scores()["kinds"][kind]["gain"] for kind in KINDS]
    (listed,) = run["images"]
    assert (listed["id"], listed["picture"], listed["size"]) == ("x", "data/000000.jpg", [3, 8])
    assert (listed["runs"][0]["tp"], listed["runs"][0]["fp"], listed["runs"][0]["fn"]) == (3, 1, 0)
    name, image = arguments_of(tmp_path / "v" / "data" / "000000.js")
    assert name == listed["file"] == "000000"
    assert [toy.categories[s["class"]].name for s in image["truth"]["segments"]] == ["road", "sky", "car"]
    car = next(s for s in image["runs"][0]["segments"] if s["id"] == 26001)
    assert (KINDS[car["kind"]], car["iou"], car["box"], car["area"]) == ("found", 1.0, [0, 0, 4, 1], 4)
    assert [image["truth"]["segments"][k]["id"] for k in car["partners"]] == [26000]
    person = next(s for s in image["runs"][0]["segments"] if s["id"] == 24000)
    assert KINDS[person["kind"]] == "invented"
    finding = {"problem": 0, "text": "a text", "side": "truth", "segments": [2], "box": [0, 0, 4, 1]}
    assert image["problems"] == [finding]


def write(folder, draw, toy, *, fails=False):
    scene = draw("aarr")
    with open_viewer(folder, toy, ["x"]) as viewer:
        viewer.add(viewer.write_image("x", scene, [compare(scene, scene)]))
        if fails:
            raise InputError("stopped")
        viewer.finish(Summary("T"))


def test_a_report_takes_the_place_of_an_older_one_only_when_it_is_whole(tmp_path, draw, toy):
    write(tmp_path / "v", draw, toy)
    (tmp_path / "v" / "data" / "000009.js").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="stopped"):
        write(tmp_path / "v", draw, toy, fails=True)
    assert sorted(tmp_path.rglob("*")) == before
    write(tmp_path / "v", draw, toy)
    assert not (tmp_path / "v" / "data" / "000009.js").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_a_folder_of_other_files_and_a_file_are_left_alone(tmp_path, draw, toy):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    (tmp_path / "site" / "data").mkdir(parents=True)
    (tmp_path / "site" / "index.html").touch()  # somebody's own page
    write(tmp_path / "v", draw, toy)
    (tmp_path / "v" / "notes.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    for name in ("mine", "mine/thesis.tex", "site", "v"):
        with pytest.raises(InputError, match="give another name"):
            write(tmp_path / name, draw, toy)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_to_a_folder_is_followed(tmp_path, draw, toy):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    write(tmp_path / "link", draw, toy)
    assert (tmp_path / "there" / "index.html").exists()
    assert (tmp_path / "link").is_symlink()


def test_a_picture_of_another_size_is_refused(tmp_path, draw, toy):
    Image.new("RGB", (9, 1)).save(tmp_path / "x.png")
    scene = draw("aarr")
    with (
        pytest.raises(InputError, match=r"x\.png: image and truth are 1x9 and 1x4 pixels"),
        open_viewer(tmp_path / "v", toy, ["x"], {"x": tmp_path / "x.png"}) as viewer,
    ):
        viewer.write_image("x", scene, [compare(scene, scene)])


def test_data_files_are_ascii_whatever_names_hold(tmp_path, draw):
    scene = draw("aarr")
    with open_viewer(tmp_path / "v", CITYSCAPES, ["</script>\u2028ü"]) as viewer:
        viewer.add(viewer.write_image("</script>\u2028ü", scene, [compare(scene, scene)]))
        viewer.finish(Summary("<b>"))
    (run,) = arguments_of(tmp_path / "v" / "data" / "run.js")
    assert run["images"][0]["id"] == "</script>\u2028ü"
