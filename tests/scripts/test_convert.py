"""scripts/convert.py: what goes out comes back, other tools read it, and what does not fit is refused in one line."""

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from data.drawn.snapshots import VAL_SPLIT
from data.layouts.cityscapes import write_panoptic
from data.layouts.coco import panoptic_json_path
from data.panoptic_file import PanopticFile, read_panoptic_json, read_panoptic_map, write_panoptic_json
from data.panoptic_png import describe_segments, write_segment_ids
from data.taxonomy import Category, Taxonomy
from scripts import convert

NO_CONVERTERS = "panopticapi's converters are no package: put a checkout of cocodataset/panopticapi on PYTHONPATH"


@pytest.fixture
def run(monkeypatch, capsys):
    """Call the command; return what it said."""

    def call(*words: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["convert.py", *map(str, words)])
        convert.main()
        return capsys.readouterr().out

    return call


@pytest.fixture(scope="module", params=["cityscapes", "coco"])
def truth(request, streets, snapshots, tmp_path_factory) -> PanopticFile:
    """Drawn truth with crowds: ids are texts in one and numbers in the other."""
    if request.param == "coco":
        return read_panoptic_json(panoptic_json_path(snapshots, VAL_SPLIT))
    return read_panoptic_json(write_panoptic(streets, "val", derived=tmp_path_factory.mktemp("truth")))


def assert_same(found: PanopticFile, truth: PanopticFile, *, has_crowds: bool) -> None:
    """The same segments, however they are numbered; crowds may have become void."""
    assert list(found.annotations) == list(truth.annotations)
    for key in truth.annotations:
        ours, theirs = read_panoptic_map(found, key), read_panoptic_map(truth, key)
        kept = [segment for segment in theirs.segments if has_crowds or not segment.is_crowd]
        expected = np.where(np.isin(theirs.segment_ids, [s.segment_id for s in kept]), theirs.segment_ids, 0)
        pairs = np.unique(np.stack([ours.segment_ids, expected], axis=-1).reshape(-1, 2), axis=0)
        assert len(pairs) == len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1]))
        assert all((a == 0) == (b == 0) for a, b in pairs.tolist())
        own_id = {b: a for a, b in pairs.tolist()}
        assert {(s.segment_id, s.category_id, s.area, s.is_crowd) for s in ours.segments} == {
            (own_id[s.segment_id], s.category_id, s.area, s.is_crowd) for s in kept
        }


@pytest.mark.parametrize("form", ["instances", "results"])
@pytest.mark.parametrize("pixels", ["category", "train"])
def test_instances_or_results_and_class_maps_come_back_as_the_panoptic_maps(form, pixels, truth, run, tmp_path):
    run(truth.json_path, "--to", form, "--output", tmp_path / "objects.json")
    run(truth.json_path, "--to", "semantic", "--pixels", pixels, "--output", tmp_path / "maps")
    words = ("--instances", tmp_path / "objects.json", "--semantic", tmp_path / "maps", "--images", truth.json_path)
    said = run("--to", "panoptic", *words, "--pixels", pixels, "--output", tmp_path / "back.json")
    assert said.startswith(f"wrote {tmp_path / 'back.json'} and the PNGs in {tmp_path / 'back'}: ")
    assert_same(read_panoptic_json(tmp_path / "back.json"), truth, has_crowds=form == "instances")


def test_with_stuff_the_annotations_alone_come_back_as_the_panoptic_maps(truth, run, tmp_path):
    run(truth.json_path, "--to", "instances", "--with-stuff", "--output", tmp_path / "all.json")
    run("--to", "panoptic", "--instances", tmp_path / "all.json", "--output", tmp_path / "back.json")
    assert_same(read_panoptic_json(tmp_path / "back.json"), truth, has_crowds=True)


def test_class_maps_alone_come_back_as_the_stuff(truth, run, tmp_path):
    run(truth.json_path, "--to", "semantic", "--output", tmp_path / "maps")
    words = ("--semantic", tmp_path / "maps", "--images", truth.json_path, "--output", tmp_path / "back.json")
    run("--to", "panoptic", *words)
    back = read_panoptic_json(tmp_path / "back.json")
    stuff = {c.dataset_id for c in truth.taxonomy.categories if not c.is_thing}
    for key, annotation in truth.annotations.items():
        expected = {s.category_id for s in annotation.segments} & stuff
        assert {s.category_id for s in read_panoptic_map(back, key).segments} == expected


def silent_coco(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def test_pycocotools_reads_the_annotations_and_the_results_as_the_masks(truth, run, tmp_path):
    run(truth.json_path, "--to", "instances", "--output", tmp_path / "instances.json")
    run(truth.json_path, "--to", "results", "--output", tmp_path / "results.json")
    official = silent_coco(tmp_path / "instances.json")
    with contextlib.redirect_stdout(io.StringIO()):
        results = official.loadRes(str(tmp_path / "results.json"))
    for key in truth.annotations:
        panoptic = read_panoptic_map(truth, key)
        masks = {s.segment_id: panoptic.segment_ids == s.segment_id for s in panoptic.segments}
        things = [s for s in panoptic.segments if truth.taxonomy.is_thing[truth.taxonomy.dataset_id_to_train_id[s.category_id]]]
        things.sort(key=lambda s: s.segment_id)
        for said, kept in ((official, things), (results, [s for s in things if not s.is_crowd])):
            found = said.loadAnns(said.getAnnIds(imgIds=[key]))
            assert [(a["category_id"], a["area"]) for a in found] == [(s.category_id, s.area) for s in kept]
            assert all(np.array_equal(said.annToMask(a), masks[s.segment_id]) for a, s in zip(found, kept, strict=True))


@pytest.mark.parametrize("form", ["instances", "results", "semantic"])
def test_the_same_input_gives_the_same_bytes(form, truth, run, tmp_path):
    written = []
    for name in ("first", "second"):
        output = tmp_path / name / ("maps" if form == "semantic" else "a.json")
        run(truth.json_path, "--to", form, "--output", output)
        written.append({path.name: path.read_bytes() for path in sorted(output.parent.rglob("*")) if path.is_file()})
    assert written[0] == written[1]


def write_own(folder: Path, *dataset_ids: int) -> PanopticFile:
    """One image of classes with these ids, the first a thing, with void in the last pixel."""
    kinds = [(f"class {k}", k, place == 0, (0, 0, 0)) for place, k in enumerate(dataset_ids)]
    taxonomy = Taxonomy("own", tuple(Category(*kind) for kind in kinds))
    ids = np.array([[*range(1, len(dataset_ids) + 1), 0]], np.uint32)
    segments = describe_segments(ids, lambda k: dataset_ids[k - 1])
    write_segment_ids(folder / "own" / "x.y.png", ids)
    write_panoptic_json(folder / "own.json", taxonomy, [("x", "x.y.jpg", "x.y.png", ids.shape, segments)])
    return read_panoptic_json(folder / "own.json")


@pytest.mark.parametrize(
    ("dataset_ids", "mode", "void", "words"), [((1, 255), "L", 0, "8 bits"), ((1, 300, 65535), "I;16", 0, "16 bits")]
)
def test_class_maps_have_16_bits_where_an_id_needs_them(dataset_ids, mode, void, words, run, tmp_path):
    file = write_own(tmp_path, *dataset_ids)
    said = run(file.json_path, "--to", "semantic", "--output", tmp_path / "maps")
    assert f"1 class maps of {words}, category ids, {void} for void" in said
    with Image.open(tmp_path / "maps" / "x.y.png") as image:
        assert image.mode == mode
        assert np.asarray(image).tolist() == [[*dataset_ids, void]]


def test_scores_come_back(run, tmp_path):
    file = write_own(tmp_path, 1, 2)
    content = json.loads(file.json_path.read_text())
    content["annotations"][0]["segments_info"][0]["score"] = 0.75
    file.json_path.write_text(json.dumps(content))
    run(file.json_path, "--to", "results", "--output", tmp_path / "results.json")
    words = ("--instances", tmp_path / "results.json", "--images", file.json_path, "--output", tmp_path / "back.json")
    run("--to", "panoptic", *words)
    assert [s.score for s in read_panoptic_json(tmp_path / "back.json").annotations["x"].segments] == [0.75]


def test_a_listed_segment_0_of_a_prediction_is_an_object(run, tmp_path):
    file = write_own(tmp_path, 1, 2)
    write_segment_ids(file.folder / "x.y.png", np.array([[0, 2, 2]], np.uint32))
    content = json.loads(file.json_path.read_text())
    content["annotations"][0]["segments_info"][0]["id"] = 0
    file.json_path.write_text(json.dumps(content))
    run(file.json_path, "--to", "results", "--output", tmp_path / "results.json")
    (result,) = json.loads((tmp_path / "results.json").read_text())
    assert coco_mask.decode(result["segmentation"]).tolist() == [[1, 0, 0]]


@pytest.fixture
def scene(tmp_path, run) -> Path:
    """A folder with own.json and what it becomes."""
    file = write_own(tmp_path, 1, 2)
    for form, output in (("instances", "instances.json"), ("results", "results.json"), ("semantic", "maps")):
        run(file.json_path, "--to", form, "--output", tmp_path / output)
    return tmp_path


def edit(name: str, change):
    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return spoil


def save(name: str, pixels: np.ndarray):
    return lambda folder: Image.fromarray(pixels).save(folder / name)


BACK = ("--to", "panoptic", "--instances", "results.json", "--semantic", "maps", "--images", "own.json")


@pytest.mark.parametrize(
    ("spoil", "words", "line"),
    [
        (None, ("--to", "results"), "--to results: give the COCO panoptic JSON"),
        (None, ("--to", "panoptic"), "--to panoptic: give --instances"),
        (None, ("own.json", *BACK), "--to panoptic reads --instances and --semantic; leave it out"),
        (None, ("own.json", "--to", "results", "--semantic", "maps"), "--semantic is for --to panoptic; leave it out"),
        (None, ("own.json", "--to", "results", "--output", "a.txt"), "a name that ends in .json is needed"),
        (None, ("own.json", "--to", "results", "--output", "own.json"), "is what is to be converted; give another --output"),
        (None, ("own.json", "--to", "semantic", "--output", "own"), "is what is to be converted; give another --output"),
        (None, (*BACK, "--output", "own.json"), "would be written over own.json"),
        (None, (*BACK, "--output", "maps.json"), "would be written over maps"),
        (None, ("none.json", "--to", "results"), "none.json: no such file"),
        (None, ("own.json", "--to", "semantic", "--taxonomy", "mine"), "--taxonomy mine: unknown; give cityscapes"),
        (None, (*BACK[:4], "--output", "a.json"), "--images is needed: a COCO JSON that lists the images"),
        (None, ("--to", "panoptic", "--semantic", "maps"), "--images is needed"),
        (None, (*BACK, "--semantic", "nowhere"), "nowhere: no PNG there"),
        (lambda folder: (folder / "own" / "x.y.png").unlink(), ("own.json", "--to", "results"), "x.y.png: no such file"),
        (
            save("own/x.y.png", np.ones((1, 3, 3), np.uint8)),
            ("own.json", "--to", "instances"),
            "are in the PNG, but not in the list",
        ),
        (save("maps/x.y.png", np.full((1, 3), 9, np.uint8)), BACK, "pixels 9, but those of"),
        (save("maps/x.y.png", np.ones((2, 3), np.uint8)), BACK, "2x3 pixels, but its image has 1x3"),
        (lambda folder: shutil.copy(folder / "maps" / "x.y.png", folder / "maps" / "x.png"), BACK, "are both of image 'x'"),
        (
            lambda folder: (folder / "maps" / "x.y.png").rename(folder / "maps" / "z.png"),
            BACK,
            "1 of 1 images have no class map: x.y",
        ),
        (edit("results.json", lambda c: c[0].update(category_id=9)), BACK, "category id 9 is not in"),
        (edit("results.json", lambda c: c[0].update(image_id="z")), BACK, "image 'z' is not in `images`"),
        (edit("results.json", lambda c: c[0].update(score="high")), BACK, "score 'high' is no number"),
        (edit("results.json", lambda c: c[0].update(score=float("nan"))), BACK, "score nan is no number"),
        (edit("results.json", lambda c: c[0].update(score=10**400)), BACK, "is no number, or far too large"),
        (edit("results.json", lambda c: c[0].update(iscrowd=7)), BACK, "has `iscrowd` 7"),
        (edit("results.json", lambda c: c[0].pop("segmentation")), BACK, "lacks `segmentation`"),
        (edit("results.json", lambda c: c[0]["segmentation"].update(size=[2, 3])), BACK, "image x.y.jpg: RLE has size [2, 3]"),
        (edit("own.json", lambda c: c["images"][0].pop("width")), BACK, "lacks `width`"),
        (edit("own.json", lambda c: c["images"].append(c["images"][0])), BACK, "id 'x' is there twice"),
        (edit("own.json", lambda c: c["images"][0].update(height=0)), BACK, "image 'x' is 0x3 pixels"),
        (edit("own.json", lambda c: c["images"][0].update(height=10**9)), BACK, "image 'x' is 1000000000x3 pixels"),
        (edit("own.json", lambda c: c["images"][0].update(file_name="../a.jpg")), BACK, "leaves its folder or is no name"),
        (
            edit("own.json", lambda c: c["images"][0].update(file_name="/a.jpg")),
            ("own.json", "--to", "semantic"),
            "leaves its folder",
        ),
        (edit("own.json", lambda c: c["categories"][0].pop("isthing")), BACK, "or name the classes by --taxonomy"),
        (
            edit("instances.json", lambda c: c.update(annotations={})),
            (*BACK, "--instances", "instances.json"),
            "no list of `annotations`",
        ),
    ],
)
def test_what_does_not_fit_ends_in_one_line_and_writes_no_json(spoil, words, line, scene, fails_in_one_line, monkeypatch):
    monkeypatch.chdir(scene)
    if spoil is not None:
        spoil(scene)
    before = {path.name: path.read_bytes() for path in scene.glob("*.json")}
    output = () if "--output" in words else ("--output", "new" if "semantic" in words[:3] else "new.json")
    assert line in fails_in_one_line(convert.main, *words, *output)
    assert {path.name: path.read_bytes() for path in scene.iterdir() if path.is_file()} == before


def panopticapi(module: str, function: str):
    """A function of panopticapi's converters."""
    return getattr(pytest.importorskip(f"converters.{module}", reason=NO_CONVERTERS), function)


def write_categories(folder: Path, taxonomy: Taxonomy) -> str:
    (folder / "categories.json").write_text(json.dumps(taxonomy.to_coco_categories()))
    return str(folder / "categories.json")


@pytest.mark.parity
@pytest.mark.parametrize("things_only", [True, False])
def test_the_annotations_are_those_of_panopticapi(things_only, truth, run, tmp_path):
    theirs = panopticapi("panoptic2detection_coco_format", "convert_panoptic_to_detection_coco_format")
    official, ours, categories = tmp_path / "official.json", tmp_path / "ours.json", write_categories(tmp_path, truth.taxonomy)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs(str(truth.json_path), str(truth.folder), str(official), categories, things_only)
    run(truth.json_path, "--to", "instances", "--output", ours, *(() if things_only else ("--with-stuff",)))
    names = ("image_id", "category_id", "iscrowd", "area", "bbox")
    lists = [json.loads(path.read_text())["annotations"] for path in (official, ours)]
    found = [sorted(([a["segmentation"]["counts"], *(a[name] for name in names)] for a in entries), key=str) for entries in lists]
    assert found[0] == found[1]


@pytest.mark.parity
def test_the_class_maps_are_those_of_panopticapi(truth, run, tmp_path):
    theirs = panopticapi("panoptic2semantic_segmentation", "extract_semantic")
    official, categories = tmp_path / "official", write_categories(tmp_path, truth.taxonomy)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs(str(truth.json_path), str(truth.folder), None, str(official), categories, False)
    run(truth.json_path, "--to", "semantic", "--output", tmp_path / "ours")
    for key, annotation in truth.annotations.items():
        name = Path(truth.image_files[key]).stem.removesuffix("_gtFine_leftImg8bit")
        with Image.open(official / annotation.file_name) as expected, Image.open(tmp_path / "ours" / f"{name}.png") as found:
            assert np.array_equal(np.asarray(expected), np.asarray(found))
