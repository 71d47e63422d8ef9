"""The class lists are those of the official tools, read live from the installed libraries."""

import ast
import importlib.util
from pathlib import Path

import pytest
from cityscapesscripts.helpers.labels import labels

from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, TAXONOMIES, VOID_TRAIN_ID, Taxonomy
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


def test_classes_of_an_instance_file_are_things():
    taxonomy = Taxonomy.from_coco_categories("instances", [{"id": 3, "name": "cup"}])
    assert taxonomy.thing_ids == (0,)


def test_a_missing_colour_is_the_same_every_time():
    first, second = (Taxonomy.from_coco_categories("t", [{"id": 3, "name": "cup"}]) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("categories", "complaint"),
    [
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], r"\[1\] given to more than one class"),
        ([{"id": 1, "name": "a"}, {"id": 2, "name": "a"}], r"\['a'\] given to more than one class"),
        ([], "0 classes, but 1 to 255 fit"),
        ([{"id": k, "name": str(k)} for k in range(256)], "256 classes, but 1 to 255 fit"),
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
        ({"id": -1, "name": "a"}, "category id -1"),
        ({"id": 1, "name": "a", "color": [300, 0, 0]}, "three numbers 0..255"),
        ({"id": 1, "name": "a", "color": [1, 2]}, "three numbers 0..255"),
    ],
)
def test_a_category_that_cannot_be_is_refused(entry, words):
    with pytest.raises(InputError, match=words):
        Taxonomy.from_coco_categories("mine", [entry])
