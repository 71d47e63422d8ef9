"""Results of other tools as halves of a fusion: each form as its tool writes it, and damaged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from benchmarks.foreign_forms import (
    INSTANCE_FORMS,
    SEMANTIC_FORMS,
    run_lengths,
    things,
    write_cityscapes_masks,
    write_class_maps,
    write_probabilities,
    write_results,
    write_yolo_polygons,
)
from data.class_map import map_classes
from data.images import write_image
from data.instance_dump import write_instances
from data.layouts.find import open_data_set
from data.panoptic_file import write_panoptic_json
from data.panoptic_png import PanopticMap, describe_segments, write_panoptic_png
from data.run_lengths import decode_crop
from data.semantic_dump import write_semantic
from data.split import FileSplit, Split
from data.targets import panoptic_to_instance_logits, panoptic_to_semantic, panoptic_to_semantic_logits
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, VOID_TRAIN_ID
from fusion.settings import FusionSettings
from prediction.fused import FusedPredictor, LogitRule
from prediction.predictor import needs_pixels
from prediction.run import predict_split
from prediction.score import score
from prediction.sources.find import Halves, HalvesSettings
from prediction.sources.foreign import ABSENT_MARGIN, FolderOfFiles, probabilities_to_logits, stride_of
from prediction.sources.truth import Truth
from runtime.files import InputError


@pytest.fixture(scope="module")
def split(streets):
    return open_data_set(streets).split()


@pytest.fixture(scope="module")
def forms(split, tmp_path_factory):
    """Each form written once, by its name."""
    folder = tmp_path_factory.mktemp("forms")
    return {name: write(folder, split) for name, write in (INSTANCE_FORMS | SEMANTIC_FORMS).items()}


def halves(split: Split, instances: object = "none", semantics: object = "truth", **settings):
    return Halves(split, str(instances), str(semantics), HalvesSettings(**settings)).find()


def masks_of(predictor, split: Split, index: int) -> list[tuple[int, np.ndarray]]:
    """(train id, (H, W) bool) of what a predictor of instances finds."""
    image = split.image(index)
    found = predictor.predict(split.image_id(index), image).instances
    masks = []
    for train_id, (y1, x1, y2, x2), crop in zip(found.train_ids.tolist(), found.crop_boxes.tolist(), found.crops, strict=True):
        mask = np.zeros(image.shape[:2], bool)
        mask[y1:y2, x1:x2] = crop > 0
        masks.append((train_id, mask))
    return masks


def pq(split: Split, folder: Path, instances: object, semantics: object, **settings) -> float:
    fused = FusedPredictor(*halves(split, instances, semantics, **settings), LogitRule(FusionSettings(min_stuff_area=0)))
    return score(predict_split(split, fused, folder), split).quality["All"]["pq"]


@pytest.mark.parametrize("form", [name for name in INSTANCE_FORMS if "polygons" not in name])
def test_contract_binary_masks_are_read_pixel_by_pixel(form, forms, split):
    predictor, _ = halves(split, forms[form])
    for index in range(2):
        wanted = sorted((k, mask.tobytes()) for i, _, k, mask in things(split) if i == index)
        assert sorted((k, mask.tobytes()) for k, mask in masks_of(predictor, split, index)) == wanted


@pytest.mark.parametrize("form", INSTANCE_FORMS)
def test_contract_the_truths_instances_in_each_form_give_the_pq_of_the_truths_dumps(form, forms, split, tmp_path):
    """Polygons around pixels' centres lose half a pixel at each edge: at 128x256 that is much, and what is asked is less."""
    of_dumps = pq(split, tmp_path / "dumps", "truth", "truth")
    lost = of_dumps - pq(split, tmp_path / "form", forms[form], "truth")
    assert lost < (0.1 if "polygons" in form else 0.0), lost


@pytest.mark.parametrize("form", SEMANTIC_FORMS)
def test_contract_the_truths_semantics_in_each_form_give_the_pq_of_the_truths_dumps(form, forms, split, tmp_path):
    of_dumps = pq(split, tmp_path / "dumps", "truth", "truth")
    assert pq(split, tmp_path / "form", "truth", forms[form]) > of_dumps - 0.02


def copy_of(form: Path, folder: Path) -> Path:
    """A form that was written, once more."""
    folder.mkdir(parents=True)
    return Path(shutil.copytree(form, folder / form.name) if form.is_dir() else shutil.copy(form, folder))


def read_all(split: Split, form: Path, half: str) -> list[str]:
    """Predict every image of a split; the fingerprint of each."""
    predictor = halves(split, **{half: form})[half == "semantics"]
    for index in range(len(split)):
        predictor.predict(split.image_id(index), split.image(index))
    return [predictor.fingerprint(split.image_id(index)) for index in range(len(split))]


HALF_OF_FORM = dict.fromkeys(INSTANCE_FORMS, "instances") | dict.fromkeys(SEMANTIC_FORMS, "semantics")


class Mirrored:
    """A split whose truths are turned left to right."""

    def __init__(self, split: Split):
        self._split = split

    def __getattr__(self, name: str):
        return getattr(self._split, name)

    def __len__(self) -> int:
        return len(self._split)

    def truth(self, index: int) -> PanopticMap:
        truth = self._split.truth(index)
        ids, category_of = truth.segment_ids[:, ::-1], {s.segment_id: s.category_id for s in truth.segments}
        return PanopticMap(ids, describe_segments(ids, category_of.__getitem__))


@pytest.mark.parametrize("form", HALF_OF_FORM)
def test_contract_files_need_no_pixels(form, forms, split):
    half = HALF_OF_FORM[form]
    assert not needs_pixels(halves(split, **{half: forms[form]})[half == "semantics"])


@pytest.mark.parametrize("form", HALF_OF_FORM)
def test_contract_the_same_content_has_the_same_fingerprint_and_another_has_another(form, forms, split, tmp_path):
    half, write = HALF_OF_FORM[form], (INSTANCE_FORMS | SEMANTIC_FORMS)[form]
    before = read_all(split, forms[form], half)
    assert read_all(split, copy_of(forms[form], tmp_path / "copy"), half) == before
    (tmp_path / "other").mkdir()
    other = read_all(split, write(tmp_path / "other", Mirrored(split)), half)
    assert all(a != b for a, b in zip(before, other, strict=True))


@pytest.mark.parametrize("form", HALF_OF_FORM)
def test_contract_a_file_that_is_cut_or_of_another_form_is_read_or_refused_in_one_line(form, forms, split, tmp_path):
    files = sorted(path for path in forms[form].rglob("*") if path.is_file()) if forms[form].is_dir() else [forms[form]]
    refusals = []
    for k, path in enumerate({path.suffix: path for path in files}.values()):
        for damage in (path.read_bytes()[: path.stat().st_size // 2], bytes(range(256)), b""):
            copy = copy_of(forms[form], tmp_path / f"{k} {len(refusals)}")
            (copy / path.relative_to(forms[form]) if copy.is_dir() else copy).write_bytes(damage)
            refusals.append(refusal(split, copy, HALF_OF_FORM[form]))
    assert any(refusals)
    assert not any("\n" in line for line in refusals if line)
    assert all("; " in line and str(tmp_path) in line for line in refusals if line), refusals


def refusal(split: Split, form: Path, half: str) -> str | None:
    """What is wrong with a form, or None."""
    try:
        read_all(split, form, half)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("has_palette", [False, True])
@pytest.mark.parametrize("numbering", ["ids", "places"])
def test_class_maps_tell_by_themselves_whether_they_hold_ids_or_train_ids(numbering, has_palette, split, tmp_path):
    _, semantics = halves(split, semantics=write_class_maps(tmp_path / "maps", split, numbering, has_palette=has_palette))
    words = {"ids": "ids of the data set", "places": "train ids"}[numbering]
    assert any(f"taken for {words}" in text for text in semantics.notes)
    found = semantics.predict(split.image_id(0), split.image(0)).semantic.train_ids
    assert np.array_equal(found, panoptic_to_semantic(split.truth(0), split.taxonomy))


def test_numbers_that_could_be_both_are_refused_until_the_user_says_what_they_are(split, tmp_path):
    for index in range(len(split)):
        Image.fromarray(np.full((128, 256), 8, np.uint8)).save(tmp_path / f"{split.image_id(index)}.png")
    with pytest.raises(InputError, match=r"8 could be ids of the data set or train ids; say it by --semantics-classes"):
        halves(split, semantics=tmp_path)
    for given, name in (("dataset-ids", "sidewalk"), ("train-ids", "vegetation"), ("cityscapes-train-ids", "vegetation")):
        _, semantics = halves(split, semantics=tmp_path, semantics_classes=given)
        found = semantics.predict(split.image_id(0), split.image(0)).semantic.train_ids
        assert CITYSCAPES.categories[found[0, 0]].name == name


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_probabilities_become_log_odds(suffix, split, tmp_path):
    _, semantics = halves(split, semantics=write_probabilities(tmp_path / "p", split, suffix=suffix))
    assert any("taken for probabilities" in text for text in semantics.notes)
    found = semantics.predict(split.image_id(0), split.image(0)).semantic
    array = np.load(tmp_path / f"p/{split.image_id(0)}{suffix}")
    shares = (array if suffix == ".npy" else array["arr_0"])[0].astype(np.float32)
    np.testing.assert_allclose(found.logits, np.log(shares / (1 - shares)), atol=2e-3)
    assert found.stride == 4


def test_logits_stay_what_they_are_and_other_sizes_are_brought_to_a_stride(split, tmp_path):
    numbers = np.random.default_rng(0)
    (tmp_path / "a").mkdir()
    for index in range(len(split)):
        logits = numbers.normal(0, 3, (19, 33, 65)).astype(np.float32)
        np.save(tmp_path / "a" / f"{split.image_id(index)}.npy", logits)
    _, semantics = halves(split, semantics=tmp_path / "a")
    found = semantics.predict(split.image_id(len(split) - 1), split.image(len(split) - 1)).semantic
    assert (found.stride, found.logits.shape) == (4, (19, 32, 64))
    assert not any("probabilities" in text for text in semantics.notes)
    # The corners of both grids are the same; in the middle the nearest cells have the say.
    assert abs(found.logits[:, 0, 0] - logits[:, 0, 0]).max() < 0.3


@pytest.mark.parametrize(
    ("grid", "size", "stride"),
    [((32, 64), (128, 256), 4), ((33, 65), (129, 257), 4), ((5, 9), (129, 257), 32), ((33, 64), (128, 256), None)],
)
def test_a_stride_is_what_gives_the_grid(grid, size, stride):
    assert stride_of(grid, size) == stride


def test_log_odds_keep_the_order_of_all_that_float16_tells_apart():
    shares = np.array([0, 1e-4, 0.5, 1 - 1e-4, 1], np.float16)
    logits = probabilities_to_logits(shares)
    assert (np.diff(logits) >= 0).all()
    assert logits[2] == 0
    assert logits[1] == pytest.approx(-9.21, abs=0.01)


def write_panoptic(folder: Path, split: Split) -> Path:
    """The truth as a panoptic JSON of another tool, whose segments have scores."""
    entries = []
    for index in range(len(split)):
        truth, name = split.truth(index), f"{split.image_id(index)}.png"
        write_panoptic_png(folder / "panoptic" / name, truth, "")
        entries.append((split.image_id(index), split.file_name(index), name, truth.segment_ids.shape, truth.segments))
    write_panoptic_json(folder / "panoptic.json", split.taxonomy, entries)
    return folder / "panoptic.json"


def test_a_panoptic_result_is_either_half(split, tmp_path):
    path = write_panoptic(tmp_path, split)
    instances, semantics = halves(split, path, path)
    wanted = sorted((k, mask.tobytes()) for i, _, k, mask in things(split) if i == 0)
    assert sorted((k, mask.tobytes()) for k, mask in masks_of(instances, split, 0)) == wanted
    found = semantics.predict(split.image_id(0), split.image(0)).semantic.train_ids
    assert np.array_equal(found, panoptic_to_semantic(split.truth(0), split.taxonomy))


COCO_PERSON, COCO_ROAD_LIKE = 1, 149
"""Ids of `person` and `road` in COCO."""


def test_coco_ids_become_cityscapes_by_a_class_map_and_what_is_lost_is_said(split, tmp_path):
    index, _, _, mask = next(things(split))
    rle = {"size": list(mask.shape), "counts": run_lengths(mask)}
    entries = [{"image_id": split.image_id(index), "category_id": k, "score": "0.9", "segmentation": rle} for k in (1, 15, 10)]
    (tmp_path / "predictions.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"class 1, 10, 15, but classes are 7 road.*or give --instances-classes"):
        halves(split, tmp_path / "predictions.json")
    instances, _ = halves(split, tmp_path / "predictions.json", instances_classes="coco-to-cityscapes")
    assert [CITYSCAPES.categories[k].name for k, _ in masks_of(instances, split, index)] == ["person"]
    notes = "\n".join(instances.notes)
    assert "classes by class map coco-to-cityscapes, person for person, traffic light for traffic light" in notes
    assert "1 of 3 classes are left out, bench" in notes
    assert "instances of traffic light are left out, which are stuff here" in notes


def test_a_place_in_a_list_is_looked_up_in_the_classes_that_a_map_is_from(split, tmp_path):
    """ultralytics' class 2 is COCO's third, car."""
    (tmp_path / f"{split.image_id(0)}.txt").write_text("2 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5 0.75\n")
    instances, _ = halves(split, tmp_path, instances_classes="coco-to-cityscapes")
    found = instances.predict(split.image_id(0), split.image(0)).instances
    assert [CITYSCAPES.categories[k].name for k in found.train_ids] == ["car"]
    assert found.scores.tolist() == [0.75]
    names = tmp_path / "data.yaml"
    names.write_text("names: {0: person, 2: car}\n")
    by_name, _ = halves(split, tmp_path, names_yaml=names)
    assert by_name.predict(split.image_id(0), split.image(0)).instances.train_ids.tolist() == found.train_ids.tolist()


def test_without_scores_each_polygon_counts_with_1_and_that_is_said(split, tmp_path):
    (tmp_path / f"{split.image_id(0)}.txt").write_text("13 0.1 0.1 0.5 0.1 0.5 0.5\n")
    instances, _ = halves(split, tmp_path)
    assert instances.predict(split.image_id(0), split.image(0)).instances.scores.tolist() == [1]
    assert any("no line has a score" in text for text in instances.notes)
    assert len(instances.predict(split.image_id(1), split.image(1)).instances) == 0


def test_polygons_decode_as_pycocotools_does(split, tmp_path):
    points = np.random.default_rng(1).uniform(0.05, 0.95, (9, 2))
    (tmp_path / f"{split.image_id(0)}.txt").write_text("13 " + " ".join(f"{v:.17g}" for v in points.ravel()) + "\n")
    instances, _ = halves(split, tmp_path)
    ((_, mask),) = masks_of(instances, split, 0)
    rle = coco_mask.frPyObjects([(points * (256, 128)).ravel().tolist()], 128, 256)
    assert np.array_equal(mask, coco_mask.decode(rle)[..., 0].astype(bool))


def test_logits_of_classes_that_become_one_add_up_as_shares(split, tmp_path):
    """road and sidewalk of the file become road; nothing becomes sidewalk, which is then least likely."""
    logits = np.random.default_rng(2).normal(0, 3, (3, 32, 64)).astype(np.float32)
    for index in range(len(split)):
        np.save(tmp_path / f"{split.image_id(index)}.npy", logits)
    (tmp_path / "map.yaml").write_text("map: {0: road, 1: road, 2: sky}\n")
    _, semantics = halves(split, semantics=tmp_path, semantics_classes=tmp_path / "map.yaml")
    found = semantics.predict(split.image_id(0), split.image(0)).semantic.logits
    np.testing.assert_allclose(found[0], np.log(np.exp(logits[0]) + np.exp(logits[1])), atol=1e-5)
    assert np.array_equal(found[10], logits[2])
    assert np.array_equal(found[1], logits.min(0) - ABSENT_MARGIN)
    assert any("knows nothing of sidewalk" in text for text in semantics.notes)


def test_the_map_of_a_class_map_png_decides_the_stuff_of_the_fusion_pixel_by_pixel(split, tmp_path):
    _, semantics = halves(split, semantics=write_class_maps(tmp_path / "maps", split))
    fused = FusedPredictor(halves(split, "truth", "truth")[0], semantics, LogitRule(FusionSettings(min_stuff_area=0)))
    found = fused.predict(split.image_id(0), split.image(0)).panoptic
    wanted = panoptic_to_semantic(split.truth(0), split.taxonomy)
    stuff = ~np.append(split.taxonomy.is_thing, [True] * 237)[wanted]
    is_free = np.isin(panoptic_to_semantic(found, split.taxonomy), [*split.taxonomy.stuff_ids, VOID_TRAIN_ID])
    assert np.array_equal(panoptic_to_semantic(found, split.taxonomy)[stuff & is_free], wanted[stuff & is_free])


def read_first(split: Split, **given: Path) -> None:
    """Open a half and read the first image."""
    instances, semantics = halves(split, **given)
    (instances or semantics).predict(split.image_id(0), split.image(0))


def test_dumps_of_other_classes_go_through_a_class_map(split, snapshots, tmp_path):
    """Dumps in COCO's classes, of the same image, become Cityscapes'."""
    truth, about = split.truth(0), {"image_id": split.image_id(0), "stride": 4, "producer": "test"}
    coco = {"person": 1, "car": 3, "road": 149, "sky": 187, "building": 197}
    names = {c.dataset_id: c.name for c in CITYSCAPES.categories}
    table = {k: coco.get(name) for k, name in names.items()}
    moved = map_classes(truth, table, COCO_PANOPTIC)
    write_instances(tmp_path / "d", panoptic_to_instance_logits(moved, COCO_PANOPTIC, **about))
    write_semantic(tmp_path / "d", panoptic_to_semantic_logits(moved, COCO_PANOPTIC, **about))
    with pytest.raises(InputError, match="taxonomy is 'coco_panoptic', but 'cityscapes' was needed"):
        read_first(split, instances=tmp_path / "d")
    given = {"instances_classes": "coco-to-cityscapes", "semantics_classes": "coco-to-cityscapes"}
    instances, semantics = halves(split, tmp_path / "d", tmp_path / "d", **given)
    image = split.image(0)
    found = instances.predict(split.image_id(0), image).instances
    wanted = Truth(split).predict(split.image_id(0), image)
    kept = [k for k in wanted.instances.train_ids.tolist() if CITYSCAPES.categories[k].name in coco]
    assert sorted(found.train_ids.tolist()) == sorted(kept)
    assert found.stride == 4
    logits = semantics.predict(split.image_id(0), image).semantic.logits
    road = next(k for k, c in enumerate(CITYSCAPES.categories) if c.name == "road")
    assert np.array_equal(logits[road] > 0, wanted.semantic.logits[road] > 0)
    with pytest.raises(InputError, match="the truth goes through --truth-classes"):
        halves(split, "truth", instances_classes="names")


DAMAGED = {
    "a result list that is cut off": (lambda f: (f / "r.json").write_text('[{"image_id": 1, '), "r.json", "not valid JSON"),
    "a result list with more behind it": (lambda f: (f / "r.json").write_text("[] {}"), "r.json", "more follows"),
    "a list of numbers": (lambda f: (f / "r.json").write_text("[1, 2]"), "r.json", "an object was needed"),
    "a JSON of something else": (lambda f: (f / "r.json").write_text("{}"), "r.json", "neither a list of results nor a panoptic"),
    "boxes as txt": (lambda f: (f / "town.txt").write_text("0 0.5 0.5 0.1 0.1 0.9"), "", "is a box"),
    "text as txt": (lambda f: (f / "town.txt").write_text("car 0.5"), "", "in numbers was needed"),
    "two points": (lambda f: (f / "town.txt").write_text("0 0.5 0.5"), "", "three points or more"),
    "pixels for shares": (lambda f: (f / "town.txt").write_text("0 10 10 20 10 20 20"), "", "in shares"),
    "a mask outside": (lambda f: (f / "town.txt").write_text("../../x.png 26 0.5"), "", "a mask in its folder"),
    "an unscored mask": (lambda f: (f / "town.txt").write_text("x.png 26 1.5"), "", "a score of 0 to 1"),
    "an absent mask": (lambda f: (f / "town.txt").write_text("x.png 26 0.5"), "", "x.png"),
    "nothing": (lambda f: None, "", "holds neither dumps nor .txt files"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_instances_are_refused_in_one_line(kind, split, tmp_path):
    write, name, words = DAMAGED[kind]
    write(tmp_path)
    if (tmp_path / "town.txt").exists():
        (tmp_path / "town.txt").rename(tmp_path / f"{split.image_id(0)}.txt")
    with pytest.raises(InputError, match=words) as caught:  # some when it is opened, others when the image is read
        read_first(split, instances=tmp_path / name)
    assert "\n" not in str(caught.value)


def save(folder: Path, split: Split, array: np.ndarray, *, allow_pickle: bool = True) -> None:
    np.save(folder / f"{split.image_id(0)}.npy", array, allow_pickle=allow_pickle)


DAMAGED_SEMANTICS = {
    "colours": (lambda f, s: Image.new("RGB", (256, 128)).save(f / f"{s.image_id(0)}.png"), "not colours"),
    "another size": (lambda f, s: Image.new("L", (25, 12), 26).save(f / f"{s.image_id(0)}.png"), "made for 12x25, but"),
    "unknown classes": (
        lambda f, s: Image.new("L", (256, 128), 99).save(f / f"{s.image_id(0)}.png"),
        "class 99, but classes are",
    ),
    "a cut PNG": (lambda f, s: (f / f"{s.image_id(0)}.png").write_bytes(b"\x89PNG\r\n\x1a\n123"), "png"),
    "pickled objects": (lambda f, s: save(f, s, np.array([{"a": 1}], object)), r"is object \(1,\)"),
    "whole numbers": (lambda f, s: save(f, s, np.zeros((19, 32, 64), np.int64)), "floating-point"),
    "one channel": (lambda f, s: save(f, s, np.zeros((32, 64), np.float32)), r"\(C, h, w\) was needed"),
    "too few channels": (lambda f, s: save(f, s, np.full((7, 32, 64), 2.0)), "7 classes, but 19 of cityscapes"),
    "more than the image": (lambda f, s: save(f, s, np.full((19, 320, 640), 2.0)), "at most 128x256"),
    "NaN": (lambda f, s: save(f, s, np.full((19, 32, 64), np.nan)), "NaN"),
    "a cut array": (lambda f, s: (f / f"{s.image_id(0)}.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr'"), "broken array"),
    "an array without end": (
        lambda f, s: (f / f"{s.image_id(0)}.npy").write_bytes(
            b"\x93NUMPY\x01\x00v\x00"
            + b"{'descr': '<f4', 'fortran_order': False, 'shape': (19, 60000, 60000), }".ljust(117)
            + b"\n"
        ),
        "was needed",
    ),
    "no zip": (lambda f, s: (f / f"{s.image_id(0)}.npz").write_bytes(b"PK nothing"), "broken array"),
    "of no image": (
        lambda f, s: save(f, s, np.zeros(1)) or (f / f"{s.image_id(0)}.npy").rename(f / "x.npy"),
        "none of its files",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED_SEMANTICS)
def test_damaged_semantics_are_refused_in_one_line(kind, split, tmp_path):
    write, words = DAMAGED_SEMANTICS[kind]
    write(tmp_path, split)
    with pytest.raises(InputError, match=words) as caught:
        read_first(split, semantics=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_mask_of_another_size_is_refused(split, tmp_path):
    folder = write_cityscapes_masks(tmp_path / "city", split)
    mask = next(iter(sorted((folder / "masks").iterdir())))
    Image.new("L", (8, 8)).save(mask)
    predictor, _ = halves(split, folder)
    index = next(k for k in range(len(split)) if mask.name.startswith(split.image_id(k)))
    with pytest.raises(InputError, match="mask is 8x8, but a grey one of 128x256 was needed"):
        predictor.predict(split.image_id(index), split.image(index))


def test_an_image_without_its_file_is_named(split, tmp_path):
    for folder, half in (
        (write_cityscapes_masks(tmp_path / "city", split), "instances"),
        (write_class_maps(tmp_path / "maps", split), "semantics"),
        (write_probabilities(tmp_path / "p", split), "semantics"),
    ):
        next(folder.glob(f"{split.image_id(0)}.*")).unlink()
        instances, semantics = halves(split, **{half: folder})
        with pytest.raises(InputError, match=f"of image '{split.image_id(0)}'"):
            (instances if half == "instances" else semantics).predict(split.image_id(0), split.image(0))


def test_two_files_of_one_image_are_refused(split, tmp_path):
    folder = write_class_maps(tmp_path / "maps", split)
    (folder / f"{split.image_id(0)}_color.png").write_bytes((folder / f"{split.image_id(0)}.png").read_bytes())
    with pytest.raises(InputError, match="would both be image"):
        halves(split, semantics=folder)


def test_a_result_changes_with_its_file_its_classes_and_the_certainty_of_a_mask(split, tmp_path):
    path = write_results(tmp_path / "r.json", split)
    (tmp_path / "map.yaml").write_text(f"map: {json.dumps({int(k): 'car' for k in CITYSCAPES.dataset_ids})}\n")
    settings = ({}, {"instances_confidence": 5.0}, {"instances_classes": tmp_path / "map.yaml"})
    prints = [halves(split, path, **given)[0].fingerprint(split.image_id(0)) for given in settings]
    path.write_text(path.read_text().replace("1.0", "0.5"))
    assert len({*prints, halves(split, path)[0].fingerprint(split.image_id(0))}) == 4


def test_a_yolo_folder_reads_back_what_it_was_written_of(split, tmp_path):
    predictor, _ = halves(split, write_yolo_polygons(tmp_path / "yolo", split))
    found = [len(masks_of(predictor, split, index)) for index in range(len(split))]
    assert sum(found) > 0
    assert sum(found) <= sum(1 for _ in things(split))


def test_the_data_sets_own_instance_json_names_no_classes_of_another_tool(streets, tmp_path):
    """COCO's ids 27 and 3 are a backpack and a car; Cityscapes' 27 is a truck, as its own JSON says."""
    split = replace(open_data_set(streets), derived=tmp_path / "derived").split()
    split.ensure_instances_json()
    rle = {"size": [128, 256], "counts": [0, 128 * 256]}
    entries = [{"image_id": split.image_id(0), "category_id": k, "score": 1, "segmentation": rle} for k in (27, 3)]
    (tmp_path / "r.json").write_text(json.dumps(entries))
    instances, _ = halves(split, tmp_path / "r.json", instances_classes="coco-to-cityscapes")
    assert any("1 of 2 classes are left out, backpack" in text for text in instances.notes)
    assert [CITYSCAPES.categories[k].name for k, _ in masks_of(instances, split, 0)] == ["car"]


def test_a_class_that_the_semantics_do_not_know_wins_no_tie(split, tmp_path):
    for index in range(len(split)):
        np.save(tmp_path / f"{split.image_id(index)}.npy", np.full((1, 32, 64), 5, np.float32))
    (tmp_path / "map.yaml").write_text("map: {0: sky}\n")
    _, semantics = halves(split, semantics=tmp_path, semantics_classes=tmp_path / "map.yaml")
    found = semantics.predict(split.image_id(0), split.image(0)).semantic.logits
    assert CITYSCAPES.categories[np.argmax(found[:, 0, 0])].name == "sky"


def test_arrays_that_are_taken_for_something_else_are_others(split, tmp_path):
    folder = write_probabilities(tmp_path / "p", split)
    _, before = halves(split, semantics=folder)
    first = before.fingerprint(split.image_id(0))
    np.save(folder / f"{split.image_id(1)}.npy", 8 * np.load(folder / f"{split.image_id(1)}.npy"))
    _, after = halves(split, semantics=folder)
    assert after.fingerprint(split.image_id(0)) != first


def test_a_file_is_of_the_image_in_its_own_folder(tmp_path):
    class Folders(FileSplit):
        name = "two folders"

        def __len__(self):
            return 2

        def image_id(self, index):
            return "ab"[index] + "/x"

        def image_path(self, index):
            return Path(self.image_id(index) + ".png")

    for folder in "ab":
        write_image(tmp_path / folder / "x_pred.png", np.zeros((4, 4), np.uint8))
    found = FolderOfFiles(tmp_path, (".png",), Folders()).files
    assert {k: path.parent.name for k, path in found.items()} == {"a/x": "a", "b/x": "b"}
    (tmp_path / "a" / "x_pred.png").rename(tmp_path / "x_pred.png")
    with pytest.raises(InputError, match="could be of a/x, b/x; name the folders"):
        FolderOfFiles(tmp_path, (".png",), Folders())


def test_a_polygon_in_the_first_pixel_is_one(split, tmp_path):
    (tmp_path / f"{split.image_id(0)}.txt").write_text("13 0 0 0.003 0 0.003 0.006 0.9\n")
    instances, _ = halves(split, tmp_path)
    instances.predict(split.image_id(0), split.image(0))
    assert decode_crop([[0, 0, 1, 0, 1, 1, 0, 1]], (128, 256)) is not None


def test_empty_txt_files_do_not_hide_which_form_they_have(split, tmp_path):
    folder = write_cityscapes_masks(tmp_path / "city", split)
    for path in sorted(folder.glob("*.txt"))[:-1]:
        path.write_text("")
    instances, _ = halves(split, folder)
    last = next(k for k in range(len(split)) if split.image_id(k) == sorted(p.stem for p in folder.glob("*.txt"))[-1])
    assert masks_of(instances, split, last)


def test_0_is_void_under_a_class_map_that_says_nothing_of_it(split, tmp_path):
    folder = write_class_maps(tmp_path / "maps", split)
    ids = {int(c.dataset_id): c.name for c in CITYSCAPES.categories}
    (tmp_path / "map.yaml").write_text(f"map: {json.dumps(ids)}\n")
    _, semantics = halves(split, semantics=folder, semantics_classes=tmp_path / "map.yaml")
    found = semantics.predict(split.image_id(0), split.image(0)).semantic.train_ids
    assert np.array_equal(found, panoptic_to_semantic(split.truth(0), split.taxonomy))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"names_yaml": "x.yaml"}, "--class-names x.yaml: neither half reads it"),
        ({"images_json": "x.json"}, "--instances-images x.json: neither half reads it"),
        ({"instances_classes": "names"}, "--instances-classes is of instances, but there are none"),
        ({"instances_confidence": float("inf")}, "instances_confidence is inf"),
    ],
)
def test_settings_that_nothing_reads_are_refused(settings, words, split):
    with pytest.raises(InputError, match=words):
        halves(split, **settings)
