"""scripts/check_labels.py as a user calls it, and what the table of kinds claims of the official evaluator."""

import json
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import average_pq, pq_compute_single_core
from PIL import Image

from data.label_checks.kinds import BROKEN, KINDS
from data.panoptic_file import write_panoptic_json
from data.panoptic_png import describe_segments, read_segment_ids, write_segment_ids
from data.taxonomy import CITYSCAPES
from scripts import check_labels

DOCS = Path(__file__).parents[2] / "docs" / "label_checks.md"


def write_scene(folder: Path, name: str) -> Path:
    """An image of 20x40 pixels: sky above road, a car of 8x10 pixels, two rows of void."""
    ids = np.full((20, 40), 23, np.uint32)
    ids[10:], ids[18:] = 7, 0
    ids[6:14, 5:15] = 26000
    write_segment_ids(folder / name / "a.png", ids)
    segments = describe_segments(ids, lambda i: i if i < 1000 else i // 1000)
    write_panoptic_json(folder / f"{name}.json", CITYSCAPES, [("a", "a.jpg", "a.png", ids.shape, segments)])
    return folder / f"{name}.json"


@pytest.fixture
def scene(tmp_path) -> Path:
    return write_scene(tmp_path, "truth")


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def segment_of(content: dict, segment_id: int) -> dict:
    return next(info for info in content["annotations"][0]["segments_info"] if info["id"] == segment_id)


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Call the command; return its exit code, what it printed, and problems.json."""

    def run(*arguments):
        words = [*arguments, "--output", tmp_path / "out"]
        monkeypatch.setattr(sys, "argv", ["check_labels.py", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            check_labels.main()
        return stopped.value.code, capsys.readouterr().out, json.loads((tmp_path / "out" / "problems.json").read_text())

    return run


def test_labels_that_are_right_end_with_code_0(call, scene):
    """Each class occurs once in one image, which is suspicious, and breaks nothing."""
    code, said, written = call("--truth", scene)
    assert code == 0
    assert written["broken"] == 0
    assert {entry["kind"] for entry in written["problems"]} == {"class-once"}
    assert "truth.json: 1 images, 3 segments" in said


def test_a_broken_label_ends_with_code_1_and_is_named_in_text_and_json(call, scene):
    edit(scene, lambda content: segment_of(content, 26000).update(area=1))
    code, said, written = call("--truth", scene)
    assert code == 1
    assert "a: segment 26000 (car): area 1 in the JSON, but 80 pixels in the PNG" in said
    assert said.index("area-wrong") < said.index("class-once")
    entry = written["problems"][0]
    assert (entry["kind"], entry["level"], entry["count"], entry["images"]) == ("area-wrong", BROKEN, 1, 1)
    expected = {"image": "a", "side": "truth", "segments": [26000], "box": [5, 6, 10, 8], "numbers": {"listed": 1, "counted": 80}}
    assert entry["findings"][0].items() >= expected.items()
    assert "count the areas from the PNGs again" in said.splitlines()[said.splitlines().index("What to do first:") + 1]


def test_show_limits_the_findings_that_are_printed_not_those_that_are_counted(call, scene):
    for segment_id in (7, 23, 26000):
        edit(scene, lambda content, k=segment_id: segment_of(content, k).update(area=1))
    _, said, written = call("--truth", scene, "--show", 2)
    assert "the first 2 of 6, some of each kind" in said
    assert said.count("in the JSON") == 2
    assert len(written["problems"][0]["findings"]) == 3


def test_a_prediction_is_checked_and_disputes_the_truth(call, scene, tmp_path):
    prediction = write_scene(tmp_path, "prediction")
    ids = read_segment_ids(tmp_path / "prediction" / "a.png")
    write_segment_ids(tmp_path / "prediction" / "a.png", np.where(ids == 26000, 27000, ids).astype(np.uint32))
    edit(prediction, lambda content: segment_of(content, 26000).update(id=27000, category_id=27))
    code, said, _ = call("--truth", scene, "--prediction", prediction)
    assert code == 0
    assert "a: segment 26000 (car): predicted as truck, IoU 1.00, score 1.00" in said
    edit(prediction, lambda content: content["annotations"][0].update(image_id="b"))
    (tmp_path / "prediction" / "a.png").rename(tmp_path / "prediction" / "b.png")
    edit(prediction, lambda content: content["annotations"][0].update(file_name="b.png"))
    edit(prediction, lambda content: content["images"].clear())
    code, said, _ = call("--truth", scene, "--prediction", prediction)
    assert code == 1
    assert "prediction, a: prediction.json has no annotation for it" in said


@pytest.mark.parametrize("change", ["png", "id", "json", "size"])
def test_a_broken_prediction_is_found(change, call, scene, tmp_path):
    prediction = write_scene(tmp_path, "prediction")
    png, kind = (
        tmp_path / "prediction" / "a.png",
        {"png": "png-missing", "id": "id-unlisted", "json": "json-unreadable"}.get(change),
    )
    if change == "png":
        png.unlink()
    elif change == "id":
        edit(prediction, lambda content: content["annotations"][0]["segments_info"].pop())
    elif change == "json":
        prediction.write_text("[]")
    else:
        kind = "size-disagrees"
        write_segment_ids(png, read_segment_ids(png)[:, ::2])
    code, _, written = call("--truth", scene, "--prediction", prediction)
    assert code == 1
    broken = {entry["kind"]: entry["findings"] for entry in written["problems"] if entry["level"] == BROKEN}
    assert list(broken) == [kind]
    assert broken[kind][0]["side"] == "prediction"


def test_a_prediction_that_calls_a_class_differently_is_found(call, scene, tmp_path):
    prediction = write_scene(tmp_path, "prediction")
    edit(prediction, lambda content: next(c for c in content["categories"] if c["id"] == 26).update(name="boat"))
    code, said, _ = call("--truth", scene, "--prediction", prediction)
    assert code == 1
    assert "category 26 is boat, but car in the truth" in said


def test_a_run_folder_is_a_prediction(call, scene, tmp_path):
    write_scene(tmp_path, "panoptic")
    (tmp_path / "run").mkdir()
    for name in ("panoptic", "panoptic.json"):
        shutil.move(tmp_path / name, tmp_path / "run" / name)
    code, _, written = call("--truth", scene, "--prediction", tmp_path / "run")
    assert code == 0
    assert {entry["kind"] for entry in written["problems"]} == {"class-once"}


def test_a_data_set_is_checked_by_its_root_and_split(call, snapshots):
    code, said, written = call("--data-root", snapshots, "--split", "train2017")
    kinds = {entry["kind"] for entry in written["problems"] if entry["level"] == BROKEN}
    assert kinds <= {"class-untrained"}
    assert code == int(bool(kinds))
    assert said.startswith("train2017: 10 images, ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--truth", "absent.json"], "no such file"),
        (["--images", "a"], "belong to --truth"),
        (["--truth", "a.json", "--split", "val"], "leave one of both out"),
        (["--data-root", "absent"], "no such folder"),
        (["--data-root", "SNAPSHOTS", "--split", "night"], "splits with a panoptic JSON: train2017, val2017"),
        (["--data-root", "SNAPSHOTS", "--prediction", "absent"], "--prediction names a run folder or a panoptic JSON"),
        (["--show", "-1"], "--show"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_one_line(arguments, line, fails_in_one_line, snapshots):
    given = [str(snapshots) if word == "SNAPSHOTS" else word for word in arguments]
    assert line in fails_in_one_line(check_labels.main, *given)


def test_the_page_lists_every_kind_as_the_table_has_it():
    rows = [line.strip("|").split(" | ") for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    found = {row[0].strip(" `"): tuple(cell.strip() for cell in row[1:]) for row in rows}
    assert found == {name: (kind.level, kind.definition, kind.effect) for name, kind in KINDS.items()}
    assert list(found) == list(KINDS)


# What the effects say of cityscapesscripts, by asking it.


def official(truth: Path, prediction: Path) -> dict:
    """The official scores of one image."""
    real, guess = (json.loads(path.read_text()) for path in (truth, prediction))
    categories = {entry["id"]: entry for entry in real["categories"]}
    pairs = [(real["annotations"][0], guess["annotations"][0])]
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        counts = pq_compute_single_core(0, pairs, truth.with_suffix(""), prediction.with_suffix(""), categories)
        return average_pq(counts, categories) | {"counts": counts.pq_per_cat}


@pytest.fixture
def pair(scene, tmp_path) -> tuple[Path, Path]:
    return scene, write_scene(tmp_path, "prediction")


def test_the_official_evaluator_believes_the_area(pair):
    """The car has 80 pixels; said to have 1, its union is 80 + 1 - 80 = 1, and its IoU 80."""
    edit(pair[0], lambda content: segment_of(content, 26000).update(area=1))
    assert official(*pair)["per_class"][26]["pq"] == 80


@pytest.mark.parametrize("key", ["iscrowd", "area"])
def test_the_official_evaluator_needs_what_may_be_absent_here(key, pair):
    edit(pair[0], lambda content: segment_of(content, 26000).pop(key))
    with pytest.raises(KeyError):
        official(*pair)


def test_the_official_evaluator_needs_isthing(pair):
    edit(pair[0], lambda content: [entry.pop("isthing") for entry in content["categories"]])
    with pytest.raises(KeyError):
        official(*pair)


def test_the_official_evaluator_takes_a_flag_in_text_for_0(pair):
    """A crowd would be left out; it is found instead. A thing becomes stuff, of which there are then three."""
    edit(pair[0], lambda content: segment_of(content, 26000).update(iscrowd="1"))
    assert official(*pair)["counts"][26].tp == 1
    edit(pair[0], lambda content: next(c for c in content["categories"] if c["id"] == 26).update(isthing="1"))
    edit(pair[0], lambda content: next(c for c in content["categories"] if c["id"] == 24).update(isthing=1))
    edit(pair[1], lambda content: segment_of(content, 26000).update(category_id=24))
    scores = official(*pair)
    assert (scores["Things"]["n"], scores["Stuff"]["n"]) == (1, 3)


def test_the_official_evaluator_misses_what_is_listed_and_not_drawn(pair):
    extra = {"id": 500, "category_id": 24, "area": 9, "bbox": [0, 0, 3, 3], "iscrowd": 0}
    edit(pair[0], lambda content: content["annotations"][0]["segments_info"].append(extra))
    assert official(*pair)["counts"][24].fn == 1
    edit(pair[1], lambda content: content["annotations"][0]["segments_info"].append(extra))
    with pytest.raises(KeyError):
        official(*pair)


def test_the_official_evaluator_takes_a_prediction_on_unlisted_pixels_for_invented(pair):
    edit(pair[0], lambda content: content["annotations"][0]["segments_info"].remove(segment_of(content, 26000)))
    assert official(*pair)["counts"][26].fp == 1


def test_the_official_evaluator_lets_misses_of_an_unknown_class_go(pair):
    edit(pair[0], lambda content: segment_of(content, 26000).update(category_id=99))
    scores = official(*pair)
    assert 99 not in scores["per_class"]
    assert scores["counts"][99].fn == 1
    assert scores["All"]["n"] == 3  # road, sky, and the car that was predicted


def test_the_official_evaluator_leaves_a_crowd_of_stuff_out(pair):
    edit(pair[0], lambda content: segment_of(content, 7).update(iscrowd=1))
    scores = official(*pair)
    assert (scores["counts"][7].tp, scores["counts"][7].fn, scores["counts"][7].fp) == (0, 0, 0)


def test_the_official_evaluator_keeps_the_last_of_two_entries(pair):
    edit(
        pair[0],
        lambda content: content["annotations"][0]["segments_info"].append({**segment_of(content, 26000), "category_id": 27}),
    )
    scores = official(*pair)
    assert (scores["counts"][26].tp, scores["counts"][27].fn) == (0, 1)


def test_the_official_evaluator_takes_id_0_for_a_segment_and_for_void(pair):
    """Void is 80 pixels. As a road that is found, its union is 80 + 80 - 80 - 80 = 0."""
    zero = {"id": 0, "category_id": 24, "area": 80, "bbox": [0, 18, 40, 2], "iscrowd": 0}
    for path in pair:
        edit(path, lambda content: content["annotations"][0]["segments_info"].append(dict(zero)))
    with np.errstate(all="ignore"):
        assert official(*pair)["per_class"][24]["pq"] == np.inf


def test_the_picture_book_shows_the_images_with_findings(call, scene, tmp_path):
    """Also those whose picture or PNG does not read."""
    edit(scene, lambda content: segment_of(content, 26000).update(area=1, category_id=201))
    code, said, _ = call("--truth", scene, "--report", tmp_path / "book")
    assert code == 1
    assert said.splitlines()[-1].endswith(f"{tmp_path / 'book' / 'index.html'}")
    run = (tmp_path / "book" / "data" / "run.js").read_text()
    assert '"kind":"category-unknown"' in run
    assert (tmp_path / "book" / "data" / "000000.js").exists()
    (tmp_path / "truth" / "a.png").write_bytes(b"no PNG")
    code, said, _ = call("--truth", scene, "--report", tmp_path / "book")
    assert '"images": [\n]' in (tmp_path / "book" / "data" / "run.js").read_text()


def test_the_picture_book_opens_where_a_prediction_or_a_picture_does_not_read(call, scene, tmp_path):
    prediction = write_scene(tmp_path, "prediction")
    (tmp_path / "prediction" / "a.png").write_bytes(b"no PNG")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "images" / "a.jpg")
    broken = (tmp_path / "images" / "a.jpg").read_bytes()
    (tmp_path / "images" / "a.jpg").write_bytes(broken[: len(broken) // 2])
    files = ("--truth", scene, "--prediction", prediction, "--images", tmp_path / "images")
    code, _, written = call(*files, "--report", tmp_path / "book")
    assert code == 1
    assert {"picture-unreadable", "png-unreadable"} <= {entry["kind"] for entry in written["problems"]}
    run = (tmp_path / "book" / "data" / "run.js").read_text()
    assert '"runs":[{"pq":null' in run  # the image has its place for the run, which says nothing of it
    assert not list((tmp_path / "book" / "data").glob("*.jpg"))
