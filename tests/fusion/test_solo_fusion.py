"""The fusion command on a tiny Streets: its results, its inputs, its errors."""

import ast
import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

import prediction.fused
from data.images import path_to_image_id
from data.instance_dump import read_instances, write_instances
from data.layouts.cityscapes import CityscapesSplit, find_images, read_truth, write_instances_json
from data.panoptic_png import read_panoptic_png, read_segment_ids
from data.semantic_dump import write_semantic
from data.targets import panoptic_to_instance_logits, panoptic_to_instances, panoptic_to_semantic_logits
from data.taxonomy import CITYSCAPES
from detection.instance_head import InstanceHeadSettings
from fusion.logit_fusion import fuse
from fusion.settings import DEFAULT_MIN_SCORE, FusionSettings
from fusion.solo_fusion import build_parser, main, predictor_of, run
from prediction.fused import FusedPredictor, LogitRule
from prediction.run import Run, predict_split
from prediction.score import score
from prediction.sources.truth import Truth
from runtime.command_line import current_spelling

REPOSITORY = Path(__file__).parents[2]
HEAD = {"anchor_sizes": (16, 24, 32, 48), "box_channels": 16, "mask_channels": 16}
FIRST_IMAGE = "lindenthal_000000_010005"


@pytest.fixture(scope="module")
def dumps(streets, tmp_path_factory) -> Path:
    """Truth masks and semantics of Streets' val as dumps, instances/ and semantics/."""
    folder = tmp_path_factory.mktemp("dumps")
    for image in find_images(streets, "val"):
        options = {"image_id": image.image_id, "stride": 4, "producer": "truth"}
        write_instances(folder / "instances", panoptic_to_instance_logits(read_truth(image), CITYSCAPES, **options))
        write_semantic(folder / "semantics", panoptic_to_semantic_logits(read_truth(image), CITYSCAPES, **options))
    return folder


@pytest.fixture(scope="module")
def checkpoint(write_checkpoint, tmp_path_factory) -> Path:
    """The semantic model with random weights."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.ckpt")


@pytest.fixture(scope="module")
def joint_checkpoint(write_checkpoint, tmp_path_factory) -> Path:
    """The original EfficientPS with random weights; its scores are all near 1 / 9, and worth fusing from 0.1 on."""
    head = InstanceHeadSettings(**HEAD, score_threshold=0.1)
    return write_checkpoint(tmp_path_factory.mktemp("joint") / "best.ckpt", instance_head=head)


def parse(*arguments: str | Path):
    return build_parser().parse_args(current_spelling([str(a) for a in arguments]))


def fuse_with(output: Path, *arguments: str | Path) -> dict:
    """Run the command in this process; return its scores, if it has any."""
    run(parse("--output", output, *arguments))
    scores = output / "scores.json"
    return json.loads(scores.read_text()) if scores.exists() else {}


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files but run.json and results.md, which name the command and the date."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in ("run.json", "results.md")]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def min_score_of(streets: Path, *arguments: str | Path) -> float:
    """From which score on the command would fuse instances."""
    split = CityscapesSplit(streets, "val")
    return predictor_of(parse("--data-root", streets, *arguments), split).min_score


def test_truth_at_stride_1_without_area_limits_gives_pq_100(streets, tmp_path):
    split = CityscapesSplit(streets, "val")
    truth = Truth(split, stride=1)
    fused = FusedPredictor(truth, truth, LogitRule(FusionSettings(min_stuff_area=0)))
    quality = score(predict_split(split, fused, tmp_path), split).quality
    assert quality["All"]["pq"] == 1.0
    assert quality["All"]["n"] >= 15


def test_truth_at_stride_4_is_the_ceiling_of_the_rule_below_100(streets, tmp_path):
    scores = fuse_with(tmp_path, "--data-root", streets, "--instances", "truth", "--semantics", "truth")
    assert 0.5 < scores["All"]["pq"] < 1.0


def test_dumps_give_what_the_same_logits_in_memory_give(streets, dumps, tmp_path):
    common = ("--data-root", streets)
    fuse_with(tmp_path / "memory", *common, "--instances", "truth", "--semantics", "truth")
    fuse_with(tmp_path / "dumps", *common, "--instances", dumps / "instances", "--semantics", "truth")
    memory, dumped = (json.loads((tmp_path / n / "panoptic.json").read_text())["annotations"] for n in ("memory", "dumps"))
    assert memory == dumped


def test_a_coco_result_json_of_another_framework_is_stage_1(streets, tmp_path):
    images_json = write_instances_json(streets, "val")
    number_of = {path_to_image_id(image["file_name"]): image["id"] for image in json.loads(images_json.read_text())["images"]}
    results = []
    for image in find_images(streets, "val"):
        masks, train_ids, _ = panoptic_to_instances(read_truth(image), CITYSCAPES)
        for mask, train_id in zip(masks, train_ids, strict=True):
            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            entry = {"image_id": number_of[image.image_id], "category_id": int(CITYSCAPES.dataset_ids[train_id]), "score": 0.9}
            results.append(entry | {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}})
    (tmp_path / "results.json").write_text(json.dumps(results))
    options = ("--data-root", streets, "--semantics", "truth", "--fusion.min_stuff_area", "0")
    from_json = fuse_with(tmp_path / "json", *options, "--instances", tmp_path / "results.json")
    from_dumps = fuse_with(tmp_path / "truth", *options, "--instances", "truth")
    assert from_json["Things"]["pq"] > 0.95  # full-resolution masks, and stride-4 semantics
    assert from_json["Things"]["pq"] > from_dumps["Things"]["pq"]


def test_images_of_any_size_go_through_the_live_model(checkpoint, tmp_path):
    sizes = {"wide": (375, 1242), "square": (800, 800), "tiny": (31, 33)}
    (tmp_path / "images").mkdir()
    for name, size in sizes.items():
        noise = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"images/{name}.jpg")
    scores = fuse_with(
        tmp_path / "out", "--images", tmp_path / "images", "--instances", "none", "--checkpoint", checkpoint, "--device", "cpu"
    )
    assert scores == {}
    for name, size in sizes.items():
        assert np.asarray(Image.open(tmp_path / f"out/panoptic/{name}_panoptic.png")).shape == (*size, 3)


def test_a_second_run_reuses_what_is_done_and_other_settings_do_not(streets, dumps, tmp_path):
    options = ("--data-root", streets, "--instances", dumps / "instances", "--semantics", dumps / "semantics")
    fuse_with(tmp_path, *options)
    png = next((tmp_path / "panoptic").iterdir())
    written = png.stat().st_mtime_ns
    fuse_with(tmp_path, *options)
    assert png.stat().st_mtime_ns == written
    fuse_with(tmp_path, *options, "--min-score", "0.4")
    assert png.stat().st_mtime_ns > written


def test_workers_and_the_engine_change_the_time_but_not_a_byte(streets, dumps, tmp_path, monkeypatch):
    given = ("--data-root", streets, "--instances", dumps / "instances", "--semantics", dumps / "semantics")
    fuse_with(tmp_path / "one", *given, "--workers", "1")
    fuse_with(tmp_path / "four", *given, "--workers", "4")
    monkeypatch.setattr(prediction.fused, "fuse", partial(fuse, engine="torch"))
    fuse_with(tmp_path / "torch", *given, "--workers", "2")
    expected = contents(tmp_path / "one")
    assert len(expected) == 8  # six PNGs, their JSON, the scores
    assert contents(tmp_path / "four") == expected
    assert contents(tmp_path / "torch") == expected


def test_both_predictions_of_the_original_are_fused_saved_and_fused_again_from_the_dumps(streets, joint_checkpoint, tmp_path):
    limits = ("--data-root", streets, "--min-score", "0.0", "--workers", "3")
    saved = ("--save-semantics", tmp_path / "s", "--save-instances", tmp_path / "i")
    live = fuse_with(tmp_path / "live", "--instances", "model", "--checkpoint", joint_checkpoint, *limits, *saved)
    assert sum(len(read_instances(tmp_path / "i", f.image_id, CITYSCAPES)) for f in find_images(streets, "val")) > 0
    again = fuse_with(tmp_path / "again", "--instances", tmp_path / "i", "--semantics", tmp_path / "s", *limits)
    # The dumps hold float16: single pixels may change sides.
    assert again["All"]["pq"] == pytest.approx(live["All"]["pq"], abs=0.02)
    ids = [read_segment_ids(tmp_path / run / "panoptic" / f"{FIRST_IMAGE}_panoptic.png") for run in ("live", "again")]
    assert (ids[0] == ids[1]).mean() > 0.99


def test_a_checkpoint_for_both_halves_runs_once_an_image_and_each_half_may_be_another(streets, checkpoint, joint_checkpoint):
    split = CityscapesSplit(streets, "val")
    same = predictor_of(parse("--instances", "model", "--checkpoint", joint_checkpoint), split)
    assert same.instances is same.semantics
    two = predictor_of(parse("--instances", joint_checkpoint, "--semantics", checkpoint), split)
    assert two.instances.fingerprint("a") != two.semantics.fingerprint("a")
    assert two.instances.fingerprint("a") == same.instances.fingerprint("a")


def test_a_run_folder_is_a_source_of_both_halves(streets, dumps, tmp_path):
    given = ("--data-root", streets, "--instances", dumps / "instances", "--semantics", dumps / "semantics")
    fuse_with(tmp_path / "first", *given, "--keep", "panoptic", "instances", "semantic")
    fuse_with(tmp_path / "second", "--data-root", streets, "--instances", tmp_path / "first", "--semantics", tmp_path / "first")
    first, second = contents(tmp_path / "first"), contents(tmp_path / "second")
    assert first["panoptic.json"] == second["panoptic.json"]


def test_without_instances_each_region_of_a_thing_class_is_an_object(streets, tmp_path):
    fuse_with(tmp_path, "--data-root", streets, "--instances", "none", "--semantics", "truth", "--fusion.min_stuff_area", "0")
    found, truth = (
        read_panoptic_png(Run.open(tmp_path).png(FIRST_IMAGE)),
        CityscapesSplit(streets, "val").truth(CityscapesSplit(streets, "val").index_of[FIRST_IMAGE]),
    )
    things = {int(CITYSCAPES.dataset_ids[train_id]) for train_id in CITYSCAPES.thing_ids}
    assert {s.category_id for s in found.segments} & things == {s.category_id for s in truth.segments} & things


def test_the_merge_of_panoptic_fpn_is_another_rule(streets, tmp_path):
    given = ("--data-root", streets, "--instances", "truth", "--semantics", "truth")
    scores = fuse_with(tmp_path / "merge", *given, "--rule", "merge", "--merging.min_stuff_area", "0")
    assert 0.5 < scores["All"]["pq"] < 1.0
    fuse_with(tmp_path / "logits", *given, "--fusion.min_stuff_area", "0")
    png = f"panoptic/{FIRST_IMAGE}_panoptic.png"
    assert contents(tmp_path / "merge")[png] != contents(tmp_path / "logits")[png]


def test_the_least_score_is_the_instance_models_own_unless_the_user_gives_one(
    streets, dumps, checkpoint, joint_checkpoint, tmp_path
):
    semantics = ("--semantics", dumps / "semantics")
    model = ("--instances", "model", "--checkpoint", joint_checkpoint)
    assert min_score_of(streets, *model) == 0.1
    assert min_score_of(streets, *model, "--min-score", "0.6") == 0.6
    assert min_score_of(streets, *model, "--fusion.min_score", "0.6") == 0.6
    # A run says what suits its instances, a bare folder of dumps does not.
    fuse_with(tmp_path, "--data-root", streets, *model, "--keep", "instances")
    assert min_score_of(streets, "--instances", tmp_path, *semantics) == 0.1
    assert min_score_of(streets, "--instances", dumps / "instances", *semantics) == DEFAULT_MIN_SCORE
    assert min_score_of(streets, "--instances", "none", "--checkpoint", checkpoint) == DEFAULT_MIN_SCORE


def test_halves_of_different_classes_are_refused_in_one_line(write_checkpoint, checkpoint, streets, tmp_path, fails_in_one_line):
    head = InstanceHeadSettings(**HEAD)
    other = write_checkpoint(tmp_path / "other.ckpt", CITYSCAPES.with_train_ids(), instance_head=head)
    image = find_images(streets, "val")[0].image_path
    output = ("--output", tmp_path / "out", "--device", "cpu")
    line = fails_in_one_line(main, "--images", image, "--instances", other, "--checkpoint", checkpoint, *output)
    assert "different classes, 'road' (id 0, stuff) against 'road' (id 7, stuff)" in line
    line = fails_in_one_line(main, "--data-root", streets, "--instances", "model", "--checkpoint", other, *output)
    assert "the model knows other classes, 'road' (id 0, stuff) against 'road' (id 7, stuff)" in line
    assert not (tmp_path / "out").exists()


def test_saved_semantics_are_reused_too_and_give_the_same_result(streets, checkpoint, tmp_path):
    saved = tmp_path / "semantics"
    live = ("--data-root", streets, "--instances", "truth", "--checkpoint", checkpoint, "--device", "cpu")
    scores = fuse_with(tmp_path / "live", *live, "--save-semantics", saved)
    written = {path: path.stat().st_mtime_ns for path in [*saved.glob("*.safetensors"), *(tmp_path / "live/panoptic").iterdir()]}
    assert fuse_with(tmp_path / "live", *live, "--save-semantics", saved) == scores
    assert {path: path.stat().st_mtime_ns for path in written} == written
    from_dumps = fuse_with(tmp_path / "dumps", "--data-root", streets, "--instances", "truth", "--semantics", saved)
    assert from_dumps["All"]["pq"] == pytest.approx(scores["All"]["pq"], abs=0.01)  # float16 instead of float32


def test_other_views_of_the_live_model_are_fused_anew_and_saved_anew(streets, checkpoint, tmp_path):
    live = ("--data-root", streets, "--instances", "truth", "--checkpoint", checkpoint, "--device", "cpu")
    live += ("--save-semantics", tmp_path / "semantics")
    written = []
    for views in ((), ("--tta.scales", "[1.0]"), ("--tta.scales", "[0.5, 1]", "--tta.flip", "true")):
        fuse_with(tmp_path / "out", *live, *views)
        written.append({p: p.stat().st_mtime_ns for p in [*tmp_path.rglob("*.png"), *tmp_path.rglob("*.safetensors")]})
    assert len(written[0]) == 12
    assert written[0] == written[1]  # the same settings in other words
    assert all(written[2][path] > moment for path, moment in written[1].items())


def test_a_failing_command_prints_one_line_and_no_traceback(tmp_path, run_command):
    result = run_command("fusion/solo_fusion.py", "--data-root", tmp_path, "--output", tmp_path / "out")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("more", [(), ("--save-semantics", "semantics")], ids=["png", "dump"])
def test_a_full_disk_is_one_line_and_leaves_no_half_written_file(streets, dumps, tmp_path, more):
    command = [sys.executable, REPOSITORY / "fusion/solo_fusion.py", "--data-root", streets, "--output", tmp_path / "out", *more]
    command += ["--instances", dumps / "instances", "--semantics", dumps / "semantics"]
    # No file may grow beyond 1 KiB: the kernel then refuses to write, as on a full disk.
    limited = ["bash", "-c", 'ulimit -f 1; exec "$@"', "_", *(str(word) for word in command)]
    result = subprocess.run(limited, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1
    assert [line for line in result.stderr.splitlines() if line.startswith("error: ") and "File too large" in line]
    assert "Traceback" not in result.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_bad_input_is_one_line_and_writes_nothing(streets, dumps, checkpoint, tmp_path, fails_in_one_line):
    first = sorted((dumps / "instances").iterdir())[0]
    broken = tmp_path / "broken"
    shutil.copytree(dumps / "instances", broken)
    (broken / first.name).write_bytes(first.read_bytes()[:-20])
    (tmp_path / "empty").mkdir()
    (tmp_path / "truncated.ckpt").write_bytes(checkpoint.read_bytes()[:5000])
    torch.save({"model": {}}, tmp_path / "other.ckpt")
    known = {"--data-root": streets, "--instances": dumps / "instances", "--semantics": dumps / "semantics"}
    cases = [
        ({"--instances": broken}, "broken instance-dump"),
        ({"--instances": tmp_path / "empty"}, "holds neither dumps nor .txt files"),
        ({"--instances": tmp_path / "nowhere"}, "is not there; give a folder, a checkpoint"),
        ({"--semantics": "model", "--checkpoint": tmp_path / "truncated.ckpt"}, "broken checkpoint"),
        (
            {"--semantics": "model", "--checkpoint": tmp_path / "other.ckpt"},
            "no checkpoint of efficientps, panoptic_fpn, pan_secb or solov2",
        ),
        ({"--semantics": "model", "--checkpoint": tmp_path / "absent.ckpt"}, "no such checkpoint; train a model first"),
        ({"--data-root": tmp_path / "empty"}, "no known layout is there"),
        ({"--split": "nosuch"}, "nosuch"),
        ({"--device": "cuda:77"}, "cannot be used here"),
        ({"--fusion.variant": "mine"}, "--fusion.variant mine: one of 'paper', 'official' is needed"),
        ({"--tta.scales": "[0, 1]"}, "factors above 0 and up to 8 are needed"),
        ({"--tta.scales": "[]"}, "factors above 0 and up to 8 are needed"),
        ({"--tta.flip": "true"}, "--tta is of a live model"),
    ]
    for change, words in cases:
        options = [word for pair in (known | change).items() for word in pair]
        line = fails_in_one_line(main, "--output", tmp_path / "out", *options)
        assert words in line
        assert not (tmp_path / "out" / "panoptic.json").exists()


def test_readmes_lines_of_python_run_as_they_stand(streets, joint_checkpoint, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) == 5
    split = CityscapesSplit(streets, "val")
    for name in ("outputs/solov2/streets_lite0", "outputs/efficientps/streets_lite0"):
        assert name in code
        code = code.replace(name, str(joint_checkpoint.parent))
    exec(code.replace("street.jpg", str(split.image_path(0))), {})
    segments = ast.literal_eval(capsys.readouterr().out.strip())
    assert segments
    assert {name for name, _ in segments} <= {category.name for category in CITYSCAPES.categories}


def test_a_model_works_in_tiles_and_dumps_do_not(streets, dumps, checkpoint, tmp_path, fails_in_one_line):
    data = ("--data-root", streets, "--instances", "none", "--checkpoint", checkpoint, "--device", "cpu")
    whole, large, small = (fuse_with(tmp_path / name, *data, *tile) for name, tile in TILES.items())
    assert whole["per_class"] == large["per_class"]  # an image that fits into one tile is predicted as it is
    assert small["All"]["pq"] is not None
    message = fails_in_one_line(main, *files_of(streets, dumps), "--tile", "64x128", "--overlap", "32")
    assert "--tile is for live models, but neither half is one" in message
    assert "--tile 100: height and width in pixels are needed" in fails_in_one_line(main, *data, "--tile", "100")


TILES = {"whole": (), "large": ("--tile", "128x256", "--overlap", "64"), "small": ("--tile", "64x128", "--overlap", "32")}


def files_of(streets, dumps):
    return ("--data-root", streets, "--instances", dumps / "instances", "--semantics", dumps / "semantics")
