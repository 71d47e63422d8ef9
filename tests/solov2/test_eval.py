"""eval.py: what it dumps, what it skips, what it refuses."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.apis import inference_detector, init_detector
from PIL import Image

from data.instance_dump import dump_path, from_full_logits, full_masks, read_instances, write_instances
from data.layouts.cityscapes import find_frames, read_truth
from data.taxonomy import CITYSCAPES
from runtime.files import read_json
from solov2 import eval as evaluation
from solov2.checkpoints import read_checkpoint
from solov2.predictor import load_predictor

VAL_IMAGES = 6


@pytest.fixture
def run_eval(monkeypatch, streets, tiny):
    """Call main() on the tiny Streets and model, with further arguments and --cfg-options."""

    def run(*arguments, options: tuple[str, ...] = ()) -> None:
        monkeypatch.setattr(sys, "argv", ["eval.py", *map(str, arguments), "--data-root", str(streets), *tiny, *options])
        evaluation.main()

    return run


@pytest.fixture(scope="module")
def dumps(eager, streets, tiny, tmp_path_factory) -> Path:
    """The dumps of an undisturbed run."""
    folder = tmp_path_factory.mktemp("dumps")
    with pytest.MonkeyPatch.context() as patch:
        arguments = ["--checkpoint", str(eager), "--output", str(folder), "--data-root", str(streets), *tiny]
        patch.setattr(sys, "argv", ["eval.py", *arguments])
        evaluation.main()
    return folder


@pytest.fixture
def copied(dumps, tmp_path) -> Path:
    return Path(shutil.copytree(dumps, tmp_path / "dumps"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_dumps_hold_what_mmdet_predicts(dumps, eager, streets, tiny_config):
    frame = find_frames(streets, "val")[0]
    dumped = read_instances(dumps, frame.image_id, CITYSCAPES, size=(128, 256))
    network = init_detector(tiny_config, str(eager), device="cpu", palette="random")
    theirs = inference_detector(network, str(frame.image_path)).pred_instances
    has_mask = theirs.mask_logits.flatten(1).max(1).values > 0
    assert len(dumped) == has_mask.sum() > 5
    assert torch.equal(torch.from_numpy(dumped.scores), theirs.scores[has_mask])
    assert dumped.train_ids.tolist() == [CITYSCAPES.thing_ids[k] for k in theirs.labels[has_mask]]
    assert np.array_equal(dumped.boxes, theirs.bboxes[has_mask].numpy())


def test_each_image_has_a_dump_and_the_ap_stands_beside_them(dumps, streets):
    ids = {frame.image_id for frame in find_frames(streets, "val")}
    assert {path.name for path in dumps.iterdir()} == {dump_path(dumps, i).name for i in ids} | {"mask_ap.json"}
    assert 0 <= read_json(dumps / "mask_ap.json")["AP"] <= 1


def test_cropped_logits_give_the_masks_of_the_full_frame():
    logits = F.interpolate(torch.randn(1, 5, 6, 9, generator=torch.Generator().manual_seed(0)), (12, 18), mode="bicubic")[0]
    logits = logits.half().float()  # as the dump rounds
    fields = dict(image_id="a", size=(46, 71), stride=4, taxonomy=CITYSCAPES, producer="test")
    instances = from_full_logits(logits.numpy(), [11] * 5, [0.5] * 5, **fields)
    full = F.interpolate(logits[None], scale_factor=4, mode="bilinear")[0, :, :46, :71] > 0
    assert np.array_equal(np.stack(list(full_masks(instances))), full.numpy())


def test_truth_as_detections_gets_the_highest_ap(streets, tmp_path):
    # Large logits on truth's own pixels at stride 1: the masks are the truth, so AP is 1 for every class that occurs.
    frames = find_frames(streets, "val")
    for frame in frames:
        truth = read_truth(frame)
        things = [s for s in truth.segments if s.segment_id >= 1000]
        logits = np.stack([np.where(truth.segment_ids == s.segment_id, 8.0, -8.0) for s in things])
        train_ids = [CITYSCAPES.dataset_id_to_train_id[s.category_id] for s in things]
        fields = dict(image_id=frame.image_id, size=(128, 256), stride=1, taxonomy=CITYSCAPES, producer="truth")
        write_instances(tmp_path, from_full_logits(logits, train_ids, np.ones(len(things)), **fields))
    evaluation.report_mask_ap(frames, tmp_path, streets, "val")
    assert read_json(tmp_path / "mask_ap.json")["AP"] > 0.999


def test_a_second_run_writes_no_dump(copied, eager, run_eval, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in copied.glob("*.safetensors")}
    run_eval("--checkpoint", eager, "--output", copied)
    assert {path.name: path.stat().st_mtime_ns for path in copied.glob("*.safetensors")} == before
    assert f"wrote 0 dumps, {VAL_IMAGES} were there: {copied}" in capsys.readouterr().out


def test_broken_missing_and_half_written_dumps_are_made_again_with_the_same_bytes(copied, dumps, eager, run_eval):
    first, second, *_ = sorted(copied.glob("*.safetensors"))
    os.truncate(first, first.stat().st_size // 2)
    second.unlink()
    (copied / ".partial-x.safetensors").write_bytes(b"left by a kill")
    run_eval("--checkpoint", eager, "--output", copied)
    assert contents(copied) == contents(dumps)


def test_dumps_of_another_checkpoint_or_setting_are_made_again(copied, eager, trained, run_eval, capsys):
    run_eval("--checkpoint", trained / "epoch_2.pth", "--output", copied)
    assert f"wrote {VAL_IMAGES} dumps" in capsys.readouterr().out
    run_eval("--checkpoint", trained / "epoch_2.pth", "--output", copied, options=("model.test_cfg.max_per_img=3",))
    assert f"wrote {VAL_IMAGES} dumps" in capsys.readouterr().out
    views = ("--tta-scales", "0.5", "1", "--tta-flip")
    for expected in (VAL_IMAGES, 0):
        run_eval("--checkpoint", trained / "epoch_2.pth", "--output", copied, *views)
        assert f"wrote {expected} dumps" in capsys.readouterr().out


@pytest.mark.slow
def test_kills_at_random_moments_leave_the_same_bytes(
    dumps, eager, streets, tiny_config, run_eval, tmp_path, monkeypatch, kill_at_random_moments
):
    # The model is loaded once, so that the kills fall on the dumping; few images an attempt, so that there is work for all.
    predictor = load_predictor(tiny_config, eager)
    monkeypatch.setattr(evaluation, "load_predictor", lambda *_: predictor)
    frames = find_frames(streets, "val")

    def dump() -> None:
        evaluation.dump_frames(frames, tmp_path, tiny_config, eager, "cpu")

    assert kill_at_random_moments(dump, 0.2, 20) > 5
    run_eval("--checkpoint", eager, "--output", tmp_path)
    assert contents(tmp_path) == contents(dumps)


def test_pictures_of_any_size_and_mode_are_dumped(eager, run_eval, tmp_path, capsys):
    rng = np.random.default_rng(0)
    sizes = {"kitti": (375, 1242), "square": (800, 800), "tiny_leftImg8bit": (33, 47)}
    (tmp_path / "photos").mkdir()
    for name, size in sizes.items():
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(tmp_path / "photos" / f"{name}.png")
    run_eval("--images", tmp_path / "photos", "--checkpoint", eager, "--output", tmp_path / "out")
    for name, size in sizes.items():
        read_instances(tmp_path / "out", name.removesuffix("_leftImg8bit"), CITYSCAPES, size)
    assert "AP" not in capsys.readouterr().out
    # Another picture under the same name is not taken for done.
    Image.fromarray(rng.integers(0, 255, (64, 99), dtype=np.uint8)).save(tmp_path / "photos" / "square.png")
    run_eval("--images", tmp_path / "photos", "--checkpoint", eager, "--output", tmp_path / "out")
    assert "wrote 1 dumps, 2 were there" in capsys.readouterr().out
    read_instances(tmp_path / "out", "square", CITYSCAPES, (64, 99))


def make_bad_checkpoint(kind: str, eager: Path, folder: Path) -> Path:
    path = folder / f"{kind}.pth"
    content = read_checkpoint(eager)
    if kind == "truncated":
        path.write_bytes(eager.read_bytes()[:10_000])
    elif kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "other_content":
        torch.save([1, 2, 3], path)
    elif kind == "layer_missing":
        del content["state_dict"]["mask_head.conv_cls.bias"]
        torch.save(content, path)
    elif kind == "nan":
        content["state_dict"]["mask_head.conv_kernel.bias"] *= float("nan")
        torch.save(content, path)
    elif kind == "layer_too_many":
        content["state_dict"]["extra"] = torch.zeros(1)
        torch.save(content, path)
    return path


BAD_CHECKPOINTS = {
    "missing": "no such checkpoint; train stage 1 first: cd solov2 && python train.py",
    "truncated": "broken checkpoint",
    "text": "broken checkpoint",
    "other_content": "has no `state_dict`",
    "layer_missing": 'is of another model than the config (Missing key(s) in state_dict: "mask_head.conv_cls.bias".)',
    "layer_too_many": 'is of another model than the config (Unexpected key(s) in state_dict: "extra".)',
    "nan": "NaN or infinite weights in mask_head.conv_kernel.bias (1 in all); use an earlier checkpoint",
}


@pytest.mark.parametrize(("kind", "message"), BAD_CHECKPOINTS.items(), ids=BAD_CHECKPOINTS)
def test_a_bad_checkpoint_fails_in_one_line(kind, message, eager, streets, tiny, tmp_path, fails_in_one_line):
    path = make_bad_checkpoint(kind, eager, tmp_path)
    arguments = ["--checkpoint", path, "--data-root", streets, "--output", tmp_path / "out", *tiny]
    assert f"{path}: {message}" in fails_in_one_line(evaluation.main, *arguments)
    assert not list((tmp_path / "out").glob("*"))


def test_a_bad_config_fails_in_one_line(eager, streets, tiny, tmp_path, fails_in_one_line):
    common = ["--checkpoint", eager, "--data-root", streets, "--output", tmp_path / "out"]
    line = fails_in_one_line(evaluation.main, *common, *tiny, "model.mask_head.frob=1")
    assert "streets_r18.py: cannot be built" in line
    (tmp_path / "other.py").write_text("model = dict(type='MaskRCNN')")
    line = fails_in_one_line(evaluation.main, *common, "--config", tmp_path / "other.py")
    assert "other.py: has no test_dataloader; inherit one of configs/solov2" in line


def test_bad_data_fails_in_one_line(eager, streets, tiny, tmp_path, fails_in_one_line):
    (tmp_path / "cut.png").write_bytes(next(streets.rglob("*_leftImg8bit.png")).read_bytes()[:500])
    common = ["--checkpoint", eager, "--output", tmp_path / "out"]
    line = fails_in_one_line(evaluation.main, "--images", tmp_path / "cut.png", *common, *tiny)
    assert "cut.png: cannot be decoded" in line
    assert "/nowhere: no pictures there" in fails_in_one_line(evaluation.main, "--images", "/nowhere", *common)
    line = fails_in_one_line(evaluation.main, "--data-root", streets, "--tta-scales", "0", *common)
    assert "factors above 0 and up to 8 are needed" in line
    line = fails_in_one_line(evaluation.main, "--data-root", streets, "--split", "test", *common)
    assert "splits with images: train, val" in line


def test_an_untrained_config_says_how_to_train(streets, tmp_path, monkeypatch, fails_in_one_line):
    monkeypatch.setattr(evaluation, "output_folder", lambda config: tmp_path)
    line = fails_in_one_line(evaluation.main, "--data-root", streets)
    assert "no checkpoint there; train stage 1 first: cd solov2 && python train.py" in line
