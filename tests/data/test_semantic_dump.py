"""Semantic logits survive their file, and a reader refuses what does not fit."""

from dataclasses import replace

import numpy as np
import pytest

from data.instance_dump import dump_path as instance_dump_path
from data.instance_dump import read_instances
from data.semantic_dump import SemanticLogits, dump_path, read_semantic, write_semantic
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC
from runtime.files import InputError

SIZE = (14, 22)


@pytest.fixture
def semantic() -> SemanticLogits:
    logits = np.random.default_rng(0).normal(size=(CITYSCAPES.num_classes, 4, 6)).astype(np.float16)
    return SemanticLogits("city_1", *SIZE, 4, CITYSCAPES.name, "test", logits)


def test_logits_survive_their_file(tmp_path, semantic):
    write_semantic(tmp_path, semantic)
    found = read_semantic(tmp_path, "city_1", CITYSCAPES, SIZE)
    assert np.array_equal(found.logits, semantic.logits)
    assert replace(found, logits=None) == replace(semantic, logits=None)


def test_the_same_logits_give_the_same_bytes(tmp_path, semantic):
    first, second = (write_semantic(tmp_path / folder, semantic).read_bytes() for folder in "ab")
    assert first == second


def test_a_missing_dump_is_named(tmp_path):
    with pytest.raises(InputError, match=r"city_1\.semantic\.safetensors: no such dump"):
        read_semantic(tmp_path, "city_1", CITYSCAPES)


def test_a_dump_cut_at_any_byte_is_refused(tmp_path, semantic):
    path = write_semantic(tmp_path, semantic)
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="broken semantic-dump"):
            read_semantic(tmp_path, "city_1", CITYSCAPES)


@pytest.mark.parametrize(
    ("image_id", "taxonomy", "size", "complaint"),
    [
        ("city_1", COCO_PANOPTIC, SIZE, "taxonomy is 'cityscapes', but 'coco_panoptic' was needed"),
        ("city_1", CITYSCAPES, (14, 23), "made for 14x22, but the image is 14x23"),
        ("city_2", CITYSCAPES, SIZE, "image_id is 'city_1', but 'city_2' was needed"),
    ],
)
def test_a_dump_of_something_else_is_refused(tmp_path, semantic, image_id, taxonomy, size, complaint):
    write_semantic(tmp_path, semantic).rename(dump_path(tmp_path, image_id))
    with pytest.raises(InputError, match=complaint):
        read_semantic(tmp_path, image_id, taxonomy, size)


@pytest.mark.parametrize("shape", [(CITYSCAPES.num_classes, 4, 5), (CITYSCAPES.num_classes - 1, 4, 6)])
def test_logits_of_another_shape_are_refused(tmp_path, semantic, shape):
    write_semantic(tmp_path, replace(semantic, logits=np.zeros(shape)))
    with pytest.raises(InputError, match=r"but \(19, 4, 6\) were needed"):
        read_semantic(tmp_path, "city_1", CITYSCAPES)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(tmp_path, semantic, value):
    with np.errstate(over="ignore"):
        semantic.logits[0, 0, 0] = value
    write_semantic(tmp_path, semantic)
    with pytest.raises(InputError, match="NaN or infinite logits"):
        read_semantic(tmp_path, "city_1", CITYSCAPES)


def test_one_format_is_not_read_as_the_other(tmp_path, semantic):
    write_semantic(tmp_path, semantic).rename(instance_dump_path(tmp_path, "city_1"))
    with pytest.raises(InputError, match="holds 'semantic-dump', but 'instance-dump' was needed"):
        read_instances(tmp_path, "city_1", CITYSCAPES)
