"""The Cityscapes layout is read as it is, and converted as the official tools do."""

import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from PIL import Image

from data.drawn.streets import StreetsSettings, ensure_streets
from data.layouts import cityscapes
from data.layouts.cityscapes import (
    CityscapesSplit,
    LabelledImage,
    check_root,
    ensure_instances_json,
    find_images,
    find_splits,
    instance_ids_to_panoptic,
    instance_ids_to_semantic,
    instances_json_path,
    is_prepared,
    read_instance_ids,
    read_truth,
    write_instances_json,
    write_panoptic,
)
from data.panoptic_png import Segment
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from runtime.files import InputError

SPLITS = ("train", "val")


@pytest.fixture(scope="module")
def streets(tmp_path_factory) -> Path:
    return ensure_streets(tmp_path_factory.mktemp("data") / "streets", StreetsSettings(128, 256, num_train=3, num_val=2))


@pytest.fixture
def tree(tmp_path, draw, scene) -> Path:
    """Two images of train in two cities; the one whose city comes first has the id that comes last."""
    scene[scene == 65535] = 0
    draw(tmp_path, "train", "ulm_000000_000019", scene)
    draw(tmp_path, "train", "aachen_000001_000019", scene[::-1])
    return tmp_path


# Finding


def test_images_are_sorted_by_id_and_paired_by_id(tree):
    images = find_images(tree, "train")
    assert [image.image_id for image in images] == ["aachen_000001_000019", "ulm_000000_000019"]
    for image in images:
        city = image.image_id.split("_")[0]
        assert image.image_path == tree / "leftImg8bit" / "train" / city / f"{image.image_id}_leftImg8bit.png"
        assert image.label_path == tree / "gtFine" / "train" / city / f"{image.image_id}_gtFine_instanceIds.png"


def test_splits_come_in_their_usual_order(tree, draw):
    for split in ("extra", "test", "val"):
        draw(tree, split, "ulm_000000_000019", None)
    (tree / "leftImg8bit" / "empty").mkdir()
    assert find_splits(tree) == ["train", "val", "test", "extra"]


def test_an_image_without_label_is_named_with_the_label_it_needs(tree, draw):
    draw(tree, "train", "bonn_000000_000019", None)
    with pytest.raises(InputError, match=r"bonn_000000_000019_leftImg8bit\.png: .*bonn_000000_000019_gtFine_instanceIds\.png"):
        find_images(tree, "train")
    assert find_images(tree, "train", need_labels=False)[1].label_path is None


def test_a_split_without_images_is_refused_with_those_that_have_some(tree):
    with pytest.raises(InputError, match=r"no .*_leftImg8bit\.png \(or \.jpg\) there; splits with images: train"):
        find_images(tree, "val")


def test_images_of_one_name_in_two_cities_keep_the_city_in_their_ids(tree):
    folder = tree / "leftImg8bit" / "train"
    (folder / "bonn").mkdir()
    (folder / "bonn" / "ulm_000000_000019_leftImg8bit.png").touch()
    ids = [image.image_id for image in find_images(tree, "train", need_labels=False)]
    assert {"bonn/ulm_000000_000019", "ulm/ulm_000000_000019"} < set(ids)


def test_an_image_in_two_forms_is_refused(tree):
    path = find_images(tree, "train")[0].image_path
    path.with_suffix(".jpg").touch()
    with pytest.raises(InputError, match=r"leftImg8bit.jpg and .*leftImg8bit.png are one image in two forms"):
        find_images(tree, "train", need_labels=False)


@pytest.mark.parametrize(
    ("folders", "complaint"),
    [
        (None, "no such folder; the Cityscapes layout has"),
        ((), "no leftImg8bit/ and no gtFine/ in it"),
        (("leftImg8bit",), "no gtFine/ in it"),
    ],
)
def test_a_root_that_is_none_is_refused(tmp_path, folders, complaint):
    root = tmp_path / "root"
    for folder in folders or ():
        (root / folder).mkdir(parents=True)
    if folders == ():
        root.mkdir()
    with pytest.raises(InputError, match=complaint):
        check_root(root)


def test_a_split_has_its_images_and_their_truth_where_there_is_one(tree, draw):
    draw(tree, "train", "bonn_000000_000019", None, picture=np.full((4, 8, 3), 99, np.uint8))
    split = CityscapesSplit(tree, "train")
    assert [split.image_id(k) for k in range(len(split))] == [
        "aachen_000001_000019",
        "bonn_000000_000019",
        "ulm_000000_000019",
    ]
    assert [split.has_truth(k) for k in range(3)] == [True, False, True]
    assert split.taxonomy is CITYSCAPES
    assert (split.image(1) == 99).all()
    assert (split.size(0), split.size(1)) == ((4, 9), (4, 8))
    assert split.truth(1) is None
    assert split.truth(0).segments == read_truth(split.images[0]).segments
    assert split.index_of["ulm_000000_000019"] == 2
    with pytest.raises(InputError, match=r"bonn_000000_000019_leftImg8bit\.png: has no truth, but it is needed"):
        split.truth_digest(1)
    with pytest.raises(InputError, match=r"its label .* is missing"):
        CityscapesSplit(tree, "train", need_labels=True)


def test_digests_follow_the_content_of_image_and_label(tree, draw):
    split = CityscapesSplit(tree, "train")
    image, truth = split.digest(0), split.truth_digest(0)
    shutil.copy(split.images[1].label_path, split.images[0].label_path)
    assert (split.digest(0), split.truth_digest(0)) == (image, split.truth_digest(1))
    assert split.truth_digest(0) != truth
    Image.fromarray(np.full((4, 9, 3), 7, np.uint8)).save(split.image_path(0))
    assert split.digest(0) != image


# Reading


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_16_bit_labels_are_read_in_both_of_pillows_modes(tmp_path, scene, mode):
    path = tmp_path / "a.tif"  # Pillow no longer writes mode I as PNG, but older versions read 16-bit PNGs as I
    Image.fromarray(scene.astype(np.uint16 if mode == "I;16" else np.int32)).save(path)
    assert Image.open(path).mode == mode
    assert np.array_equal(read_instance_ids(path), scene)


def test_an_8_bit_label_is_read_where_no_instance_number_can_be_lost(tmp_path):
    void = np.array([[0, 1], [7, 23]], dtype=np.uint8)  # like the dummy labels of the test split
    Image.fromarray(void).save(tmp_path / "a.png")
    assert np.array_equal(read_instance_ids(tmp_path / "a.png"), void)


def test_label_ids_given_as_instance_ids_are_refused(tmp_path):
    Image.fromarray(np.array([[7, 26]], dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="8-bit, so the instance numbers are lost"):
        read_instance_ids(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA", "1"])
def test_a_label_of_another_mode_is_refused(tmp_path, mode):
    Image.new(mode, (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=f"PNG mode {mode}, but instance ids are 16-bit grey"):
        read_instance_ids(tmp_path / "a.png")


@pytest.mark.parametrize("stranger", [34, 999, 34000, 65534, -1, 70000])
def test_ids_of_no_label_are_refused(tmp_path, stranger):
    Image.fromarray(np.array([[7, stranger]], dtype=np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=rf"ids \[{stranger}\] are of no Cityscapes label"):
        read_instance_ids(tmp_path / "a.tif")


def test_a_label_of_another_size_than_its_image_is_refused(tmp_path, draw):
    draw(tmp_path, "val", "ulm_000000_000019", np.full((2, 3), 7), picture=np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(InputError, match="2x3 pixels, but its image has 4x6"):
        read_truth(find_images(tmp_path, "val")[0])


def test_a_truncated_label_is_refused(tree):
    image = find_images(tree, "train")[0]
    image.label_path.write_bytes(image.label_path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"instanceIds\.png: cannot be decoded"):
        read_truth(image)


# Meaning


def test_segments_are_what_the_pixels_say():
    instance_ids = np.array([[7, 7, 26, 26003], [4, 29001, 26, 65535]])
    panoptic = instance_ids_to_panoptic(instance_ids)
    assert panoptic.segment_ids.tolist() == [[7, 7, 26, 26003], [0, 0, 26, 0]]
    assert panoptic.segments == (
        Segment(7, 7, 2, (0, 0, 2, 1)),
        Segment(26, 26, 2, (2, 0, 1, 2), is_crowd=True),
        Segment(26003, 26, 1, (3, 0, 1, 1)),
    )


def test_the_semantic_map_keeps_groups_and_drops_what_is_not_scored(scene):
    train_ids = CITYSCAPES.dataset_id_to_train_id
    label_ids = np.where(scene < 1000, scene, scene // 1000)
    expected = [[train_ids.get(v, VOID_TRAIN_ID) for v in row] for row in label_ids.tolist()]
    assert instance_ids_to_semantic(scene).tolist() == expected


# Conversion, against the official tools


def without_info(path: Path) -> dict:
    """The content of a JSON of ours without the digest of what it was made from, which the official tools do not write."""
    content = json.loads(path.read_text())
    assert {"description", "labels", "sizes", "content"} == set(content.pop("info")) - {"pngs"}
    return content


def assert_equal_panoptic(ours: Path, official: Path) -> None:
    """JSON equal as parsed but for what it was made from, PNGs pixel by pixel."""
    assert without_info(ours) == json.loads(official.read_text())
    theirs = sorted(official.with_suffix("").iterdir())
    assert sorted(p.name for p in ours.with_suffix("").iterdir()) == [p.name for p in theirs]
    for picture in theirs:
        with Image.open(picture) as expected, Image.open(ours.with_suffix("") / picture.name) as found:
            assert (found.mode, found.size) == (expected.mode, expected.size)
            assert np.array_equal(np.asarray(found), np.asarray(expected))


def convert_officially(root: Path, output: Path, split: str, use_train_ids: bool) -> Path:
    convert2panoptic(str(root / "gtFine"), str(output), use_train_ids, [split])
    return output / f"cityscapes_panoptic_{split}{'_trainId' if use_train_ids else ''}.json"


@pytest.mark.parity
@pytest.mark.parametrize("use_train_ids", [False, True], ids=["dataset ids", "train ids"])
@pytest.mark.parametrize("split", SPLITS)
def test_panoptic_truth_of_streets_equals_the_official_tools(streets, tmp_path, split, use_train_ids):
    ours = write_panoptic(streets, split, use_train_ids=use_train_ids)
    assert_equal_panoptic(ours, convert_officially(streets, tmp_path, split, use_train_ids))


@pytest.mark.parity
@pytest.mark.parametrize("use_train_ids", [False, True], ids=["dataset ids", "train ids"])
def test_panoptic_truth_of_one_of_everything_equals_the_official_tools(tree, tmp_path, use_train_ids):
    ours = write_panoptic(tree, "train", use_train_ids=use_train_ids)
    output = tmp_path / "official"
    output.mkdir()
    assert_equal_panoptic(ours, convert_officially(tree, output, "train", use_train_ids))


def mmdet_instances(root: Path, split: str, output: Path) -> dict:
    """What mmdet's converter writes, with images in order of their ids; the file is loaded alone, since mmdet needs mmcv._ext."""
    package = Path(importlib.util.find_spec("mmdet").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("mmdet_cityscapes", package / ".mim/tools/dataset_converters/cityscapes.py")
    converter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(converter)
    files = sorted(converter.collect_files(str(root / "leftImg8bit" / split), str(root / "gtFine" / split)))
    infos = [converter.load_img_info(f) for f in files]
    converter.cvt_annotations(infos, str(output / "mmdet.json"))
    return json.loads((output / "mmdet.json").read_text())


@pytest.mark.parity
@pytest.mark.parametrize("split", SPLITS)
def test_instances_of_streets_equal_those_of_mmdets_converter(streets, tmp_path, split):
    ours = without_info(write_instances_json(streets, split))
    assert ours == mmdet_instances(streets, split, tmp_path)


@pytest.mark.parity
def test_instances_of_one_of_everything_equal_those_of_mmdets_converter(tree, tmp_path):
    assert without_info(write_instances_json(tree, "train")) == mmdet_instances(tree, "train", tmp_path)


def test_a_split_without_things_still_has_a_list_of_annotations(tmp_path, draw):
    draw(tmp_path, "test", "ulm_000000_000019", np.zeros((4, 8)))
    assert json.loads(write_instances_json(tmp_path, "test").read_text())["annotations"] == []


def written(root: Path, **options) -> dict[str, bytes]:
    """Everything that both conversions write, by name."""
    instances, panoptic = write_instances_json(root, "train", **options), write_panoptic(root, "train", **options)
    files = [instances, panoptic, *panoptic.with_suffix("").iterdir()]
    found = {path.name: path.read_bytes() for path in files}
    for path in files:
        path.unlink()
    return found


def test_threads_and_the_reader_of_the_labels_change_no_byte(streets, tmp_path, monkeypatch):
    root = Path(shutil.copytree(streets, tmp_path / "root"))
    expected = written(root)
    assert written(root, workers=1) == expected
    monkeypatch.setattr(cityscapes, "read_plain_png", lambda *_: None)  # Pillow reads them
    assert written(root, workers=1) == expected


# Going on after a kill


def change_label(image: LabelledImage) -> None:
    """Another content in a file of the same age."""
    before = image.label_path.stat()
    instance_ids = np.array(Image.open(image.label_path))
    Image.fromarray(instance_ids[::-1].copy()).save(image.label_path)
    os.utime(image.label_path, ns=(before.st_atime_ns, before.st_mtime_ns))


WRITERS = {"panoptic": write_panoptic, "instances": write_instances_json}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_conversion_is_stale_once_a_label_changes_whatever_its_age(tree, write):
    images = find_images(tree, "train")
    path = write(tree, "train")
    for image in images:
        os.utime(image.label_path)  # younger than the JSON, but the same
    assert is_prepared(path, images)
    change_label(images[1])
    assert not is_prepared(path, images)
    write(tree, "train")
    assert is_prepared(path, images)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_conversion_of_other_images_is_stale(tree, draw, write):
    path = write(tree, "train")
    assert not is_prepared(path, find_images(tree, "train")[:1])
    draw(tree, "train", "bonn_000000_000019", np.zeros((4, 8)))
    assert not is_prepared(path, find_images(tree, "train"))


@pytest.mark.parametrize("left", [None, 0, 60], ids=["removed", "emptied", "cut off"])
def test_a_conversion_without_all_of_its_pngs_is_not_prepared(tree, left):
    images = find_images(tree, "train")
    path = write_panoptic(tree, "train")
    png = next(path.with_suffix("").iterdir())
    whole = png.read_bytes()
    png.unlink()
    if left is not None:
        png.write_bytes(whole[:left])
    assert not is_prepared(path, images)
    write_panoptic(tree, "train")
    assert is_prepared(path, images)
    assert png.read_bytes() == whole


@pytest.mark.parametrize("content", ['{"images": [', "[]", "{}", '{"info": null, "annotations": []}', '{"info": {}}'])
def test_a_broken_json_or_one_of_somebody_else_is_not_prepared(tree, content):
    path = write_instances_json(tree, "train")
    path.write_text(content)
    assert not is_prepared(path, find_images(tree, "train"))


def test_instances_are_written_where_they_are_not_prepared_and_kept_where_they_are(tree):
    split = CityscapesSplit(tree, "train")
    assert split.ensure_instances_json()
    path = split.instances_json
    assert path == instances_json_path(tree, "train")
    before = path.read_bytes()
    assert not ensure_instances_json(tree, "train")
    path.write_text("{")
    assert ensure_instances_json(tree, "train")
    assert path.read_bytes() == before
    change_label(split.images[0])
    assert ensure_instances_json(tree, "train")
    assert path.read_bytes() != before
    assert (tree / split.image_folder / json.loads(before)["images"][0]["file_name"]) == split.image_path(0)


def test_an_interrupted_conversion_leaves_no_json_and_the_next_one_mends_what_it_left(tree):
    def stop_after_one(items, total):
        yield next(iter(items))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_panoptic(tree, "train", track=stop_after_one)
    path = cityscapes.panoptic_json_path(tree, "train")
    assert not path.exists()
    (path.with_suffix("") / "aachen_000001_000019_gtFine_panoptic.png").write_bytes(b"half")
    write_panoptic(tree, "train")
    broken_once = {p.name: p.read_bytes() for p in path.with_suffix("").iterdir()}
    for picture in path.with_suffix("").iterdir():
        picture.unlink()
    write_panoptic(tree, "train")
    assert {p.name: p.read_bytes() for p in path.with_suffix("").iterdir()} == broken_once


def test_what_is_made_from_labels_may_go_elsewhere(tree, tmp_path_factory):
    derived = tmp_path_factory.mktemp("derived")
    before = sorted(tree.rglob("*"))
    split = CityscapesSplit(tree, "train", derived=derived)
    assert split.ensure_instances_json()
    assert split.instances_json == instances_json_path(derived, "train")
    assert is_prepared(write_panoptic(tree, "train", derived=derived), find_images(tree, "train"))
    assert sorted(tree.rglob("*")) == before


def spoil_emptied(png: Path) -> None:
    png.write_bytes(b"")


def spoil_other(png: Path) -> None:
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(png)


@pytest.mark.parametrize("spoil", [spoil_emptied, spoil_other, Path.unlink])
def test_a_panoptic_png_that_is_another_one_is_written_anew_whatever_its_time(tree, spoil):
    path, images = write_panoptic(tree, "train"), find_images(tree, "train")
    png = sorted(path.with_suffix("").iterdir())[0]
    content, times = png.read_bytes(), (png.stat().st_atime_ns, png.stat().st_mtime_ns)
    assert is_prepared(path, images)
    spoil(png)
    if png.exists():
        os.utime(png, ns=times)
    assert not is_prepared(path, images)
    write_panoptic(tree, "train")
    assert png.read_bytes() == content
    assert is_prepared(path, images)


def test_a_label_that_was_corrected_with_its_time_kept_is_seen(tree):
    path, images = write_instances_json(tree, "train"), find_images(tree, "train")
    label, times = images[0].label_path, (images[0].label_path.stat().st_atime_ns, images[0].label_path.stat().st_mtime_ns)
    ids = np.array(Image.open(label))
    Image.fromarray(np.full_like(ids, 7)).save(label)
    os.utime(label, ns=times)
    assert not is_prepared(path, images)
