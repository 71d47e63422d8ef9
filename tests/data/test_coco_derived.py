"""Stuff maps against a plain reading of detectron2's rule, instances against pycocotools; what is finished is kept."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from data.drawn.snapshots import VAL_SPLIT, SnapshotsSettings, ensure_snapshots
from data.layouts.coco import CocoSplit
from data.layouts.coco_derived import (
    categories_path,
    ensure_instances_json,
    instances_json_path,
    is_prepared,
    panoptic_to_stuff,
    prepare_split,
    stuff_folder,
    write_categories,
)
from data.panoptic_png import PanopticMap, Segment, describe_segments, read_segment_ids, write_segment_ids
from data.targets import panoptic_to_annotations
from data.taxonomy import COCO_PANOPTIC, Category, Taxonomy
from evaluation.instance_ap import InstanceAP
from runtime.files import InputError


@pytest.fixture
def root(tmp_path) -> Path:
    return ensure_snapshots(tmp_path / "snapshots", SnapshotsSettings(num_train=0, num_val=5))


def prepare(root: Path, **options):
    return prepare_split(CocoSplit(root, VAL_SPLIT), **options)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.array(image)


def plain_stuff(root: Path) -> dict[str, np.ndarray]:
    """What detectron2's prepare_panoptic_fpn.py makes, read as its code reads: JSON, masks, a dict of ids."""
    content = json.loads((root / f"annotations/panoptic_{VAL_SPLIT}.json").read_text())
    stuff = [c["id"] for c in content["categories"] if c["isthing"] == 0]
    new_ids = {c["id"]: 0 for c in content["categories"]} | {k: n + 1 for n, k in enumerate(stuff)}
    maps = {}
    for annotation in content["annotations"]:
        with Image.open(root / f"annotations/panoptic_{VAL_SPLIT}" / annotation["file_name"]) as image:
            rgb = np.array(image).astype(np.uint32)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 256**2 * rgb[..., 2]
        found = np.zeros_like(ids, dtype=np.uint8) + 255
        for segment in annotation["segments_info"]:
            found[ids == segment["id"]] = new_ids[segment["category_id"]]
        maps[annotation["file_name"]] = found
    return maps


@pytest.mark.parity
def test_stuff_maps_equal_detectron2s_rule(root):
    prepare(root)
    expected = plain_stuff(root)
    assert sorted(p.name for p in stuff_folder(root, VAL_SPLIT).iterdir()) == sorted(expected)
    for name, stuff in expected.items():
        assert np.array_equal(read(stuff_folder(root, VAL_SPLIT) / name), stuff)


def test_a_stuff_map_has_zero_for_things_and_255_for_void():
    colour = (1, 2, 3)
    taxonomy = Taxonomy(
        "three", (Category("sea", 9, False, colour), Category("boat", 4, True, colour), Category("sky", 7, False, colour))
    )
    ids = np.array([[1, 1, 2], [3, 0, 2]], np.uint32)
    category_of = {1: 7, 2: 4, 3: 9}
    panoptic = PanopticMap(ids, describe_segments(ids, category_of.get))
    assert panoptic_to_stuff(panoptic, taxonomy).tolist() == [[2, 2, 0], [1, 255, 0]]


@pytest.mark.parity
def test_pycocotools_reads_the_masks_that_the_truth_has(root):
    prepare(root)
    coco, split = COCO(str(instances_json_path(root, VAL_SPLIT))), CocoSplit(root, VAL_SPLIT)
    assert coco.getCatIds() == sorted(COCO_PANOPTIC.dataset_ids[list(COCO_PANOPTIC.thing_ids)].tolist())
    num_crowds = 0
    for index, key in enumerate(split.keys):
        truth = split.truth(index)
        things = [s for s in truth.segments if COCO_PANOPTIC.is_thing[COCO_PANOPTIC.dataset_id_to_train_id[s.category_id]]]
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=key))
        assert len(annotations) == len(things)
        for thing in things:
            mask = truth.segment_ids == thing.segment_id
            (same,) = [a for a in annotations if np.array_equal(coco.annToMask(a), mask)]
            assert (same["category_id"], same["iscrowd"]) == (thing.category_id, int(thing.is_crowd))
            assert (same["area"], tuple(same["bbox"])) == (mask.sum(), thing.bbox)
            num_crowds += same["iscrowd"]
    assert len({a["id"] for a in coco.anns.values()}) == sum(len(coco.getAnnIds(imgIds=k)) for k in split.keys)
    assert num_crowds == split.count_things()[1]


def test_the_truth_as_detections_has_ap_one(root):
    split = CocoSplit(root, VAL_SPLIT)
    perfect, nothing = InstanceAP(split.taxonomy), InstanceAP(split.taxonomy)
    for index in range(len(split)):
        found = panoptic_to_annotations(split.truth(index), split.taxonomy)
        whole = [(a["category_id"], 1.0, a["segmentation"]) for a in found if not a["iscrowd"]]
        perfect.add(found, whole, split.size(index))
        nothing.add(found, [], split.size(index))
    assert (perfect.scores()["AP"], nothing.scores()["AP"]) == (1.0, 0.0)


def test_what_is_finished_is_kept_whatever_its_age(root):
    first = prepare(root)
    places = [stuff_folder(root, VAL_SPLIT), instances_json_path(root, VAL_SPLIT)]
    assert first.written == places
    for path in places[0].iterdir():
        os.utime(path, (0, 0))
    before = {path: path.stat().st_ino for path in (*places[0].iterdir(), places[1])}
    assert prepare(root).kept == places
    assert {path: path.stat().st_ino for path in before} == before
    assert prepare(root, again=True).written == places
    assert all(path.stat().st_ino != number for path, number in before.items())


@pytest.mark.parametrize("content", [b"", b"half a PNG"])
def test_a_stuff_map_that_is_not_whole_is_written_again(root, content):
    prepare(root)
    places = [stuff_folder(root, VAL_SPLIT), instances_json_path(root, VAL_SPLIT)]
    some = sorted(places[0].iterdir())[1]
    some.write_bytes(content)
    again = prepare(root)
    assert (again.written, again.kept) == (places[:1], places[1:])
    assert np.array_equal(read(some), plain_stuff(root)[some.name])


def turn_truth(root: Path) -> None:
    """Turn the truth of an image upside down, without changing a file's age."""
    split = CocoSplit(root, VAL_SPLIT)
    path = split.png_path(0)
    age = path.stat().st_mtime_ns
    ids = read_segment_ids(path)[::-1].copy()
    write_segment_ids(path, ids)
    os.utime(path, ns=(age, age))


def test_what_was_made_from_another_truth_is_written_again_whatever_its_age(root):
    prepare(root)
    stuff, instances = stuff_folder(root, VAL_SPLIT), instances_json_path(root, VAL_SPLIT)
    before = json.loads(instances.read_text())
    assert not ensure_instances_json(CocoSplit(root, VAL_SPLIT))
    turn_truth(root)
    assert prepare(root).written == [stuff, instances]
    assert json.loads(instances.read_text())["annotations"] != before["annotations"]
    for name, expected in plain_stuff(root).items():
        assert np.array_equal(read(stuff / name), expected)
    turn_truth(root)
    assert ensure_instances_json(CocoSplit(root, VAL_SPLIT))
    assert json.loads(instances.read_text())["annotations"] == before["annotations"]


def test_the_list_that_mmdet_reads_is_the_same_by_both_ways(root):
    prepare(root)
    split = CocoSplit(root, VAL_SPLIT)
    prepared = split.instances_json.read_bytes()
    split.instances_json.unlink()
    assert split.ensure_instances_json()
    assert split.instances_json.read_bytes() == prepared


def test_an_instance_json_of_someone_else_needs_the_same_classes(root):
    split = CocoSplit(root, VAL_SPLIT)
    things = [c for c in split.taxonomy.to_coco_categories() if c["isthing"]]
    split.instances_json.write_text(json.dumps({"images": [], "annotations": [], "categories": things}))
    assert not split.ensure_instances_json()
    split.instances_json.write_text(json.dumps({"images": [], "annotations": [], "categories": things[1:]}))
    with pytest.raises(InputError, match=r"its classes are not the things of .*'person'.* in only one of both; move it away"):
        split.ensure_instances_json()


def test_an_instance_json_of_someone_else_is_never_written_over(root):
    instances_json_path(root, VAL_SPLIT).write_text('{"info": {}}')
    for again in (False, True):
        assert instances_json_path(root, VAL_SPLIT) in prepare(root, again=again).kept
    assert instances_json_path(root, VAL_SPLIT).read_text() == '{"info": {}}'


def test_every_broken_image_is_named_and_the_others_are_prepared(root):
    split = CocoSplit(root, VAL_SPLIT)
    for path in (split.image_path(0), split.png_path(3)):
        path.write_bytes(path.read_bytes()[:300])
    done = prepare(root, workers=2)
    assert [problem.split(": ")[0] for problem in done.problems] == [str(split.image_path(0)), str(split.png_path(3))]
    assert len(list(stuff_folder(root, VAL_SPLIT).iterdir())) == 3
    assert not instances_json_path(root, VAL_SPLIT).exists()


def test_a_killed_run_goes_on(root, kill_at_random_moments):
    kill_at_random_moments(lambda: prepare(root), 0.3, 5)
    prepare(root)
    expected = plain_stuff(root)
    assert sorted(p.name for p in stuff_folder(root, VAL_SPLIT).iterdir()) == sorted(expected)
    assert len(json.loads(instances_json_path(root, VAL_SPLIT).read_text())["images"]) == 5


def test_the_list_of_classes_reads_back(tmp_path):
    assert write_categories(tmp_path, COCO_PANOPTIC) == categories_path(tmp_path)
    written = json.loads(categories_path(tmp_path).read_text())
    assert Taxonomy.from_coco_categories(COCO_PANOPTIC.name, written) == COCO_PANOPTIC


def test_too_many_stuff_classes_for_eight_bits_are_refused():
    taxonomy = Taxonomy("many", tuple(Category(f"stuff {k}", k, False, (1, 1, 1)) for k in range(255)))
    panoptic = PanopticMap(np.ones((2, 2), np.uint32), (Segment(1, 3, 4, (0, 0, 2, 2)),))
    with pytest.raises(InputError, match="255 stuff classes, but at most 254 fit"):
        panoptic_to_stuff(panoptic, taxonomy)


def test_what_is_made_from_a_data_set_may_go_elsewhere(root, tmp_path):
    split = CocoSplit(root, VAL_SPLIT, derived=tmp_path / "mine")
    before = sorted(root.rglob("*"))
    prepare_split(split)
    assert split.ensure_instances_json() is False
    assert split.instances_json == instances_json_path(tmp_path / "mine", VAL_SPLIT)
    assert len(list(stuff_folder(tmp_path / "mine", VAL_SPLIT).iterdir())) == len(split)
    assert sorted(root.rglob("*")) == before


def test_a_downloaded_instance_json_is_read_where_it_is(root, tmp_path):
    download = instances_json_path(root, VAL_SPLIT)
    download.write_text('{"info": {}}')
    assert CocoSplit(root, VAL_SPLIT, derived=tmp_path / "mine").instances_json == download


SIZE = [168, 256]
HOSTILE = {
    "a crowd as text": ({"iscrowd": "0"}, "annotation 0, has `iscrowd` '0'"),
    "a mask that is cut off": ({"segmentation": {"size": SIZE, "counts": [3]}}, "annotation 0, RLE has lengths of 3 pixels"),
    "text that ends inside a number": ({"segmentation": {"size": SIZE, "counts": "P"}}, "annotation 0, RLE text ends"),
    "a mask of another size": ({"segmentation": {"size": [4, 6], "counts": [24]}}, "annotation 0, RLE has size"),
    "a polygon far outside": ({"segmentation": [[0, 0, 1e9, 0, 1e9, 1e9]]}, "annotation 0, polygon .* lies outside"),
    "an image that is not listed": ({"image_id": 77}, "annotation 0, image 77 is not in `images`"),
}


@pytest.mark.parametrize(("changes", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_download_that_mmdet_would_misread_or_crash_on_is_refused(root, changes, words):
    split = CocoSplit(root, VAL_SPLIT)
    split.ensure_instances_json()
    content = json.loads(split.instances_json.read_text())
    content["info"] = {}
    content["annotations"][0] |= changes
    split.instances_json.write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        CocoSplit(root, VAL_SPLIT).ensure_instances_json()


def test_a_download_that_lists_images_as_they_lie_in_the_file_is_refused(root):
    split = CocoSplit(root, VAL_SPLIT)
    split.ensure_instances_json()
    content = json.loads(split.instances_json.read_text())
    content |= {"info": {}, "annotations": []}
    for image in content["images"]:
        image["height"], image["width"] = image["width"], image["height"]
    split.instances_json.write_text(json.dumps(content))
    with pytest.raises(InputError, match="is 256x168, but upright 168x256"):
        CocoSplit(root, VAL_SPLIT).ensure_instances_json()


@pytest.mark.parametrize("size", [0, 30, 900, -1])
def test_an_instance_json_that_was_cut_off_is_made_again(root, size):
    split = CocoSplit(root, VAL_SPLIT)
    split.ensure_instances_json()
    content = split.instances_json.read_bytes()
    split.instances_json.write_bytes(content[:size])
    assert not is_prepared(split)
    assert split.ensure_instances_json()
    assert split.instances_json.read_bytes() == content


def test_an_instance_json_that_was_changed_behind_its_first_line_is_made_again(root):
    split = CocoSplit(root, VAL_SPLIT)
    split.ensure_instances_json()
    content = split.instances_json.read_bytes()
    split.instances_json.write_bytes(content.replace(b'"iscrowd": 0', b'"iscrowd": 1', 1))
    assert not is_prepared(split)
    assert split.ensure_instances_json()
    assert split.instances_json.read_bytes() == content


def test_images_that_were_numbered_anew_or_turned_into_another_form_make_what_is_derived_stale(root):
    split = CocoSplit(root, VAL_SPLIT)
    split.ensure_instances_json()
    path = root / f"annotations/panoptic_{VAL_SPLIT}.json"
    content = json.loads(path.read_text())
    for entry, annotation in zip(content["images"], content["annotations"], strict=True):
        entry["id"] = annotation["image_id"] = entry["id"] + 1
    path.write_text(json.dumps(content))
    assert not is_prepared(CocoSplit(root, VAL_SPLIT))


def test_an_image_that_was_emptied_is_broken_though_its_stuff_map_is_there(root):
    prepare(root)
    split = CocoSplit(root, VAL_SPLIT)
    split.image_path(0).write_bytes(b"")
    assert [problem for problem in prepare(root).problems if str(split.image_path(0)) in problem]
