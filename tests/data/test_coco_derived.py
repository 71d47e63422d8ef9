"""Stuff maps against a plain reading of detectron2's rule, instances against pycocotools; what is finished is kept."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from data.drawn.snapshots import SnapshotsSettings, ensure_snapshots
from data.layouts.coco import VAL_SPLIT, CocoPictures
from data.layouts.coco_derived import (
    categories_path,
    instances_json_path,
    panoptic_to_annotations,
    panoptic_to_stuff,
    prepare_split,
    stuff_folder,
    write_categories,
)
from data.panoptic_png import PanopticMap, Segment, describe_segments
from data.taxonomy import COCO_PANOPTIC, Category, Taxonomy
from evaluation.instance_ap import score_instances
from runtime.files import InputError


@pytest.fixture
def root(tmp_path) -> Path:
    return ensure_snapshots(tmp_path / "snapshots", SnapshotsSettings(num_train=0, num_val=5))


def prepare(root: Path, **options):
    return prepare_split(CocoPictures(root, VAL_SPLIT), root, VAL_SPLIT, **options)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.mode == "L"
        return np.array(picture)


def plain_stuff(root: Path) -> dict[str, np.ndarray]:
    """What detectron2's prepare_panoptic_fpn.py makes, read as its code reads: JSON, masks, a dict of ids."""
    content = json.loads((root / f"annotations/panoptic_{VAL_SPLIT}.json").read_text())
    stuff = [c["id"] for c in content["categories"] if c["isthing"] == 0]
    new_ids = {c["id"]: 0 for c in content["categories"]} | {k: n + 1 for n, k in enumerate(stuff)}
    maps = {}
    for annotation in content["annotations"]:
        with Image.open(root / f"annotations/panoptic_{VAL_SPLIT}" / annotation["file_name"]) as picture:
            rgb = np.array(picture).astype(np.uint32)
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
    coco, pictures = COCO(str(instances_json_path(root, VAL_SPLIT))), CocoPictures(root, VAL_SPLIT)
    assert coco.getCatIds() == sorted(COCO_PANOPTIC.dataset_ids[list(COCO_PANOPTIC.thing_ids)].tolist())
    num_crowds = 0
    for index, key in enumerate(pictures.keys):
        _, truth = pictures.read(index)
        things = [s for s in truth.segments if COCO_PANOPTIC.is_thing[COCO_PANOPTIC.dataset_id_to_train_id[s.category_id]]]
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=key))
        assert len(annotations) == len(things)
        for thing in things:
            mask = truth.segment_ids == thing.segment_id
            (same,) = [a for a in annotations if np.array_equal(coco.annToMask(a), mask)]
            assert (same["category_id"], same["iscrowd"]) == (thing.category_id, int(thing.is_crowd))
            assert (same["area"], tuple(same["bbox"])) == (mask.sum(), thing.bbox)
            num_crowds += same["iscrowd"]
    assert len({a["id"] for a in coco.anns.values()}) == sum(len(coco.getAnnIds(imgIds=k)) for k in pictures.keys)
    assert num_crowds == pictures.count_things()[1]


def test_the_truth_as_detections_has_ap_one(root):
    prepare(root)
    pictures = CocoPictures(root, VAL_SPLIT)
    detections = []
    for index in range(len(pictures)):
        found = panoptic_to_annotations(pictures.read(index)[1], pictures.taxonomy)
        whole = [(a["category_id"], 1.0, a["segmentation"]) for a in found if not a["iscrowd"]]
        detections.append((pictures.image_id(index), whole))
    assert score_instances(instances_json_path(root, VAL_SPLIT), detections)["AP"] == 1.0
    assert score_instances(instances_json_path(root, VAL_SPLIT), [(k, []) for k, _ in detections])["AP"] == 0.0


def test_what_is_finished_is_kept_and_what_is_older_than_its_truth_is_not(root):
    first = prepare(root)
    places = [stuff_folder(root, VAL_SPLIT), instances_json_path(root, VAL_SPLIT)]
    assert first.written == places
    assert prepare(root).kept == places
    some, other = sorted(places[0].iterdir())[:2]
    other.write_bytes(b"kept as it is")
    os.utime(some, (0, 0))
    again = prepare(root)
    assert (again.written, again.kept) == (places[:1], places[1:])
    assert np.array_equal(read(some), plain_stuff(root)[some.name])
    assert other.read_bytes() == b"kept as it is"
    assert prepare(root, again=True).written == places
    assert np.array_equal(read(other), plain_stuff(root)[other.name])


def test_an_instance_json_of_someone_else_is_never_written_over(root):
    instances_json_path(root, VAL_SPLIT).write_text('{"info": {}}')
    for again in (False, True):
        assert instances_json_path(root, VAL_SPLIT) in prepare(root, again=again).kept
    assert instances_json_path(root, VAL_SPLIT).read_text() == '{"info": {}}'


def test_every_broken_image_is_named_and_the_others_are_prepared(root):
    pictures = CocoPictures(root, VAL_SPLIT)
    pictures.picture_path(0).write_bytes(pictures.picture_path(0).read_bytes()[:300])
    pictures.png_path(3).write_bytes(pictures.png_path(3).read_bytes()[:300])
    done = prepare(root, workers=2)
    assert [problem.split(": ")[0] for problem in done.problems] == [str(pictures.picture_path(0)), str(pictures.png_path(3))]
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
