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

from data.instance_dump import dump_path, from_full_logits, full_masks, read_instances
from data.layouts.cityscapes import find_images
from data.layouts.find import open_data_set
from data.taxonomy import CITYSCAPES
from prediction.run import Run
from prediction.sources.dumps import DumpedInstances
from runtime.files import PARTIAL, read_json
from solov2 import eval as evaluation
from solov2.checkpoints import read_checkpoint

VAL_IMAGES = 6


@pytest.fixture
def run_eval(monkeypatch, streets):
    """Call main() on the tiny Streets, or on the --data-root or --images among the arguments."""

    def run(*arguments) -> None:
        monkeypatch.setattr(sys, "argv", ["eval.py", "--data-root", str(streets), *map(str, arguments)])
        evaluation.main()

    return run


@pytest.fixture(scope="module")
def dumps(eager, streets, tmp_path_factory) -> Path:
    """The run folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("dumps")
    with pytest.MonkeyPatch.context() as patch:
        arguments = ["--checkpoint", str(eager), "--output", str(folder), "--data-root", str(streets)]
        patch.setattr(sys, "argv", ["eval.py", *arguments])
        evaluation.main()
    return folder


@pytest.fixture
def copied(dumps, tmp_path) -> Path:
    return Path(shutil.copytree(dumps, tmp_path / "dumps"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "instances").iterdir()}


def test_dumps_hold_what_mmdet_predicts(dumps, eager, streets, tiny_config):
    image = find_images(streets, "val")[0]
    dumped = read_instances(dumps / "instances", image.image_id, CITYSCAPES, size=(128, 256))
    network = init_detector(tiny_config, str(eager), device="cpu", palette="random")
    theirs = inference_detector(network, str(image.image_path)).pred_instances
    has_mask = theirs.mask_logits.flatten(1).max(1).values > 0
    assert len(dumped) == has_mask.sum() > 5
    assert torch.equal(torch.from_numpy(dumped.scores), theirs.scores[has_mask])
    assert dumped.train_ids.tolist() == [CITYSCAPES.thing_ids[k] for k in theirs.labels[has_mask]]
    assert np.array_equal(dumped.boxes, theirs.bboxes[has_mask].numpy())


def test_each_image_has_a_dump_and_the_ap_stands_beside_them(dumps, streets):
    ids = {image.image_id for image in find_images(streets, "val")}
    assert {path.name for path in (dumps / "instances").iterdir()} == {dump_path(dumps, i).name for i in ids}
    assert 0 <= read_json(dumps / "scores.json")["mask_ap"]["AP"] <= 1


def test_dumps_say_from_which_score_on_they_are_worth_fusing(dumps):
    assert DumpedInstances(dumps, CITYSCAPES).min_score == DumpedInstances(dumps / "instances", CITYSCAPES).min_score == 0.2


def test_a_data_set_of_the_coco_layout_is_predicted_and_scored_with_its_own_classes(
    eager_on_snapshots, snapshots, run_eval, tmp_path
):
    run_eval("--data-root", snapshots, "--checkpoint", eager_on_snapshots, "--output", tmp_path)
    run, split = Run.open(tmp_path), open_data_set(snapshots).split()
    assert run.taxonomy.difference(split.taxonomy) is None
    found = [run.instances(split.image_id(k), split.size(k)) for k in range(len(split))]
    assert sum(map(len, found)) > 0
    assert {train_id for instances in found for train_id in instances.train_ids} <= set(split.taxonomy.thing_ids)
    assert 0 <= read_json(tmp_path / "scores.json")["mask_ap"]["AP"] <= 1


def test_a_data_set_of_other_classes_is_refused_in_one_line(eager_on_snapshots, streets, tmp_path, fails_in_one_line):
    arguments = ("--data-root", streets, "--checkpoint", eager_on_snapshots, "--output", tmp_path / "out")
    line = fails_in_one_line(evaluation.main, *arguments)
    assert "the model knows other classes, " in line
    assert "against 19, without" in line
    assert not (tmp_path / "out").exists()


def test_cropped_logits_give_the_masks_of_the_full_frame():
    logits = F.interpolate(torch.randn(1, 5, 6, 9, generator=torch.Generator().manual_seed(0)), (12, 18), mode="bicubic")[0]
    logits = logits.half().float()  # as the dump rounds
    fields = dict(image_id="a", size=(46, 71), stride=4, taxonomy=CITYSCAPES, producer="test")
    instances = from_full_logits(logits.numpy(), [11] * 5, [0.5] * 5, **fields)
    full = F.interpolate(logits[None], scale_factor=4, mode="bilinear")[0, :, :46, :71] > 0
    assert np.array_equal(np.stack(list(full_masks(instances))), full.numpy())


def test_a_second_run_writes_no_dump(copied, eager, run_eval, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in copied.rglob("*.safetensors")}
    run_eval("--checkpoint", eager, "--output", copied)
    assert {path.name: path.stat().st_mtime_ns for path in copied.rglob("*.safetensors")} == before
    assert f"0 images predicted, {VAL_IMAGES} were done: instances in {copied}" in capsys.readouterr().out


def test_broken_missing_and_half_written_dumps_are_made_again_with_the_same_bytes(copied, dumps, eager, run_eval):
    first, second, *_ = sorted(copied.rglob("*.safetensors"))
    os.truncate(first, first.stat().st_size // 2)
    second.unlink()
    (copied / f"instances/{PARTIAL}{2**22 + 1}-x.safetensors").write_bytes(b"left by a kill")
    run_eval("--checkpoint", eager, "--output", copied)
    assert contents(copied) == contents(dumps)


def test_dumps_of_another_checkpoint_setting_or_view_are_made_again(copied, trained, run_eval, capsys):
    setting = ("--cfg-options", "model.test_cfg.max_per_img=3")
    views, same_views = ("--tta.scales", "[0.5,1]", "--tta.flip", "true"), ("--tta-scales", "1", "0.5", "--tta-flip")
    for more, number in (((), VAL_IMAGES), (setting, VAL_IMAGES), (views, VAL_IMAGES), (same_views, 0)):
        run_eval("--checkpoint", trained / "epoch_2.pth", "--output", copied, *more)
        assert f"{number} images predicted" in capsys.readouterr().out


def test_dumps_lie_below_the_training_of_the_checkpoint(trained, tmp_path, run_eval):
    training = Path(shutil.copytree(trained, tmp_path / "training"))
    run_eval("--checkpoint", training)
    assert len(contents(training / "dumps" / "val")) == VAL_IMAGES


def test_images_of_any_size_and_mode_are_dumped(eager, run_eval, tmp_path, capsys):
    rng = np.random.default_rng(0)
    sizes = {"kitti": (375, 1242), "square": (800, 800), "tiny_leftImg8bit": (33, 47)}
    (tmp_path / "images").mkdir()
    for name, size in sizes.items():
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(tmp_path / "images" / f"{name}.png")
    run_eval("--images", tmp_path / "images", "--checkpoint", eager, "--output", tmp_path / "out")
    for name, size in sizes.items():
        read_instances(tmp_path / "out/instances", name.removesuffix("_leftImg8bit"), CITYSCAPES, size)
    assert "AP" not in capsys.readouterr().out
    # Another image under the same name is not taken for done.
    Image.fromarray(rng.integers(0, 255, (64, 99), dtype=np.uint8)).save(tmp_path / "images" / "square.png")
    run_eval("--image-path", tmp_path / "images", "--checkpoint", eager, "--output", tmp_path / "out")
    assert "1 images predicted, 2 were done" in capsys.readouterr().out
    read_instances(tmp_path / "out/instances", "square", CITYSCAPES, (64, 99))


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
    elif kind == "without_settings":
        del content["meta"]["panoptic"]
        torch.save(content, path)
    return path


BAD_CHECKPOINTS = {
    "missing": "no such checkpoint; train stage 1 first: cd solov2 && python train.py",
    "truncated": "broken checkpoint",
    "text": "broken checkpoint",
    "other_content": "has no `state_dict`",
    "layer_missing": 'is of another model than the config (Missing key(s) in state_dict: "mask_head.conv_cls.bias".)',
    "layer_too_many": 'is of another model than the config (Unexpected key(s) in state_dict: "extra".)',
    "without_settings": "no checkpoint of solov2/train.py ('panoptic' is absent)",
    "nan": "NaN or infinite weights in mask_head.conv_kernel.bias (1 in all); use an earlier checkpoint",
}


@pytest.mark.parametrize(("kind", "message"), BAD_CHECKPOINTS.items(), ids=BAD_CHECKPOINTS)
def test_a_bad_checkpoint_fails_in_one_line(kind, message, eager, streets, tmp_path, fails_in_one_line):
    path = make_bad_checkpoint(kind, eager, tmp_path)
    arguments = ["--checkpoint", path, "--data-root", streets, "--output", tmp_path / "out"]
    assert f"{path}: {message}" in fails_in_one_line(evaluation.main, *arguments)
    assert not list((tmp_path / "out").glob("*"))


def test_settings_that_do_not_fit_fail_in_one_line(eager, streets, tmp_path, fails_in_one_line):
    common = ["--checkpoint", eager, "--data-root", streets, "--output", tmp_path / "out"]
    for option, words in (
        ("model.mask_head.frob=1", "eager.pth: cannot be built"),
        ("train_cfg.max_epochs=1", "of a trained model only model.* can be changed"),
        ("model.test_cfg", "a setting and its value are needed"),
    ):
        assert words in fails_in_one_line(evaluation.main, *common, "--cfg-options", option)
    line = fails_in_one_line(evaluation.main, *common, "--keep", "panoptic")
    assert "this model gives instances; leave `panoptic` out of --keep" in line
    assert not list(tmp_path.rglob("*.safetensors"))


def test_bad_data_fails_in_one_line(eager, streets, tmp_path, fails_in_one_line):
    (tmp_path / "cut.png").write_bytes(next(streets.rglob("*_leftImg8bit.png")).read_bytes()[:500])
    common = ["--checkpoint", eager, "--output", tmp_path / "out"]
    line = fails_in_one_line(evaluation.main, "--images", tmp_path / "cut.png", *common)
    assert "cut.png: cannot be decoded" in line
    assert "/nowhere" in fails_in_one_line(evaluation.main, "--images", "/nowhere", *common)
    line = fails_in_one_line(evaluation.main, "--data-root", streets, "--tta-scales", "0", *common)
    assert "factors above 0 and up to 8 are needed" in line
    line = fails_in_one_line(evaluation.main, "--data-root", streets, "--split", "test", *common)
    assert "splits with images: train, val" in line


def test_an_untrained_config_says_how_to_train(streets, tmp_path, fails_in_one_line):
    config = tmp_path / "never_trained.py"
    config.write_text("")
    line = fails_in_one_line(evaluation.main, "--data-root", streets, "--config", config)
    assert "never_trained: no checkpoint there; train stage 1 first: cd solov2 && python train.py" in line
    assert f"{tmp_path}: no such checkpoint" in fails_in_one_line(
        evaluation.main, "--data-root", streets, "--checkpoint", tmp_path, "--output", tmp_path / "out"
    )
