"""train.py: what it learns from, how it goes on after a kill, what it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.utils import register_all_modules
from PIL import Image
from pycocotools import mask as coco_mask

from data.taxonomy import CITYSCAPES
from runtime.files import InputError
from solov2 import train
from solov2.checkpoints import find_last, read_checkpoint
from solov2.settings import DEFAULT_CONFIG, load_config, set_data_root

CONFIGS = sorted(DEFAULT_CONFIG.parent.glob("*.py"))


def run_train(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    train.main()


def draw_annotations(root: Path, num_images: int, objects: list[dict]) -> None:
    """Black 64x128 pictures and a COCO file in the Cityscapes layout; an object has image, box (y1, x1, y2, x2), is_crowd."""
    images, annotations = [], []
    for k in range(num_images):
        images.append({"id": k, "file_name": f"city/{k}_leftImg8bit.png", "height": 64, "width": 128})
        path = root / "leftImg8bit/train" / images[-1]["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (128, 64)).save(path)
    for k, entry in enumerate(objects):
        y1, x1, y2, x2 = entry["box"]
        mask = np.zeros((64, 128), np.uint8, order="F")
        mask[y1:y2, x1:x2] = 1
        code = coco_mask.encode(mask)
        annotation = {"id": k, "image_id": entry["image"], "category_id": 26, "iscrowd": entry["is_crowd"]}
        annotation |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(mask.sum())}
        annotations.append(annotation | {"segmentation": {"size": code["size"], "counts": code["counts"].decode()}})
    categories = [{"id": c.dataset_id, "name": c.name} for c in CITYSCAPES.categories if c.is_thing]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations").mkdir()
    (root / "annotations/instancesonly_filtered_gtFine_train.json").write_text(json.dumps(content))


def test_crowds_are_not_learned_and_empty_images_do_no_harm(tmp_path):
    objects = [{"image": 0, "box": (10, 10, 30, 40), "is_crowd": 0}, {"image": 0, "box": (20, 60, 40, 100), "is_crowd": 1}]
    draw_annotations(tmp_path, num_images=2, objects=objects)
    config = load_config(DEFAULT_CONFIG, {"train_dataloader.dataset.dataset.filter_cfg": None})
    set_data_root(config, tmp_path)
    register_all_modules()
    samples = [DATASETS.build(config.train_dataloader.dataset.dataset)[k] for k in range(2)]
    instances = [sample["data_samples"] for sample in samples]
    assert [len(i.gt_instances) for i in instances] == [1, 0]
    assert [len(i.ignored_instances) for i in instances] == [1, 0]

    model = MODELS.build(config.model)
    batch = model.data_preprocessor({"inputs": [s["inputs"] for s in samples], "data_samples": instances}, training=True)
    cells = tuple(side // 4 for side in batch["inputs"].shape[-2:])
    labels = model.mask_head._get_targets_single(batch["data_samples"][0].gt_instances, featmap_sizes=cells)[1]
    assert all(set(level.unique().tolist()) <= {2, 8} for level in labels)  # car and background
    for chosen in (slice(0, 2), slice(1, 2)):
        losses = model.loss(batch["inputs"][chosen], batch["data_samples"][chosen])
        assert sum(losses.values()).isfinite()


@pytest.mark.parametrize("path", CONFIGS, ids=[p.stem for p in CONFIGS])
def test_every_config_builds_a_model_of_eight_things_on_wide_grids(path, tmp_path):
    config = load_config(path)
    set_data_root(config, tmp_path)
    assert config.train_dataloader.dataset.dataset.data_root == f"{tmp_path}/"
    assert config.val_evaluator.ann_file == f"{tmp_path}/annotations/instancesonly_filtered_gtFine_val.json"
    register_all_modules()
    head = MODELS.build(config.model).mask_head
    assert head.num_classes == 8
    assert all(columns == 2 * rows for rows, columns in head.num_grids)


def test_training_names_what_it_wrote_and_a_second_run_has_nothing_to_do(trained, streets, tiny, monkeypatch, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in trained.glob("*.pth")}
    run_train(monkeypatch, "--data-root", streets, "--work-dir", trained, *tiny)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("training SOLOv2: configs/solov2/streets_r18.py on ")
    assert "all 2 epochs are done; --no-resume trains anew" in printed
    assert f"wrote {trained / 'epoch_2.pth'}" in printed
    assert {path.name: path.stat().st_mtime_ns for path in trained.glob("*.pth")} == before


def test_a_checkpoint_that_a_kill_cut_off_is_passed_over(trained, tmp_path):
    for epoch in (1, 2):
        (tmp_path / f"epoch_{epoch}.pth").write_bytes((trained / f"epoch_{epoch}.pth").read_bytes())
    (tmp_path / "last_checkpoint").write_text("/moved/away/epoch_2.pth")
    assert find_last(tmp_path) == tmp_path / "epoch_2.pth"
    os.truncate(tmp_path / "epoch_2.pth", 20_000)
    assert find_last(tmp_path) == tmp_path / "epoch_1.pth"
    (tmp_path / "last_checkpoint").write_text("")  # cut off too
    assert find_last(tmp_path) == tmp_path / "epoch_1.pth"
    (tmp_path / "last_checkpoint").unlink()  # as after --no-resume
    assert find_last(tmp_path) is None


def test_a_checkpoint_with_pickled_code_is_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return print, ("executed",)

    torch.save({"state_dict": {"weight": Payload()}}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="broken checkpoint"):
        read_checkpoint(tmp_path / "evil.pth")


def test_the_attribute_look_up_that_checkpoints_need_reaches_nothing_else(tmp_path):
    class Payload:
        def __reduce__(self):
            return getattr, (np.ndarray, "tofile")

    torch.save({"state_dict": {"weight": Payload()}}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match=r"'tofile' of .* is not allowed"):
        read_checkpoint(tmp_path / "evil.pth")


BAD_ARGUMENTS = {
    "config": (["--config", "configs/solov2/nothing.py"], "nothing.py: no such config; .* holds cityscapes_r50, streets_r18"),
    "option": (["--cfg-options", "model.mask_head.frob=1"], "cannot be built .*unexpected keyword argument 'frob'"),
    "grid": (["--cfg-options", "model.mask_head.num_grids=[1,2,3,4]"], "cannot be built"),
    "data": (["--data-root", "/nowhere"], "/nowhere: no such folder; --data-root must name"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_arguments_fail_in_one_line(arguments, message, streets, tmp_path, fails_in_one_line):
    line = fails_in_one_line(train.main, "--data-root", streets, "--work-dir", tmp_path, *arguments)
    assert re.search(message, line), line


def test_a_config_that_cannot_be_trained_fails_in_one_line(streets, tmp_path, fails_in_one_line):
    (tmp_path / "other.py").write_text("model = dict(type='MaskRCNN')\ntrain_cfg = dict(max_epochs=1)")
    arguments = ("--config", tmp_path / "other.py", "--data-root", streets, "--work-dir", tmp_path)
    line = fails_in_one_line(train.main, *arguments)
    assert "other.py: has no data_root, train_dataloader, optim_wrapper; inherit one of configs/solov2" in line


def test_going_on_with_another_model_fails_in_one_line(trained, streets, tiny, fails_in_one_line):
    other = [*tiny, "train_cfg.max_epochs=3", "model.neck.out_channels=32"]
    line = fails_in_one_line(train.main, "--data-root", streets, "--work-dir", trained, *other)
    assert "epoch_2.pth: is of another model than the config" in line


@pytest.mark.slow
def test_a_killed_training_goes_on_where_it_was(streets, tiny, tmp_path):
    def start(max_epochs: int) -> subprocess.Popen:
        command = [sys.executable, train.__file__, "--data-root", streets, "--work-dir", tmp_path, *tiny]
        command += [f"train_cfg.max_epochs={max_epochs}"]
        return subprocess.Popen(list(map(str, command)), cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    first = start(1000)
    deadline = time.monotonic() + 120
    while find_last(tmp_path) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    last = find_last(tmp_path)
    done = read_checkpoint(last)["meta"]["epoch"]
    assert 1 <= done < 1000

    second = start(done + 1)
    printed, _ = second.communicate(timeout=120)
    assert second.returncode == 0, printed
    assert f"going on from {last}, epoch {done} of {done + 1}" in printed
    assert f"wrote {tmp_path}/epoch_{done + 1}.pth" in printed
    # What only a resumed run has: the steps of the optimizer and the history of the losses go on.
    content = read_checkpoint(tmp_path / f"epoch_{done + 1}.pth")
    assert content["meta"]["iter"] == done + 1
    assert {int(state["step"]) for state in content["optimizer"]["state"].values()} == {done + 1}
    assert len(content["message_hub"]["log_scalars"]["train/loss"].data[0]) == done + 1
