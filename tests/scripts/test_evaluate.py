"""scripts/evaluate.py as a user calls it: the files it writes, the official comparison, and one line for bad input."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.layouts.image_files import find_images
from data.panoptic_file import read_panoptic_json, read_panoptic_map, write_panoptic_json
from data.panoptic_png import describe_segments, write_segment_ids
from data.taxonomy import CITYSCAPES
from evaluation.file_scores import evaluate_files
from prediction.pipeline import save_panoptic
from runtime.files import InputError
from scripts import collect, evaluate

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT.parent / "shared" / "samples"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="needs the real samples in ../shared/samples, which a user's clone has not"
)


def run(*arguments, folder):
    command = [sys.executable, str(ROOT / "scripts" / "evaluate.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)


def write_scene(folder, name, shift=0):
    """Two images of a road, a sky and two cars, the cars `shift` pixels to the right."""
    entries = []
    for image_id in ("town_000000", "town_000001"):
        ids = np.full((24, 48), 23, dtype=np.uint32)
        ids[12:], ids[20:] = 7, 0
        ids[8:16, 4 + shift : 16 + shift], ids[8:16, 20 + shift : 32 + shift] = 26000, 26001
        write_segment_ids(folder / name / f"{image_id}_panoptic.png", ids)
        segments = describe_segments(ids, lambda i: i if i < 1000 else i // 1000)
        entries.append((image_id, f"{image_id}_leftImg8bit.png", f"{image_id}_panoptic.png", ids.shape, segments))
    write_panoptic_json(folder / f"{name}.json", CITYSCAPES, entries)
    return folder / f"{name}.json"


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path, "truth"), write_scene(tmp_path, "prediction", shift=2)


def test_it_writes_scores_and_report_from_any_folder(scene, tmp_path):
    truth, prediction = scene
    images = tmp_path / "leftImg8bit" / "town"
    images.mkdir(parents=True)
    for image_id in ("town_000000", "town_000001"):
        Image.new("RGB", (48, 24), (90, 120, 150)).save(images / f"{image_id}_leftImg8bit.png")
    outputs = ["--output", "out/scores.json", "--report", "out/report", "--picture", "out/a.png", "--images", images.parent]
    result = run("--truth", truth, "--prediction", prediction, "--official", *outputs, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert list(scores)[:5] == ["All", "Things", "Stuff", "per_class", "errors"]
    # Each car is 12 wide and 2 off: 10 of 14 columns agree.
    car = scores["per_class"]["car"]
    assert (car["tp"], car["fp"], car["fn"]) == (4, 0, 0)
    assert car["sq"] == pytest.approx(10 / 14)
    assert scores["Things"] == {"pq": car["pq"], "sq": car["sq"], "rq": 1.0, "n": 1}
    assert "agree to the last digit" in result.stdout
    assert result.stdout.splitlines()[-1] == "wrote out/scores.json and out/report/index.html and out/a.png"
    assert sorted(path.name for path in (tmp_path / "out" / "report" / "data").iterdir()) == [
        *("000000.jpg", "000000.js", "000001.jpg", "000001.js", "run.js")
    ]
    origin = scores["provenance"]
    assert origin["files"]["truth"]["path"] == str(truth)
    assert origin["files"]["prediction"]["pngs"] == 2
    assert "--official" in origin["command"]
    picture = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert (picture == (90, 120, 150)).all(-1).sum() > 48 * 24  # the image is there, enlarged


@needs_samples
def test_the_real_coco_sample_agrees_with_the_official_evaluator(tmp_path):
    folder = SAMPLES / "coco_eval"
    arguments = ["--truth", folder / "coco_gt.json", "--prediction", folder / "coco_pred.json"]
    result = run(*arguments, "--official", "--output", "scores.json", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert round(json.loads((tmp_path / "scores.json").read_text())["All"]["pq"], 10) == 0.6740486629
    assert "agree to the last digit" in result.stdout


@needs_samples
def test_the_real_street_against_itself_is_perfect(tmp_path):
    path = SAMPLES / "street" / "cityscapes_panoptic_dummy_trainId.json"
    result = run("--truth", path, "--prediction", path, "--official", "--output", "scores.json", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "scores.json").read_text())["All"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "n": 5}


def test_predictions_of_other_classes_are_scored_by_a_class_map(snapshots, tmp_path):
    """The truth in COCO's 133 classes and in its 27 supercategories says the same."""
    truth = snapshots / "annotations" / "panoptic_val2017.json"
    content = json.loads(truth.read_text())
    other = [c | {"id": 1000 + k, "name": c["name"].replace("-", "_").title()} for k, c in enumerate(content["categories"])]
    ids = {c["id"]: o["id"] for c, o in zip(content["categories"], other, strict=True)}
    for annotation in content["annotations"]:
        for info in annotation["segments_info"]:
            info["category_id"] = ids[info["category_id"]]
    (tmp_path / "other.json").write_text(json.dumps(content | {"categories": other}))
    folder = ("--prediction-folder", truth.with_suffix(""))
    arguments = ("--truth", truth, "--prediction", tmp_path / "other.json", *folder, "--prediction-classes", "names")
    scores = run(*arguments, folder=tmp_path)
    assert scores.returncode == 0, scores.stderr
    assert "100.0" in scores.stdout


def test_a_folder_of_pngs_that_list_their_segments_is_a_prediction(scene, tmp_path):
    truth, _ = scene
    file = read_panoptic_json(truth)
    for image_id in file.annotations:
        panoptic = read_panoptic_map(file, image_id)
        infos = [{"id": s.segment_id, "category_id": s.category_id, "score": 0.5} for s in panoptic.segments]
        save_panoptic(tmp_path / "maps", image_id, panoptic.segment_ids, infos)
    done = run("--truth", truth, "--prediction", tmp_path / "maps", "--output", "scores.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "100.0" in done.stdout
    write_segment_ids(tmp_path / "maps" / "x.png", np.ones((4, 4), np.uint32))
    done = run("--truth", truth, "--prediction", tmp_path / "maps", "--output", "scores.json", folder=tmp_path)
    assert "x.png: lists no segments; write it with save_panoptic" in done.stderr


@pytest.fixture
def truth_file(scene):
    return read_panoptic_json(scene[0])


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    "names",
    [
        ("town_000000_leftImg8bit.png", "town_000001_leftImg8bit.png"),
        ("a/town_000000.jpg", "b/town_000001.png"),
        ("a/other.png", "b/other.png", "town_000000.jpg", "town_000001.jpg"),  # ids of the folder are paths
    ],
)
def test_images_are_found_by_image_id_wherever_they_lie(truth_file, tmp_path, names):
    folder = tmp_path / "images"
    touch(folder, *names, "town_000000.mp4")
    found = find_images(str(folder), truth_file)
    assert found == {"town_000000": folder / names[-2], "town_000001": folder / names[-1]}


def test_images_are_found_by_the_file_name_that_the_json_gives(scene, tmp_path):
    content = json.loads(scene[0].read_text())
    for k, image in enumerate(content["images"]):
        image["file_name"] = f"{'ab'[k]}/same.png"
    scene[0].write_text(json.dumps(content))
    touch(tmp_path / "images", "a/same.png", "b/same.png", "c/same.png")
    found = find_images(str(tmp_path / "images"), read_panoptic_json(scene[0]))
    assert found == {"town_000000": tmp_path / "images/a/same.png", "town_000001": tmp_path / "images/b/same.png"}


def test_two_photos_of_one_image_are_refused_and_none_is_no_harm(truth_file, tmp_path):
    touch(tmp_path / "images", "a/town_000000.png", "b/town_000000.jpg")
    with pytest.raises(InputError, match=r"could be a/town_000000, b/town_000000; give names that tell them"):
        find_images(str(tmp_path / "images"), truth_file)
    touch(tmp_path / "others", "x.png")
    assert find_images(str(tmp_path / "others"), truth_file) == find_images(None, truth_file) == {}


def test_a_wrong_area_in_the_truth_is_named_as_the_reason_for_a_difference(scene, tmp_path):
    truth, prediction = scene
    content = json.loads(truth.read_text())
    content["annotations"][0]["segments_info"][0]["area"] += 50
    truth.write_text(json.dumps(content))
    result = run("--truth", truth, "--prediction", prediction, "--official", "--output", "scores.json", folder=tmp_path)
    assert result.returncode == 1
    assert "Ours and the official evaluator differ in: All pq" in result.stdout
    assert "1 segments have another `area` than their PNG" in result.stderr


def drop_an_image(truth, prediction):
    content = json.loads(prediction.read_text())
    content["annotations"].pop()
    prediction.write_text(json.dumps(content))


def drop_a_segment(truth, prediction):
    content = json.loads(prediction.read_text())
    content["annotations"][0]["segments_info"].pop()
    prediction.write_text(json.dumps(content))


def leave_the_folder(truth, prediction):
    content = json.loads(prediction.read_text())
    content["annotations"][0]["file_name"] = "../truth/town_000000_panoptic.png"
    prediction.write_text(json.dumps(content))


def truncate_a_png(truth, prediction):
    png = prediction.with_suffix("") / "town_000001_panoptic.png"
    png.write_bytes(png.read_bytes()[:-40])


BAD_INPUT = {
    "missing file": (lambda t, p: p.unlink(), "prediction.json: no such file; give the path of a JSON file"),
    "missing folder": (lambda t, p: p.with_suffix("").rename(p.parent / "else"), "prediction: no such folder"),
    "no json": (lambda t, p: p.write_text("{"), "prediction.json: not valid JSON"),
    "missing prediction": (drop_an_image, "no prediction for image 'town_000001'; predict every image of the truth"),
    "unlisted segment": (drop_a_segment, "segment ids 26001 are in the PNG, but not in the list"),
    "path outside": (leave_the_folder, "'../truth/town_000000_panoptic.png' leaves its folder"),
    "truncated png": (truncate_a_png, "image 'town_000001': "),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_gets_one_line_and_leaves_no_result(scene, tmp_path, spoil, message):
    truth, prediction = scene
    spoil(truth, prediction)
    result = run("--truth", truth, "--prediction", prediction, "--output", "scores.json", folder=tmp_path)
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "scores.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--truth", "a.json"], "give both --truth and --prediction"),
        (["--workers", "0"], "--workers: 0 does not conform to restriction v>0"),
        (["--truth", "a.json", "--prediction", "b.json", "--picture", "a.jpg"], "a name that ends in .png is needed"),
        (["--truth", "a.json", "--prediction", "b.json", "--taxonomy", "kitti"], "--taxonomy kitti: unknown; give cityscapes"),
    ],
)
def test_bad_arguments_are_explained(tmp_path, arguments, message):
    result = run(*arguments, folder=tmp_path)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_without_files_it_says_first_that_it_scores_the_demo(tmp_path):
    result = run("--output", "scores.json", folder=tmp_path)
    assert result.stdout.splitlines()[0].startswith("no files given: scoring ")
    assert "on the embedded data set" in result.stdout.splitlines()[0]
    if result.returncode != 0:  # a clone in which the demo has not run yet
        assert result.stderr.startswith("error: ")
        assert "run `make demo`" in result.stderr


def renamed(path, folder, changes):
    """A copy of a panoptic JSON, and its folder, whose images are called otherwise: old id -> (new id, file name)."""
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["id"], image["file_name"] = changes[image["id"]]
    for annotation in content["annotations"]:
        annotation["image_id"] = changes[annotation["image_id"]][0]
    (folder / "renamed.json").write_text(json.dumps(content))
    return folder / "renamed.json", path.with_suffix("")


def score_renamed(scene, tmp_path, changes):
    truth, prediction = scene
    path, folder = renamed(prediction, tmp_path, changes)
    arguments = (read_panoptic_json(truth), read_panoptic_json(path, folder, is_prediction=True))
    return evaluate_files(*arguments).scores


FIRST, SECOND = "town_000000", "town_000001"


def test_images_of_other_ids_are_paired_by_their_names(scene, tmp_path):
    same = score_renamed(scene, tmp_path, {k: (k, f"{k}.png") for k in (FIRST, SECOND)})
    assert score_renamed(scene, tmp_path, {FIRST: (7, f"{FIRST}.png"), SECOND: (8, f"x/{SECOND}_leftImg8bit.png")}) == same


MISNAMED = {
    "one prediction for two truths": ({FIRST: (1, "x.png"), SECOND: (2, "y.png")}, "no prediction for image"),
    "an id that is another image's": ({FIRST: (FIRST, "a.png"), SECOND: (SECOND, "b.png")}, "number the images of both alike"),
}


@pytest.mark.parametrize(("changes", "words"), MISNAMED.values(), ids=MISNAMED)
def test_images_that_cannot_be_paired_are_refused(scene, tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        score_renamed(scene, tmp_path, changes)


def test_errors_are_counted_named_and_listed_by_image(scene, tmp_path):
    truth, prediction = scene
    arguments = ("--truth", truth, "--prediction", prediction, "--output", tmp_path / "s.json", "--per-image", tmp_path / "i.csv")
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    kinds = json.loads((tmp_path / "s.json").read_text())["errors"]["kinds"]
    rows = list(csv.DictReader((tmp_path / "i.csv").open()))
    assert [row["image"] for row in rows] == ["town_000000", "town_000001"]
    for side in ("truth", "prediction"):
        for kind, entry in kinds.items():
            assert sum(int(row.get(f"{side} {kind}", 0)) for row in rows) == entry[f"{side}s"]
    assert sum(int(row["tp"]) for row in rows) == kinds["found"]["truths"] == 8
    assert re.search(r"^found +8 +8 ", done.stdout, re.MULTILINE)
    done = run(*arguments[:6], "--per-image", tmp_path / "i.txt", folder=tmp_path)
    assert "i.txt, but a name that ends in .csv or .parquet is needed" in done.stderr


def test_two_runs_are_compared_on_the_same_images_and_sliced(scene, tmp_path):
    truth, prediction = scene
    other = write_scene(tmp_path, "other", shift=4)  # each car 4 off: 8 of 16 columns agree, no match
    (tmp_path / "table.csv").write_text("image,light\ntown_000000,day\ntown_000001,night\n")
    arguments = ("--truth", truth, "--prediction", prediction, "--compare", f"worse={other}", "--slices", "table.csv")
    done = run(*arguments, "--also", "boundary", "dagger", "--report", "report", "--output", "s.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "s.json").read_text())
    gain = scores["differences"]["worse"]["Things"]
    assert gain["gain"] == pytest.approx(10 / 14)
    assert (gain["low"], gain["num_images"]) == (None, 2)
    assert "no interval, since 2 images are too few (20 are needed)" in done.stdout
    assert {name: entry["num_images"] for name, entry in scores["slices"]["light"].items()} == {"day": 1, "night": 1}
    assert scores["slices"]["light"]["day"]["Things"]["pq"] == pytest.approx(10 / 14)
    assert scores["pq_dagger"]["Things"]["pq"] == scores["Things"]["pq"]
    assert scores["boundary"]["Things"]["pq"] <= scores["Things"]["pq"]
    matrix = np.array(scores["semantic"]["confusion"]["pixels"])
    assert matrix.sum() == 2 * 20 * 48  # all but the void rows
    content = (tmp_path / "report" / "data" / "run.js").read_text()
    assert '"name":"worse"' in content


def test_a_name_that_is_given_twice_or_a_file_without_scores_is_refused_before_scoring(scene, tmp_path):
    truth, prediction = scene
    files = ("--truth", truth, "--prediction", prediction)
    done = run(*files, "--compare", f"a={prediction}", "--compare", f"a={prediction}", folder=tmp_path)
    assert "the name 'a' is taken; give each run its own" in done.stderr
    (tmp_path / "x.json").write_text("[]")
    done = run(*files, "--compare", "a=x.json", "--report", "r", folder=tmp_path)
    assert "x.json: no prediction and no scores; give a panoptic JSON" in done.stderr
    assert not (tmp_path / "r").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    done = run(*files, "--report", "mine", folder=tmp_path)
    assert "mine: holds other files than a report, which would go" in done.stderr
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_no_output_takes_the_place_of_an_input_or_is_lost_with_the_report(scene, tmp_path):
    truth, prediction = scene
    (tmp_path / "table.csv").write_text("image,light\ntown_000000,day\n")
    files = ("--truth", truth, "--prediction", prediction)
    refused = {
        ("--output", prediction): "is also what --prediction names",
        ("--slices", "table.csv", "--per-image", "table.csv"): "is also what --slices names",
        ("--report", "r", "--per-image", "r/images.csv"): "lies in --report, which is written anew as a whole",
        ("--output", tmp_path): "is a folder, but the name of a file is needed",
        ("--report", "."): "give the report a folder of its own",
    }
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for arguments, message in refused.items():
        done = run(*files, *arguments, folder=tmp_path)
        assert message in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_compared_path_may_hold_the_sign_and_scores_of_another_truth_are_refused(scene, tmp_path):
    truth, prediction = scene
    other = write_scene(tmp_path, "lr=0.1", shift=4)
    done = run("--truth", truth, "--prediction", prediction, "--compare", f"a={other}", "--output", "s.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("--truth", other, "--prediction", prediction, "--compare", "a=s.json", "--output", "t.json", folder=tmp_path)
    assert "--compare a: scores of another truth" in done.stderr


@pytest.mark.parametrize("count", [1, 3])
def test_shards_of_a_comparison_give_the_bytes_of_one_process(count, scene, tmp_path, monkeypatch, capsys):
    truth, prediction = scene
    write_scene(tmp_path, "other", shift=3)
    (tmp_path / "weather.csv").write_text("image,weather\ntown_000000,rain\ntown_000001,sun\n")
    outputs = ("--output", tmp_path / "out/scores.json", "--per-image", tmp_path / "out/images.csv")
    more = ("--also", "boundary", "dagger", "--slices", tmp_path / "weather.csv", "--compare", f"other={tmp_path / 'other.json'}")
    flags = [str(flag) for flag in ("--truth", truth, "--prediction", prediction, *outputs, *more)]

    def call(*shard):
        monkeypatch.setattr(sys, "argv", ["scripts/evaluate.py", *flags, *shard])
        evaluate.main()

    call()
    whole, shown = (tmp_path / "out/scores.json").read_bytes(), capsys.readouterr().out
    rows = [row[:-1] for row in csv.reader((tmp_path / "out/images.csv").open())]  # seconds differ
    shutil.rmtree(tmp_path / "out")
    for number in range(count, 0, -1):
        call("--shard", f"{number}/{count}")
    if count > 1:
        assert not (tmp_path / "out/scores.json").exists()
        capsys.readouterr()
        collect.run(collect.build_parser().parse_args([str(tmp_path / "out")]))
        assert capsys.readouterr().out.split("\nWrote")[0] == shown.split("\nWrote")[0]
    assert (tmp_path / "out/scores.json").read_bytes() == whole
    assert [row[:-1] for row in csv.reader((tmp_path / "out/images.csv").open())] == rows


def test_what_needs_all_images_is_refused_for_a_shard(scene, tmp_path):
    truth, prediction = scene
    result = run("--truth", truth, "--prediction", prediction, "--shard", "1/2", "--report", tmp_path / "r", folder=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert "error: --report is of all images together; leave it or --shard out" in result.stderr
