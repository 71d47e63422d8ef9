"""Faults planted in the label images of Streets, and that the embedded data sets have none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.drawn.snapshots import VAL_SPLIT
from data.label_checks.check import check_files, check_split
from data.label_checks.kinds import BROKEN, KINDS
from data.layouts.cityscapes import CityscapesSplit, instance_ids_to_semantic, panoptic_json_path, write_panoptic
from data.layouts.coco import CocoSplit
from data.layouts.find import open_data_set
from data.panoptic_png import read_segment_ids, write_segment_ids
from data.taxonomy import CITYSCAPES
from runtime.files import InputError


class Streets:
    """A copy of the validation split, with its panoptic JSON; faults are planted in its first image with cars."""

    def __init__(self, root: Path):
        self.root, self.json_path = root, panoptic_json_path(root, "val")
        split = CityscapesSplit(root, "val")
        self.index = next(k for k in range(len(split)) if (self.read(split.images[k].label_path) // 1000 == 26).any())
        self.image = split.images[self.index]
        self.image_id = self.image.image_id
        self.label_ids = Path(str(self.image.label_path).replace("instanceIds", "labelIds"))
        ids = self.read(self.image.label_path)
        self.car = int(ids[ids // 1000 == 26][0])

    @staticmethod
    def read(path: Path) -> np.ndarray:
        return np.asarray(Image.open(path)).astype(np.int32)

    @staticmethod
    def write(path: Path, ids: np.ndarray, dtype: type) -> None:
        Image.fromarray(ids.astype(dtype)).save(path)

    def map_instances(self, change) -> None:
        self.write(self.image.label_path, change(self.read(self.image.label_path)), np.uint16)

    def forget_panoptic(self) -> None:
        self.json_path.unlink()

    def check(self) -> list:
        return [f for _, found in check_split(open_data_set(self.root), "val") for f in found if KINDS[f.kind].level == BROKEN]


@pytest.fixture(scope="module")
def prepared(streets, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    for kind in ("gtFine", "leftImg8bit"):
        shutil.copytree(streets / kind / "val", root / kind / "val")
    write_panoptic(root, "val")
    return root


@pytest.fixture
def city(prepared, tmp_path) -> Streets:
    return Streets(Path(shutil.copytree(prepared, tmp_path / "city")))


def only(found, kind, image_id):
    """The one finding, of this kind and image."""
    (finding,) = found
    assert (finding.kind, finding.image_id, finding.side) == (kind, image_id, "truth")
    return finding


def test_clean_labels_have_nothing_broken(city):
    assert city.check() == []
    city.forget_panoptic()
    assert city.check() == []


def test_a_label_image_that_disagrees_with_the_instance_ids_is_found(city):
    ids = city.read(city.label_ids)
    place = tuple(np.argwhere(ids == 26)[0])
    ids[place] = 27
    city.write(city.label_ids, ids, np.uint8)
    finding = only(city.check(), "labels-disagree", city.image_id)
    assert finding.numbers == {"pixels": 1}
    assert "labelIds says 27 where instanceIds says 26" in finding.text


def test_label_ids_that_are_train_ids_are_named_as_such(city):
    semantic = instance_ids_to_semantic(city.read(city.image.label_path))
    city.write(city.label_ids, semantic, np.uint8)
    only(city.check(), "train-ids-as-ids", city.image_id)


def test_instance_ids_that_are_train_ids_are_named_as_such(city):
    def to_train(ids):
        table = CITYSCAPES.dataset_id_to_train_id
        return np.vectorize(lambda v: table.get(v, 255) if v < 1000 else 1000 * table.get(v // 1000, 12) + v % 1000)(ids)

    city.map_instances(to_train)
    only(city.check(), "train-ids-as-ids", city.image_id)


@pytest.mark.parametrize("value", [40_000, 999, 35])
def test_an_id_outside_the_table_is_found(value, city):
    city.forget_panoptic()
    city.map_instances(lambda ids: np.where(ids == city.car, value, ids))
    finding = only(city.check(), "label-id-unknown", city.image_id)
    assert finding.segment_ids == (value,)


def test_a_label_id_outside_the_table_is_found(city):
    ids = city.read(city.label_ids)
    city.write(city.label_ids, np.where(ids == 26, 77, ids), np.uint8)
    assert only(city.check(), "label-id-unknown", city.image_id).segment_ids == (77,)


def test_a_panoptic_png_that_is_not_made_of_the_labels_is_found(city):
    """One car less, in PNG and JSON alike: only the instance ids tell."""
    content = json.loads(city.json_path.read_text())
    entry = next(a for a in content["annotations"] if a["image_id"] == city.image_id)
    entry["segments_info"] = [info for info in entry["segments_info"] if info["id"] != city.car]
    city.json_path.write_text(json.dumps(content))
    png = city.json_path.with_suffix("") / entry["file_name"]
    ids = read_segment_ids(png)
    write_segment_ids(png, np.where(ids == city.car, 0, ids).astype(np.uint32))
    finding = only(city.check(), "panoptic-disagrees", city.image_id)
    assert finding.numbers == {"pixels": int((ids == city.car).sum())}


def test_eight_bits_of_instance_ids_are_too_few(city):
    city.forget_panoptic()
    ids = city.read(city.label_ids)
    city.write(city.image.label_path, ids, np.uint8)
    assert "numbers of instances are lost" in only(city.check(), "png-mode", city.image_id).text


def test_a_colour_image_is_no_label_image(city):
    color = Path(str(city.image.label_path).replace("instanceIds", "color"))
    shutil.copy(color, city.label_ids)
    only(city.check(), "png-mode", city.image_id)


def test_a_truncated_label_image_is_found(city):
    city.forget_panoptic()
    city.image.label_path.write_bytes(city.image.label_path.read_bytes()[:200])
    only(city.check(), "png-unreadable", city.image_id)


def test_a_label_without_picture_is_found(city):
    city.image.image_path.unlink()
    only(city.check(), "picture-missing", city.image_id)


def test_a_picture_without_label_is_found(city):
    city.forget_panoptic()
    city.image.label_path.unlink()
    only(city.check(), "label-missing", city.image_id)


def test_an_image_that_the_panoptic_json_forgets_is_found(city):
    content = json.loads(city.json_path.read_text())
    for kind, name in (("annotations", "image_id"), ("images", "id")):
        content[kind] = [entry for entry in content[kind] if entry[name] != city.image_id]
    city.json_path.write_text(json.dumps(content))
    only(city.check(), "annotation-missing", city.image_id)


def test_a_panoptic_json_that_does_not_read_leaves_the_labels_to_be_checked(city):
    city.json_path.write_text("{")
    city.image.image_path.unlink()
    assert [f.kind for f in city.check()] == ["json-unreadable", "picture-missing"]


def test_a_numbered_road_is_found_in_instance_ids(city):
    city.forget_panoptic()
    city.map_instances(lambda ids: np.where(ids == 7, 7001, ids))
    found = [f for _, fs in check_split(open_data_set(city.root), "val") for f in fs if f.kind == "stuff-with-number"]
    assert [(f.image_id, f.segment_ids) for f in found] == [(city.image_id, (7001,))]


def test_a_split_without_any_label_is_refused(city):
    shutil.rmtree(city.root / "gtFine" / "val")
    city.json_path.unlink()
    with pytest.raises(InputError, match=r"no \*_gtFine_instanceIds.png there"):
        city.check()


def classes_only_of_val(open_split, train, val) -> set[int]:
    """By the readers, for they are sound."""
    train_ids, val_ids = (
        {s.category_id for k in range(len(split)) for s in split.truth(k).segments}
        for split in (open_split(train), open_split(val))
    )
    return val_ids - train_ids


@pytest.mark.parametrize("layout", ["cityscapes", "coco"])
def test_the_drawn_sets_have_nothing_broken_but_classes_that_so_few_images_lack(layout, request):
    is_coco = layout == "coco"
    root = request.getfixturevalue("snapshots" if is_coco else "streets")
    names = ("train2017", VAL_SPLIT) if is_coco else ("train", "val")
    expected = classes_only_of_val(lambda name: (CocoSplit if is_coco else CityscapesSplit)(root, name), *names)
    found = [f for _, fs in check_split(open_data_set(root), names[1]) for f in fs]
    broken = [f for f in found if KINDS[f.kind].level == BROKEN]
    assert {f.kind for f in broken} <= {"class-untrained"}
    assert {f.numbers["category"] for f in broken} == expected


def test_a_lone_json_is_checked_with_pictures_that_have_other_names(city):
    """createPanopticImgs names them as no download does."""
    images = city.root / "leftImg8bit" / "val"
    found = [f for _, fs in check_files(city.json_path, images=images) for f in fs if KINDS[f.kind].level == BROKEN]
    assert found == []
    city.image.image_path.unlink()
    found = [f for _, fs in check_files(city.json_path, images=images) for f in fs if KINDS[f.kind].level == BROKEN]
    only(found, "picture-missing", city.image_id)
