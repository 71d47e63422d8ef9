"""Selection and full-size masks: the compiled and the torch path, against each other, mmdet, and scenes worked out by hand."""

from math import exp

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.layers import mask_matrix_nms

from solov2 import mask_selection
from solov2.full_size_masks import full_size_masks
from solov2.mask_selection import cell_boxes, logit_of, select_instances

SETTINGS = dict(mask_thr=0.5, nms_pre=500, max_per_img=100, kernel="gaussian", sigma=2.0, filter_thr=0.05)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["compiled", "torch"])
def select(request):
    """select_instances by either path, with SETTINGS and no limit of areas by default; float64 takes the path of a GPU."""

    def run(logits, scores, labels, smallest_areas=None, **settings):
        smallest_areas = torch.zeros(len(logits)) if smallest_areas is None else smallest_areas
        scores, labels = torch.as_tensor(scores), torch.as_tensor(labels)
        return select_instances(logits.to(request.param), scores, labels, smallest_areas, **SETTINGS | settings)

    return run


def draw(*images):
    """Drawn maps of logits: '#' is inside, '.' is not, '|' parts rows. Probabilities are 0.9 and 0.1."""
    inside = torch.tensor([[[cell == "#" for cell in row] for row in image.split("|")] for image in images])
    return torch.where(inside, 0.9, 0.1).logit()


def draw_candidates(num, size, num_classes=3):
    """Smooth random maps, each followed by two like it, so that matrix NMS has work."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, -(-num // 3), 4, 6, generator=generator).repeat_interleave(3, 1)
    coarse = coarse + 0.3 * torch.randn(coarse.shape, generator=generator) - 0.5
    logits = 3 * F.interpolate(coarse, size, mode="bilinear")[0, :num]
    labels = torch.randint(num_classes, (-(-num // 3),), generator=generator).repeat_interleave(3)[:num]
    return logits, torch.rand(num, generator=generator), labels, torch.full((num,), 16.0)


def mmdet_selection(logits, scores, labels, smallest_areas, *, mask_thr, max_per_img, **settings):
    """(scores, labels, chosen) of mmdet's mask_matrix_nms, from masks and maskness of all candidates at once."""
    probabilities = logits.sigmoid()
    masks = probabilities > mask_thr
    areas = masks.sum((1, 2)).float()
    large = (areas > smallest_areas).nonzero().flatten()
    maskness = ((probabilities * masks).sum((1, 2)) / areas)[large]
    scores, labels, _, order = mask_matrix_nms(
        masks[large], labels[large], scores[large] * maskness, mask_area=areas[large], max_num=max_per_img, **settings
    )
    return scores, labels, large[order]


def pasted(crops, size):
    full = torch.zeros(len(crops), *size, dtype=torch.bool)
    for mask, (y, x, crop) in zip(full, crops):
        mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return full


@pytest.mark.parity
@pytest.mark.parametrize("size", [(16, 64), (23, 77), (40, 130)], ids=str)
@pytest.mark.parametrize(
    "settings",
    [
        dict(),
        dict(kernel="linear"),
        dict(nms_pre=11, max_per_img=7),
        dict(nms_pre=-1, max_per_img=-1, filter_thr=-1),
        dict(filter_thr=0.3, sigma=0.5, mask_thr=0.4),
        dict(filter_thr=2.0),
    ],
    ids=str,
)
def test_selection_is_that_of_mmdet(select, size, settings):
    candidates, settings = draw_candidates(60, size), SETTINGS | settings
    found = select(*candidates, **settings)
    scores, labels, chosen = mmdet_selection(*candidates, **settings)
    assert torch.equal(found.chosen, chosen)
    assert torch.equal(found.labels, labels)
    # The probabilities of a mask are added up in another order.
    torch.testing.assert_close(found.scores, scores, rtol=1e-6, atol=0)
    assert torch.equal(found.boxes, cell_boxes(candidates[0].sigmoid() > settings["mask_thr"])[chosen])


@pytest.mark.parametrize("num_candidates", [1, 3, 7])
def test_the_torch_path_gives_the_same_in_chunks(num_candidates, monkeypatch):
    candidates, settings = draw_candidates(20, (21, 71)), SETTINGS | dict(filter_thr=-1)
    compiled = select_instances(*candidates, **settings)
    monkeypatch.setattr(mask_selection, "CHUNK", num_candidates * 21 * 71)
    in_chunks = select_instances(candidates[0].double(), *candidates[1:], **settings)
    assert len(compiled.chosen) > 10
    for name in ("chosen", "labels", "boxes"):
        assert torch.equal(getattr(in_chunks, name), getattr(compiled, name))
    torch.testing.assert_close(in_chunks.scores, compiled.scores, rtol=1e-6, atol=0)


def test_a_mask_decays_a_lesser_one_of_its_class_only(select):
    logits = draw("###.....", "##......", "##......", ".....###")
    found = select(logits, [0.9, 0.8, 0.7, 0.6], [0, 0, 1, 0])
    iou = 2 / 3
    assert found.chosen.tolist() == [0, 2, 3, 1]
    expected = torch.tensor([0.9, 0.7, 0.6, 0.8 * exp(-2 * iou**2)]) * 0.9  # maskness is 0.9
    torch.testing.assert_close(found.scores, expected, rtol=1e-6, atol=0)
    assert found.boxes.tolist() == [[0, 0, 1, 3], [0, 0, 1, 2], [0, 5, 1, 8], [0, 0, 1, 2]]


def test_what_is_suppressed_itself_suppresses_less(select):
    # Mask 1 is mask 0 but for one cell, so against mask 2 its decay counts relative to its own.
    logits = draw("####", "###.", "#...")
    found = select(logits, [0.9, 0.8, 0.7], [0, 0, 0], filter_thr=-1)
    by_0, by_1 = exp(-2 * (1 / 4) ** 2), exp(-2 * (1 / 3) ** 2) / exp(-2 * (3 / 4) ** 2)
    assert found.scores[found.chosen == 2].item() == pytest.approx(0.9 * 0.7 * min(1, by_0, by_1), rel=1e-6)


def test_no_candidates_give_an_empty_selection(select):
    found = select(torch.zeros(0, 5, 7), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert [tuple(field.shape) for field in found] == [(0,), (0,), (0,), (0, 4)]
    assert (
        list(full_size_masks(torch.zeros(0, 5, 7), found.boxes, mask_stride=4, net_size=(20, 28), size=(9, 9), mask_thr=0.5))
        == []
    )


def test_empty_masks_and_masks_no_larger_than_asked_are_dropped(select):
    logits = draw("....|....", "##..|....", "##..|#...")
    found = select(logits, [0.9, 0.8, 0.7], [0, 1, 2], torch.tensor([0.0, 2.0, 2.0]))
    assert found.chosen.tolist() == [2]
    assert found.labels.tolist() == [2]


def test_equal_scores_keep_their_order(select):
    # 40, as torch sorts up to 16 stably in any case.
    logits = draw(*["." * k + "#" + "." * (39 - k) for k in range(40)])
    found = select(logits, [0.5] * 40, [0] * 40, max_per_img=30)
    assert found.chosen.tolist() == list(range(30))


def test_a_duplicate_of_a_duplicate_is_not_a_number_in_the_linear_kernel_as_in_mmdet(select):
    candidates = (
        draw("##..", "##..", "##..", "..##"),
        torch.tensor([0.9, 0.8, 0.7, 0.6]),
        torch.zeros(4, dtype=int),
        torch.zeros(4),
    )
    for filter_thr in (0.05, -1):
        settings = SETTINGS | dict(kernel="linear", filter_thr=filter_thr)
        found = select(*candidates, **settings)
        scores, _, chosen = mmdet_selection(*candidates, **settings)
        assert torch.equal(found.chosen, chosen)
        torch.testing.assert_close(found.scores, scores, rtol=1e-6, atol=0, equal_nan=True)


def test_half_precision_logits_are_summed_in_single():
    # 300 x 300 probabilities of almost 1 add up to more than float16 holds.
    found = select_instances(
        torch.full((1, 300, 300), 8.0).half(), torch.tensor([0.5]), torch.tensor([0]), torch.zeros(1), **SETTINGS
    )
    assert found.scores.item() == pytest.approx(0.5 / (1 + exp(-8)), rel=1e-6)


@pytest.mark.parametrize("settings", [dict(kernel="box"), dict(mask_thr=1.0)], ids=str)
def test_settings_without_meaning_are_refused(select, settings):
    with pytest.raises(ValueError, match="gaussian or linear and a value in"):
        select(draw("#"), [0.5], [0], **settings)


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.3, 0.5, 0.7, 0.999])
def test_a_logit_is_above_its_threshold_just_where_the_probability_is(probability):
    threshold = torch.tensor(logit_of(probability), dtype=torch.float32)
    neighbours = threshold.view(torch.int32) + torch.arange(-4096, 4096, dtype=torch.int32)
    logits = torch.cat([neighbours.view(torch.float32), torch.linspace(-20, 20, 4096)])
    logits = logits[logits.isfinite()][: len(logits) // 64 * 64]
    assert torch.equal(logits > threshold, logits.sigmoid() > probability)


FRAMES = {  # cells of the padded features at stride 4, network input, image
    "as the image": ((24, 64), (96, 256), (96, 256)),
    "padded odd size": ((24, 64), (91, 239), (91, 239)),
    "tall and narrow": ((64, 9), (250, 33), (250, 33)),
    "small": ((9, 11), (35, 41), (35, 41)),
    "enlarged input": ((48, 64), (180, 255), (91, 130)),
    "shrunk input": ((24, 64), (90, 250), (211, 601)),
}


@pytest.mark.parametrize(("cells", "net_size", "size"), FRAMES.values(), ids=FRAMES)
def test_crops_are_the_masks_that_whole_frames_give(cells, net_size, size):
    """Random blobs; masks over the whole frame, on each border, in a corner, in the padding, of one cell, and none."""
    logits = torch.cat([draw_candidates(30, cells)[0], torch.full((8, *cells), -3.0)])
    logits[30] = 2.0
    logits[31, :, :2], logits[32, -3:], logits[33, :2, -2:], logits[34, -1:, -1:] = 3.0, 2.5, 2.0, 1.0
    logits[35, 4, 5], logits[36, 0, 4] = 5.0, 3.5
    boxes = cell_boxes(logits.sigmoid() > 0.5)
    crops = list(full_size_masks(logits, boxes, mask_stride=4, net_size=net_size, size=size, mask_thr=0.5))
    padded = F.interpolate(logits.sigmoid()[None], scale_factor=4, mode="bilinear")[..., : net_size[0], : net_size[1]]
    whole = F.interpolate(padded, size, mode="bilinear")[0] > 0.5
    assert whole[30].all()
    assert not whole[37].any()
    assert torch.equal(pasted(crops, size), whole)


def test_a_crop_is_hardly_larger_than_its_mask():
    logits = torch.full((1, 64, 128), -3.0)
    logits[0, 10:14, 20:50] = 3.0
    (crop,) = full_size_masks(logits, cell_boxes(logits > 0), mask_stride=4, net_size=(256, 512), size=(256, 512), mask_thr=0.5)
    assert (crop.y, crop.x, tuple(crop.mask.shape)) == (9 * 4, 19 * 4, (6 * 4, 32 * 4))  # a cell more on each side
    assert crop.mask.numel() == crop.mask.untyped_storage().nbytes()  # and holds no larger one alive


def test_boxes_of_masks():
    masks = draw("....|.##.|.#..", "....|....|....", "...#|....|....") > 0
    assert cell_boxes(masks).tolist() == [[1, 1, 3, 3], [0, 0, 0, 0], [0, 3, 1, 4]]
