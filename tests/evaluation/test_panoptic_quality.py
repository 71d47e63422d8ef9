"""Panoptic quality on drawn scenes, whose expectations are counted by eye, and on random ones against the official code."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from data.panoptic_file import read_panoptic_json, read_panoptic_map, write_panoptic_json
from data.panoptic_png import PanopticMap, Segment, describe_segments, ids_to_rgb, read_segment_runs, write_segment_ids
from data.row_runs import RowRuns
from evaluation.file_scores import evaluate_files
from evaluation.panoptic_quality import ImageMatches, PanopticQuality, format_table, match_segments
from runtime.files import InputError


def score(taxonomy, truth, prediction):
    quality = PanopticQuality()
    quality.add(truth, prediction)
    return quality.scores(taxonomy)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_parts_merge_to_the_last_bit_of_one_process(count):
    rng = np.random.default_rng(count)
    images = [ImageMatches(((1, 1, 26, float(rng.uniform(0.5, 1))),), (24,) * int(k % 3 == 0), ()) for k in range(2000)]
    one = PanopticQuality()
    for image in images:
        one.add_matches(image)
    assert PanopticQuality.merge(list(enumerate(images))[k::count] for k in range(count)) == one
    if count > 1:
        sums = [PanopticQuality.merge([list(enumerate(images))[k::count]]).counts[26].iou_sum for k in range(count)]
        assert sum(sums) != one.counts[26].iou_sum  # what adding up the parts' sums would give
    with pytest.raises(InputError, match="image 5 was counted twice"):
        PanopticQuality.merge([[(5, images[0])], [(4, images[1]), (5, images[0])]])


def test_void_of_the_truth_leaves_the_union(draw, toy):
    truth = draw("rra", "rra", "..a")
    guess = draw("rra", "rra", "r.a")  # one road pixel too many, and it lies on void
    assert score(toy, truth, guess)["per_class"]["road"]["iou_sum"] == 4 / (4 + 5 - 4 - 1)


def test_a_hole_of_void_in_the_prediction_costs_iou(draw, toy):
    truth = draw("rrrr", "rrrr")
    guess = draw("rrr.", "rrr.")
    entry = score(toy, truth, guess)["per_class"]["road"]
    assert (entry["tp"], entry["fp"], entry["fn"], entry["sq"]) == (1, 0, 0, 6 / 8)


def test_an_iou_of_one_half_is_no_match(draw, toy):
    truth = draw("aaaa", "ssss")
    guess = draw("aass", "ssss")  # 2 / 4
    entry = score(toy, truth, guess)["per_class"]["car"]
    assert (entry["tp"], entry["fp"], entry["fn"]) == (0, 1, 1)
    assert (entry["pq"], entry["sq"], entry["rq"]) == (0, 0, 0)


def test_the_right_place_with_the_wrong_class_is_both_missed_and_invented(draw, toy):
    entries = score(toy, draw("aass"), draw("ppss"))["per_class"]
    assert (entries["car"]["fn"], entries["car"]["fp"]) == (1, 0)
    assert (entries["person"]["fn"], entries["person"]["fp"]) == (0, 1)


def test_pq_is_sq_times_rq_over_the_classes_that_occur(draw, toy):
    truth = draw("aabb", "aass", "ssss")
    guess = draw("aa.s", "aass", "ssss")  # car a found, b missed; sky has one pixel too many, on b
    scores = score(toy, truth, guess)
    assert scores["Things"] == {"pq": 1 / 1.5, "sq": 1.0, "rq": 1 / 1.5, "n": 1}
    sky = 6 / 7
    assert scores["Stuff"] == {"pq": sky, "sq": sky, "rq": 1.0, "n": 1}
    assert scores["All"]["pq"] == (sky + 1 / 1.5) / 2
    assert scores["All"]["n"] == 2


def test_the_truths_crowd_is_never_missed_and_forgives_its_class(draw, toy):
    truth = draw("CCCC", "ssss")
    assert score(toy, truth, draw("....", "ssss"))["per_class"]["car"] == score(toy, truth, truth)["per_class"]["car"]
    forgiven = score(toy, truth, draw("aabb", "ssss"))["per_class"]["car"]
    assert (forgiven["tp"], forgiven["fp"], forgiven["fn"]) == (0, 0, 0)
    of_another_class = score(toy, truth, draw("pp..", "ssss"))["per_class"]["person"]
    assert of_another_class["fp"] == 1


def test_half_on_crowd_is_not_enough_to_be_forgiven(draw, toy):
    truth = draw("CCss", "ssss")
    assert score(toy, truth, draw(".aa.", "ssss"))["per_class"]["car"]["fp"] == 1
    assert score(toy, truth, draw("aaa.", "ssss"))["per_class"]["car"]["fp"] == 0


def test_of_two_crowds_of_a_class_the_last_one_listed_counts_alone(draw, toy):
    truth = draw("CCDD", "ssss")
    guess = draw("aa..", "ssss")  # wholly on C
    assert [s.segment_id for s in truth.segments if s.is_crowd] == [26, 27]
    assert score(toy, truth, guess)["per_class"]["car"]["fp"] == 1
    swapped = PanopticMap(truth.segment_ids, truth.segments[::-1])
    assert score(toy, swapped, guess)["per_class"]["car"]["fp"] == 0


def test_listed_areas_are_not_believed(draw, toy):
    truth, guess = draw("aab", "aab"), draw("aab", "abb")
    lying = PanopticMap(
        truth.segment_ids, tuple(Segment(s.segment_id, s.category_id, 9999, s.bbox, s.is_crowd) for s in truth.segments)
    )
    assert score(toy, lying, guess) == score(toy, truth, guess)


def test_the_order_of_predicted_segments_changes_nothing(draw, toy):
    truth, guess = draw("aabbp", "aabbp", "ssrrp"), draw("aaabp", "aabbp", "ssrrr")
    assert score(toy, truth, PanopticMap(guess.segment_ids, guess.segments[::-1])) == score(toy, truth, guess)


def test_a_group_without_a_class_is_not_available(draw, toy):
    scores = score(toy, draw("rrss"), draw("rrss"))
    assert scores["Things"] == {"pq": None, "sq": None, "rq": None, "n": 0}
    assert scores["Stuff"]["pq"] == 1
    things = next(line for line in format_table(scores).splitlines() if line.startswith("Things"))
    assert things.split() == ["Things", "n/a", "n/a", "n/a", "0"]
    json.dumps(scores, allow_nan=False)


def test_an_image_of_void_scores_nothing(draw, toy):
    image = match_segments(draw("...", "..."), draw("...", "..."))
    assert image.pq is None
    assert PanopticQuality().scores(toy)["All"]["n"] == 0


def test_sizes_that_differ_are_refused(draw):
    with pytest.raises(InputError, match="2x3 and 2x4 pixels; resize the prediction"):
        match_segments(draw("aab", "aab"), draw("aabb", "aabb"))


def test_an_id_without_a_segment_is_refused(draw):
    truth = draw("aab", "aab")
    with pytest.raises(InputError, match=r"prediction: segment ids 26001 are in the PNG, but not in the list"):
        match_segments(truth, PanopticMap(truth.segment_ids, truth.segments[:1]))


def test_a_category_outside_the_taxonomy_is_refused(draw, toy):
    truth = draw("aab", "aab")
    strange = PanopticMap(truth.segment_ids, tuple(Segment(s.segment_id, 99, s.area, s.bbox) for s in truth.segments))
    with pytest.raises(InputError, match=r"category ids \[99\] were counted, but taxonomy toy has none"):
        score(toy, strange, strange)


def random_map(rng: np.random.Generator, base: PanopticMap | None) -> PanopticMap:
    """Rectangles of random classes on void or on a shifted copy of `base`, listed in random order.

    Without a base it is a truth, with up to six crowds; else a prediction with missing, extra and wrongly named segments.
    """
    if base is None:
        ids, categories = np.zeros((24, 32), dtype=np.uint32), {}
    else:
        ids = np.roll(base.segment_ids, rng.integers(-1, 2, 2), (0, 1))
        categories = {s.segment_id: s.category_id for s in base.segments}
        for segment_id in list(categories):
            fate = rng.random()
            if fate < 0.1:
                ids[ids == segment_id] = 0
            elif fate < 0.25:
                categories[segment_id] = int(rng.choice([7, 23, 24, 26]))
    for _ in range(rng.integers(2, 12) if base is None else rng.integers(0, 4)):
        y, x, h, w = rng.integers(0, 20), rng.integers(0, 26), rng.integers(2, 16), rng.integers(2, 16)
        segment_id = int(rng.choice([0, rng.integers(1, 300), rng.integers(1, 2**24)]))
        ids[y : y + h, x : x + w] = segment_id
        categories.setdefault(segment_id, int(rng.choice([7, 23, 24, 26])))
    is_crowd = {i: base is None and rng.random() < 0.5 and categories[i] in (24, 26) for i in categories}
    segments = list(describe_segments(ids, categories.get, is_crowd.get))
    if base is not None and (ids == 0).any() and rng.random() < 0.1:  # seen in real files: a listed segment of id 0
        segments.append(Segment(0, 26, int((ids == 0).sum()), (0, 0, 32, 24)))
    return PanopticMap(ids, tuple(segments[k] for k in rng.permutation(len(segments))))


NUM_SCENES = 240


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(0)
    truths = [random_map(rng, None) for _ in range(NUM_SCENES)]
    return truths, [random_map(rng, truth) for truth in truths]


@pytest.fixture(scope="module")
def scene_files(scenes, toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    for name, maps in zip(("truth", "prediction"), scenes):
        (folder / name).mkdir()
        for k, panoptic in enumerate(maps):
            Image.fromarray(ids_to_rgb(panoptic.segment_ids)).save(folder / name / f"{k}.png")
        entries = ((f"scene{k}", f"{k}.jpg", f"{k}.png", (24, 32), panoptic.segments) for k, panoptic in enumerate(maps))
        write_panoptic_json(folder / f"{name}.json", toy, entries)
    return read_panoptic_json(folder / "truth.json"), read_panoptic_json(folder / "prediction.json", is_prediction=True)


@pytest.mark.parity
def test_random_scenes_are_counted_as_the_official_evaluator_counts_them(scenes, scene_files, toy):
    from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import pq_compute_single_core

    truth, prediction = scene_files
    contents = [json.loads(file.json_path.read_text()) for file in (truth, prediction)]
    pairs = list(zip(contents[0]["annotations"], contents[1]["annotations"]))
    categories = {entry["id"]: entry for entry in contents[0]["categories"]}
    with contextlib.redirect_stdout(io.StringIO()):
        official = pq_compute_single_core(0, pairs, truth.folder, prediction.folder, categories)

    quality = PanopticQuality()
    for pair in zip(*scenes):
        quality.add(*pair)
    ours = {i: (c.iou_sum, c.tp, c.fp, c.fn) for i, c in quality.counts.items()}
    theirs = {i: (float(c.iou), c.tp, c.fp, c.fn) for i, c in official.pq_per_cat.items()}
    assert ours == theirs  # to the last bit

    scores = evaluate_files(truth, prediction).scores
    for name, is_thing in (("All", None), ("Things", True), ("Stuff", False)):
        assert scores[name] == official.pq_average(categories, is_thing)[0]
    # The scenes hold what they are meant to hold.
    assert all(min(c[1:]) > 20 for c in ours.values())
    several = [t for t in scenes[0] if sum(s.is_crowd and s.category_id == 26 for s in t.segments) > 1]
    assert len(several) > 20
    assert sum(any(s.segment_id == 0 for s in p.segments) for p in scenes[1]) > 5


@pytest.mark.parametrize("writer", ["pillow", "ours"])
def test_enlarged_scenes_which_are_read_as_runs_have_the_same_scores(scenes, scene_files, toy, tmp_path, writer):
    # All areas are 16 * 24 times as large, so that each IoU is the same number.
    num = 60
    for name, maps in zip(("truth", "prediction"), scenes):
        entries = []
        for k, panoptic in enumerate(maps[:num]):
            ids = np.kron(panoptic.segment_ids, np.ones((16, 24), np.uint32))
            path = tmp_path / name / f"{k}.png"
            path.parent.mkdir(exist_ok=True)
            if writer == "pillow":
                Image.fromarray(ids_to_rgb(ids)).save(path)
            else:
                write_segment_ids(path, ids)
            assert isinstance(read_segment_runs(path), RowRuns)
            entries.append((f"scene{k}", f"{k}.jpg", path.name, ids.shape, panoptic.segments))
        write_panoptic_json(tmp_path / f"{name}.json", toy, entries)
    enlarged = [
        read_panoptic_json(tmp_path / f"{name}.json", is_prediction=name == "prediction") for name in ("truth", "prediction")
    ]
    first = [replace(file, annotations=dict(list(file.annotations.items())[:num])) for file in scene_files]
    assert evaluate_files(*enlarged).scores == evaluate_files(*first).scores


def test_the_number_of_workers_does_not_change_a_bit(scene_files):
    assert evaluate_files(*scene_files, workers=2) == evaluate_files(*scene_files, workers=1)


def test_progress_counts_every_image(scene_files):
    calls = []
    evaluate_files(*scene_files, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(k + 1, NUM_SCENES) for k in range(NUM_SCENES)]


def test_without_kinds_the_scores_are_the_same(scene_files):
    plain = evaluate_files(*scene_files, with_kinds=False)
    full = evaluate_files(*scene_files)
    assert (plain.scores, plain.image_pq) == (full.scores, full.image_pq)
    assert plain.kinds is None
    outcomes = []
    evaluate_files(*scene_files, each=lambda image_id, matches, found, looked: outcomes.append(found), with_kinds=False)
    assert outcomes == [()] * NUM_SCENES


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_looked_at_is_the_image_and_comes_back_in_order(scene_files, workers):
    def inspect(comparison):
        for file, panoptic in zip(scene_files, (comparison.truth, comparison.prediction)):
            assert np.array_equal(panoptic.segment_ids, read_panoptic_map(file, comparison.image_id).segment_ids)
            assert [s.segment_id for s in panoptic.segments] == [
                s.segment_id for s in file.annotations[comparison.image_id].segments
            ]
        assert sum(comparison.overlaps.values()) == comparison.truth.segment_ids.size
        return comparison.image_id, comparison.matches, comparison.outcomes

    found = []
    evaluate_files(*scene_files, workers, each=lambda *image: found.append(image), inspect=inspect)
    assert [image[0] for image in found] == list(scene_files[0].annotations)
    assert all(image[:3] == image[3] for image in found)


def write_files(folder, name, taxonomy, maps):
    for image_id, panoptic in maps.items():
        write_segment_ids(folder / name / f"{image_id}.png", panoptic.segment_ids)
    entries = [(i, f"{i}.jpg", f"{i}.png", panoptic.segment_ids.shape, panoptic.segments) for i, panoptic in maps.items()]
    write_panoptic_json(folder / f"{name}.json", taxonomy, entries)
    return read_panoptic_json(folder / f"{name}.json")


def test_an_image_without_prediction_is_named(tmp_path, draw, toy):
    scene = draw("aab", "aab")
    truth = write_files(tmp_path, "truth", toy, {"first": scene, "second": scene, "third": scene})
    prediction = write_files(tmp_path, "prediction", toy, {"first": scene})
    with pytest.raises(InputError, match=r"prediction.json: no prediction for image 'second' and 1 more; predict every image"):
        evaluate_files(truth, prediction)
    assert evaluate_files(prediction, truth).scores["All"]["pq"] == 1  # predictions of other images do no harm


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_of_another_size_is_named(tmp_path, draw, toy, workers):
    truth = write_files(tmp_path, "truth", toy, {"first": draw("aab", "aab")})
    prediction = write_files(tmp_path, "prediction", toy, {"first": draw("aa", "aa")})
    with pytest.raises(InputError, match="image 'first': truth and prediction are 2x3 and 2x2 pixels"):
        evaluate_files(truth, prediction, workers)


def test_another_taxonomy_is_refused(tmp_path, draw, toy):
    scene = draw("aab", "aab")
    truth = write_files(tmp_path, "truth", toy, {"first": scene})
    renamed = type(toy)("other", tuple(type(c)(c.name + "!", c.dataset_id, c.is_thing, c.color) for c in toy.categories))
    with pytest.raises(InputError, match=r"category id 26 is 'car!', but 'car' in .*truth\.json; use the same taxonomy"):
        evaluate_files(truth, write_files(tmp_path, "prediction", renamed, {"first": scene}))
    by_train_id = toy.with_train_ids()
    segments = tuple(Segment(s.segment_id, 3, s.area, s.bbox) for s in scene.segments)
    prediction = write_files(tmp_path, "train_ids", by_train_id, {"first": PanopticMap(scene.segment_ids, segments)})
    with pytest.raises(InputError, match=r"category ids \[3\], but the truth .* has \[7, 23, 24, 26\]"):
        evaluate_files(truth, prediction)


def test_the_real_coco_sample_scores_the_published_numbers(samples):
    folder = samples / "coco_eval"
    truth = read_panoptic_json(folder / "coco_gt.json")
    scores = evaluate_files(truth, read_panoptic_json(folder / "coco_pred.json", is_prediction=True)).scores
    assert {k: round(v, 10) for k, v in scores["All"].items()} == {
        "pq": 0.6740486629,
        "sq": 0.6834387674,
        "rq": 0.8205128205,
        "n": 6,
    }
    assert (round(scores["Things"]["pq"], 10), scores["Things"]["n"]) == (0.5769675073, 4)
    assert (round(scores["Stuff"]["pq"], 10), scores["Stuff"]["n"]) == (0.8682109740, 2)


@pytest.mark.parity
def test_the_real_coco_sample_agrees_with_the_official_command(samples, tmp_path):
    from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import evaluatePanoptic

    truth = read_panoptic_json(samples / "coco_eval" / "coco_gt.json")
    prediction = read_panoptic_json(samples / "coco_eval" / "coco_pred.json", is_prediction=True)
    paths = [str(p) for file in (truth, prediction) for p in (file.json_path, file.folder)]
    with contextlib.redirect_stdout(io.StringIO()):
        official = evaluatePanoptic(*paths, str(tmp_path / "official.json"))
    scores = evaluate_files(truth, prediction).scores
    for name in ("All", "Things", "Stuff"):
        # It adds up in an order that depends on the number of cores: four images, so a few units in the last place.
        assert scores[name] == pytest.approx(official[name], rel=1e-14)


def test_the_real_street_against_itself_is_perfect(samples):
    file = read_panoptic_json(samples / "street" / "cityscapes_panoptic_dummy_trainId.json")
    assert file.taxonomy.name == "cityscapes_trainId"
    panoptic = read_panoptic_map(file, "dummy_000000_000000")
    assert int((panoptic.segment_ids == 0).sum()) == 571
    scores = evaluate_files(file, file).scores
    assert [scores[name]["pq"] for name in ("All", "Things", "Stuff")] == [1, 1, 1]
    assert scores["per_class"]["car"]["tp"] == 5  # the sixth segment of cars is a crowd
