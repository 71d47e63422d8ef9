"""Boundary PQ on drawn scenes, and against whole masks that OpenCV erodes one by one."""

import cv2
import numpy as np
import pytest

from data.panoptic_png import PanopticMap, describe_segments
from evaluation.boundary_quality import INTERIOR_ID, boundary_width, keep_boundaries, match_boundaries
from evaluation.panoptic_quality import PanopticQuality, match_segments
from runtime.files import InputError

THREE_BY_THREE = np.ones((3, 3), np.uint8)
ONE_PIXEL = 1e-9
"""A ratio with boundaries one pixel deep."""


def mask_to_boundary(mask: np.ndarray, depth: int) -> np.ndarray:
    """What the erosions of a whole mask take from it, where there is nothing beyond the image."""
    padded = np.pad(mask.astype(np.uint8), depth)
    eroded = cv2.erode(padded, THREE_BY_THREE, iterations=depth)[depth:-depth, depth:-depth]
    return mask & (eroded == 0)


def slow_counts(truth: PanopticMap, prediction: PanopticMap, ratio: float) -> dict:
    """Of one image (IoU sum, tp, fp, fn) by category: mask by mask, written down from the paper's and PQ's definitions."""
    depth = boundary_width(truth.segment_ids.shape, ratio)
    counts = {}
    void = truth.segment_ids == 0
    real = {s: truth.segment_ids == s.segment_id for s in truth.segments}
    guesses = {s: prediction.segment_ids == s.segment_id for s in prediction.segments}
    found, used = set(), set()
    for t, t_mask in real.items():
        for p, p_mask in guesses.items():
            if t.is_crowd or t.category_id != p.category_id:
                continue
            ious = []
            for a, b in ((t_mask, p_mask), (mask_to_boundary(t_mask, depth), mask_to_boundary(p_mask, depth))):
                ious.append((a & b).sum() / (a.sum() + (b & ~void).sum() - (a & b).sum()))
            if min(ious) > 0.5:
                entry = counts.setdefault(t.category_id, [0.0, 0, 0, 0])
                entry[0] += float(min(ious))
                entry[1] += 1
                found.add(t)
                used.add(p)
    for t in real.keys() - found:
        if not t.is_crowd:
            counts.setdefault(t.category_id, [0.0, 0, 0, 0])[3] += 1
    for p in guesses.keys() - used:
        crowds = [mask for t, mask in real.items() if t.is_crowd and t.category_id == p.category_id]
        forgiven = void | (crowds[-1] if crowds else False)
        if (guesses[p] & forgiven).sum() <= guesses[p].sum() / 2:
            counts.setdefault(p.category_id, [0.0, 0, 0, 0])[2] += 1
    return counts


def random_map(rng: np.random.Generator, size: tuple[int, int], num_segments: int, with_crowds: bool) -> PanopticMap:
    """Rectangles over each other and over void."""
    ids = np.zeros(size, np.uint32)
    for k in range(1, num_segments + 1):
        y, x = (rng.integers(0, n) for n in size)
        ids[y : y + rng.integers(1, size[0] + 1), x : x + rng.integers(1, size[1] + 1)] = k
    return PanopticMap(ids, describe_segments(ids, lambda k: k % 3 + 1, lambda k: with_crowds and k % 4 == 0))


def shifted(panoptic: PanopticMap, dy: int, dx: int) -> PanopticMap:
    ids = np.roll(panoptic.segment_ids, (dy, dx), (0, 1))
    return PanopticMap(ids, describe_segments(ids, lambda k: k % 3 + 1))


@pytest.mark.parametrize("seed", range(20))
def test_random_scenes_have_the_counts_of_masks_that_are_eroded_one_by_one(seed):
    """The counts also equalled those of bowenc0221/boundary-iou-api at 37d2558 to the last bit, on 420 other random scenes."""
    rng = np.random.default_rng(seed)
    truth = random_map(rng, (40, 60), 7, with_crowds=True)
    prediction = shifted(truth, *rng.integers(-2, 3, 2))
    ratio = rng.uniform(0.005, 0.08)
    quality = PanopticQuality()
    quality.add_matches(match_boundaries(truth, prediction, ratio))
    expected = slow_counts(truth, prediction, ratio)
    found = {k: [c.iou_sum, c.tp, c.fp, c.fn] for k, c in quality.counts.items() if c.is_seen}
    assert {k: v[1:] for k, v in found.items()} == {k: v[1:] for k, v in expected.items()}
    assert {k: v[0] for k, v in found.items()} == pytest.approx({k: v[0] for k, v in expected.items()}, abs=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 5, 30])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (23, 3), (31, 37)])
def test_boundaries_of_all_segments_at_once_are_those_of_each_mask(size, depth):
    ids = random_map(np.random.default_rng(depth), size, 5, with_crowds=False).segment_ids
    expected = ids.copy()
    for segment_id in set(ids.ravel().tolist()) - {0}:
        mask = ids == segment_id
        expected[mask & ~mask_to_boundary(mask, depth)] = INTERIOR_ID
    np.testing.assert_array_equal(keep_boundaries(ids, depth), expected)


def test_the_edge_of_the_image_is_a_boundary(draw):
    scene = draw("rrrrr", "rrrrr", "rrrrr")
    interior = keep_boundaries(scene.segment_ids, 1) == INTERIOR_ID
    assert interior.tolist() == [[False] * 5, [False, True, True, True, False], [False] * 5]


def test_void_has_no_interior_unless_zero_is_a_segment():
    nothing = np.zeros((3, 3), np.uint32)
    assert (keep_boundaries(nothing, 1) == 0).all()
    assert keep_boundaries(nothing, 1, has_void=False)[1, 1] == INTERIOR_ID


@pytest.mark.parametrize(("size", "width"), [((1024, 2048), 46), ((480, 640), 16), ((4, 4), 1)])
def test_the_width_is_a_share_of_the_diagonal(size, width):
    assert boundary_width(size) == width  # 0.02 of 2289.7, of 800, and 0.11 rounded, but at least 1


def test_the_smaller_iou_counts(draw):
    truth = draw("ssssss", "sbbbbs", "sbbbbs", "sbbbbs", "sbbbbs", "ssssss")
    guess = draw("ssssss", "sbbbss", "sbbbbs", "sbbbbs", "sbbbbs", "ssssss")  # one corner of the car is sky
    by_class = {m[2]: m[3] for m in match_boundaries(truth, guess, ONE_PIXEL).matches}
    # The car's boundary has 12 of 16 pixels. The guess's has 11 of these, and one more, where the corner is away.
    assert by_class[26] == 11 / 13
    assert by_class[23] == 20 / 21  # all of the sky is boundary, so that both IoUs are the mask's


def test_a_pair_whose_boundaries_do_not_agree_is_missed_and_invented(draw):
    """Both IoU above one half by their masks, and below by their boundaries."""
    truth = draw("bbbbb...", "bbbbb...", "bbbbb...", "bbbbb...", "bbbbb...")
    guess = draw("bbbb....", "bbbb....", "bbbb....", "bbbb....", "........")
    assert match_segments(truth, guess).matches[0][3] == 16 / 25
    image = match_boundaries(truth, guess, ONE_PIXEL)
    # Boundaries of 16 and 12 pixels share the 7 in the first column and row.
    assert 7 / (16 + 12 - 7) < 0.5
    assert (image.matches, image.missed, image.invented) == ((), (26,), (26,))


def test_a_prediction_that_lies_mostly_on_void_is_not_invented(draw):
    truth = draw("........", "........", "bbbbb...", "bbbbb...", "bbbbb...", "bbbbb...", "bbbbb...")
    guess = draw("bbbbbbbb", "bbbbbbbb", "bbbb.bbb", "bbbb.bbb", "bbbb.bbb", "bbbb.bbb", "......bb")
    image = match_boundaries(truth, guess, ONE_PIXEL)
    assert match_segments(truth, guess).matches[0][3] == 16 / 25  # of the 46 pixels 30 are on void
    assert (image.matches, image.missed, image.invented) == ((), (26,), ())


def test_equal_maps_have_iou_one(draw):
    scene = draw("rrrss", "rraas", ".raas")
    assert match_boundaries(scene, scene) == match_segments(scene, scene)


@pytest.mark.parametrize("ratio", [0, -0.1, float("nan"), float("inf")])
def test_a_ratio_that_is_none_is_refused(draw, ratio):
    with pytest.raises(InputError, match="share of the image's diagonal above 0 is needed"):
        match_boundaries(draw("r"), draw("r"), ratio)
