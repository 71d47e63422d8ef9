"""The merge of Panoptic FPN on drawn scenes, and against its plain full-frame form on random ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.published_rules import full_frame_logits, plain_heuristic_merge
from data.instance_dump import InstanceLogits, from_full_logits
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from fusion.compose import AREA_REFERENCE
from fusion.heuristic_merge import merge
from fusion.pixel_claims_compiled import paste_pixels
from fusion.settings import MergeSettings
from runtime.files import InputError

NAMES = [c.name for c in CITYSCAPES.categories]
ROAD, SKY, PERSON, CAR = (NAMES.index(name) for name in ("road", "sky", "person", "car"))
CLASS_OF = {"r": ROAD, "s": SKY, "p": PERSON, "c": CAR, ".": VOID_TRAIN_ID}
NO_LIMITS = MergeSettings(min_stuff_area=0)


def draw(*rows: str) -> np.ndarray:
    """A semantic map of class letters; '.' is "other"."""
    return np.array([[CLASS_OF[letter] for letter in row] for row in rows], dtype=np.uint8)


def masks(size: tuple[int, int], *objects: tuple[int, float, tuple[str, ...]]) -> InstanceLogits:
    """Objects as (train id, score, drawing with # for its pixels), at stride 1."""
    full = [np.where([[p == "#" for p in row] for row in rows], 5.0, -5.0) for _, _, rows in objects]
    options = {"image_id": "scene", "size": size, "stride": 1, "taxonomy": CITYSCAPES, "producer": "drawn"}
    return from_full_logits(full, [o[0] for o in objects], [o[1] for o in objects], **options)


def random_scene(seed: int, size: tuple[int, int], stride: int = 4, num: int = 12) -> tuple[InstanceLogits, np.ndarray]:
    """Smooth random masks that overlap each other, and a random semantic map with some "other"."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(count: int, size: tuple[int, int], bumps: int) -> torch.Tensor:
        return F.interpolate(torch.randn(1, count, bumps, bumps, generator=generator), size, mode="bilinear")[0]

    grid = -(-size[0] // stride), -(-size[1] // stride)
    train_ids = torch.randint(11, 19, (num,), generator=generator).tolist()
    scores = torch.rand(num, generator=generator).tolist()
    options = {"image_id": "random", "size": size, "stride": stride, "taxonomy": CITYSCAPES, "producer": "random"}
    instances = from_full_logits((smooth(num, grid, 6) - 0.7).numpy(), train_ids, scores, **options)
    semantic = smooth(CITYSCAPES.num_classes + 1, size, 5).argmax(0).byte().numpy()
    semantic[semantic == CITYSCAPES.num_classes] = VOID_TRAIN_ID
    return instances, semantic


def limit_in_pixels(area: int, size: tuple[int, int]) -> float:
    """The `min_stuff_area` that means so many pixels of an image of this size, as the published limit does."""
    return area * AREA_REFERENCE / (size[0] * size[1])


def test_a_drawn_scene_becomes_what_the_rule_says():
    semantic = draw(
        "ssssss",
        "sspccs",
        "rrrccr",
        "rrrr.r",
    )
    near_car = ("......", "..##..", "..##..", "......")
    far_car = ("......", "...##.", "...##.", "......")  # 2 of its 4 pixels are taken: kept, and gets the other 2
    hidden = ("......", "...#..", "...#..", "...#..")  # 2 of 3 are taken: dropped
    unsure = ("......", "#.....", "#.....", "......")
    instances = masks((4, 6), (CAR, 0.9, near_car), (CAR, 0.8, far_car), (PERSON, 0.7, hidden), (PERSON, 0.4, unsure))
    panoptic = merge(instances, semantic, CITYSCAPES, NO_LIMITS)
    near, far, road, sky = 26001, 26002, 7, 23
    assert panoptic.segment_ids.tolist() == [
        [sky, sky, sky, sky, sky, sky],
        [sky, sky, near, near, far, sky],
        [road, road, near, near, far, road],
        [road, road, road, road, 0, road],
    ]
    assert [(s.segment_id, s.category_id, s.area, s.bbox) for s in panoptic.segments] == [
        (road, 7, 8, (0, 2, 6, 2)),
        (sky, 23, 9, (0, 0, 6, 2)),
        (near, 26, 4, (2, 1, 2, 2)),
        (far, 26, 2, (4, 1, 1, 2)),
    ]
    assert [s.score for s in panoptic.segments] == [None, None, pytest.approx(0.9), pytest.approx(0.8)]
    assert not any(s.is_crowd for s in panoptic.segments)


def test_without_instances_only_stuff_remains():
    panoptic = merge(masks((2, 4)), draw("rcp.", "ssss"), CITYSCAPES, NO_LIMITS)
    assert panoptic.segment_ids.tolist() == [[7, 0, 0, 0], [23] * 4]
    assert [s.segment_id for s in panoptic.segments] == [7, 23]


def test_an_instance_exactly_at_the_score_limit_is_kept():
    for score in (0.5, 0.3):  # 0.3 is no float32: the limit must be rounded as the score is
        instances = masks((1, 4), (CAR, score, ("##..",)))
        assert merge(instances, draw("rrrr"), CITYSCAPES, replace(NO_LIMITS, min_score=score)).segment_ids[0, 0] == 26001
        assert merge(instances, draw("rrrr"), CITYSCAPES, replace(NO_LIMITS, min_score=score + 0.01)).segment_ids[0, 0] == 7


@pytest.mark.parametrize(("max_overlap", "is_kept"), [(0.3, True), (0.29, False), (0, False), (1, True)])
def test_an_instance_is_kept_when_exactly_the_share_that_is_allowed_is_taken(max_overlap, is_kept):
    instances = masks((1, 13), (CAR, 0.9, ("######.......",)), (CAR, 0.8, ("...##########",)))  # 3 of 10 are taken
    panoptic = merge(instances, draw("r" * 13), CITYSCAPES, replace(NO_LIMITS, max_overlap=max_overlap))
    assert panoptic.segment_ids.tolist() == [[26001] * 6 + [26002 if is_kept else 7] * 7]


def test_only_pixels_of_kept_instances_are_taken():
    best, dropped, last = ("####....",), ("..###...",), ("....##..",)  # the second: 2 of 3 taken
    instances = masks((1, 8), (CAR, 0.9, best), (CAR, 0.8, dropped), (PERSON, 0.7, last))
    panoptic = merge(instances, draw("rrrrrrrr"), CITYSCAPES, NO_LIMITS)
    assert panoptic.segment_ids.tolist() == [[26001] * 4 + [24002] * 2 + [7] * 2]


def test_an_instance_without_a_pixel_is_skipped():
    instances = masks((1, 4), (CAR, 0.9, ("##..",)), (CAR, 0.8, ("..##",)))
    empty = np.full_like(instances.crops[0], -1)
    panoptic = merge(replace(instances, crops=(empty, instances.crops[1])), draw("rrrr"), CITYSCAPES, NO_LIMITS)
    assert panoptic.segment_ids.tolist() == [[7, 7, 26001, 26001]]


def test_only_as_many_instances_are_kept_as_segment_ids_can_number():
    pixels = np.where(np.eye(1001, dtype=bool), 5.0, -5.0)[:, None]
    options = {"image_id": "scene", "size": (1, 1001), "stride": 1, "taxonomy": CITYSCAPES, "producer": "drawn"}
    instances = from_full_logits(pixels, [CAR] * 1001, np.linspace(1, 0.6, 1001), **options)
    panoptic = merge(instances, np.full((1, 1001), ROAD, dtype=np.uint8), CITYSCAPES, NO_LIMITS)
    assert panoptic.segment_ids.tolist() == [[*range(26001, 27000), 7, 7]]


def test_a_mask_ends_at_its_box():
    instances = masks((1, 4), (CAR, 0.9, ("####",)))
    instances = replace(instances, boxes=np.array([[1, 0, 3, 1]], dtype=np.float32))
    assert merge(instances, draw("rrrr"), CITYSCAPES, NO_LIMITS).segment_ids.tolist() == [[7, 26001, 26001, 7]]


@pytest.mark.parametrize("size", [(8, 9), (37, 53), (64, 96)])
def test_stuff_of_exactly_the_area_limit_is_kept_whatever_the_size(size):
    semantic = np.full(size, VOID_TRAIN_ID, dtype=np.uint8)
    for area in range(1, semantic.size + 1, 7):
        semantic.flat[:area] = ROAD
        for limit, is_kept in ((area, True), (area + 1, False)):
            settings = MergeSettings(min_stuff_area=limit_in_pixels(limit, size))
            assert (merge(masks(size), semantic, CITYSCAPES, settings).segment_ids[0, 0] == 7) == is_kept


def test_the_area_limit_counts_only_pixels_that_no_instance_took_and_scales_with_the_image():
    instances = masks((4, 8), (CAR, 0.9, ("####....",) * 4))
    semantic = draw(*["rrrrrsss"] * 4)  # 4 pixels of road are left, 12 of sky
    for limit, stuff in ((4, {7, 23}), (5, {23}), (13, {0})):
        settings = MergeSettings(min_stuff_area=limit * (1024 / 4) * (2048 / 8))
        assert set(merge(instances, semantic, CITYSCAPES, settings).segment_ids[:, 4:].ravel().tolist()) - {0} == stuff - {0}


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(100))
def test_the_merge_equals_its_plain_full_frame_form(seed):
    size = ((64, 96), (59, 90), (61, 7), (33, 130))[seed % 4]
    instances, semantic = random_scene(seed, size, stride=(4, 4, 2, 8)[seed // 4 % 4])
    limits = {"min_score": (0.5, 0.2)[seed % 2], "max_overlap": (0.5, 0.2, 1)[seed % 3]}
    area = (0, 30, 300)[seed // 2 % 3]
    expected = plain_heuristic_merge(full_frame_logits(instances), instances, semantic, CITYSCAPES, min_stuff_area=area, **limits)
    panoptic = merge(instances, semantic, CITYSCAPES, MergeSettings(**limits, min_stuff_area=limit_in_pixels(area, size)))
    assert (panoptic.segment_ids == expected).all()


def paste_in_torch(instances: InstanceLogits, chosen: list[int], max_overlap: float) -> np.ndarray:
    """As paste_pixels: crops are enlarged by torch, and each mask is a whole frame."""
    size, stride = (instances.height, instances.width), instances.stride
    winner = torch.full(size, -1, dtype=torch.int16)
    for rank, k in enumerate(chosen):
        crop = torch.from_numpy(instances.crops[k]).float()[None, None]
        top, left = (instances.crop_boxes[k, :2] * stride).tolist()
        inside = (F.interpolate(crop, scale_factor=stride, mode="bilinear")[0, 0] > 0)[: size[0] - top, : size[1] - left]
        mask, box = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
        mask[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        x1, y1, x2, y2 = instances.boxes[k].astype(int)
        box[y1:y2, x1:x2] = True
        mask &= box
        area, taken = mask.sum().item(), (mask & (winner >= 0)).sum().item()
        if area and taken / area <= max_overlap:
            winner[mask & (winner < 0)] = rank
    return winner.numpy()


@pytest.mark.parametrize("stride", [1, 3, 4, 5, 8])
def test_pixels_are_pasted_as_in_torch_at_any_stride(stride):
    for seed in range(10):
        instances = random_scene(seed, (58, 91), stride)[0]
        # Bilinear weights are multiples of 1 / (4 stride^2): no enlarged logit is nearer to 0, where rounding would decide.
        least = 1 / (32 * stride**2)
        crops = tuple(np.round(4 * crop.astype(np.float32)) / 4 + np.float32(least) for crop in instances.crops)
        boxes = instances.boxes + [[3, 2, -3, -2]] * (instances.boxes[:, 2:] - instances.boxes[:, :2] > 12).all(1, keepdims=True)
        instances = replace(instances, crops=crops, boxes=boxes.astype(np.float32))  # some boxes cut their masks
        chosen = np.random.default_rng(seed).permutation(len(instances))[:9].tolist()
        for max_overlap in (0.0, 0.3, 0.5, 1.0):
            expected = paste_in_torch(instances, chosen, max_overlap)
            assert np.array_equal(paste_pixels(instances, chosen, max_overlap=max_overlap), expected)


def test_the_merge_does_not_depend_on_the_order_of_instances():
    instances, semantic = random_scene(3, (64, 96))
    num = len(instances)
    tied = replace(instances, scores=np.where(np.arange(num) < num // 2, 0.9, 0.6).astype(np.float32))
    expected = merge(tied, semantic, CITYSCAPES, NO_LIMITS)
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(num)
        arrays = {name: getattr(tied, name)[order] for name in ("train_ids", "scores", "boxes", "crop_boxes")}
        found = merge(replace(tied, **arrays, crops=tuple(tied.crops[k] for k in order)), semantic, CITYSCAPES, NO_LIMITS)
        assert (found.segment_ids == expected.segment_ids).all()
        assert found.segments == expected.segments


@pytest.mark.parametrize("size", [(375, 1242), (61, 7), (1, 1), (3, 50)])
def test_every_pixel_belongs_to_one_listed_segment_and_no_stuff_is_below_its_limit(size):
    instances, semantic = random_scene(1, size)
    panoptic = merge(instances, semantic, CITYSCAPES, MergeSettings(min_score=0.1, min_stuff_area=100000))
    assert panoptic.segment_ids.shape == size
    values, areas = np.unique(panoptic.segment_ids, return_counts=True)
    counted = {int(v): int(a) for v, a in zip(values, areas, strict=True) if v}
    assert counted == {s.segment_id: s.area for s in panoptic.segments}
    assert all(a >= 100000 * size[0] * size[1] / AREA_REFERENCE for s, a in counted.items() if s < 1000)


def test_the_inputs_are_not_changed():
    instances, semantic = random_scene(5, (64, 96))
    before = semantic.copy()
    merge(instances, semantic, CITYSCAPES, NO_LIMITS)
    assert (semantic == before).all()


@pytest.mark.parametrize(
    ("semantic", "change", "words"),
    [
        (draw("rrr"), {}, r"uint8 \(1, 3\), but uint8 \(1, 4\)"),
        (draw("rrrr").astype(np.int64), {}, "int64"),
        (np.full((1, 4), 19, np.uint8), {}, "train id 19, but cityscapes has 0 to 18"),
        (draw("rrrr"), {"taxonomy": "coco_panoptic"}, "'cityscapes' was needed"),
        (draw("rrrr"), {"train_ids": np.array([ROAD])}, r"train ids \[0\], but things"),
        (draw("rrrr"), {"scores": np.array([np.nan], np.float32)}, "NaN"),
        (draw("rrrr"), {"crops": (np.full((1, 3), np.nan, np.float16),)}, "NaN"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(semantic, change, words):
    instances = masks((1, 4), (CAR, 0.9, ("##..",)))
    with pytest.raises(InputError, match=words):
        merge(replace(instances, **change), semantic, CITYSCAPES)


@pytest.mark.parametrize(
    "bad", [{"min_score": 30}, {"max_overlap": -1}, {"min_stuff_area": -1}, {"min_stuff_area": float("nan")}]
)
def test_settings_that_cannot_be_are_refused(bad):
    with pytest.raises(InputError, match=f"merge {next(iter(bad))}"):
        MergeSettings(**bad)
