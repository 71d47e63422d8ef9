"""Forms of segments, pictures and whole splits that only look wrong, each drawn just beyond and just within its limit."""

import numpy as np
import pytest

from data.label_checks.class_checks import SplitStatistics
from data.label_checks.findings import Finding, FindingLog
from data.label_checks.json_checks import LabelClass
from data.label_checks.kinds import KINDS, SUSPICIOUS
from data.label_checks.picture_checks import Fingerprint, PictureIndex
from data.label_checks.shape_checks import check_shapes
from data.panoptic_png import PanopticMap, Segment, describe_segments

ROAD, CAR, OTHER_CAR, CROWD = 7, 26000, 26001, 26


def forms(ids: np.ndarray) -> list[tuple[str, tuple[int, ...]]]:
    """(kind, segment ids) of what is found in a map of road, cars and a crowd of cars; 0 is void."""
    ids = ids.astype(np.uint32)
    segments = describe_segments(ids, lambda k: 7 if k == ROAD else 26, lambda k: k == CROWD)
    found = check_shapes("image", PanopticMap(ids, segments), frozenset({26}), {7: "road", 26: "car"}, ids == 0)
    assert all(KINDS[f.kind].level == SUSPICIOUS for f in found)
    return [(f.kind, f.segment_ids) for f in found]


def road(height: int = 128, width: int = 256) -> np.ndarray:
    """Road, with void at the right, so that nothing covers the image."""
    ids = np.full((height, width), ROAD)
    ids[:, -30:] = 0
    return ids


@pytest.mark.parametrize(("pixels", "is_found"), [(4, True), (5, False)])
def test_a_thing_of_a_few_pixels_is_a_sliver(pixels, is_found):
    ids = road()
    ids[10, 10 : 10 + pixels] = CAR
    assert forms(ids) == ([("sliver", (CAR,))] if is_found else [])


@pytest.mark.parametrize(("thickness", "is_found"), [(1, True), (2, False)])
def test_an_outline_of_one_pixel_is_a_sliver(thickness, is_found):
    ids = road()
    ids[10 : 10 + thickness, 10:40] = CAR
    assert forms(ids) == ([("sliver", (CAR,))] if is_found else [])


@pytest.mark.parametrize(("filling", "is_found"), [(0, True), (ROAD, False), (OTHER_CAR, False)])
def test_only_void_makes_a_hole(filling, is_found):
    """A car of 40x40 - 12x12 pixels, 10 % of whose area is enclosed; seen through or hidden by another it would be right."""
    ids = road()
    ids[10:50, 10:50] = CAR
    ids[20:32, 20:32] = filling
    assert forms(ids) == ([("holes", (CAR,))] if is_found else [])


def test_void_that_reaches_the_outside_is_no_hole():
    ids = road()
    ids[10:50, 10:50] = CAR
    ids[20:32, 20:60] = 0
    assert forms(ids) == []


@pytest.mark.parametrize(
    ("between", "is_found"),
    [(ROAD, True), (OTHER_CAR, False), (0, False)],
    ids=["on the road", "behind another car", "behind void"],
)
def test_pieces_far_apart_are_two_objects_unless_something_hides_the_middle(between, is_found):
    """Two pieces of 10x10 pixels; the gap of 40 is four times their length."""
    ids = road()
    ids[20:30, 60:100] = between
    ids[20:30, 50:60] = ids[20:30, 100:110] = CAR
    assert forms(ids) == ([("far-pieces", (CAR,))] if is_found else [])


def test_pieces_near_each_other_are_one_object():
    ids = road()
    ids[20:30, 50:60] = ids[20:30, 74:84] = CAR  # 14 pixels apart, 1.4 times their length
    assert forms(ids) == []


@pytest.mark.parametrize(("width", "is_found"), [(7, True), (6, False), (18, False)])
def test_a_small_compact_crowd_may_be_one_object(width, is_found):
    """In 256x512 pixels a crowd is small below 48x48 / 16 = 144 pixels, and 50 are needed: 8 rows of 7, 6 and 18 pixels."""
    ids = road(256, 512)
    ids[20:28, 20 : 20 + width] = CROWD
    assert forms(ids) == ([("compact-crowd", (CROWD,))] if is_found else [])


def test_a_crowd_in_two_pieces_is_a_crowd():
    ids = road(256, 512)
    ids[20:28, 20:27] = ids[20:28, 28:35] = CROWD
    assert forms(ids) == []


@pytest.mark.parametrize(("rows", "is_found"), [(2, True), (3, False)])
def test_a_segment_that_covers_the_image_is_found(rows, is_found):
    ids = np.full((128, 256), ROAD)  # of 128 rows, 2 are less than 2 % and 3 are more
    ids[:rows] = CAR
    assert forms(ids) == ([("covers-image", (ROAD,))] if is_found else [])


CLASSES = {7: LabelClass("road", False), 26: LabelClass("car", True)}


def split_of(areas: list[int], void: list[float], category_id: int = 26) -> SplitStatistics:
    """An image of 10,000 pixels with one segment each."""
    statistics = SplitStatistics()
    for k, (area, share) in enumerate(zip(areas, void, strict=True)):
        statistics.add(k, [Segment(category_id * 1000, category_id, area, (0, 0, 1, 1))], 10_000, share)
    return statistics


def test_an_area_far_from_its_class_is_an_outlier_of_things_only():
    """Areas of 100 and 200 in turns: the quartiles are log 100 and log 200, so the fence is at 200 * 2**3 = 1600."""
    areas = [100, 200] * 20
    for odd, expected in ((1590, []), (1610, [("area-outlier", 40)])):
        found = split_of([*areas, odd], [0.1] * 41).findings(CLASSES)
        assert [(f.kind, f.image_id) for f in found] == expected
    assert split_of([*areas, 5000], [0.1] * 41, category_id=7).findings(CLASSES) == []


def test_much_void_is_more_than_other_images_have():
    """Shares of 0.1 and 0.2 in turns: the fence is at 0.2 + 3 * 0.1 = 0.5."""
    shares = [0.1, 0.2] * 10
    for odd, expected in ((0.49, []), (0.51, [("much-void", 20)])):
        found = split_of([100] * 21, [*shares, odd]).findings(CLASSES)
        assert [(f.kind, f.image_id) for f in found] == expected
    assert split_of([100] * 5, [0.1] * 4 + [0.9]).findings(CLASSES) == []  # too few images for quartiles


def test_near_pictures_are_those_of_few_bits_and_few_levels():
    grey = np.full((16, 16), 100, np.uint8)
    own, other = PictureIndex(), PictureIndex()
    own.add("a", Fingerprint((1, 1), "a", 0b1111, grey))
    other.add("3 bits", Fingerprint((1, 1), "b", 0b1000, grey))
    other.add("4 bits", Fingerprint((1, 1), "c", 0b0000, grey))
    other.add("7 levels", Fingerprint((1, 1), "d", 0b1111, grey + 7))
    other.add("6 levels", Fingerprint((1, 1), "e", 0b1111, grey + 6))
    assert list(own.near(other)) == [("a", "3 bits", 3, 0.0), ("a", "6 levels", 0, 6.0)]


def test_near_pictures_are_found_wherever_they_stand_among_many():
    """As one by one: hashes of 8 bits that are set at random, 600 against 500."""
    rng = np.random.default_rng(0)
    bits = [[int(sum(1 << int(b) for b in set(rng.integers(0, 64, 8)))) for _ in range(n)] for n in (600, 500)]
    indexes = PictureIndex(), PictureIndex()
    bits[1][123] = bits[0][456]
    for index, of_index in zip(indexes, bits, strict=True):
        for k, value in enumerate(of_index):
            index.add(k, Fingerprint((1, 1), str(k), value, np.zeros((16, 16), np.uint8)))
    expected = {(j, k) for j, a in enumerate(bits[0]) for k, b in enumerate(bits[1]) if bin(a ^ b).count("1") <= 3}
    assert {(j, k) for j, k, *_ in indexes[0].near(indexes[1])} == expected
    assert (456, 123) in expected


def test_a_log_counts_all_and_keeps_the_heaviest():
    log = FindingLog(most_kept=2)
    log.add(
        Finding("area-wrong", image, weight=weight, text=str(weight))
        for image, weight in (("a", 1), ("a", 5), ("b", 3), ("b", 3))
    )
    log.add([Finding("sliver", "a")])
    assert log.kinds() == ["area-wrong", "sliver"]
    assert (log.counts["area-wrong"], log.images["area-wrong"], log.num_broken) == (4, 2, 4)
    assert [(f.image_id, f.weight) for f in log.of("area-wrong")] == [("a", 5), ("b", 3)]
    entry = log.to_json()[0]
    assert (entry["count"], entry["images"], entry["left_out"], len(entry["findings"])) == (4, 2, 2, 2)
