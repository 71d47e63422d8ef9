"""Each format's tiny export gives the drawn scene; whatever is damaged is refused with its place and an advice."""

import base64
import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from data.label_formats.classes import ClassChoice, choose_taxonomy, read_classes
from data.label_formats.compose import Losses, compose
from data.label_formats.conversion import choose_splits
from data.label_formats.drawing import box_polygon, decode_base64, inflate, place_bitmap, read_bitmap
from data.label_formats.find import LABEL_FORMATS, load_format
from data.label_formats.label_studio import decode_brush
from data.label_formats.labels import LabelClass, LabelledImage, LabelMap, LabelSet, MapEntry, Shape
from data.panoptic_png import PanopticMap
from data.taxonomy import Taxonomy
from runtime.files import InputError
from tests.label_exports import (
    DECLARED,
    DRAWN_OVER_EACH_OTHER,
    EXPORTS,
    MEANING,
    NAMES,
    OVERLAPS,
    SCENE,
    SIZE,
    SPLITS,
    brush,
    coco_content,
    corners,
    encode_brush,
    filled,
    flat,
    letters,
    paint,
    photo,
    png_bytes,
    save,
    write,
)


def read(root: Path, name: str) -> LabelSet:
    return load_format(name).read(root)


def taxonomy_of(labels: LabelSet, name: str) -> Taxonomy:
    if name in DECLARED:
        return choose_taxonomy(labels.classes, ClassChoice())
    return choose_taxonomy(labels.classes, ClassChoice(stuff=[NAMES.get(name, {}).get("road", "road")], others="things"))


def draw(labels: LabelSet, name: str, position: int = 0) -> tuple[PanopticMap, Losses, Taxonomy]:
    image, taxonomy = labels.images[position], taxonomy_of(labels, name)
    return *compose(image.layers(), image.size, taxonomy), taxonomy


def regions(panoptic: PanopticMap, taxonomy: Taxonomy) -> set[tuple[str, bool, bytes]]:
    """(class, is crowd, mask) of each segment, whatever their ids are."""
    names = {c.dataset_id: c.name for c in taxonomy.categories}
    return {(names[s.category_id], s.is_crowd, (panoptic.segment_ids == s.segment_id).tobytes()) for s in panoptic.segments}


def drawn_scene(name: str) -> set[tuple[str, bool, bytes]]:
    called = NAMES.get(name, {})
    return {(called.get(c, c), False, (letters() == letter).tobytes()) for letter, c in MEANING.items()}


def test_every_format_has_an_export_here():
    assert set(EXPORTS) == set(LABEL_FORMATS)
    for name in LABEL_FORMATS:
        module = load_format(name)
        assert name == module.NAME
        assert module.FORM
        assert module.SOURCE


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_gives_the_drawn_scene(name, tmp_path):
    EXPORTS[name](tmp_path)
    labels = read(tmp_path, name)
    for position, image in enumerate(labels.images):
        assert image.size == SIZE
        assert image.path.is_file()
        panoptic, losses, taxonomy = draw(labels, name, position)
        assert regions(panoptic, taxonomy) == drawn_scene(name)
        assert losses.num_unlabelled == SIZE[1]  # the last row
        assert losses.overlaps == (OVERLAPS if name in DRAWN_OVER_EACH_OTHER else {})
    assert [image.split for image in labels.images] == SPLITS.get(name, [None])


@pytest.mark.parametrize("name", EXPORTS)
def test_only_formats_that_say_what_is_a_thing_are_believed(name, tmp_path):
    EXPORTS[name](tmp_path)
    classes = read(tmp_path, name).classes
    if name in DECLARED:
        assert all(c.is_thing is not None for c in classes)
    else:
        with pytest.raises(InputError, match=r"--things NAME .*--stuff NAME"):
            choose_taxonomy(classes, ClassChoice())


@pytest.mark.parametrize("name", EXPORTS)
def test_the_digest_changes_with_the_labels(name, tmp_path):
    digests = []
    for k in range(2):
        EXPORTS[name](tmp_path / str(k))
        if k:
            change_a_label(tmp_path / str(k))
        digests.append([image.digest() for image in read(tmp_path / str(k), name).images])
    assert all(a != b for a, b in zip(*digests, strict=True))


def change_a_label(root: Path) -> None:
    """Repaint label PNGs, or move the road's lower right corner, (8, 5), in JSONs and texts."""
    folders = {"SegmentationClass", "panoptic_maps", "bitmasks", "instances", "classes", "annotations"}
    pngs = [p for p in root.rglob("*.png") if folders & set(p.parts) or p.stem.endswith(("_seg", "_ground-truth"))]
    for png in pngs:
        png.write_bytes(png.read_bytes() + b"\0")
    for path in () if pngs else [*root.rglob("*.json"), *root.rglob("*.txt")]:
        text = path.read_text()
        for before, after in (("[8, 5]", "[8, 4]"), ("8, 0, 8, 5", "8, 0, 8, 4"), ("[100.0, 83", "[100.0, 73"), ("8 5", "8 4")):
            text = text.replace(before, after)
        path.write_text(text)


def shapes_of(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    write(path, content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def set_in(path: Path, *keys: object, to: object) -> None:
    content = json.loads(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    write(path, content)


ADE = "images/ADE/training/urban/street/ADE_train_00000001"
STEP = "panoptic_maps/val/0002/000000.png"
SLY = "ds0/ann/a.png.json"
BITMAP = ("objects", 2, "bitmap", "data")
SEGMENTS = "segments/jane_cars/v1/a_label_ground-truth.png"
RELEASE = "cars-v1.json"
INSTANCES = "annotations/instances_train2017.json"
RESULT = (0, "annotations", 0, "result")
BOMB = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()
LARGE = base64.b64encode(zlib.compress(png_bytes(np.zeros((60, 8))))).decode()
DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "labelme cut": ("labelme", lambda r: cut(r / "a.json"), r"a\.json: not valid JSON"),
    "labelme no image": ("labelme", lambda r: (r / "a.png").unlink(), r"a\.png.*no such file|a\.png.*cannot"),
    "labelme another size": ("labelme", lambda r: photo(r / "a.png", size=(6, 9)), "is for 6 x 8 pixels, but .* has 6 x 9"),
    "labelme two points": (
        "labelme",
        lambda r: set_in(r / "a.json", "shapes", 0, "points", to=[[0, 0], [5, 5]]),
        r"a\.json: shape 0 \(road\): polygon of 2 points",
    ),
    "labelme NaN": (
        "labelme",
        lambda r: set_in(r / "a.json", "shapes", 0, "points", 1, 1, to=float("nan")),
        r"shape 0 \(road\): points .* finite numbers",
    ),
    "labelme far outside": (
        "labelme",
        lambda r: set_in(r / "a.json", "shapes", 0, "points", 1, 1, to=1e9),
        r"shape 0 \(road\): polygon .* outside",
    ),
    "labelme unknown shape": (
        "labelme",
        lambda r: set_in(r / "a.json", "shapes", 0, "shape_type", to="spline"),
        "'spline' is unknown; save it as a polygon",
    ),
    "labelme leaves": ("labelme", lambda r: set_in(r / "a.json", "imagePath", to="../../etc/a.png"), "leaves"),
    "labelme absolute": ("labelme", lambda r: set_in(r / "a.json", "imagePath", to="C:\\photos\\a.png"), "leaves"),
    "labelme no base64": ("labelme", lambda r: set_in(r / "a.json", "shapes", 2, "mask", to="?"), "no base64"),
    "supervisely cut": ("supervisely", lambda r: cut(r / SLY), "not valid JSON"),
    "supervisely no meta": ("supervisely", lambda r: (r / "meta.json").unlink(), "supervisely needs meta.json"),
    "supervisely class": (
        "supervisely",
        lambda r: set_in(r / SLY, "objects", 0, "classTitle", to="lane"),
        "object 0 is a 'lane', which meta.json does not list",
    ),
    "supervisely bomb": ("supervisely", lambda r: set_in(r / SLY, *BITMAP, to=BOMB), "object 2 .* inflates to more than"),
    "supervisely large": ("supervisely", lambda r: set_in(r / SLY, *BITMAP, to=LARGE), "60x8 pixels, more than its 6x8"),
    "supervisely not zlib": ("supervisely", lambda r: set_in(r / SLY, *BITMAP, to="AAAA"), "does not inflate"),
    "supervisely outside": (
        "supervisely",
        lambda r: set_in(r / SLY, "objects", 2, "bitmap", "origin", to=[90, 2]),
        "x 90, y 2 lies outside",
    ),
    "supervisely no image": ("supervisely", lambda r: (r / "ds0/img/a.png").unlink(), "'a.png' is not in .*img; copy"),
    "label-studio cut": ("label-studio", lambda r: cut(r / "project.json"), "not valid JSON"),
    "label-studio rle cut": (
        "label-studio",
        lambda r: set_in(r / "project.json", *RESULT, 1, "value", "rle", to=brush(filled((1, 1, 4, 4)))[:-3]),
        r"task 1, region 1 \(car\): run lengths are cut off",
    ),
    "label-studio rle of another size": (
        "label-studio",
        lambda r: set_in(r / "project.json", *RESULT, 1, "value", "rle", to=brush(np.ones((9, 9), bool))),
        "324 values, but 6x8 pixels of RGBA are 192",
    ),
    "label-studio encoding": (
        "label-studio",
        lambda r: set_in(r / "project.json", *RESULT, 1, "value", "rle", to="kj2"),
        "a list of bytes",
    ),
    "label-studio no image": ("label-studio", lambda r: (r / "images/a.png").unlink(), "is not below the source"),
    "label-studio labels": (
        "label-studio",
        lambda r: set_in(r / "project.json", *RESULT, 0, "value", "polygonlabels", to=["road", "car"]),
        "give each region one label",
    ),
    "label-studio turned": (
        "label-studio",
        lambda r: set_in(r / "project.json", *RESULT, 0, "image_rotation", to=90),
        "turned by 90 degrees",
    ),
    "coco cut": ("coco", lambda r: cut(r / INSTANCES), "not valid JSON"),
    "coco rle too long": (
        "coco",
        lambda r: set_in(r / INSTANCES, "annotations", 2, "segmentation", to={"size": [6, 8], "counts": [1, 99]}),
        r"annotation 2 \(car\): RLE has lengths of 100 pixels",
    ),
    "coco two points": (
        "coco",
        lambda r: set_in(r / INSTANCES, "annotations", 1, "segmentation", to=[[1, 1, 4, 4]]),
        r"annotation 1 \(car\): polygon of 2 points",
    ),
    "coco class": (
        "coco",
        lambda r: set_in(r / INSTANCES, "annotations", 1, "category_id", to=9),
        "annotation 1 has category id 9, which `categories` does not list",
    ),
    "coco image": ("coco", lambda r: set_in(r / INSTANCES, "annotations", 1, "image_id", to=9), "which `images` does not list"),
    "coco leaves": ("coco", lambda r: set_in(r / INSTANCES, "images", 0, "file_name", to="../../a.png"), "leaves"),
    "coco no image": ("coco", lambda r: (r / "train2017/a.png").unlink(), "image 5: image 'a.png' is not in"),
    "cvat-coco cut": ("cvat-coco", lambda r: cut(r / "annotations/instances_default.json"), "not valid JSON"),
    "cvat-masks colour": (
        "cvat-masks",
        lambda r: write(r / "labelmap.txt", "car:0,0,142::\nroad:128,64,127::\n"),
        "holds the colour 128,64,128, which labelmap.txt does not list",
    ),
    "cvat-masks line": ("cvat-masks", lambda r: write(r / "labelmap.txt", "car:0,0::\n"), "line 1 is 'car:0,0::'"),
    "cvat-masks no objects": (
        "cvat-masks",
        lambda r: (r / "SegmentationObject/a.png").unlink(),
        r"SegmentationObject/a\.png: no such file",
    ),
    "cvat-masks cut": ("cvat-masks", lambda r: cut(r / "SegmentationClass/a.png"), "cannot be decoded"),
    "segments-ai object": (
        "segments-ai",
        lambda r: save(r / SEGMENTS, paint({"r": (9, 0, 0, 255), "a": (2, 0, 0, 255), "b": (0,) * 4, ".": (0,) * 4})),
        "holds object id 9, which `annotations` does not list",
    ),
    "segments-ai no bitmap": ("segments-ai", lambda r: (r / SEGMENTS).unlink(), "a_label_ground-truth is not below"),
    "segments-ai task": ("segments-ai", lambda r: set_in(r / RELEASE, "dataset", "task_type", to="vector"), "of task vector"),
    "vistas no config": ("vistas", lambda r: (r / "config_v2.0.json").unlink(), "no config.json"),
    "vistas class": (
        "vistas",
        lambda r: save(r / "training/v2.0/instances/training.png", paint(dict.fromkeys("rab.", 900), np.uint16)),
        "holds class 3, but the config lists 3",
    ),
    "vistas no label": (
        "vistas",
        lambda r: (r / "validation/v2.0/instances/validation.png").unlink(),
        r"validation\.png: no such file",
    ),
    "kitti-step class": (
        "kitti-step",
        lambda r: save(r / STEP, paint(dict.fromkeys("rab.", (19, 0, 0)))),
        "holds class 19, but KITTI-STEP has 0 to 18 and 255",
    ),
    "kitti-step size": (
        "kitti-step",
        lambda r: save(r / STEP, np.zeros((5, 8, 3), np.uint8)),
        "5x8 pixels, but its image has 6x8",
    ),
    "kitti-step no label": ("kitti-step", lambda r: (r / STEP).unlink(), "no such file"),
    "bdd100k class": (
        "bdd100k",
        lambda r: save(r / "labels/pan_seg/bitmasks/val/a.png", paint(dict.fromkeys("rab.", (41, 0, 0, 1)))),
        "holds class 41, but there are 0 to 40",
    ),
    "bdd100k mode": (
        "bdd100k",
        lambda r: save(r / "labels/pan_seg/bitmasks/val/a.png", paint(dict.fromkeys("rab.", (1, 0, 0)))),
        "pixel mode RGB, 8 bits, but RGBA",
    ),
    "bdd100k no image": ("bdd100k", lambda r: (r / "images/10k/val/a.jpg").unlink(), "image 'a' is not in"),
    "ade20k class": (
        "ade20k",
        lambda r: save(r / f"{ADE}_seg.png", paint(dict.fromkeys("rab.", (0, 9, 0)))),
        "holds class 9, which no JSON names",
    ),
    "ade20k no json": ("ade20k", lambda r: (r / f"{ADE}.json").unlink(), "it names the classes of its image"),
    "ade20k cut": ("ade20k", lambda r: cut(r / f"{ADE}.json"), "not valid JSON"),
    "ade20k-150 class": (
        "ade20k-150",
        lambda r: save(r / "annotations/validation/ADE_val_00000001.png", paint(dict.fromkeys("rab.", 151))),
        "holds class 151, which objectInfo150.txt does not list",
    ),
    "ade20k-150 no mapping": (
        "ade20k-150",
        lambda r: (r / "ade20k_instance_catid_mapping.txt").unlink(),
        "ade20k_instance_catid_mapping.txt: no such file",
    ),
    "ade20k-150 line": (
        "ade20k-150",
        lambda r: write(r / "objectInfo150.txt", "Idx\tName\n7 road"),
        "line 2 is .* of another form",
    ),
    "ade20k-150 no objects": (
        "ade20k-150",
        lambda r: (r / "annotations_instance/validation/ADE_val_00000001.png").unlink(),
        "unpack annotations_instance.tar",
    ),
    "png-pairs class": (
        "png-pairs",
        lambda r: write(r / "classes.txt", "7 road\n25 car\n"),
        "holds class 26, which classes.txt does not list",
    ),
    "png-pairs line": ("png-pairs", lambda r: write(r / "classes.txt", "7\n"), "line 1 is '7'"),
    "png-pairs colour": (
        "png-pairs",
        lambda r: save(r / "classes/val/a.png", np.zeros((*SIZE, 3), np.uint8)),
        "pixel mode RGB, but one channel",
    ),
}


def draw_all(root: Path, name: str) -> None:
    labels = read(root, name)
    for position in range(len(labels.images)):
        draw(labels, name, position)


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_export_is_refused_in_one_line(case, tmp_path):
    name, damage, message = DAMAGES[case]
    EXPORTS[name](tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        draw_all(tmp_path, name)
    line = str(caught.value)
    assert "\n" not in line
    assert "; " in line  # what to do
    assert len(line) < 600


def refusal(root: Path, name: str) -> str | None:
    """What is wrong with an export, or None."""
    try:
        draw_all(root, name)
    except InputError as error:
        return str(error)
    return None


def remove(path: Path) -> None:
    path.unlink()


def scramble(path: Path) -> None:
    """Bytes of no form: neither text nor a PNG."""
    path.write_bytes(bytes(range(256)))


@pytest.mark.parametrize("damage", [remove, cut, scramble])
@pytest.mark.parametrize("name", EXPORTS)
def test_a_file_that_is_missing_cut_or_of_another_form_is_left_out_or_refused_in_one_line(name, damage, tmp_path):
    """Of every format, one file after the other: whatever is wrong with it, no other error leaves the reader."""
    EXPORTS[name](tmp_path / "whole")
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file())
    refusals = []
    for k, file in enumerate(files):
        root = tmp_path / str(k)
        shutil.copytree(tmp_path / "whole", root)
        damage(root / file)
        refusals.append(refusal(root, name))
        if refusals[-1] is not None:
            assert "\n" not in refusals[-1]
            assert "; " in refusals[-1], file  # what to do
            assert str(root) in refusals[-1], file
    assert any(refusals)


def test_polygons_are_filled_as_pycocotools_fills_them(tmp_path):
    photo(tmp_path / "a.png", size=(40, 60))
    rng = np.random.default_rng(0)
    for k in range(20):
        points = (rng.random((rng.integers(3, 9), 2)) * (60, 40)).round(2).tolist()
        shape = {"label": "car", "points": points, "shape_type": "polygon", "group_id": None}
        write(tmp_path / "a.json", {"imagePath": "a.png", "shapes": [shape]})
        (drawn,) = read(tmp_path, "labelme").images[0].layers()
        wanted = coco_mask.decode(coco_mask.frPyObjects([flat(points)], 40, 60))[..., 0] > 0
        np.testing.assert_array_equal(drawn.draw(), wanted, err_msg=str(k))


def test_run_lengths_of_coco_are_decoded_as_pycocotools_decodes_them(tmp_path):
    photo(tmp_path / "images" / "default" / "a.png")
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random(SIZE) < 0.5
        rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        content = coco_content()
        content["annotations"][2]["segmentation"] = {"size": list(SIZE), "counts": rle["counts"].decode()}
        write(tmp_path / "annotations" / "instances_default.json", content)
        *_, drawn = read(tmp_path, "cvat-coco").images[0].layers()
        np.testing.assert_array_equal(drawn.draw(), coco_mask.decode(rle) > 0)


@pytest.mark.parametrize("literal", [False, True])
def test_a_brush_mask_is_decoded_as_it_was_encoded(literal):
    rng = np.random.default_rng(0)
    for share in (0, 0.02, 0.5, 1):
        mask = rng.random((13, 57)) < share
        np.testing.assert_array_equal(decode_brush(brush(mask, literal), mask.shape), mask)


def test_a_brush_mask_written_by_hand():
    # 4 values of 8 bits; lengths of 3, 4, 8 and 16 bits; one run of 3 zeros (length 2 + 1) and one value 9 by itself
    bits = (
        f"{4:032b}"
        + "00111"
        + "0010"
        + "0011"
        + "0111"
        + "1111"
        + "1"
        + "00"
        + "010"
        + "00000000"
        + "0"
        + "00"
        + "000"
        + "00001001"
    )
    bits += "0" * (-len(bits) % 8)
    rle = [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]
    assert decode_brush(rle, (1, 1)).tolist() == [[True]]  # red, green and blue are 0, and alpha is 9


@pytest.mark.parametrize(
    "damage",
    [
        lambda rle: rle[:6],
        lambda rle: rle[:-1][: len(rle) // 2],
        lambda rle: [*rle[:-2], 256],
        lambda rle: [True, *rle[1:]],
        lambda rle: [255, 255, 255, 255, *rle[4:]],
        lambda rle: None,
        lambda rle: [*rle[:4], *([255] * len(rle))],
    ],
)
def test_broken_brush_masks_are_refused(damage):
    whole = encode_brush(np.zeros(4 * 40 * 50, np.uint8))
    with pytest.raises(InputError, match="export it"):
        decode_brush(damage(whole), (40, 50))


def test_the_bitmap_of_superviselys_documentation():
    text = (
        "eJzrDPBz5+WS4mJgYOD19HAJAtLMIMwIInOeqf8BUmwBPiGuQPr///9Lb86/C2QxlgT5BTM4PLuRBuTwebo4hlTMSa44cOHAB6DqY0yORgq8YkAZBk9XP5d1Tgl"
        "NANAFGzA="
    )
    bitmap = read_bitmap(inflate(decode_base64(text), (6, 8)), (6, 8))
    assert bitmap.tolist() == [[True, True, True], [True, False, False], [True, True, True]]


def test_a_bitmap_that_reaches_out_of_its_image_is_cut():
    placed = place_bitmap(np.ones((3, 4), bool), -2, 4, (6, 8))
    wanted = np.zeros((6, 8), bool)
    wanted[4:6, 0:2] = True
    np.testing.assert_array_equal(placed, wanted)


def test_a_hole_of_superviselys_polygon_is_cut_out(tmp_path):
    EXPORTS["supervisely"](tmp_path)
    set_in(tmp_path / SLY, "objects", 0, "points", "interior", to=[corners((5, 0, 7, 2))])
    panoptic, losses, _ = draw(read(tmp_path, "supervisely"), "supervisely")
    assert losses.num_unlabelled == SIZE[1] + 4
    assert (panoptic.segment_ids[0:2, 5:7] == 0).all()


def test_a_turned_box_keeps_its_corner_and_its_sides():
    assert box_polygon(2, 1, 5, 3, 90) == pytest.approx([2, 1, 2, 4, 0, 4, 0, 1])


def test_shapes_of_one_group_are_one_object(tmp_path):
    EXPORTS["labelme"](tmp_path)
    set_in(tmp_path / "a.json", "shapes", 1, "group_id", to=7)
    panoptic, losses, taxonomy = draw(read(tmp_path, "labelme"), "labelme")
    both = np.isin(letters(), ("a", "b"))
    assert ("car", False, both.tobytes()) in regions(panoptic, taxonomy)
    assert losses.overlaps == {("car", "road"): 19}  # an object does not lie on itself


def test_what_has_no_area_is_counted(tmp_path):
    EXPORTS["labelme"](tmp_path)
    photo(tmp_path / "empty.png")
    write(tmp_path / "empty.json", {"imagePath": "empty.png", "shapes": []})
    write(tmp_path / "notes.json", {"by": "Jane"})
    assert read(tmp_path, "labelme").left_out == {"points": 1, "images without labels": 1, "JSON files of another form": 1}


def test_crowds_of_coco_are_crowds_and_painted_masks_of_cvat_are_not(tmp_path):
    EXPORTS["coco"](tmp_path / "coco")
    set_in(tmp_path / "coco" / INSTANCES, "annotations", 2, "iscrowd", to=1)
    EXPORTS["cvat-coco"](tmp_path / "cvat-coco")
    for name, num_crowds in (("coco", 1), ("cvat-coco", 0)):
        _, losses, _ = draw(read(tmp_path / name, name), name)
        assert losses.num_crowds.total() == num_crowds


def test_class_maps_lie_below_cocos_objects(tmp_path):
    EXPORTS["coco"](tmp_path)
    shapes_of(tmp_path / INSTANCES, lambda c: c["annotations"].pop(0))  # the road
    stuff = [{"id": 92, "name": "sky"}, {"id": 183, "name": "other"}]
    write(tmp_path / "annotations" / "stuff_val2017.json", {"categories": stuff})
    rows = ("sssssscc", *("cccccccc",) * 4, "........")  # the class map says car where no object is, too
    of_letter = {"s": 91, "c": 2, ".": 255}  # category id - 1
    save(tmp_path / "stuffthingmaps/train2017/a.png", np.array([[of_letter[c] for c in row] for row in rows], np.uint8))
    labels = read(tmp_path, "coco")
    taxonomy = choose_taxonomy(labels.classes, ClassChoice(stuff=["road"], others="things"))
    assert [c.name for c in taxonomy.categories] == ["sky", "road", "car"]
    panoptic, losses = compose(labels.images[0].layers(), SIZE, taxonomy)
    wanted = {("car", False, (letters() == c).tobytes()) for c in "ab"}
    sky = np.zeros(SIZE, bool)
    sky[0, :6] = True
    assert regions(panoptic, taxonomy) == wanted | {("sky", False, sky.tobytes())}
    num_cars = 9 + 12 - 2
    assert losses.without_object == {"car": 2 + 4 * 8 - num_cars}
    assert losses.overlaps == {("car", "car"): 2}  # a car on car pixels of the map is no overlap


def test_things_without_an_object_number_are_a_crowd(tmp_path):
    EXPORTS["kitti-step"](tmp_path)
    save(tmp_path / STEP, paint({"r": (0, 0, 0), "a": (13, 0, 0), "b": (13, 0, 1), ".": (255, 0, 0)}))
    panoptic, losses, taxonomy = draw(read(tmp_path, "kitti-step"), "kitti-step", 1)
    assert ("car", True, (letters() == "a").tobytes()) in regions(panoptic, taxonomy)
    assert losses.num_crowds == {"car": 1}


def test_flags_of_bdd100k(tmp_path):
    EXPORTS["bdd100k"](tmp_path)
    values = {"r": (7, 0, 0, 7), "a": (35, 2, 0, 31), "b": (35, 1, 0, 32), ".": (0, 0, 0, 0)}  # a crowd, and one to ignore
    save(tmp_path / "labels/pan_seg/bitmasks/val/a.png", paint(values))
    panoptic, _, taxonomy = draw(read(tmp_path, "bdd100k"), "bdd100k", 1)
    wanted = {("road", False, (letters() == "r").tobytes()), ("car", True, (letters() == "a").tobytes())}
    assert regions(panoptic, taxonomy) == wanted


def test_instance_masks_of_bdd100k_have_classes_of_their_own(tmp_path):
    photo(tmp_path / "images/10k/val/a.jpg")
    save(
        tmp_path / "labels/ins_seg/bitmasks/val/a.png",
        paint({"r": (0,) * 4, "a": (3, 0, 0, 1), "b": (3, 0, 0, 2), ".": (0,) * 4}),
    )
    panoptic, _, taxonomy = draw(read(tmp_path, "bdd100k"), "bdd100k")
    assert regions(panoptic, taxonomy) == {("car", False, (letters() == c).tobytes()) for c in "ab"}


ROAD_AND_CAR = choose_taxonomy([LabelClass("road", False), LabelClass("car", True)], ClassChoice())


def test_a_hidden_object_and_a_sliver_are_lost():
    boxes = {"hidden": (0, 0, 2, 2), "sliver": (0, 0, 3, 3), "front": (0, 0, 3, 2)}
    shapes = [Shape("car", lambda box=box: filled(box)) for box in boxes.values()]
    panoptic, losses = compose(shapes, SIZE, ROAD_AND_CAR, min_area=4)
    assert losses.hidden == {"car": 1}
    assert losses.too_small == {"car": 1}  # the third row of three pixels
    assert [s.area for s in panoptic.segments] == [6]
    assert losses.num_unlabelled == SIZE[0] * SIZE[1] - 6


def test_a_class_that_is_left_out_erases_what_lies_below():
    shapes = [Shape("road", lambda: filled((0, 0, 8, 6))), Shape("background", lambda: filled((0, 0, 2, 2)))]
    panoptic, losses = compose(shapes, SIZE, ROAD_AND_CAR)
    assert (panoptic.segment_ids == 0).sum() == 4
    assert losses.overlaps == {("(unlabelled)", "road"): 4}


def test_more_objects_than_ids_of_a_class_get_running_numbers():
    ids = np.arange(1, 1201).reshape(30, 40)
    panoptic, _ = compose([LabelMap(ids, lambda value: MapEntry("car", value))], ids.shape, ROAD_AND_CAR)
    assert [s.segment_id for s in panoptic.segments] == list(range(1, 1201))


def test_losses_survive_json():
    _, losses = compose(
        [Shape("road", lambda: filled((0, 0, 8, 5))), Shape("car", lambda: filled((1, 1, 4, 4)))], SIZE, ROAD_AND_CAR
    )
    assert Losses.from_json(json.loads(json.dumps(losses.to_json()))) == losses


CLASSES = [LabelClass("road"), LabelClass("car"), LabelClass("sky", False), LabelClass("void--ego", is_void=True)]


def test_the_user_says_what_the_format_does_not():
    taxonomy = choose_taxonomy(CLASSES, ClassChoice(things=["car"], stuff=["road"]))
    assert [(c.name, c.dataset_id, c.is_thing) for c in taxonomy.categories] == [
        ("road", 1, False),
        ("car", 2, True),
        ("sky", 3, False),
    ]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (dict(things=["car"]), "whether road are things or stuff; .*--things NAME .*--stuff NAME"),
        (dict(things=["cat"], stuff=["road"]), "class cat is not in the source; near: car"),
        (dict(things=["car"], stuff=["car"]), "class car is named twice"),
        (dict(others="thing"), "one of things, stuff, void"),
        (dict(void=["road", "car", "sky"]), "all classes are void"),
    ],
)
def test_a_choice_of_classes_that_does_not_fit_is_refused(choice, message):
    with pytest.raises(InputError, match=message):
        choose_taxonomy(CLASSES, ClassChoice(**choice))


def test_classes_of_a_file(tmp_path):
    path = write(tmp_path / "classes.yaml", "classes:\n- {id: 9, name: car, isthing: 1}\n- {id: 4, name: bus, isthing: 1}\n")
    with pytest.raises(InputError, match="says nothing of road, sky"):
        read_classes(path, CLASSES)
    path.write_text(path.read_text() + "void: [road]\nothers: void\n")
    taxonomy, absent = read_classes(path, CLASSES)
    assert [(c.name, c.dataset_id) for c in taxonomy.categories] == [("car", 9), ("bus", 4)]
    assert absent == ["bus"]


def image_named(name: str, sequence: str | None = None, split: str | None = None) -> LabelledImage:
    return LabelledImage(name, Path("/source") / name, SIZE, str, tuple, split, sequence)


def test_an_image_keeps_its_split_when_others_are_added():
    few = choose_splits([image_named(f"{k}.png") for k in range(100)], 0.3, seed=4)
    many = choose_splits([image_named(f"{k}.png") for k in range(1000)], 0.3, seed=4)
    for split, images in few.items():
        assert {image.name for image in images} <= {image.name for image in many[split]}
    assert 250 < len(many["val"]) < 350  # 300 are expected, with a deviation of 14.5
    assert few != choose_splits([image_named(f"{k}.png") for k in range(100)], 0.3, seed=5)


def test_the_images_of_a_sequence_stay_together():
    images = [image_named(f"{s}/{k}.png", sequence=str(s)) for s in range(40) for k in range(5)]
    for split in choose_splits(images, 0.5, seed=0).values():
        assert len(split) == 5 * len({image.sequence for image in split})


def test_splits_of_the_source_stay():
    splits = choose_splits([image_named("a.png", split="val"), image_named("b.png", split="night")], 0.5, seed=0)
    assert {split: [image.name for image in images] for split, images in splits.items()} == {"night": ["b.png"], "val": ["a.png"]}


@pytest.mark.parametrize("other", ["a.jpg", "A.png"])
def test_two_images_of_one_name_are_refused(other):
    with pytest.raises(InputError, match="give each image its own name"):
        choose_splits([image_named("a.png", split="val"), image_named(other, split="val")], 0.1, seed=0)


def test_the_scene_is_what_is_drawn():
    assert "".join(SCENE).count("b") == 12
