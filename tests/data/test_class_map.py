"""Class maps: things stay apart, stuff becomes one segment, what is not said is refused, and every reader of truth obeys."""

import json
import pickle

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels

from data.class_map import ClassMap, MappedSplit, map_classes, read_class_map, shipped_maps
from data.layouts.find import open_data_set
from data.panoptic_png import PanopticMap, describe_segments
from data.split import Split
from data.targets import panoptic_to_semantic
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, Taxonomy
from runtime.files import InputError

TRAFFIC = """
classes:
  - {id: 1, name: ground, isthing: 0}
  - {id: 2, name: vehicle, isthing: 1}
  - {id: 3, name: human, isthing: 1}
map: {road: ground, sidewalk: ground, terrain: ground, car: vehicle, truck: vehicle, bus: vehicle, train: vehicle,
  motorcycle: vehicle, 33: vehicle, person: human, rider: human, building: void, wall: void, fence: void, pole: void,
  traffic light: void, traffic sign: void, vegetation: void, sky: void}
"""


@pytest.fixture
def traffic(tmp_path) -> ClassMap:
    (tmp_path / "traffic.yaml").write_text(TRAFFIC)
    return read_class_map(tmp_path / "traffic.yaml")


def test_things_stay_apart_and_stuff_becomes_one_segment(traffic):
    ids = np.array([[7, 7, 8, 8], [26001, 26002, 27001, 11], [33001, 24001, 24, 0]], dtype=np.uint32)
    categories = {7: 7, 8: 8, 26001: 26, 26002: 26, 27001: 27, 11: 11, 33001: 33, 24001: 24, 24: 24}
    truth = PanopticMap(ids, describe_segments(ids, categories.__getitem__, lambda k: k == 24))
    mapped = map_classes(truth, traffic.table(CITYSCAPES), traffic.target)
    assert mapped.segment_ids.tolist() == [[7, 7, 7, 7], [26001, 26002, 27001, 0], [33001, 24001, 24, 0]]
    found = {s.segment_id: (s.category_id, s.area, s.is_crowd) for s in mapped.segments}
    vehicles = dict.fromkeys((26001, 26002, 27001, 33001), (2, 1, False))
    assert found == {7: (1, 4, False), 24001: (3, 1, False), 24: (3, 1, True)} | vehicles
    assert truth.segment_ids[0, 2] == 8


def test_cocos_supercategories_are_those_of_its_133_classes():
    shipped = read_class_map("coco-supercategories")
    assert (len(shipped.target.thing_ids), len(shipped.target.stuff_ids)) == (12, 15)
    table = shipped.table(COCO_PANOPTIC)
    assert set(table.values()) == set(shipped.target.dataset_ids.tolist())
    is_thing = {c.dataset_id: c.is_thing for c in shipped.target.categories}
    assert all(is_thing[table[c.dataset_id]] == c.is_thing for c in COCO_PANOPTIC.categories)


def test_shipped_maps_to_cityscapes_say_something_of_each_of_their_classes():
    assert [name for name in shipped_maps() if "supercategories" not in name] == [
        "cityscapes-ids",
        "cityscapes-train-ids",
        "coco-to-cityscapes",
        "vistas-to-cityscapes",
    ]
    coco = read_class_map("coco-to-cityscapes").table(COCO_PANOPTIC)
    assert {coco[c.dataset_id] for c in COCO_PANOPTIC.categories if c.name in ("car", "road", "bench")} == {26, 7, None}
    vistas = read_class_map("vistas-to-cityscapes")
    assert [name for _, name in vistas.sources] == list(vistas.pairs)
    ids, train_ids = read_class_map("cityscapes-ids"), read_class_map("cityscapes-train-ids")
    for label in labels:
        name = "void" if label.ignoreInEval else label.name
        if label.id >= 0:
            assert ids.target_of(label.id, None) == name
        if 0 <= label.trainId < 255:
            assert train_ids.target_of(label.trainId, None) == name


@pytest.mark.parametrize("root", ["streets", "snapshots"])
def test_a_mapped_split_is_a_split_of_the_maps_classes(root, request, tmp_path):
    root = request.getfixturevalue(root)
    plain = open_data_set(root).split()
    names = [c.name for c in plain.taxonomy.categories]
    classes = [f"{{id: {2 + t}, name: {('stuff', 'thing')[t]}, isthing: {t}}}" for t in (0, 1)]
    pairs = [f"{c.name}: {('stuff', 'thing')[c.is_thing]}" for c in plain.taxonomy.categories]
    (tmp_path / "two.yaml").write_text(f"classes: [{', '.join(classes)}]\nmap: {{{', '.join(pairs)}}}\n")
    data_set = open_data_set(root, class_map=read_class_map(tmp_path / "two.yaml"))
    split = pickle.loads(pickle.dumps(data_set.split()))
    # Not isinstance: since Python 3.12 that does not see what __getattr__ passes on.
    assert all(hasattr(split, member) for member in {*Split.__annotations__, *vars(Split)} if not member.startswith("_"))
    assert len(split) == len(plain)
    assert data_set.taxonomy(data_set.usual_split()) == split.taxonomy
    assert [c.name for c in split.taxonomy.categories] == ["stuff", "thing"]
    assert split.truth_digest(0) != plain.truth_digest(0)
    assert split.instances_json != plain.instances_json
    for index in range(len(split)):
        before, after = plain.truth(index), split.truth(index)
        is_thing = np.append(plain.taxonomy.is_thing, [False] * (256 - len(names)))
        semantic = panoptic_to_semantic(before, plain.taxonomy)
        expected = np.where(semantic == 255, 255, is_thing[semantic])
        assert np.array_equal(panoptic_to_semantic(after, split.taxonomy), expected)
        assert sum(s.category_id == 2 for s in after.segments) == (expected == 0).any()
        thing_ids = plain.taxonomy.dataset_ids[is_thing[: len(names)]]
        things = [s.segment_id for s in before.segments if s.category_id in thing_ids]
        assert [s.segment_id for s in after.segments if s.category_id == 3] == sorted(things)
    assert split.ensure_instances_json()
    assert not split.ensure_instances_json()
    content = json.loads(split.instances_json.read_text())
    assert [c["name"] for c in content["categories"]] == ["thing"]
    assert all((split.root / split.image_folder / image["file_name"]).is_file() for image in content["images"])
    split.instances_json.unlink()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("map: {a: b}", "needs `classes`"),
        ("classes: [{id: 1, name: b, isthing: 1}]", "needs `classes`"),
        ("classes: [{id: 1, name: b}]\nmap: {a: b}", "isthing"),
        ("classes: [{id: 1, name: b, isthing: 1}]\nmap: {a: c}", "maps to c, but `classes` has no such name"),
        ("classes: [{id: 1, name: b, isthing: 1}]\nmap: {a: [b]}", r"maps to \['b'\], but"),
        ("classes: [{id: 1, name: void, isthing: 1}]\nmap: {a: void}", "has a class named void"),
    ],
)
def test_what_is_no_class_map_is_refused(content, words, tmp_path):
    (tmp_path / "m.yaml").write_text(content)
    with pytest.raises(InputError, match=words):
        read_class_map(tmp_path / "m.yaml")


def test_a_class_of_which_the_map_says_nothing_is_refused_with_the_nearest_names(traffic):
    other = Taxonomy.from_coco_categories("other", [{"id": 1, "name": "motorcycles", "isthing": 1}])
    with pytest.raises(InputError, match=r"class map traffic: says nothing of motorcycles, which has motorcycle"):
        traffic.table(other)


def test_stuff_does_not_become_things(tmp_path):
    (tmp_path / "m.yaml").write_text("classes: [{id: 1, name: thing, isthing: 1}]\nmap: {road: thing}")
    road = Taxonomy.from_coco_categories("other", [{"id": 1, "name": "road", "isthing": 0}])
    with pytest.raises(InputError, match="makes thing, a thing, of road, whose objects are not told apart"):
        read_class_map(tmp_path / "m.yaml").table(road)


def test_what_becomes_void_is_said(traffic):
    line = traffic.describe(CITYSCAPES)
    assert line == "19 classes become 3 by class map traffic; void are 8, building, wall, fence, pole, traffic light and 3 more"


def test_an_unknown_map_is_refused_with_the_shipped_ones():
    with pytest.raises(InputError, match=r"no such map; give one of cityscapes-ids, .*coco-supercategories"):
        read_class_map("coco")


def test_a_split_without_truth_stays_without(traffic, streets):
    plain = open_data_set(streets).split()
    plain.truth = lambda index: None
    assert MappedSplit(plain, traffic).truth(0) is None
