"""scripts/submit.py: the official evaluators score what it packs, and what is incomplete is refused in one line."""

import contextlib
import io
import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as instance_level
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as pixel_level
from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import evaluatePanoptic
from PIL import Image

from data.drawn.snapshots import VAL_SPLIT
from data.layouts.cityscapes import CityscapesSplit, write_panoptic
from data.layouts.coco import CocoSplit, panoptic_json_path
from data.panoptic_file import read_panoptic_json, write_panoptic_json
from data.panoptic_png import read_segment_ids, write_segment_ids
from data.split import Split
from data.targets import panoptic_to_semantic_logits
from data.taxonomy import CITYSCAPES
from prediction.predictor import Prediction
from prediction.run import predict_split
from prediction.submission import SERVERS
from scripts import submit

KINDS = ("cityscapes-panoptic", "cityscapes-semantic", "cityscapes-instance")


class Perfect:
    """Says the truth; its objects are those of its panoptic map, its semantics are logits."""

    gives = ("panoptic", "semantic")
    min_score = None

    def __init__(self, split: Split):
        self.split, self.taxonomy = split, split.taxonomy

    def fingerprint(self, image_id: str) -> str:
        return "perfect"

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        truth = self.split.truth(self.split.index_of[image_id])
        semantic = panoptic_to_semantic_logits(truth, self.taxonomy, image_id=image_id, stride=1, producer="")
        return Prediction(truth, None, semantic)


@pytest.fixture(scope="module")
def truth_run(streets, tmp_path_factory) -> Path:
    """A run whose predictions are the truth of Streets: everything that is scored must be 1."""
    output = tmp_path_factory.mktemp("run") / "perfect_model"
    split = CityscapesSplit(streets, "val")
    return predict_split(split, Perfect(split), output, ("panoptic", "instances", "semantic")).folder


@pytest.fixture
def run_copy(truth_run, tmp_path) -> Path:
    return Path(shutil.copytree(truth_run, tmp_path / "run"))


@pytest.fixture
def pack(monkeypatch, capsys, streets, tmp_path):
    """Call the command; return the zip and what was said. Without a data root it is Streets' val."""

    def call(kind: str, *arguments: str | Path, data_root: Path = streets, split: str = "val") -> tuple[Path, str]:
        output = tmp_path / f"{kind}.zip"
        words = ["--to", kind, *arguments, "--data-root", data_root, "--split", split, "--output", output]
        monkeypatch.setattr(sys, "argv", ["submit.py", *map(str, words)])
        submit.main()
        said = capsys.readouterr()
        return output, said.out + said.err

    return call


def unpack(path: Path) -> Path:
    folder = path.with_suffix("")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def silently(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments)


def labels(root: Path, kind: str) -> list[str]:
    return sorted(str(path) for path in (root / "gtFine" / "val").rglob(f"*_gtFine_{kind}.png"))


def arguments_for(module, monkeypatch, folder: Path):
    """The evaluator's settings, for results in `folder`."""
    settings = {"predictionPath": str(folder), "predictionWalk": None, "quiet": True, "JSONOutput": False}
    for name, value in settings.items():
        monkeypatch.setattr(module.args, name, value)
    return module.args


def test_the_official_panoptic_evaluator_takes_the_zip(pack, truth_run, streets, tmp_path):
    folder = unpack(pack("cityscapes-panoptic", "--run", truth_run)[0])
    truth = write_panoptic(streets, "val", derived=tmp_path / "truth")
    prediction = folder / "cityscapes_panoptic_val.json"
    files = (truth, truth.with_suffix(""), prediction, prediction.with_suffix(""), tmp_path / "official.json")
    scores = silently(evaluatePanoptic, *map(str, files))
    assert [scores[group]["pq"] for group in ("All", "Things", "Stuff")] == [1.0, 1.0, 1.0]
    assert sorted(path.name for path in folder.iterdir()) == ["cityscapes_panoptic_val", "cityscapes_panoptic_val.json"]
    assert len(list(prediction.with_suffix("").iterdir())) == 6


def test_the_official_pixel_evaluator_finds_and_scores_the_maps(pack, truth_run, streets, monkeypatch):
    folder = unpack(pack("cityscapes-semantic", "--run", truth_run)[0])
    args = arguments_for(pixel_level, monkeypatch, folder)
    monkeypatch.setattr(args, "evalInstLevelScore", False)  # its weights need np.in1d, which NumPy 2.4 has not
    truths = labels(streets, "labelIds")
    found = [pixel_level.getPrediction(args, truth) for truth in truths]
    scores = silently(pixel_level.evaluateImgLists, found, truths, args)
    assert scores["averageScoreClasses"] == 1.0
    assert len(set(found)) == 6


def test_the_official_instance_evaluator_finds_and_scores_the_masks(pack, truth_run, streets, monkeypatch, tmp_path):
    folder = unpack(pack("cityscapes-instance", "--run", truth_run)[0])
    args = arguments_for(instance_level, monkeypatch, folder)
    monkeypatch.setattr(args, "gtInstancesFile", str(tmp_path / "gtInstances.json"))
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # it was removed from NumPy 2.4; they reshape what it gives
    truths = labels(streets, "instanceIds")
    found = [instance_level.getPrediction(truth, args) for truth in truths]
    # The parts of its evaluateImgLists, but for a file that it writes, which NumPy's numbers stop.
    instance_level.setInstanceLabels(args)
    objects = silently(instance_level.getGtInstances, truths, args)
    matches = silently(instance_level.matchGtWithPreds, found, truths, objects, args)
    scores = instance_level.computeAverages(instance_level.evaluateMatches(matches, args), args)
    there = {name: ap["ap"] for name, ap in scores["classes"].items() if not np.isnan(ap["ap"])}
    assert there.keys() >= {"car", "person"}
    assert set(there.values()) == {1.0}


def test_each_line_of_a_text_names_a_mask_a_thing_and_a_score(pack, truth_run):
    folder = unpack(pack("cityscapes-instance", "--run", truth_run)[0])
    lines = [line for path in sorted(folder.glob("*.txt")) for line in path.read_text().splitlines()]
    things = {str(c.dataset_id) for c in CITYSCAPES.categories if c.is_thing}
    assert {line.split(" ")[1] for line in lines} <= things
    masks = sorted(path.relative_to(folder).as_posix() for path in (folder / "masks").iterdir())
    assert sorted(line.split(" ")[0] for line in lines) == masks
    assert all(set(np.unique(Image.open(folder / mask))) == {0, 255} for mask in masks)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_predictions_give_the_same_bytes(kind, pack, truth_run):
    first = pack(kind, "--run", truth_run)[0].read_bytes()
    assert pack(kind, "--run", truth_run)[0].read_bytes() == first


def test_what_a_run_has_not_kept_comes_from_its_panoptic_maps(pack, truth_run):
    """By another tool's JSON, which has nothing else: things as masks, void as label id 0."""
    place = ("--prediction", truth_run / "panoptic.json")
    path, said = pack("cityscapes-semantic", *place)
    assert "from panoptic predictions" in said
    folder = unpack(path)
    maps = read_panoptic_json(truth_run / "panoptic.json", truth_run / "panoptic")
    for key, annotation in maps.annotations.items():
        ids = read_segment_ids(maps.folder / annotation.file_name)
        expected = np.where(ids < 1000, ids, ids // 1000)
        assert np.array_equal(np.asarray(Image.open(folder / f"{key}_labelIds.png")), expected)


def test_an_image_of_nothing_but_void_is_packed(pack, run_copy):
    content = json.loads((run_copy / "panoptic.json").read_text())
    content["annotations"][0]["segments_info"] = []
    (run_copy / "panoptic.json").write_text(json.dumps(content))
    png = run_copy / "panoptic" / content["annotations"][0]["file_name"]
    write_segment_ids(png, np.zeros((128, 256), np.uint32))
    image_id = content["annotations"][0]["image_id"]
    for kind in KINDS:
        folder = unpack(pack(kind, "--prediction", run_copy / "panoptic.json")[0])
    assert (folder / f"{image_id}.txt").read_text() == ""


def test_predictions_of_other_images_are_left_out_and_named(pack, run_copy):
    instances = run_copy / "instances"
    shutil.copy(next(instances.iterdir()), instances / "elsewhere_000000_000001.instances.safetensors")
    path, said = pack("cityscapes-instance", "--run", run_copy)
    assert "1 instances predictions are of no image of the split and left out: elsewhere_000000_000001" in said
    assert not any("elsewhere" in name for name in zipfile.ZipFile(path).namelist())


def test_a_split_that_is_not_the_servers_is_said(pack, truth_run):
    assert "the server scores test; this zip of val is for a try" in pack("cityscapes-panoptic", "--run", truth_run)[1]


def test_a_test_split_of_another_number_of_images_is_said(pack, truth_run, streets, tmp_path):
    root = tmp_path / "root"
    (root / "gtFine").mkdir(parents=True)
    shutil.copytree(streets / "leftImg8bit" / "val", root / "leftImg8bit" / "test")
    said = pack("cityscapes-panoptic", "--run", truth_run, data_root=root, split="test")[1]
    assert "6 images in test, but the server's has 1525" in said
    assert "upload this file as it is: https://www.cityscapes-dataset.com/submit" in said


@pytest.fixture
def refused(fails_in_one_line, streets, tmp_path):
    """The line that the command ends in; there must be no zip."""

    def call(kind: str, *arguments: str | Path, data_root: Path = streets, split: str = "val") -> str:
        output = tmp_path / "out" / "a.zip"
        words = ("--to", kind, *arguments, "--data-root", data_root, "--split", split, "--output", output)
        line = fails_in_one_line(submit.main, *words)
        assert not output.parent.exists() or list(output.parent.iterdir()) == []
        return line

    return call


@pytest.mark.parametrize(("kind", "part"), zip(KINDS, ("panoptic", "semantic", "instances")))
def test_an_incomplete_prediction_is_refused_with_the_names_of_what_is_missing(kind, part, refused, run_copy):
    missing = sorted(path for path in (run_copy / part).iterdir())[1:3]
    for path in missing:
        path.unlink()
    line = refused(kind, "--run", run_copy)
    names = [path.name.partition("_panoptic")[0].partition(".")[0] for path in missing]
    assert f"2 of 6 images have no {part} prediction: {', '.join(names)}; predict these, too" in line


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_damaged_png_is_refused_and_no_zip_is_left(refused, run_copy):
    next((run_copy / "panoptic").iterdir()).write_bytes(b"no PNG")
    assert "cannot be decoded" in refused("cityscapes-panoptic", "--run", run_copy)


def test_a_prediction_of_another_size_is_refused(refused, run_copy):
    content = json.loads((run_copy / "panoptic.json").read_text())
    png = run_copy / "panoptic" / content["annotations"][2]["file_name"]
    write_segment_ids(png, read_segment_ids(png)[::2, ::2].copy())
    ids = set(np.unique(read_segment_ids(png)).tolist())
    change = content["annotations"][2]
    change["segments_info"] = [segment for segment in change["segments_info"] if segment["id"] in ids]
    (run_copy / "panoptic.json").write_text(json.dumps(content))
    assert "64x128 pixels, but image" in refused("cityscapes-panoptic", "--run", run_copy)


def test_two_predictions_of_one_image_are_refused(refused, run_copy):
    def double(content: dict) -> None:
        twin = content["annotations"][0] | {"image_id": f"{content['annotations'][0]['image_id']}_leftImg8bit.png"}
        content["annotations"].append(twin)

    edit(run_copy / "panoptic.json", double)
    assert "are both of image" in refused("cityscapes-panoptic", "--prediction", run_copy / "panoptic.json")


def test_an_id_of_one_image_with_the_file_name_of_another_is_refused(refused, run_copy):
    def swap(content: dict) -> None:
        first, second = content["images"][:2]
        first["file_name"], second["file_name"] = second["file_name"], first["file_name"]

    edit(run_copy / "panoptic.json", swap)
    assert "number the images as the server's data set does" in refused("cityscapes-panoptic", "--run", run_copy)


def test_train_ids_are_refused(refused, run_copy, streets, tmp_path):
    path = write_panoptic(streets, "val", use_train_ids=True, derived=tmp_path / "truth")
    line = refused("cityscapes-panoptic", "--prediction", path)
    assert "its category ids are train ids, but the server takes those of cityscapes; write the ids of the data set" in line


def test_other_classes_are_refused(refused, truth_run, snapshots):
    line = refused("coco-panoptic", "--run", truth_run, data_root=snapshots, split=VAL_SPLIT)
    assert "has other classes, 133 classes against 19" in line
    path = panoptic_json_path(snapshots, VAL_SPLIT)
    assert "has other classes, 19 classes against 133" in refused("cityscapes-panoptic", "--prediction", path)


def test_a_run_that_has_not_come_to_its_end_is_refused(refused, run_copy):
    (run_copy / "panoptic.json").unlink()
    assert "the run has not come to its end; run its command again" in refused("cityscapes-instance", "--run", run_copy)


def test_a_run_without_the_part_is_refused(refused, run_copy):
    edit(run_copy / "run.json", lambda content: content.update(kept=["semantic"]))
    assert "the run has kept semantic; predict with --keep instances" in refused("cityscapes-instance", "--run", run_copy)


def test_images_that_the_server_could_not_find_are_refused(refused, truth_run, tmp_path):
    image = tmp_path / "data" / "leftImg8bit" / "val" / "ulm" / "ulm_1_2_leftImg8bit.png"
    image.parent.mkdir(parents=True)
    (tmp_path / "data" / "gtFine").mkdir()
    Image.new("RGB", (8, 4)).save(image)
    line = refused("cityscapes-semantic", "--run", truth_run, data_root=tmp_path / "data")
    assert "1 of 1 images are not named <city>_123456_123456: ulm_1_2" in line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "give either --run"),
        (("--run", "a", "--prediction", "b.json"), "give either --run"),
        (("--run", "a", "--prediction-folder", "b"), "--prediction-folder belongs to --prediction"),
        (("--run", "/nowhere"), "/nowhere/run.json: no such file"),
        (("--prediction", "/nowhere.json"), "/nowhere.json: no such file"),
        (("--run", "RUN", "--name", "my_model"), "--name my_model: letters, digits"),
        (("--run", "RUN", "--output", "a.tar"), "--output a.tar: a name that ends in .zip is needed"),
        (("--run", "RUN", "--data-root", "/nowhere"), "/nowhere: no such folder"),
        (
            ("--run", "RUN", "--data-root", "STREETS"),
            "no <city>/*_leftImg8bit.png (or .jpg) there; splits with images: train, val",
        ),
    ],
)
def test_arguments_that_do_not_go_together_end_in_one_line(words, line, fails_in_one_line, truth_run, streets):
    places = {"RUN": truth_run, "STREETS": streets}
    assert line in fails_in_one_line(submit.main, "--to", "cityscapes-panoptic", *(places.get(word, word) for word in words))


@pytest.fixture(scope="module")
def coco_run(snapshots, tmp_path_factory) -> Path:
    split = CocoSplit(snapshots, VAL_SPLIT)
    output = tmp_path_factory.mktemp("coco") / "perfect_model"
    return predict_split(split, Perfect(split), output, ("panoptic",)).folder


@pytest.fixture
def dev(snapshots, tmp_path) -> tuple[Path, list[dict]]:
    """A folder that holds no more than COCO's image info of its test images: here the first three of Snapshots' val."""
    images = json.loads(panoptic_json_path(snapshots, VAL_SPLIT).read_text())["images"][:3]
    path = tmp_path / "coco" / "annotations" / "image_info_test-dev2017.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"images": images, "categories": []}))
    return tmp_path / "coco", images


def test_coco_gets_a_json_and_a_folder_of_its_name_with_just_the_images_of_its_list(pack, coco_run, snapshots, dev):
    root, images = dev
    path, said = pack("coco-panoptic", "--run", coco_run, data_root=root, split="test-dev2017")
    stem = "panoptic_test-dev2017_perfect-model_results"
    assert "2 panoptic predictions are of no image of the split" in said
    assert f"COCO's server wants the name {stem}.zip" in said
    pngs = [f"{stem}/{Path(image['file_name']).stem}.png" for image in images]
    assert zipfile.ZipFile(path).namelist() == [*pngs, f"{stem}.json"]
    folder = unpack(path)
    written = read_panoptic_json(folder / f"{stem}.json", taxonomy=SERVERS["coco-panoptic"].taxonomy)
    truth = read_panoptic_json(panoptic_json_path(snapshots, VAL_SPLIT))
    for image in images:
        ours, theirs = (read_segment_ids(f.folder / f.annotations[image["id"]].file_name) for f in (written, truth))
        assert np.array_equal(ours, theirs)
        assert {(s.segment_id, s.category_id) for s in written.annotations[image["id"]].segments} == {
            (s.segment_id, s.category_id) for s in truth.annotations[image["id"]].segments
        }


def test_predictions_of_a_folder_of_images_are_found_by_the_numbers_of_their_files(pack, coco_run, dev, tmp_path):
    """As scripts/predict.py --images test2017 writes them: image ids are texts."""
    file = read_panoptic_json(coco_run / "panoptic.json", coco_run / "panoptic")
    entries = []
    for key, annotation in file.annotations.items():
        stem = Path(file.image_files[key]).stem
        size = read_segment_ids(file.folder / annotation.file_name).shape
        entries.append((stem, f"{stem}.jpg", annotation.file_name, size, annotation.segments))
    write_panoptic_json(tmp_path / "texts.json", file.taxonomy, entries)
    words = ("--prediction", tmp_path / "texts.json", "--prediction-folder", file.folder, "--name", "a")
    folder = unpack(pack("coco-panoptic", *words, data_root=dev[0], split="test-dev2017")[0])
    content = json.loads((folder / "panoptic_test-dev2017_a_results.json").read_text())
    assert [entry["image_id"] for entry in content["annotations"]] == [image["id"] for image in dev[1]]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda content: content.update(images=[]), "lists no image"),
        (lambda content: content["images"][0].pop("height"), "entry 0 of `images` lacks `height`"),
        (lambda content: content["images"].append(content["images"][0]), "are there twice; list each image once"),
        (lambda content: content["images"][0].update(file_name="../a.jpg"), "leaves its folder or is no name"),
    ],
)
def test_a_list_of_images_that_does_not_read_is_refused(change, line, refused, coco_run, dev):
    root, _ = dev
    edit(root / "annotations" / "image_info_test-dev2017.json", change)
    assert line in refused("coco-panoptic", "--run", coco_run, data_root=root, split="test-dev2017")


def test_a_split_of_coco_without_a_list_of_images_is_refused(refused, coco_run, snapshots):
    line = refused("coco-panoptic", "--run", coco_run, data_root=snapshots, split="test-dev2017")
    assert "no panoptic_test-dev2017.json and no image_info_test-dev2017.json there; unpack COCO's testing image info" in line


def test_the_command_offers_every_server():
    assert tuple(SERVERS) == submit.KINDS
