"""Which objects share cells: drawn scenes to count by hand, the head's own targets, recall, proposals, the command."""

import copy
import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine import Config
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from runtime.files import InputError, read_json
from solov2.full_size_masks import full_size_masks
from solov2.grids import doctor
from solov2.grids.claims import Claims, Layout, claimed_cells, count_claims, members_of_level
from solov2.grids.collision_tables import counts_of
from solov2.grids.objects import Resize, read_objects
from solov2.grids.proposal import CRITERIA, FATES, RECALL, Proposer, adapted_ranges
from solov2.grids.recall_bound import detectable_objects, recall_upper_bound
from solov2.location_head import LocationHead, select_candidates
from solov2.settings import DEFAULT_CONFIG, load_config

SIZE = (64, 128)
ALL_SIZES = ((0, 2048),)
GRID_CONFIGS = sorted((DEFAULT_CONFIG.parent / "grids").glob("*.py"))


def no_bar(items, total=None, *, description):
    return items


def draw_json(path: Path, masks_of_images, size=SIZE, **fields) -> Path:
    """A COCO JSON with the (H, W) masks of each image; all of one class."""
    images = [{"id": k, "height": size[0], "width": size[1], "file_name": f"{k}.png"} for k in range(len(masks_of_images))]
    annotations = []
    for image_id, masks in enumerate(masks_of_images):
        for mask in masks:
            code = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            annotation = {"id": len(annotations), "image_id": image_id, "category_id": 26, "area": int(mask.sum())}
            annotation |= {"bbox": coco_mask.toBbox(code).tolist(), "iscrowd": 0} | fields
            annotations.append(annotation | {"segmentation": {"size": list(size), "counts": code["counts"].decode()}})
    categories = [{"id": 26, "name": "car"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def layout_of(grids, scale_ranges, pos_scale=0.2, stride=0) -> Layout:
    """A stride of 0 drops no mask that has a cell."""
    return Layout(tuple(grids), scale_ranges, pos_scale, (stride,) * len(grids))


def draw_boxes(*boxes, size=SIZE) -> list[np.ndarray]:
    masks = np.zeros((len(boxes), *size), dtype=bool)
    for mask, (y1, x1, y2, x2) in zip(masks, boxes):
        mask[y1:y2, x1:x2] = True
    return list(masks)


def examine_boxes(tmp_path, grid, *boxes, scale_ranges=ALL_SIZES, pos_scale=0.2) -> Claims:
    """What happens to objects of one image, on one level."""
    objects = read_objects(draw_json(tmp_path / "drawn.json", [draw_boxes(*boxes)]), Resize(), 4, no_bar)
    return Claims.of_all(count_claims(objects, layout_of([grid], scale_ranges, pos_scale)))


def test_two_objects_share_the_only_cell_of_a_1x1_grid_but_none_of_2x2(tmp_path):
    boxes = (0, 0, 16, 16), (40, 80, 60, 120)  # centres in the first and in the last quarter
    claims = examine_boxes(tmp_path, (1, 1), *boxes)
    assert claims.collides.tolist() == [True, True]
    assert claims.is_lost.tolist() == claims.loses_center.tolist() == [True, False]  # the later one overwrites
    claims = examine_boxes(tmp_path, (2, 2), *boxes)
    assert not (claims.collides | claims.is_lost | claims.loses_center).any()
    assert claims.is_in_range.all()


def test_objects_side_by_side_part_by_columns_not_by_rows(tmp_path):
    boxes = (20, 40, 40, 56), (20, 68, 40, 84)  # centres (29.5, 47.5) and (29.5, 75.5) of 64 x 128
    assert examine_boxes(tmp_path, (8, 1), *boxes).collides.all()
    assert not examine_boxes(tmp_path, (1, 8), *boxes).collides.any()  # columns 47.5 / 16 = 2 and 4


def test_an_object_may_collide_and_yet_keep_its_centre_and_a_cell(tmp_path):
    # With pos_scale 1 and cells of 16 x 16 the wide first object claims columns 1-3 of row 1 (centre 39.5), the second, whose
    # centre is 55.5, column 3 alone.
    claims = examine_boxes(tmp_path, (4, 8), (20, 16, 28, 64), (20, 53, 28, 59), pos_scale=1.0)
    assert claims.collides.tolist() == [True, True]
    assert claims.loses_center.tolist() == claims.is_lost.tolist() == [False, False]


def test_objects_in_the_same_place_of_two_images_do_not_collide(tmp_path):
    path = draw_json(tmp_path / "drawn.json", [draw_boxes((0, 0, 16, 16)), draw_boxes((0, 0, 16, 16))])
    objects = read_objects(path, Resize(), 4, no_bar)
    assert not count_claims(objects, layout_of([(1, 1)], ALL_SIZES))[0].collides.any()


def test_a_size_between_the_ranges_is_outside_all_and_claims_nothing(tmp_path):
    path = draw_json(tmp_path / "drawn.json", [draw_boxes((0, 0, 16, 16), (0, 0, 20, 20), (0, 0, 32, 32))])
    objects = read_objects(path, Resize(), 4, no_bar)
    levels = count_claims(objects, layout_of([(1, 1), (1, 1)], ((1, 16), (24, 64))))  # ends included
    assert Claims.of_all(levels).is_in_range.tolist() == [True, False, True]
    assert not Claims.of_all(levels).collides.any()  # the outer two are on different levels
    everything = np.ones(3, dtype=bool)
    assert counts_of(objects, Claims.of_all(levels), everything)["outside"] == 1


def test_on_overlapping_levels_an_object_is_lost_only_where_no_level_keeps_it(tmp_path):
    path = draw_json(tmp_path / "drawn.json", [draw_boxes((0, 0, 16, 16), (40, 80, 60, 100))])
    objects = read_objects(path, Resize(), 4, no_bar)
    coarse, fine = (1, 1), (4, 8)
    assert Claims.of_all(count_claims(objects, layout_of([coarse, fine], ALL_SIZES * 2))).is_lost.tolist() == [False, False]
    assert Claims.of_all(count_claims(objects, layout_of([coarse, coarse], ALL_SIZES * 2))).is_lost.tolist() == [True, False]


def test_cells_end_at_the_border_and_one_beyond_the_centres(tmp_path):
    # A block at the right edge with an arm to the left: box 64 x 64, centre (34.3, 120.3) in row 2 and column 7 of 4 x 8. The
    # whole box is in reach, rows 0-4 and columns 5-9, of which rows 1-3 and columns 6-8 are next to the centre's; 8 is none.
    mask = np.logical_or(*draw_boxes((0, 120, 64, 128), (60, 64, 61, 120)))
    objects = read_objects(draw_json(tmp_path / "drawn.json", [[mask]]), Resize(), 4, no_bar)
    cells = claimed_cells(objects, np.array([0]), (4, 8), pos_scale=1.0)[1]
    assert cells.tolist() == [row * 8 + column for row in (1, 2, 3) for column in (6, 7)]


def test_the_padding_counts_as_image(tmp_path):
    # 50 x 100 is padded to 64 x 128, so the second of two rows begins at 32, not at 25: a centre at 29.5 is in the first.
    path = draw_json(tmp_path / "drawn.json", [draw_boxes((26, 0, 34, 8), size=(50, 100))], size=(50, 100))
    objects = read_objects(path, Resize(), 4, no_bar)
    assert objects.usual_size == (64, 128)
    assert claimed_cells(objects, np.array([0]), (2, 1), 0.2)[1].tolist() == [0]


def test_what_vanishes_at_the_stride_of_the_masks_is_counted(tmp_path):
    # OpenCV samples the middle 2 x 2 of 4 x 4 pixels: the first object has none of them, the second all.
    path = draw_json(tmp_path / "drawn.json", [draw_boxes((0, 0, 1, 8), (9, 9, 11, 11))])
    objects = read_objects(path, Resize(), 4, no_bar)
    assert objects.has_pixel.all()
    assert objects.has_small_pixel.tolist() == [False, True]


def test_crowds_and_empty_objects_are_no_objects(tmp_path):
    path = draw_json(tmp_path / "drawn.json", [draw_boxes((0, 0, 16, 16))], iscrowd=1)
    with pytest.raises(InputError, match="1 annotations, none of them an object to learn from"):
        read_objects(path, Resize(), 4, no_bar)


def build_head(grids, scale_ranges, pos_scale) -> LocationHead:
    settings = dict(num_classes=8, in_channels=8, feat_channels=8, stacked_convs=1, pos_scale=pos_scale, num_grids=grids)
    features = dict(feat_channels=8, start_level=0, end_level=3, out_channels=8, norm_cfg=dict(type="GN", num_groups=4))
    strides = (8, 8, 16, 32, 32)[: len(grids)]
    return LocationHead(
        scale_ranges=scale_ranges,
        strides=strides,
        mask_feature_head=Config(features)._cfg_dict,
        norm_cfg=dict(type="GN", num_groups=4),
        **settings,
    )


@pytest.mark.parametrize("pos_scale", [0.2, 0.4, 1.0])
@pytest.mark.parametrize("resize", [Resize(), Resize((192, 96)), Resize((100, 40), keep_ratio=False)], ids=str)
def test_claims_are_the_cells_that_the_head_learns_from(pos_scale, resize, tmp_path):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, SIZE, (40, 2, 2)), axis=1)
    masks = [mask & (rng.random(SIZE) < 0.7) for mask in draw_boxes(*((*a, *(b + 1)) for a, b in corners))]
    masks = [mask for mask in masks if mask.any() and min(np.ptp(np.nonzero(mask), axis=1)) > 0]
    layout = layout_of([(12, 24), (8, 16), (3, 7)], ((1, 24), (12, 48), (24, 2048)), pos_scale)
    objects = read_objects(draw_json(tmp_path / "drawn.json", [masks]), resize, 4, no_bar)

    height, width = resize.of(SIZE)
    padded = tuple(int(side) for side in objects.image_sizes[0])
    bitmaps = BitmapMasks(np.array(masks, dtype=np.uint8), *SIZE).resize((height, width)).pad(padded)
    instances = InstanceData(bboxes=objects.boxes, labels=torch.arange(len(masks)), masks=bitmaps)
    head = build_head(layout.grids, layout.scale_ranges, pos_scale)
    head.num_classes = len(masks)  # so that a label tells the object
    targets, labels, is_positive, indices = head._get_targets_single(instances, tuple(side // 4 for side in padded))

    levels = count_claims(objects, layout)
    assert Claims.of_all(levels).collides.sum() > 10
    for k, (grid, scale_range, claims) in enumerate(zip(layout.grids, layout.scale_ranges, levels)):
        claiming, cells = claimed_cells(objects, members_of_level(objects, scale_range), grid, pos_scale)
        assert cells.tolist() == indices[k]
        assert is_positive[k].nonzero().flatten().tolist() == sorted(set(cells.tolist()))
        has_target = np.array([bool(target.any()) for target in targets[k]])
        assert np.array_equal(has_target, objects.has_small_pixel[claiming])
        kept = set(labels[k].unique().tolist()) - {len(masks)}
        assert set(np.flatnonzero(claims.is_in_range & ~claims.is_lost)) == kept


def test_scale_ranges_follow_the_shorter_side_as_in_solov2s_own_configs():
    assert adapted_ranges((800, 1333), 5) == ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
    assert adapted_ranges((448, 768), 5)[:3] == ((1, 56), (28, 112), (56, 224))
    assert adapted_ranges((512, 1024), 5) == ((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048))


def recall_of(tmp_path, grids, *boxes, scale_ranges=ALL_SIZES, stride=0) -> list[float]:
    """Upper bounds of one image's mask AR: alone, labelled, apart."""
    objects = read_objects(draw_json(tmp_path / "drawn.json", [draw_boxes(*boxes)]), Resize(), 4, no_bar)
    layout = layout_of(grids, scale_ranges, stride=stride)
    return list(recall_upper_bound(objects, detectable_objects(objects, layout, count_claims(objects, layout))).values())


def test_recall_is_bounded_by_the_objects_with_a_cell_of_their_own_and_by_those_with_a_label(tmp_path):
    boxes = (0, 0, 16, 16), (40, 80, 60, 120)  # whole cells of 4 x 4, whose masks lose nothing but corners
    assert recall_of(tmp_path, [(2, 2)], *boxes) == [1, 1, 1]
    assert recall_of(tmp_path, [(1, 1)], *boxes) == [0, 0.5, 1]  # the later one has the label, none the cell alone
    assert recall_of(tmp_path, [(1, 1), (2, 2)], *boxes, scale_ranges=ALL_SIZES * 2) == [1, 1, 1]
    assert recall_of(tmp_path, [(2, 2)], *boxes, scale_ranges=((1, 20),)) == [0.5, 0.5, 0.5]
    assert recall_of(tmp_path, [(2, 2)], *boxes, stride=16) == [0.5, 0.5, 0.5]  # 4 x 4 cells are no more than the stride


def draw_classes(path: Path, images: list) -> Path:
    """As draw_json, each object of a class of its own, so that no mask is matched with another's object."""
    content = read_json(draw_json(path, images))
    for annotation in content["annotations"]:
        annotation["id"] += 1  # COCOeval takes an id of 0 for no match
        annotation["category_id"] = annotation["id"]
    content["categories"] = [{"id": a["id"], "name": str(a["id"])} for a in content["annotations"]]
    path.write_text(json.dumps(content))
    return path


def detect_targets(head, instances, network, size) -> list[tuple[int, dict]]:
    """What the head finds whose cells give their label and the mask they are trained on: (label, code) each."""
    targets, labels, _, indices = head._get_targets_single(instances, tuple(side // 4 for side in network))
    # Of a cell's masks the last one stays, as the last label does.
    cells = [(k, cell, mask) for k in range(len(indices)) for cell, mask in dict(zip(indices[k], targets[k])).items()]
    candidates = InstanceData(
        mask_logits=torch.stack([mask for _, _, mask in cells]).float() * 40 - 20,
        class_scores=torch.ones(len(cells)),
        labels=torch.tensor([int(labels[k].flatten()[cell]) for k, cell, _ in cells]),
        smallest_areas=torch.tensor([float(head.strides[k]) for k, _, _ in cells]),
    )
    settings = dict(mask_thr=0.5, nms_pre=-1, max_per_img=-1, kernel="gaussian", sigma=2.0, filter_thr=-1.0)
    found = select_candidates(candidates, settings)
    crops = full_size_masks(
        candidates.mask_logits[found.chosen], found.boxes, mask_stride=4, net_size=size, size=size, mask_thr=0.5
    )
    codes = []
    for y, x, crop in crops:
        mask = np.zeros(size, dtype=np.uint8, order="F")
        mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        codes.append(coco_mask.encode(mask))
    return list(zip(found.labels.tolist(), codes, strict=True))


@pytest.mark.parametrize("resize", [Resize(), Resize((192, 96)), Resize((100, 50))], ids=str)
def test_the_bound_is_pycocotools_recall_of_a_head_that_reproduces_its_targets(resize, tmp_path):
    rng = np.random.default_rng(2)
    corners = np.sort(rng.integers(0, SIZE, (4, 30, 2, 2)), axis=2)
    path = draw_classes(tmp_path / "drawn.json", [draw_boxes(*((*a, *(b + 2)) for a, b in boxes)) for boxes in corners])
    objects = read_objects(path, resize, 4, no_bar)
    layout = layout_of([(8, 16), (4, 8)], ((1, 32), (24, 2048)), stride=8)
    head = build_head(layout.grids, layout.scale_ranges, layout.pos_scale)
    head.num_classes, head.strides = len(objects), layout.strides

    truth, found = COCO(), []
    truth.dataset, size = read_json(path), resize.of(SIZE)
    network = tuple(int(side) for side in objects.image_sizes[0])
    for annotation in truth.dataset["annotations"]:  # IoU is measured at the network's size
        mask = cv2.resize(coco_mask.decode(annotation["segmentation"]), size[::-1], interpolation=cv2.INTER_NEAREST)
        annotation["segmentation"] = coco_mask.encode(np.asfortranarray(mask))
    truth.createIndex()
    for image_id in range(len(corners)):
        ids = np.flatnonzero(objects.images == image_id)
        masks = np.stack([coco_mask.decode(truth.anns[k + 1]["segmentation"]) for k in ids])
        bitmaps = BitmapMasks(masks, *size).pad(network)
        instances = InstanceData(bboxes=objects.boxes[ids], labels=torch.from_numpy(ids), masks=bitmaps)
        for label, code in detect_targets(head, instances, network, size):
            found.append({"image_id": image_id, "category_id": label + 1, "score": 1.0, "segmentation": code})
    official = COCOeval(truth, truth.loadRes(found), "segm")
    official.params.maxDets = [100]
    official.evaluate()
    official.accumulate()

    recall = recall_upper_bound(objects, detectable_objects(objects, layout, count_claims(objects, layout)))
    assert 0.1 < recall["alone"] < recall["labelled"] < recall["apart"]
    assert recall["labelled"] == pytest.approx(official.eval["recall"][:, :, 0, 0].mean(), abs=1e-9)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """20 images with 12 random objects each."""
    rng = np.random.default_rng(1)
    images = []
    for _ in range(20):
        top, left = rng.integers(0, (48, 112), (12, 2)).T
        high, wide = rng.integers(2, 16, (12, 2)).T
        images.append(draw_boxes(*zip(top, left, top + high, left + wide)))
    return read_objects(draw_json(tmp_path_factory.mktemp("crowd") / "crowd.json", images), Resize(), 4, no_bar)


@pytest.mark.parametrize("target", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_proposal_meets_the_target_it_promises_and_no_level_could_be_coarser(crowd, criterion, target):
    template = layout_of([(1, 1), (1, 1)], ((1, 8), (4, 2048)))
    proposal = Proposer(crowd, template, criterion, no_bar).propose(target)
    assert proposal.is_met
    assert all(columns == 2 * rows for rows, columns in proposal.layout.grids)

    def share(layout: Layout) -> float:
        levels = count_claims(crowd, layout)
        if criterion == RECALL:
            recall = recall_upper_bound(crowd, detectable_objects(crowd, layout, levels))
            return pytest.approx(recall["apart"] - recall["alone"], abs=1e-12)
        return getattr(Claims.of_all(levels), FATES[criterion]).mean()

    assert proposal.share == share(proposal.layout)
    assert proposal.share <= target
    for level, (rows, columns) in enumerate(proposal.layout.grids):
        if rows > 8:  # the coarsest that is tried
            grids = list(proposal.layout.grids)
            grids[level] = (rows - 4, columns - 8)
            assert share(replace(template, grids=tuple(grids))) > target


def test_a_proposal_stays_within_its_cells_and_says_that_the_target_is_missed(crowd):
    proposer = Proposer(crowd, layout_of([(1, 1), (1, 1)], ((1, 8), (4, 2048))), "collide", no_bar)
    tight = proposer.propose(0.05, max_cells=1000)
    assert not tight.is_met
    assert tight.layout.num_cells <= 1000
    assert proposer.propose(0.05).share <= 0.05 < tight.share < proposer.propose(0.99).share
    with pytest.raises(InputError, match=r"cost limit 0.03, but the coarsest grids that are tried cost 0.07; give 0.07"):
        proposer.propose(0.05, max_cells=100)


def run_doctor(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["doctor.py", *map(str, arguments)])
    doctor.main()


def test_the_command_tells_all_and_its_lines_fit_into_a_config(streets, tmp_path, monkeypatch, capsys):
    run_doctor(monkeypatch, "--data-root", streets, "--json", tmp_path / "out.json", "--cost-limit", "9")
    printed = capsys.readouterr().out
    path = streets / "annotations/instancesonly_filtered_gtFine_train.json"
    assert f"grid doctor: configs/solov2/streets_lite0.py (the default) on {path}\n" in printed
    found = read_json(tmp_path / "out.json")
    num_objects = sum(not annotation["iscrowd"] for annotation in read_json(path)["annotations"])
    for examined in (found["configured"], found["proposed"]):
        assert examined["all"]["objects"] == num_objects > 10
        assert sum(c["objects"] for c in examined["by_class"].values()) == num_objects
        assert (
            sum(examined["by_size"].get(name, {"objects": 0})["objects"] for name in ("small", "medium", "large")) == num_objects
        )
    assert found["proposed"]["is_met"]
    assert found["proposed"]["all"]["no own cell"] <= 0.01 * num_objects
    pasted: dict = {}
    exec(printed.partition("to paste into a config:\n")[2].partition("\nwrote")[0], pasted)
    assert [list(grid) for grid in pasted["model"]["mask_head"]["num_grids"]] == [v["grid"] for v in found["proposed"]["levels"]]


def test_the_command_works_on_the_other_layout_with_its_classes(snapshots, tmp_path, monkeypatch, capsys):
    root = Path(shutil.copytree(snapshots, tmp_path / "snapshots"))
    run_doctor(monkeypatch, "--data-root", root, "--json", tmp_path / "out.json", "--size", 256, 256)
    path = root / "annotations/instances_train2017.json"
    assert f" on {path}\n" in capsys.readouterr().out
    content = read_json(path)
    names = {c["id"]: c["name"] for c in content["categories"]}
    counts = Counter(names[a["category_id"]] for a in content["annotations"] if not a["iscrowd"])
    assert {name: c["objects"] for name, c in read_json(tmp_path / "out.json")["configured"]["by_class"].items()} == counts


def test_help_names_all_criteria():
    assert doctor.TARGETS == CRITERIA  # which are not loaded for --help


def test_a_network_of_one_pixel_is_padded_as_any_other(streets, tmp_path, monkeypatch):
    run_doctor(monkeypatch, "--data-root", streets, "--json", tmp_path / "out.json", "--size", 1, 1)
    assert read_json(tmp_path / "out.json")["configured"]["all"]["AR"]["apart"] == 0


def test_the_size_of_the_network_changes_what_is_in_range(streets, tmp_path, monkeypatch):
    run_doctor(monkeypatch, "--data-root", streets, "--json", tmp_path / "large.json", "--size", 512, 1024)
    run_doctor(monkeypatch, "--data-root", streets, "--json", tmp_path / "small.json", "--size", 128, 256)
    large, small = (read_json(tmp_path / f"{name}.json")["configured"]["levels"] for name in ("large", "small"))
    assert large[-1]["objects"] > small[-1]["objects"]


def test_the_command_starts_anywhere_and_says_nothing_of_its_libraries(streets, run_command):
    result = run_command("solov2/grids/doctor.py", "--data-root", streets)
    assert result.returncode == 0
    assert "Warning" not in result.stderr


BAD_ARGUMENTS = {
    "missing": (["--annotations", "/nowhere.json"], "/nowhere.json: no such file"),
    "no JSON": (["--annotations", "broken.json"], "broken.json: not valid JSON"),
    "a list": (["--annotations", "list.json"], "list.json: needs `images`, `annotations` and `categories`"),
    "no objects": (["--annotations", "empty.json"], "empty.json: 0 annotations, none of them an object to learn from"),
    "no mask": (["--annotations", "no_mask.json"], "no_mask.json: no COCO instances JSON (KeyError('segmentation'))"),
    "other size": (["--annotations", "other_size.json"], "RLE has size [9, 9], but its image is [64, 128]"),
    "config": (["--config", "nothing.py"], "nothing.py: no such config"),
    "other model": (["--config", "other.py"], "other.py: a SOLOv2 model.mask_head with num_grids and scale_ranges is needed"),
    "levels": (["--cfg-options", "model.mask_head.num_grids=[8,4]"], "2 num_grids, 5 scale_ranges and 5 strides; give one of"),
    "grid": (["--cfg-options", "model.mask_head.num_grids=[[1,2,3]]"], "each level needs S or (rows, columns)"),
    "share": (["--target-share", "2"], "--target-share is 2.0, but a share from 0 on and below 1 was needed"),
    "size": (["--size", "0", "5"], "--size is 0 5, but a height and a width in pixels were needed"),
    "cost": (["--annotations", "good.json", "--cost-limit", "0.1"], "cost limit 0.10, but the coarsest grids"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_arguments_fail_in_one_line(arguments, message, tmp_path, monkeypatch, fails_in_one_line):
    monkeypatch.chdir(tmp_path)
    content = read_json(draw_json(tmp_path / "good.json", [draw_boxes((0, 0, 16, 16))]))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "empty.json").write_text(json.dumps(content | {"annotations": []}))
    (annotation,) = content["annotations"]
    other = annotation | {"segmentation": {"size": [9, 9], "counts": annotation["segmentation"]["counts"]}}
    (tmp_path / "other_size.json").write_text(json.dumps(content | {"annotations": [other]}))
    del annotation["segmentation"]
    (tmp_path / "no_mask.json").write_text(json.dumps(content))
    (tmp_path / "other.py").write_text("model = dict(type='MaskRCNN')")
    given = arguments if "--annotations" in arguments else ["--annotations", "good.json", *arguments]
    assert message in fails_in_one_line(doctor.main, *given)


@pytest.mark.parametrize("path", GRID_CONFIGS, ids=[p.stem for p in GRID_CONFIGS])
def test_the_configs_of_the_comparison_differ_in_their_grids_alone(path):
    config, other = load_config(path), load_config(path.with_name(path.name.replace("_street_grids", "_coco_grids")))
    register_all_modules()
    assert isinstance(MODELS.build(copy.deepcopy(config.model)).mask_head, LocationHead)
    del config.model.mask_head.num_grids, other.model.mask_head.num_grids
    assert config.to_dict() == other.to_dict()
