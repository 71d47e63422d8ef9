"""Panoptic maps to results and class maps and back, on scenes drawn as text."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from data.panoptic_conversions import (
    TRAIN,
    PixelValues,
    annotations_to_panoptic,
    as_things,
    panoptic_to_results,
    read_class_map_png,
    write_entries,
)
from data.panoptic_png import PanopticMap, describe_segments
from data.run_lengths import decode_mask
from data.targets import panoptic_to_annotations, panoptic_to_semantic
from data.taxonomy import VOID_TRAIN_ID, Category, Taxonomy
from runtime.files import InputError

ROAD, SKY, PERSON, CAR = 7, 23, 24, 26
TOY = Taxonomy(
    "toy",
    tuple(
        Category(name, dataset_id, is_thing, (0, 0, 0))
        for name, dataset_id, is_thing in (
            ("road", ROAD, False),
            ("sky", SKY, False),
            ("person", PERSON, True),
            ("car", CAR, True),
        )
    ),
)
MEANINGS = {".": 0, "r": 7, "s": 23, "p": 24001, "q": 24002, "a": 26001, "b": 26002, "C": 26003}
CROWD = MEANINGS["C"]


def draw(*rows: str) -> PanopticMap:
    """One letter a pixel: r road, s sky, p q persons, a b cars, C a crowd of cars, '.' void."""
    ids = np.array([[MEANINGS[letter] for letter in row] for row in rows], dtype=np.uint32)
    return PanopticMap(ids, describe_segments(ids, lambda i: i if i < 1000 else i // 1000, lambda i: i == CROWD))


def entry(*rows: str, category_id: int = CAR, **more) -> dict:
    """An annotation whose mask is where the rows have an x."""
    mask = np.array([[letter == "x" for letter in row] for row in rows])
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    segmentation = {"size": list(mask.shape), "counts": rle["counts"].decode()}
    return {"category_id": category_id, "segmentation": segmentation} | more


def named(name: str, *ids: int) -> Taxonomy:
    return Taxonomy(name, tuple(Category(f"class {k}", k, False, (0, 0, 0)) for k in ids))


SCENE = draw("sspp", "rabC", "rab.", "rrbC")


def test_instances_with_crowds_and_the_class_map_give_the_map_back():
    annotations, semantic = panoptic_to_annotations(SCENE, TOY), panoptic_to_semantic(SCENE, TOY)
    assert annotations_to_panoptic(annotations, semantic, SCENE.segment_ids.shape, TOY).segments == SCENE.segments
    back = annotations_to_panoptic(annotations, semantic, SCENE.segment_ids.shape, TOY)
    assert np.array_equal(back.segment_ids, SCENE.segment_ids)


def test_results_have_no_crowds_so_that_these_come_back_as_void():
    results, semantic = panoptic_to_results(SCENE, TOY), panoptic_to_semantic(SCENE, TOY)
    back = annotations_to_panoptic(results, semantic, SCENE.segment_ids.shape, TOY)
    assert np.array_equal(back.segment_ids, draw("sspp", "rab.", "rab.", "rrb.").segment_ids)


def test_a_result_is_what_pycocotools_reads_as_the_mask():
    (person,) = [found for found in panoptic_to_results(SCENE, TOY) if found["category_id"] == PERSON]
    mask = SCENE.segment_ids == MEANINGS["p"]
    assert np.array_equal(coco_mask.decode(person["segmentation"]), mask)
    assert np.array_equal(decode_mask(person["segmentation"], mask.shape), mask)


def test_a_result_has_the_score_of_its_segment_and_1_without_one():
    ids = draw("ab").segment_ids
    first, second = draw("ab").segments
    scored = PanopticMap(ids, (first, replace(second, score=0.25)))
    assert [found["score"] for found in panoptic_to_results(scored, TOY)] == [1.0, 0.25]
    back = annotations_to_panoptic(panoptic_to_results(scored, TOY), None, ids.shape, TOY)
    assert [segment.score for segment in back.segments] == [1.0, 0.25]


def test_with_stuff_as_things_the_map_comes_back_without_a_class_map():
    annotations = panoptic_to_annotations(SCENE, as_things(TOY))
    assert [found["category_id"] for found in annotations] == [ROAD, SKY, PERSON, CAR, CAR, CAR]
    back = annotations_to_panoptic(annotations, None, SCENE.segment_ids.shape, TOY)
    assert np.array_equal(back.segment_ids, SCENE.segment_ids)


def test_where_objects_overlap_the_higher_score_is_in_front_and_the_numbers_follow_the_file():
    low, high = entry("xxx.", score=0.3), entry(".xxx", score=0.9)
    assert np.array_equal(annotations_to_panoptic([low, high], None, (1, 4), TOY).segment_ids, draw("abbb").segment_ids)
    assert np.array_equal(annotations_to_panoptic([high, low], None, (1, 4), TOY).segment_ids, draw("baaa").segment_ids)


def test_where_objects_overlap_without_scores_the_first_one_is_in_front():
    objects = [entry("xxx."), entry(".xxx")]
    assert np.array_equal(annotations_to_panoptic(objects, None, (1, 4), TOY).segment_ids, draw("aaab").segment_ids)


def test_a_crowd_lies_behind_things_and_before_stuff():
    objects = [entry("xxx.", iscrowd=1), entry(".x..", category_id=PERSON, score=0.1)]
    semantic = np.zeros((1, 4), np.uint8)  # road
    back = annotations_to_panoptic(objects, semantic, (1, 4), TOY)
    assert back.segment_ids.tolist() == [[26001, 24001, 26001, 7]]
    assert [(segment.segment_id, segment.is_crowd) for segment in back.segments] == [(7, False), (24001, False), (26001, True)]


def test_an_object_that_others_hide_is_no_segment():
    objects = [entry(".x.", score=0.1), entry("xxx", score=0.9)]
    assert [segment.segment_id for segment in annotations_to_panoptic(objects, None, (1, 3), TOY).segments] == [26002]


def test_more_objects_of_a_class_than_ids_hold_get_running_numbers():
    width = 1001
    objects = [entry("".join("x" if x == k else "." for x in range(width - 1)) + ".") for k in range(width - 1)]
    semantic = np.zeros((1, width), np.uint8)
    back = annotations_to_panoptic(objects, semantic, (1, width), TOY)
    assert len(back.segments) == width  # a thousand cars, and the road in the last pixel
    assert back.segment_ids[0, -1] == ROAD
    assert {segment.category_id for segment in back.segments if segment.segment_id != ROAD} == {CAR}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (entry("xx", category_id=99), "category id 99 is not in toy"),
        (entry("xxx"), r"RLE has size \[1, 3\], but its image is \[1, 2\]"),
        ({"category_id": CAR, "segmentation": {"size": [1, 2], "counts": [1]}}, "lengths of 1 pixels"),
    ],
)
def test_an_annotation_that_does_not_fit_is_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        annotations_to_panoptic([wrong], None, (1, 2), TOY)


@pytest.mark.parametrize(
    ("taxonomy", "kind", "dtype", "values", "void"),
    [
        (named("small", 1, 255), "category", np.uint8, [1, 255], 0),
        (named("large", 1, 256), "category", np.uint16, [1, 256], 0),
        (named("with 0", 0, 7), "category", np.uint8, [0, 7], 255),
        (named("with 0 and 255", 0, 255), "category", np.uint16, [0, 255], 65535),
        (named("train", 900, 70000), TRAIN, np.uint8, [0, 1], 255),
    ],
)
def test_class_maps_have_8_bits_where_the_ids_fit_and_a_void_that_is_no_class(taxonomy, kind, dtype, values, void, tmp_path):
    pixels = PixelValues.of(taxonomy, kind)
    train_ids = np.array([[0, 1, VOID_TRAIN_ID]], np.uint8)
    written = pixels.encode(train_ids)
    assert written.dtype == dtype
    assert written.tolist() == [[*values, void]]
    Image.fromarray(written).save(tmp_path / "a.png")
    assert np.array_equal(read_class_map_png(tmp_path / "a.png", pixels, (1, 3)), train_ids)


@pytest.mark.parametrize(
    ("taxonomy", "words"),
    [
        (named("far", 70000), "category ids 70000, but the pixels of a class map hold 0..65535"),
        (named("below", -1), "category ids -1"),
        (named("full", 0, 65535), "none is left for void"),
    ],
)
def test_ids_that_fit_no_pixel_are_refused(taxonomy, words):
    with pytest.raises(InputError, match=words):
        PixelValues.of(taxonomy)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((1, 3), 9, np.uint8), "pixels 9, but those of toy are 0, 7, 23, 24, 26, the first of them void"),
        (np.full((2, 3), 7, np.uint8), "2x3 pixels, but its image has 1x3"),
        (np.zeros((1, 3, 3), np.uint8), "PNG mode RGB"),
    ],
)
def test_a_class_map_that_does_not_fit_is_refused(pixels, words, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=words):
        read_class_map_png(tmp_path / "a.png", PixelValues.of(TOY), (1, 3))


def test_a_list_that_breaks_off_leaves_no_file(tmp_path):
    def entries():
        yield {"a": 1}
        raise InputError("broken")

    with pytest.raises(InputError, match="broken"):
        write_entries(tmp_path / "list.json", entries())
    assert list(tmp_path.iterdir()) == []
