"""The fusion command on a tiny Streets: its results, its inputs, its errors, and what a kill leaves."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from data.images import path_to_image_id
from data.instance_dump import read_instances, write_instances
from data.layouts.cityscapes import find_frames, read_truth, write_instances_json
from data.panoptic_png import read_segment_ids
from data.semantic_dump import write_semantic
from data.targets import panoptic_to_instance_logits, panoptic_to_instances, panoptic_to_semantic_logits
from data.taxonomy import CITYSCAPES
from detection.instance_head import InstanceHeadSettings
from efficientps.network import SemanticEfficientPS, build_network
from efficientps.panoptic_inference import load_panoptic_predictor
from fusion import solo_fusion
from fusion.logit_fusion import fuse
from fusion.solo_fusion import main, parse, run
from prediction.sources import LivePanoptic
from runtime.files import InputError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dumps(streets, tmp_path_factory) -> Path:
    """Truth masks and semantics of Streets' val as dumps, instances/ and semantics/."""
    folder = tmp_path_factory.mktemp("dumps")
    for frame in find_frames(streets, "val"):
        options = {"image_id": frame.image_id, "stride": 4, "producer": "truth"}
        write_instances(folder / "instances", panoptic_to_instance_logits(read_truth(frame), CITYSCAPES, **options))
        write_semantic(folder / "semantics", panoptic_to_semantic_logits(read_truth(frame), CITYSCAPES, **options))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A semantic checkpoint of random weights, as train_net.py writes it."""
    settings = {"num_classes": 19, "variant": "b0", "fpn_channels": 32, "is_separable": True, "norm_momentum": 0.1}
    torch.manual_seed(0)
    weights = {f"network.{name}": tensor for name, tensor in SemanticEfficientPS(**settings).state_dict().items()}
    path = tmp_path_factory.mktemp("checkpoint") / "best.ckpt"
    torch.save({"hyper_parameters": {"network": settings, "taxonomy": "cityscapes"}, "state_dict": weights}, path)
    return path


@pytest.fixture(scope="module")
def joint_checkpoint(tmp_path_factory) -> Path:
    """The original EfficientPS with random weights, as train_net.py writes it; its head finds something everywhere."""
    head = {"anchor_sizes": [16, 24, 32, 48], "box_channels": 16, "mask_channels": 16, "score_threshold": 0.0}
    network = {"num_classes": 19, "variant": "b0", "fpn_channels": 32, "is_separable": True, "norm_momentum": 0.1}
    network |= {"thing_ids": list(CITYSCAPES.thing_ids), "instance_head": asdict(InstanceHeadSettings(**head))}
    torch.manual_seed(0)
    weights = {f"network.{name}": tensor for name, tensor in build_network(network).state_dict().items()}
    path = tmp_path_factory.mktemp("joint") / "best.ckpt"
    torch.save({"hyper_parameters": {"network": network, "taxonomy": "cityscapes"}, "state_dict": weights}, path)
    return path


def fuse_with(output: Path, *arguments: str | Path) -> dict:
    """Run the command in this process; return its scores, if it has any."""
    run(parse(["--output", str(output), *(str(a) for a in arguments)]))
    scores = output / "scores.json"
    return json.loads(scores.read_text()) if scores.exists() else {}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_truth_at_stride_1_without_area_limits_gives_pq_100(streets, tmp_path, monkeypatch):
    from prediction.sources import TruthInstances, TruthSemantics

    monkeypatch.setattr(solo_fusion, "TruthInstances", lambda taxonomy: TruthInstances(taxonomy, stride=1))
    monkeypatch.setattr(solo_fusion, "TruthSemantics", lambda taxonomy: TruthSemantics(taxonomy, stride=1))
    options = ("--data-root", streets, "--instances", "truth", "--semantics", "truth", "--fusion.min_stuff_area", "0")
    scores = fuse_with(tmp_path, *options)
    assert scores["All"]["pq"] == 1.0
    assert scores["All"]["n"] >= 15


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
    for frame in find_frames(streets, "val"):
        masks, train_ids, _ = panoptic_to_instances(read_truth(frame), CITYSCAPES)
        for mask, train_id in zip(masks, train_ids, strict=True):
            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            entry = {"image_id": number_of[frame.image_id], "category_id": int(CITYSCAPES.dataset_ids[train_id]), "score": 0.9}
            results.append(entry | {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}})
    (tmp_path / "results.json").write_text(json.dumps(results))
    options = ("--data-root", streets, "--semantics", "truth", "--fusion.min_stuff_area", "0")
    from_json = fuse_with(tmp_path / "json", *options, "--instances", tmp_path / "results.json")
    from_dumps = fuse_with(tmp_path / "truth", *options, "--instances", "truth")
    assert from_json["Things"]["pq"] > 0.95  # full-resolution masks, and stride-4 semantics
    assert from_json["Things"]["pq"] > from_dumps["Things"]["pq"]


def test_pictures_of_any_size_go_through_the_live_model(checkpoint, tmp_path):
    sizes = {"wide": (375, 1242), "square": (800, 800), "tiny": (31, 33)}
    (tmp_path / "photos").mkdir()
    (tmp_path / "dumps").mkdir()
    for name, size in sizes.items():
        noise = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"photos/{name}.jpg")
    scores = fuse_with(
        tmp_path / "out", "--images", tmp_path / "photos", "--instances", "none", "--checkpoint", checkpoint, "--device", "cpu"
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
    fuse_with(tmp_path, *options, "--fusion.min_score", "0.4")
    assert png.stat().st_mtime_ns > written


def test_workers_and_the_engine_change_the_time_but_not_a_byte(streets, dumps, tmp_path, monkeypatch):
    given = ("--data-root", streets, "--instances", dumps / "instances", "--semantics", dumps / "semantics")
    fuse_with(tmp_path / "one", *given, "--workers", "1")
    fuse_with(tmp_path / "four", *given, "--workers", "4")
    monkeypatch.setattr(solo_fusion, "fuse", partial(fuse, engine="torch"))
    fuse_with(tmp_path / "torch", *given, "--workers", "2")
    expected = contents(tmp_path / "one")
    assert len(expected) == 8  # six PNGs, their JSON, the scores
    assert contents(tmp_path / "four") == expected
    assert contents(tmp_path / "torch") == expected


def test_both_predictions_of_the_original_are_fused_saved_and_fused_again_from_the_dumps(streets, joint_checkpoint, tmp_path):
    limits = ("--data-root", streets, "--fusion.min_score", "0.0", "--workers", "3")
    saved = ("--save-semantics", tmp_path / "s", "--save-instances", tmp_path / "i")
    live = fuse_with(tmp_path / "live", "--instances", "model", "--checkpoint", joint_checkpoint, *limits, *saved)
    assert sum(len(read_instances(tmp_path / "i", f.image_id, CITYSCAPES)) for f in find_frames(streets, "val")) > 0
    again = fuse_with(tmp_path / "again", "--instances", tmp_path / "i", "--semantics", tmp_path / "s", *limits)
    # The dumps hold float16: single pixels may change sides.
    assert again["All"]["pq"] == pytest.approx(live["All"]["pq"], abs=0.02)
    ids = [read_segment_ids(tmp_path / run / "panoptic" / "lindenthal_000000_010005_panoptic.png") for run in ("live", "again")]
    assert (ids[0] == ids[1]).mean() > 0.99


def test_nothing_is_kept_for_a_half_that_nobody_reads(streets, joint_checkpoint, dumps):
    frames = find_frames(streets, "val")[:2]
    model = load_panoptic_predictor(joint_checkpoint)
    for is_shared, num_waiting in ((False, 0), (True, 2)):
        both = LivePanoptic(model, is_shared)
        for frame in frames:
            both.instances.read(frame, (128, 256))
        assert len(both._waiting) == num_waiting
    for frame in frames:
        both.semantics.read(frame, (128, 256))
    assert not both._waiting


def test_weights_that_are_not_finite_are_refused(joint_checkpoint, tmp_path):
    checkpoint = torch.load(joint_checkpoint, weights_only=True)
    checkpoint["state_dict"]["network.instance_head.roi.box_predictor.cls_score.weight"][0, 0] = torch.nan
    torch.save(checkpoint, tmp_path / "nan.ckpt")
    with pytest.raises(InputError, match="use an earlier checkpoint"):
        load_panoptic_predictor(tmp_path / "nan.ckpt")


def test_saved_semantics_are_reused_too_and_give_the_same_result(streets, checkpoint, tmp_path):
    saved = tmp_path / "semantics"
    live = ("--data-root", streets, "--instances", "truth", "--checkpoint", checkpoint, "--device", "cpu")
    scores = fuse_with(tmp_path / "live", *live, "--save-semantics", saved)
    written = {path: path.stat().st_mtime_ns for path in [*saved.iterdir(), *(tmp_path / "live/panoptic").iterdir()]}
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


def test_killed_at_twenty_moments_and_started_again_gives_the_same_bytes(streets, dumps, tmp_path, kill_at_random_moments):
    options = ("--data-root", streets, "--instances", dumps / "instances", "--semantics", dumps / "semantics")
    started = time.perf_counter()
    fuse_with(tmp_path / "undisturbed", *options)
    seconds = time.perf_counter() - started
    expected = contents(tmp_path / "undisturbed")
    assert len(expected) == 6 + 2

    interrupted = 0
    for _ in range(4):  # kill, go on, kill, ...: five times; then from nothing again
        shutil.rmtree(tmp_path / "killed", ignore_errors=True)
        interrupted += kill_at_random_moments(lambda: fuse_with(tmp_path / "killed", *options), seconds, 5)
    assert interrupted >= 5
    fuse_with(tmp_path / "killed", *options)
    assert contents(tmp_path / "killed") == expected


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
        ({"--instances": tmp_path / "empty"}, "dump this image first"),
        ({"--instances": tmp_path / "nowhere"}, "run solov2/eval.py first"),
        ({"--semantics": "model", "--checkpoint": tmp_path / "truncated.ckpt"}, "broken checkpoint"),
        ({"--semantics": "model", "--checkpoint": tmp_path / "other.ckpt"}, "no checkpoint of a training of this project"),
        ({"--semantics": "model", "--checkpoint": tmp_path / "absent.ckpt"}, "train stage 2 first"),
        ({"--data-root": tmp_path / "empty"}, "leftImg8bit"),
        ({"--split": "nosuch"}, "nosuch"),
        ({"--device": "cuda:77"}, "cannot be used here"),
        ({"--fusion.variant": "mine"}, "choose paper or official"),
        ({"--tta.scales": "[0, 1]"}, "factors above 0 and up to 8 are needed"),
        ({"--tta.scales": "[]"}, "factors above 0 and up to 8 are needed"),
        ({"--tta.flip": "true"}, "--tta is of the live model"),
    ]
    for change, words in cases:
        options = [word for pair in (known | change).items() for word in pair]
        line = fails_in_one_line(main, "--output", tmp_path / "out", *options)
        assert words in line
        assert not (tmp_path / "out" / "panoptic.json").exists()
