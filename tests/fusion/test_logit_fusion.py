"""Fusion on drawn scenes: each expectation follows from the image in the test."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.fusion import plain_official_fusion
from data.instance_dump import InstanceLogits, from_full_logits
from data.semantic_dump import SemanticLogits
from data.taxonomy import CITYSCAPES
from fusion import logit_fusion
from fusion.logit_fusion import semantic_only
from fusion.pixel_claims_compiled import to_float32
from fusion.pixel_claims_torch import fuse_logits
from fusion.settings import FusionSettings
from runtime.files import InputError

NAMES = [c.name for c in CITYSCAPES.categories]
ROAD, SKY, PERSON, CAR = (NAMES.index(name) for name in ("road", "sky", "person", "car"))
CLASS_OF = {"r": ROAD, "s": SKY, "p": PERSON, "c": CAR}
NO_LIMITS = FusionSettings(min_stuff_area=0)


@pytest.fixture(params=["compiled", "torch"])
def engine(request) -> str:
    """Both implementations of the pixel work, on the CPU."""
    return request.param


@pytest.fixture
def fuse(engine):
    """The fusion by each of them."""
    return partial(logit_fusion.fuse, engine=engine)


def semantics(*rows: str, confidence: float = 4.0) -> SemanticLogits:
    """A drawing of class letters at stride 1; the drawn class has +confidence, the others -confidence."""
    height, width = len(rows), len(rows[0])
    logits = np.full((CITYSCAPES.num_classes, height, width), -confidence, dtype=np.float32)
    for y, row in enumerate(rows):
        for x, letter in enumerate(row):
            logits[CLASS_OF[letter], y, x] = confidence
    return SemanticLogits("scene", height, width, 1, "cityscapes", "drawn", logits)


def masks(size: tuple[int, int], *objects: tuple[int, float, tuple[str, ...]], confidence: float = 10.0) -> InstanceLogits:
    """Objects as (train id, score, drawing with # for its pixels), at stride 1."""
    full = [np.where([[p == "#" for p in row] for row in rows], confidence, -confidence) for _, _, rows in objects]
    ids, scores = [o[0] for o in objects], [o[1] for o in objects]
    options = {"image_id": "scene", "size": size, "stride": 1, "taxonomy": CITYSCAPES, "producer": "drawn"}
    return from_full_logits(full, ids, scores, **options)


def random_pair(seed: int, size: tuple[int, int] = (64, 96), num: int = 6) -> tuple[InstanceLogits, SemanticLogits]:
    """Smooth random logits at stride 4, so that instances overlap each other and the stuff."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = -(-size[0] // 4), -(-size[1] // 4)

    def smooth(count: int) -> np.ndarray:
        coarse = torch.randn(1, count, max(rows // 4, 2), max(columns // 4, 2), generator=generator) * 3
        return F.interpolate(coarse, size=(rows, columns), mode="bilinear")[0].half().numpy()

    semantic = SemanticLogits("x", *size, 4, "cityscapes", "random", smooth(CITYSCAPES.num_classes))
    options = {"image_id": "x", "size": size, "stride": 4, "taxonomy": CITYSCAPES, "producer": "random"}
    train_ids = torch.randint(11, 19, (num,), generator=generator).tolist()
    scores = torch.rand(num, generator=generator).tolist()
    return from_full_logits(smooth(num), train_ids, scores, **options), semantic


def permuted(instances: InstanceLogits, order: list[int]) -> InstanceLogits:
    names = ("train_ids", "scores", "boxes", "crop_boxes")
    return replace(instances, **{n: getattr(instances, n)[order] for n in names}, crops=tuple(instances.crops[k] for k in order))


def names_of(panoptic) -> set[str]:
    train_ids = [CITYSCAPES.dataset_id_to_train_id[s.category_id] for s in panoptic.segments]
    return {NAMES[i] for i in train_ids}


def test_an_instance_and_its_surroundings_become_one_segment_each(fuse):
    semantic = semantics("ssss", "rccr", "rccr")
    panoptic = fuse(masks((3, 4), (CAR, 0.9, ("....", ".##.", ".##."))), semantic, CITYSCAPES, NO_LIMITS)
    assert panoptic.segment_ids.tolist() == [[23] * 4, [7, 26001, 26001, 7], [7, 26001, 26001, 7]]
    assert [(s.segment_id, s.area, s.bbox) for s in panoptic.segments] == [
        (7, 4, (0, 1, 4, 2)),
        (23, 4, (0, 0, 4, 1)),
        (26001, 4, (1, 1, 2, 2)),
    ]
    assert panoptic.segments[-1].score == pytest.approx(0.9)


def test_thing_pixels_that_no_instance_claims_become_void(fuse):
    panoptic = fuse(masks((2, 4)), semantics("rccr", "rrrr"), CITYSCAPES, NO_LIMITS)
    assert panoptic.segment_ids.tolist() == [[7, 0, 0, 7], [7, 7, 7, 7]]


def test_an_instance_below_the_score_limit_is_ignored(fuse):
    instances = masks((1, 4), (CAR, 0.5, (".##.",)))
    for min_score, names in ((0.51, {"road"}), (0.5, {"road", "car"})):
        panoptic = fuse(instances, semantics("rccr"), CITYSCAPES, replace(NO_LIMITS, min_score=min_score))
        assert names_of(panoptic) == names


def test_an_instance_goes_when_more_than_half_of_it_is_taken(fuse):
    best, half, more = ("###...",), (".####.",), ("..#...",)
    semantic = semantics("cccccc")
    # half: 2 of its 4 pixels are taken, which is not more than half; more: its only pixel is.
    panoptic = fuse(masks((1, 6), (CAR, 0.9, best), (CAR, 0.8, half), (CAR, 0.7, more)), semantic, CITYSCAPES, NO_LIMITS)
    assert panoptic.segment_ids.tolist() == [[26001, 26001, 26001, 26002, 26002, 0]]


def test_the_semantic_class_decides_between_overlapping_instances(fuse):
    instances = masks((1, 4), (CAR, 0.9, ("####",)), (PERSON, 0.8, ("..##",)), confidence=2.0)
    panoptic = fuse(instances, semantics("ccpp"), CITYSCAPES, replace(NO_LIMITS, max_overlap=1.0))
    assert panoptic.segment_ids.tolist() == [[26001, 26001, 24002, 24002]]


def test_an_instance_that_mask_and_class_deny_does_not_win_over_negative_stuff(fuse):
    # The last pixel is a person that nobody found: every stuff logit is negative there, and the car's box reaches it.
    semantic = semantics("ccrp", "ccrp", confidence=3.0)
    instances = masks((2, 4), (CAR, 0.9, ("##.#", "##..")))
    instances = replace(instances, crops=(np.array([[9, 9, -9, -9], [9, 9, -9, -9]], dtype=np.float16),))
    assert instances.boxes.tolist() == [[0, 0, 4, 2]]
    assert fuse(instances, semantic, CITYSCAPES, NO_LIMITS).segment_ids.tolist() == [[26001, 26001, 7, 0]] * 2
    official = fuse(instances, semantic, CITYSCAPES, replace(NO_LIMITS, variant="official"))
    assert official.segment_ids.tolist() == [[26001, 26001, 7, 26001]] * 2


def test_a_small_stuff_segment_becomes_void(fuse):
    semantic = semantics(*["r" * 32] * 15, "s" * 31 + "r")  # 512 pixels: the limit of 2048 scales to 0.5, 131072 to 32
    assert names_of(fuse(masks((16, 32)), semantic, CITYSCAPES)) == {"road", "sky"}
    panoptic = fuse(masks((16, 32)), semantic, CITYSCAPES, FusionSettings(min_stuff_area=32 * 4096))
    assert names_of(panoptic) == {"road"}
    assert (panoptic.segment_ids == 0).sum() == 31


def test_pixels_of_a_thing_below_its_area_limit_go_back_to_the_semantics(fuse):
    instances = masks((1, 8), (CAR, 0.9, ("##......",)))
    settings = FusionSettings(min_stuff_area=0, min_thing_area=3 * 1024 * 2048 / 8)
    panoptic = fuse(instances, semantics("rcrrrrrr", confidence=0.1), CITYSCAPES, settings)
    assert panoptic.segment_ids.tolist() == [[7, 0, 7, 7, 7, 7, 7, 7]]


def test_an_instance_cannot_win_outside_its_box_unless_official(fuse):
    logits = np.full((CITYSCAPES.num_classes, 4, 4), -1.0, dtype=np.float32)
    semantic = SemanticLogits("scene", 4, 4, 1, "cityscapes", "drawn", logits)
    instances = masks((4, 4), (CAR, 0.9, ("##..", "##..", "....", "....")))
    assert (fuse(instances, semantic, CITYSCAPES, NO_LIMITS).segment_ids == 26001).sum() == 4
    official = replace(NO_LIMITS, variant="official")
    assert (fuse(instances, semantic, CITYSCAPES, official).segment_ids == 26001).sum() == 16


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(20))
def test_official_variant_equals_the_plain_official_rule(fuse, seed):
    size = (64, 96) if seed % 2 else (59, 90)
    instances, semantic = random_pair(seed, size, num=8)
    settings = replace(NO_LIMITS, variant="official", min_score=0.1)
    expected = plain_official_fusion(instances, semantic, CITYSCAPES, settings)
    assert (expected >= 1000).any()
    np.testing.assert_array_equal(fuse(instances, semantic, CITYSCAPES, settings).segment_ids, expected)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_fusion_does_not_depend_on_the_order_of_instances(fuse, variant):
    instances, semantic = random_pair(3, num=8)
    tied = replace(instances, scores=np.array([0.9, 0.9, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5][: len(instances)], dtype=np.float32))
    settings = FusionSettings(variant=variant)
    expected = fuse(tied, semantic, CITYSCAPES, settings)
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(tied)).tolist()
        found = fuse(permuted(tied, order), semantic, CITYSCAPES, settings)
        assert (found.segment_ids == expected.segment_ids).all()
        assert found.segments == expected.segments


@pytest.mark.parametrize("size", [(375, 1242), (800, 800), (64, 96), (61, 7)])
def test_every_pixel_belongs_to_one_listed_segment_and_none_is_below_the_limits(fuse, size):
    instances, semantic = random_pair(1, size, num=5)
    settings = FusionSettings(min_score=0.0, min_stuff_area=40000, min_thing_area=20000)
    panoptic = fuse(instances, semantic, CITYSCAPES, settings)
    assert panoptic.segment_ids.shape == size
    values, areas = np.unique(panoptic.segment_ids, return_counts=True)
    counted = {int(v): int(a) for v, a in zip(values, areas) if v}
    assert counted == {s.segment_id: s.area for s in panoptic.segments}
    unit = size[0] * size[1] / (1024 * 2048)
    for segment_id, area in counted.items():
        assert area >= (20000 if segment_id >= 1000 else 40000) * unit


def test_enlarging_boxes_equals_enlarging_the_whole_frame(fuse):
    instances, semantic = random_pair(7, (62, 94), num=6)
    settings = FusionSettings(min_score=0.0, min_stuff_area=0)
    whole = replace(
        instances,
        crop_boxes=np.tile(np.array([[0, 0, 16, 24]], dtype=np.int32), (len(instances), 1)),
        crops=tuple(_paste(instances, k, (16, 24)) for k in range(len(instances))),
    )
    expected, found = (fuse(i, semantic, CITYSCAPES, settings).segment_ids for i in (whole, instances))
    assert (found == expected).all()


def _paste(instances: InstanceLogits, k: int, grid: tuple[int, int]) -> np.ndarray:
    y1, x1, y2, x2 = instances.crop_boxes[k]
    full = np.full(grid, -50, dtype=np.float16)
    full[y1:y2, x1:x2] = instances.crops[k]
    return full


def test_semantic_only_makes_each_connected_region_of_a_thing_an_object(engine):
    panoptic = semantic_only(semantics("ccrcc", "ccrrr"), CITYSCAPES, NO_LIMITS, engine=engine)
    assert panoptic.segment_ids.tolist() == [[26001, 26001, 7, 26002, 26002], [26001, 26001, 7, 7, 7]]


def test_fused_logits_follow_the_equation():
    a, b = torch.tensor([0.0, 2.0, -3.0]), torch.tensor([0.0, -2.0, 1.0])
    expected = (1 / (1 + (-a).exp()) + 1 / (1 + (-b).exp())) * (a + b)
    torch.testing.assert_close(fuse_logits(a, b), expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": "other"}, "fuse predictions of the same image"),
        ({"height": 9}, "height"),
        ({"taxonomy": "coco_panoptic"}, "taxonomy"),
        ({"logits": np.full((19, 1, 4), np.nan, np.float32)}, "NaN"),
        ({"logits": np.zeros((7, 1, 4), np.float32)}, "7 classes"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(fuse, change, words):
    with pytest.raises(InputError, match=words):
        fuse(masks((1, 4)), replace(semantics("rrrr"), **change), CITYSCAPES)


@pytest.mark.parametrize("bad", [{"variant": "mine"}, {"min_score": 30}, {"max_overlap": -1}, {"min_stuff_area": float("nan")}])
def test_settings_that_cannot_be_are_refused(bad):
    with pytest.raises(InputError, match=f"fusion {next(iter(bad))}"):
        FusionSettings(**bad)


def test_every_float16_keeps_its_value_in_float32():
    halves = np.arange(2**16, dtype=np.uint32).astype(np.uint16).view(np.float16).reshape(2, -1)
    found, expected = to_float32(halves), halves.astype(np.float32)
    assert found.dtype == np.float32
    assert np.array_equal(found, expected, equal_nan=True)
    assert np.array_equal(np.signbit(found), np.signbit(expected))
