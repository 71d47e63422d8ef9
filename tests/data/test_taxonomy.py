"""The class lists are those of the official tools, read live from the installed libraries."""

import ast
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
from cityscapesscripts.helpers.labels import labels

from data.coco_json import LARGEST_ID
from data.panoptic_png import MAX_SEGMENT_ID
from data.taxonomy import (
    CITYSCAPES,
    COCO_PANOPTIC,
    MAX_INSTANCES_PER_IMAGE,
    TAXONOMIES,
    VOID_TRAIN_ID,
    Category,
    Taxonomy,
    read_color,
    recognise,
)
from runtime.files import InputError


@pytest.mark.parity
def test_cityscapes_is_the_official_table_of_scored_labels():
    scored = sorted((label for label in labels if not label.ignoreInEval), key=lambda label: label.trainId)
    official = [(label.trainId, label.name, label.id, label.hasInstances, tuple(label.color)) for label in scored]
    ours = [(k, c.name, c.dataset_id, c.is_thing, c.color) for k, c in enumerate(CITYSCAPES.categories)]
    assert ours == official


@pytest.mark.parity
def test_coco_panoptic_is_the_table_of_mmdet():
    # Parsed, not imported: importing mmdet needs the compiled mmcv or solov2/mmcv_ops.py.
    package = Path(importlib.util.find_spec("mmdet").submodule_search_locations[0])
    tree = ast.parse((package / "datasets" / "coco_panoptic.py").read_text())
    (value,) = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "METAINFO"
    ]
    mmdet = ast.literal_eval(value)
    assert [c.name for c in COCO_PANOPTIC.categories] == list(mmdet["classes"])
    assert [c.name for c in COCO_PANOPTIC.categories if c.is_thing] == list(mmdet["thing_classes"])
    assert [c.color for c in COCO_PANOPTIC.categories] == [tuple(color) for color in mmdet["palette"]]


@pytest.mark.parametrize("taxonomy", TAXONOMIES.values(), ids=TAXONOMIES)
def test_train_ids_and_dataset_ids_are_inverse(taxonomy):
    assert [taxonomy.dataset_id_to_train_id[i] for i in taxonomy.dataset_ids.tolist()] == list(range(taxonomy.num_classes))


@pytest.mark.parametrize("taxonomy", TAXONOMIES.values(), ids=TAXONOMIES)
def test_every_class_is_either_stuff_or_thing(taxonomy):
    assert sorted(taxonomy.stuff_ids + taxonomy.thing_ids) == list(range(taxonomy.num_classes))


@pytest.mark.parametrize("taxonomy", TAXONOMIES.values(), ids=TAXONOMIES)
def test_a_taxonomy_survives_its_json(taxonomy):
    assert Taxonomy.from_coco_categories(taxonomy.name, taxonomy.to_coco_categories()) == taxonomy


def test_with_train_ids_changes_nothing_but_the_ids_in_the_files():
    changed = CITYSCAPES.with_train_ids()
    assert changed.dataset_ids.tolist() == list(range(CITYSCAPES.num_classes))
    assert [(c.name, c.is_thing, c.color) for c in changed.categories] == [
        (c.name, c.is_thing, c.color) for c in CITYSCAPES.categories
    ]


def test_void_is_black():
    assert CITYSCAPES.colors[VOID_TRAIN_ID].tolist() == [0, 0, 0]


def test_a_missing_colour_is_the_same_every_time():
    first, second = (Taxonomy.from_coco_categories("t", [{"id": 3, "name": "cup", "isthing": 1}]) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("categories", "complaint"),
    [
        ([{"id": 1, "name": "a", "isthing": 1}, {"id": 1, "name": "b", "isthing": 0}], r"\[1\] given to more than one class"),
        ([{"id": 1, "name": "a", "isthing": 1}, {"id": 2, "name": "a", "isthing": 0}], r"\['a'\] given to more than one class"),
        ([], "0 classes, but 1 to 255 fit"),
        ([{"id": k, "name": str(k), "isthing": 1} for k in range(256)], "256 classes, but 1 to 255 fit"),
        ([{"id": 1}], "needs an `id` and a `name`"),
        (["cup"], "needs an `id` and a `name`"),
    ],
)
def test_categories_that_cannot_be_are_refused(categories, complaint):
    with pytest.raises(InputError, match=complaint):
        Taxonomy.from_coco_categories("bad", categories)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"id": "x", "name": "a"}, "category id 'x'"),
        ({"id": 1.5, "name": "a"}, "category id 1.5"),
        ({"id": True, "name": "a"}, "category id True"),
        ({"id": LARGEST_ID + 1, "name": "a"}, f"category id {LARGEST_ID + 1}"),
        ({"id": 1, "name": "a", "color": [300, 0, 0]}, "but \\[r, g, b\\] of 0..255 or text"),
        ({"id": 1, "name": "a", "color": [1, 2]}, "but \\[r, g, b\\] of 0..255 or text"),
    ],
)
def test_a_category_that_cannot_be_is_refused(entry, words):
    with pytest.raises(InputError, match=words):
        Taxonomy.from_coco_categories("mine", [entry])


@pytest.mark.parametrize(
    ("color", "rgb"),
    [
        ([1, 2, 3], (1, 2, 3)),
        ([1, 2, 3, 255], (1, 2, 3)),
        ([0.0, 0.5, 1.0], (0, 128, 255)),
        ([10.0, 20.4, 30.0], (10, 20, 30)),
        ("#0a141e", (10, 20, 30)),
        ("#0a141eff", (10, 20, 30)),
        ("rgb(10, 20, 30)", (10, 20, 30)),
        ("red", (255, 0, 0)),
    ],
)
def test_colours_are_read_as_labelling_tools_write_them(color, rgb):
    assert read_color(color, 0) == rgb


@pytest.mark.parametrize("value", [1, True, "1", "true", "True"])
def test_a_flag_for_things_may_be_text(value):
    entries = [{"id": 1, "name": "a", "isthing": value}, {"id": 2, "name": "b", "isthing": {"1": "0"}.get(str(value), "false")}]
    assert Taxonomy.from_coco_categories("mine", entries).is_thing.tolist() == [True, False]


@pytest.mark.parametrize("value", [None, "", "yes", 2, -1, 1.0, [], "None"])
def test_a_flag_that_is_none_is_refused(value):
    with pytest.raises(InputError, match=r"`isthing`.* but 1 .* or 0"):
        Taxonomy.from_coco_categories("mine", [{"id": 1, "name": "a", "isthing": value}])


def with_ids(*dataset_ids: int) -> Taxonomy:
    """Classes with these ids, stuff and things in turn."""
    return Taxonomy("mine", tuple(Category(f"class {k}", k, place % 2 == 1, (1, 2, 3)) for place, k in enumerate(dataset_ids)))


@pytest.mark.parametrize(
    "taxonomy",
    [
        with_ids(-3, 999, 123456),
        with_ids(0, 1, 7),
        with_ids(0, 998, 999),
        with_ids(1, 1000, 1001),
        with_ids(-(2**53), 2**53),
        with_ids(*range(5000, 5255)),
        *TAXONOMIES.values(),
    ],
    ids=lambda t: f"{t.dataset_ids.min()} to {t.dataset_ids.max()}",
)
def test_segment_ids_of_any_category_ids_are_distinct_and_fit_a_png(taxonomy):
    found = []
    for train_id, is_thing in enumerate(taxonomy.is_thing):
        found.append(taxonomy.segment_id(train_id))
        if is_thing:
            found += [taxonomy.segment_id(train_id, k) for k in range(1, MAX_INSTANCES_PER_IMAGE + 1)]
    assert len(set(found)) == len(found)
    assert min(found) > 0  # 0 is void
    assert max(found) <= MAX_SEGMENT_ID


def test_segment_ids_are_those_of_cityscapes():
    car = next(k for k, c in enumerate(CITYSCAPES.categories) if c.name == "car")
    assert (CITYSCAPES.segment_id(0), CITYSCAPES.segment_id(car, 12)) == (7, 26012)


def changed(train_id: int, **changes) -> Taxonomy:
    """Cityscapes with one class changed, under another name."""
    categories = list(CITYSCAPES.categories)
    categories[train_id] = replace(categories[train_id], **changes)
    return Taxonomy("other", tuple(categories))


def test_the_name_and_the_colours_of_a_taxonomy_are_no_difference():
    assert CITYSCAPES.difference(changed(0, color=(0, 0, 0))) is None


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (changed(1, name="pavement"), "'sidewalk' (id 8, stuff) against 'pavement' (id 8, stuff)"),
        (changed(1, dataset_id=80), "'sidewalk' (id 8, stuff) against 'sidewalk' (id 80, stuff)"),
        (changed(1, is_thing=True), "'sidewalk' (id 8, stuff) against 'sidewalk' (id 8, thing)"),
        (Taxonomy("other", CITYSCAPES.categories[1:]), "19 classes against 18, without 'road'"),
        (
            Taxonomy("other", (*CITYSCAPES.categories, Category("cow", 90, True, (1, 1, 1)))),
            "19 classes against 20, with 'cow'",
        ),
        (Taxonomy("other", CITYSCAPES.categories[:14]), "19 classes against 14, without 'truck', 'bus', 'train' and 2 more"),
        (
            Taxonomy("other", CITYSCAPES.categories[::-1]),
            "'road' (id 7, stuff) against 'bicycle' (id 33, thing)",
        ),
    ],
    ids=["name", "id", "thing", "fewer", "more", "many fewer", "order"],
)
def test_other_classes_are_a_difference_that_is_told_in_words(other, words):
    assert CITYSCAPES.difference(other) == words


def test_taxonomies_have_the_same_name_just_where_they_have_the_same_classes():
    assert recognise(changed(0, color=(0, 0, 0))) is CITYSCAPES
    first, again = (recognise(replace(with_ids(1, 5), name=name)) for name in ("a", "b"))
    other = recognise(replace(with_ids(1, 6), name="a"))
    assert first.name == again.name
    assert first.name != other.name
    assert first.difference(with_ids(1, 5)) is None
    assert {first.name, other.name}.isdisjoint(TAXONOMIES)
