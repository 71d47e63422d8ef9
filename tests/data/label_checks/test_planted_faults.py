"""Each fault is planted alone in a clean data set: just its kind is found, in just the image and segment where it is."""

import copy
import json
import random
import shutil

import numpy as np
import pytest
from PIL import Image

from data.label_checks.check import check_split
from data.label_checks.kinds import BROKEN, KINDS
from data.layouts.find import open_data_set
from data.panoptic_png import read_segment_ids, write_segment_ids
from data.taxonomy import CITYSCAPES
from runtime.files import InputError

CAR = 26000
"""The segment of image 11 in which faults are planted."""


def add_segment(**changes):
    def plant(tiny):
        tiny.infos.append({"id": 500, "category_id": 26, "area": 9, "bbox": [1, 1, 3, 3], "iscrowd": 0} | changes)

    return plant


def change_segment(**changes):
    return lambda tiny: tiny.info(CAR).update(changes)


def drop(name):
    return lambda tiny: tiny.info(CAR).pop(name)


def change_first(kind, **changes):
    return lambda tiny: tiny.content[kind][0].update(changes)


def save_png(convert):
    def plant(tiny):
        convert(Image.open(tiny.png())).save(tiny.png(), "PNG")

    return plant


def save_as_bmp(tiny):
    Image.open(tiny.png()).save(tiny.png(), "BMP")


def cut(path_of):
    def plant(tiny):
        path = path_of(tiny)
        path.write_bytes(path.read_bytes()[:-30])

    return plant


def swap_red_and_blue(tiny):
    pixels = np.asarray(Image.open(tiny.png()))
    Image.fromarray(pixels[..., ::-1].copy()).save(tiny.png())


def draw_unlisted(tiny):
    def paint(ids):
        ids[45:47, 2:9] = 999

    tiny.redraw(paint)


def use_corners(tiny):
    x, y, width, height = tiny.info(CAR)["bbox"]
    tiny.info(CAR)["bbox"] = [x, y, x + width, y + height]


def draw_second_road(tiny):
    def paint(ids):
        ids[45:47, 10:20] = 8

    tiny.redraw(paint)
    tiny.infos.append({"id": 8, "category_id": 7, "area": 20, "bbox": [10, 45, 10, 2], "iscrowd": 0})


def number_the_road(tiny):
    def paint(ids):
        ids[ids == 7] = 7001

    tiny.redraw(paint)
    tiny.info(7)["id"] = 7001


def share_a_png(tiny):
    tiny.content["annotations"][0]["file_name"] = tiny.content["annotations"][1]["file_name"]


def resize_picture(tiny):
    Image.open(tiny.picture()).resize((50, 50)).save(tiny.picture())


def void_all(tiny):
    write_segment_ids(tiny.png(), np.zeros((48, 96), np.uint32))
    tiny.infos.clear()


def sky_all(tiny):
    write_segment_ids(tiny.png(), np.full((48, 96), 23, np.uint32))
    tiny.infos[:] = [{"id": 23, "category_id": 23, "area": 48 * 96, "bbox": [0, 0, 96, 48], "iscrowd": 0}]


def brighten_into_train(tiny):
    pixels = np.asarray(Image.open(tiny.picture())).astype(int)
    Image.fromarray(np.clip(pixels + 3, 0, 255).astype(np.uint8)).save(tiny.picture(1, "train"))


FAULTS = {  # name: (what is planted, the kind, the image, the segment, kinds that follow from it)
    "png removed": (lambda t: t.png().unlink(), "png-missing", 11, None, ()),
    "png cut off": (cut(lambda t: t.png()), "png-unreadable", 11, None, ()),
    "no png at all": (lambda t: t.png().write_text("hello"), "png-unreadable", 11, None, ()),
    "palette": (save_png(lambda image: image.quantize(8)), "png-mode", 11, None, ()),
    "grey of 16 bits": (save_png(lambda image: Image.new("I;16", image.size, 7)), "png-mode", 11, None, ()),
    "alpha": (save_png(lambda image: image.convert("RGBA")), "png-mode", 11, None, ()),
    "another format": (save_as_bmp, "png-mode", 11, None, ()),
    "red and blue": (swap_red_and_blue, "channels-swapped", 11, 23 << 16, ()),
    "id drawn, not listed": (draw_unlisted, "id-unlisted", 11, 999, ()),
    "id listed, not drawn": (add_segment(), "id-undrawn", 11, 500, ()),
    "id of 25 bits": (add_segment(id=1 << 24), "id-out-of-range", 11, None, ()),
    "negative id": (add_segment(id=-1), "id-out-of-range", 11, None, ()),
    "broken id": (add_segment(id=1.5), "id-out-of-range", 11, None, ()),
    "id as text": (add_segment(id="7"), "id-out-of-range", 11, None, ()),
    "id 0": (add_segment(id=0), "id-zero", 11, 0, ()),
    "area": (change_segment(area=1), "area-wrong", 11, CAR, ()),
    "area as text": (change_segment(area="240"), "area-missing", 11, CAR, ()),
    "no area": (drop("area"), "area-missing", 11, CAR, ()),
    "corners": (use_corners, "box-as-corners", 11, CAR, ()),
    "box elsewhere": (change_segment(bbox=[0, 0, 5, 5]), "box-wrong", 11, CAR, ()),
    "box of three": (change_segment(bbox=[1, 2, 3]), "box-wrong", 11, CAR, ()),
    "no iscrowd": (drop("iscrowd"), "iscrowd-missing", 11, CAR, ()),
    "iscrowd 2": (change_segment(iscrowd=2), "iscrowd-missing", 11, CAR, ()),
    "iscrowd as text": (change_segment(iscrowd="0"), "iscrowd-missing", 11, CAR, ()),
    "strange category": (change_segment(category_id=99), "category-unknown", 11, CAR, ()),
    "category as text": (change_segment(category_id="car"), "entry-malformed", 11, CAR, ()),
    "segment twice": (lambda t: t.infos.append(dict(t.info(CAR))), "segment-repeated", 11, CAR, ()),
    "segment without id": (lambda t: t.infos.append({"category_id": 26}), "entry-malformed", 11, None, ()),
    "segment is text": (lambda t: t.infos.append("car"), "entry-malformed", 11, None, ()),
    "crowd of stuff": (lambda t: t.info(7).update(iscrowd=1), "crowd-of-stuff", 11, 7, ()),
    "two roads": (draw_second_road, "stuff-repeated", 11, 7, ()),
    "numbered road": (number_the_road, "stuff-with-number", 11, 7001, ()),
    "no categories": (lambda t: t.content.pop("categories"), "categories-missing", None, None, ()),
    "no isthing": (lambda t: t.content["categories"][3].pop("isthing"), "isthing-missing", None, None, ()),
    "isthing as text": (lambda t: t.content["categories"][3].update(isthing="1"), "isthing-missing", None, None, ()),
    "category id twice": (
        lambda t: t.content["categories"].append({"id": 26, "name": "van", "isthing": 1}),
        "category-repeated",
        None,
        None,
        (),
    ),
    "category name twice": (
        lambda t: t.content["categories"].append({"id": 27, "name": "car", "isthing": 1}),
        "category-repeated",
        None,
        None,
        (),
    ),
    "category without id": (lambda t: t.content["categories"].append({"name": "van"}), "entry-malformed", None, None, ()),
    "size in images": (change_first("images", height=47), "size-disagrees", 11, None, ()),
    "size in images as text": (change_first("images", width="96"), "size-disagrees", 11, None, ()),
    "size of the picture": (resize_picture, "size-disagrees", 11, None, ()),
    "image twice": (lambda t: t.content["images"].append(dict(t.content["images"][0])), "image-repeated", 11, None, ()),
    "annotation twice": (
        lambda t: t.content["annotations"].append(dict(t.content["annotations"][0])),
        "image-repeated",
        11,
        None,
        (),
    ),
    "one png for two": (share_a_png, "png-shared", 12, None, ("box-wrong",)),
    "one file for two": (
        lambda t: t.content["images"][1].update(file_name="000011.png"),
        "picture-shared",
        12,
        None,
        ("picture-repeated", "label-missing"),
    ),
    "png outside": (change_first("annotations", file_name="../000011.png"), "path-outside", 11, None, ()),
    "picture outside": (change_first("images", file_name="/etc/000011.png"), "path-outside", 11, None, ("label-missing",)),
    "annotation without image id": (lambda t: t.content["annotations"].append({}), "entry-malformed", None, None, ()),
    "image without annotation": (lambda t: t.content["annotations"].pop(0), "annotation-missing", 11, None, ()),
    "annotation without image": (lambda t: t.content["images"].pop(0), "image-unlisted", 11, None, ("label-missing",)),
    "no images": (lambda t: t.content.pop("images"), "images-missing", None, None, ()),
    "picture removed": (lambda t: t.picture().unlink(), "picture-missing", 11, None, ()),
    "picture cut off": (cut(lambda t: t.picture()), "picture-unreadable", 11, None, ()),
    "picture without label": (
        lambda t: Image.new("RGB", (9, 9)).save(t.picture(99)),
        "label-missing",
        "000099.png",
        None,
        (),
    ),
    "picture twice": (lambda t: shutil.copy(t.picture(12), t.picture(11)), "picture-repeated", 12, None, ()),
    "picture in both": (
        lambda t: shutil.copy(t.picture(11), t.picture(1, "train")),
        "picture-in-two-splits",
        11,
        None,
        (),
    ),
    "picture nearly in both": (brighten_into_train, "near-duplicate", 11, None, ()),
    "all void": (void_all, "all-void", 11, None, ()),
    "all sky": (sky_all, "covers-image", 11, 23, ()),
    "train is no json": (lambda t: t.json_path("train").write_text("{"), "json-unreadable", None, None, ()),
}


def test_a_clean_data_set_has_no_findings(tiny):
    assert tiny.check() == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_alone_and_where_it_is(name, tiny):
    plant, kind, image_id, segment_id, consequences = FAULTS[name]
    plant(tiny)
    tiny.write()
    found = tiny.check()
    assert {finding.kind for finding in found} == {kind, *consequences}
    (finding,) = [f for f in found if f.kind == kind]
    assert finding.image_id == image_id
    assert (segment_id in finding.segment_ids) if segment_id is not None else finding.segment_ids == ()
    assert finding.text


def test_what_is_drawn_and_not_listed_has_a_box(tiny):
    draw_unlisted(tiny)
    (finding,) = tiny.check()
    assert (finding.box, finding.weight) == ((2, 45, 7, 2), 14)


def test_most_kinds_are_planted_somewhere():
    """The others have tests of their own: Cityscapes' labels, forms, statistics, predictions."""
    planted = {fault[1] for fault in FAULTS.values()}
    broken = {name for name, kind in KINDS.items() if kind.level == BROKEN}
    of_cityscapes = {"labels-disagree", "panoptic-disagrees", "label-id-unknown", "train-ids-as-ids"}
    assert broken - planted == of_cityscapes | {"class-untrained", "prediction-missing", "names-differ"}


def test_several_faults_are_all_found(tiny):
    """Where a reader would stop at the first."""
    names = ("area", "id 0", "category name twice", "picture removed", "segment without id")
    for name in names:
        FAULTS[name][0](tiny)
    tiny.png(12).unlink()
    tiny.write()
    assert {f.kind for f in tiny.check()} == {FAULTS[name][1] for name in names} | {"png-missing"}


def test_train_ids_in_place_of_ids_are_said_once(tiny_cityscapes_classes):
    tiny = tiny_cityscapes_classes
    for annotation in tiny.content["annotations"]:
        for info in annotation["segments_info"]:
            info["category_id"] = CITYSCAPES.dataset_id_to_train_id[info["category_id"]]
    tiny.write()
    (finding,) = tiny.check()
    assert (finding.kind, finding.image_id) == ("train-ids-as-ids", None)
    assert "category ids used are 0, 10, 11, 13" in finding.text


def test_listed_train_ids_are_right(tiny_cityscapes_classes):
    """createPanopticImgs --use-train-id lists them in `categories`, too."""
    tiny = tiny_cityscapes_classes
    for split in ("train", "val"):
        content = tiny.read(split)
        content["categories"] = CITYSCAPES.with_train_ids().to_coco_categories()
        for annotation in content["annotations"]:
            for info in annotation["segments_info"]:
                info["category_id"] = CITYSCAPES.dataset_id_to_train_id[info["category_id"]]
        tiny.write(content, split)
    assert tiny.check() == []


def make_cars_of_persons(annotations):
    for annotation in annotations:
        for info in annotation["segments_info"]:
            info["category_id"] = 26 if info["category_id"] == 24 else info["category_id"]


@pytest.mark.parametrize(("split", "kind"), [("train", "class-untrained"), ("val", "class-unvalidated")])
def test_a_class_of_one_split_only_is_found(split, kind, tiny):
    content = tiny.read(split)
    make_cars_of_persons(content["annotations"])
    tiny.write(content, split)
    (finding,) = tiny.check()
    assert (finding.kind, finding.image_id) == (kind, None)
    assert finding.numbers == {"category": 24, "train": 3, "val": 3} | {split: 0}


def test_the_training_split_is_checked_against_the_one_for_validation(tiny, collect):
    content = tiny.read("train")
    make_cars_of_persons(content["annotations"])
    tiny.write(content, "train")
    shutil.copy(tiny.picture(11), tiny.picture(1, "train"))
    found = collect(check_split(open_data_set(tiny.root), "train"))
    assert [(f.kind, f.image_id) for f in found] == [("class-untrained", None), ("picture-in-two-splits", 1)]


def test_a_class_that_occurs_once_is_named(tiny):
    make_cars_of_persons(tiny.content["annotations"][1:])
    tiny.write()
    (finding,) = tiny.check()
    assert (finding.kind, finding.image_id, finding.segment_ids) == ("class-once", 11, (24000,))


def test_workers_change_no_finding(tiny):
    for name in ("area", "id 0", "picture twice", "size in images"):
        FAULTS[name][0](tiny)
    tiny.write()
    assert tiny.check(workers=1) == tiny.check(workers=4)


def test_pictures_that_are_not_decoded_are_not_compared_but_measured(tiny):
    for name in ("picture twice", "size in images"):
        FAULTS[name][0](tiny)
    tiny.write()
    assert [f.kind for f in tiny.check(compare_pictures=False)] == ["size-disagrees"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"annotations": {}}', '{"annotations": []}', "\x00"])
def test_what_cannot_be_checked_at_all_is_refused(content, tiny):
    tiny.json_path().write_text(content)
    with pytest.raises(InputError):
        tiny.check()


ODD = (None, True, -1, 0, 1.5, 2**70, float("nan"), float("inf"), "", "a", "\0", [], [1], {}, {"id": 1})


@pytest.mark.parametrize("seed", range(4))
def test_no_value_in_the_json_ends_the_check(seed, tiny):
    """Any node of the JSON becomes anything; what cannot be checked at all may be refused."""
    rng, whole = random.Random(seed), json.dumps(tiny.content)
    for _ in range(25):
        content = json.loads(whole)
        for _ in range(rng.randint(1, 4)):
            node = content
            while isinstance(node, dict | list) and node:
                keys = list(node) if isinstance(node, dict) else list(range(len(node)))
                key = rng.choice(keys)
                if not isinstance(node[key], dict | list) or not node[key] or rng.random() < 0.2:
                    node[key] = copy.deepcopy(rng.choice(ODD))
                    break
                node = node[key]
        tiny.write(content)
        try:
            found = tiny.check(compare_pictures=False)
        except InputError:
            continue
        assert all(finding.kind in KINDS and finding.in_words() for finding in found)


def test_no_byte_of_a_png_ends_the_check(tiny):
    whole, rng = tiny.png().read_bytes(), random.Random(0)
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        tiny.png().write_bytes(bytes(content[: rng.choice((len(content), rng.randrange(len(content))))]))
        assert all(finding.kind in KINDS for finding in tiny.check(compare_pictures=False))


def test_ids_of_a_png_with_alpha_are_still_checked(tiny):
    draw_unlisted(tiny)
    FAULTS["alpha"][0](tiny)
    assert {f.kind for f in tiny.check()} == {"png-mode", "id-unlisted"}
    assert 999 in read_segment_ids(tiny.png())
