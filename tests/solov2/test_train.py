"""train.py: what it learns from, how it goes on after a kill, what it refuses."""

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

from data.layouts.find import open_data_set
from data.taxonomy import CITYSCAPES, Taxonomy
from prediction.models import find_checkpoint
from runtime.files import InputError
from solov2 import train
from solov2.checkpoints import find_last, need_last, read_checkpoint
from solov2.data_set import use_splits
from solov2.settings import DEFAULT_CONFIG, load_config

CONFIGS = sorted(DEFAULT_CONFIG.parent.glob("*.py"))


def run_train(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    train.main()


def draw_street(root: Path, split: str, number: int, objects: dict[int, tuple[int, int, int, int]]) -> None:
    """A black 64x128 image in the Cityscapes layout; an object is instance id: box (y1, x1, y2, x2)."""
    ids = np.full((64, 128), 7, dtype=np.uint16)  # road
    for instance_id, (y1, x1, y2, x2) in objects.items():
        ids[y1:y2, x1:x2] = instance_id
    for kind, suffix, image in (
        ("leftImg8bit", "leftImg8bit", Image.new("RGB", (128, 64))),
        ("gtFine", "gtFine_instanceIds", Image.fromarray(ids)),
    ):
        path = root / kind / split / "city" / f"city_{number:06d}_000000_{suffix}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)


def test_crowds_are_not_learned_and_empty_images_do_no_harm(on_data, tmp_path):
    draw_street(tmp_path, "train", 0, {26001: (10, 10, 30, 40), 26: (20, 60, 40, 100)})  # a car, and a crowd of cars
    draw_street(tmp_path, "train", 1, {})
    draw_street(tmp_path, "val", 2, {})
    config = on_data(load_config(DEFAULT_CONFIG, {"train_dataloader.dataset.dataset.filter_cfg": None}), tmp_path)
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


@pytest.mark.parametrize("layout", ["streets", "snapshots"])
@pytest.mark.parametrize("path", CONFIGS, ids=[p.stem for p in CONFIGS])
def test_every_config_takes_files_and_classes_from_the_data_set(path, layout, on_data, request):
    root = request.getfixturevalue(layout)
    config, data_set = on_data(load_config(path), root), open_data_set(root)
    val = data_set.split()
    train_set = config.train_dataloader.dataset.dataset
    assert Path(train_set.data_root) == root
    assert (root / train_set.ann_file).is_file()
    assert (root / train_set.data_prefix["img"]).is_dir()
    assert config.val_evaluator.ann_file == str(val.instances_json)
    register_all_modules()
    head = MODELS.build(config.model).mask_head
    assert head.num_classes == len(val.taxonomy.thing_ids)
    is_street = not path.stem.startswith("photos")
    assert all(columns == 2 * rows for rows, columns in head.num_grids) == is_street


def test_a_checkpoint_says_all_that_prediction_needs(trained_on_snapshots, snapshots):
    content = read_checkpoint(trained_on_snapshots / "epoch_1.pth")
    assert content["meta"]["iter"] == 2
    about = content["meta"]["panoptic"]
    own = open_data_set(snapshots).split().taxonomy
    assert Taxonomy.from_coco_categories(about["taxonomy"], about["categories"]).difference(own) is None
    assert own.difference(CITYSCAPES)
    assert about["model"]["mask_head"]["num_classes"] == len(own.thing_ids)
    assert [transform["type"] for transform in about["pipeline"]] == ["Resize", "PackDetInputs"]
    assert about["min_score"] == 0.2


def test_going_on_with_other_classes_is_refused_in_one_line(trained_on_snapshots, streets, tiny, fails_in_one_line):
    arguments = ("--data-root", streets, "--output", trained_on_snapshots, "--epochs", "3", *tiny)
    line = fails_in_one_line(train.main, *arguments)
    assert "epoch_1.pth: was trained on other classes" in line
    assert re.search(r"\d+ classes against 19", line)


def test_training_names_what_it_wrote_and_a_second_run_has_nothing_to_do(trained, streets, tiny, monkeypatch, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in trained.glob("*.pth")}
    run_train(monkeypatch, "--data-root", streets, "--output", trained, *tiny)
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
    assert need_last(tmp_path) == find_checkpoint(tmp_path) == tmp_path / "epoch_2.pth"
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
    "config": (
        ["--config", "configs/solov2/nothing.py"],
        "nothing.py: no such config; .* holds cityscapes_r50, .*streets_lite0, streets_r18",
    ),
    "option": (["--cfg-options", "model.mask_head.frob=1"], "cannot be built .*unexpected keyword argument 'frob'"),
    "grid": (["--cfg-options", "model.mask_head.num_grids=[1,2,3,4]"], "cannot be built"),
    "device": (["--device", "tpu"], "--device tpu is unknown; give one of auto, cpu, cuda, mps"),
    "data": (["--data-root", "/nowhere"], "/nowhere: no such folder; --data-root must name"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_arguments_fail_in_one_line(arguments, message, streets, tmp_path, fails_in_one_line):
    line = fails_in_one_line(train.main, "--data-root", streets, "--output", tmp_path, *arguments)
    assert re.search(message, line), line


@pytest.mark.parametrize("kind", ["CityscapesDataset", "CocoDataset"])
def test_every_dataset_class_learns_the_things_of_the_split(kind, streets):
    config = load_config(DEFAULT_CONFIG)
    datasets = [config[name].dataset for name in ("train_dataloader", "val_dataloader")]
    datasets = [dataset.get("dataset", dataset) for dataset in datasets]
    for dataset in datasets:
        dataset.type = kind
    splits = [open_data_set(streets).split(name) for name in ("train", "val")]
    for split in splits:
        split.ensure_instances_json()
    use_splits(config, *splits)
    for dataset in datasets:
        assert list(dataset.metainfo.classes) == [CITYSCAPES.categories[k].name for k in CITYSCAPES.thing_ids]
        assert dataset.type == kind


def test_a_config_that_cannot_be_trained_fails_in_one_line(streets, tmp_path, fails_in_one_line):
    (tmp_path / "other.py").write_text("model = dict(type='MaskRCNN')\ntrain_cfg = dict(max_epochs=1)")
    arguments = ("--config", tmp_path / "other.py", "--data-root", streets, "--output", tmp_path)
    line = fails_in_one_line(train.main, *arguments)
    assert "other.py: has no data_root, train_dataloader, test_dataloader, optim_wrapper; inherit one of configs/solov2" in line


def test_going_on_with_another_model_fails_in_one_line(trained, streets, tiny, fails_in_one_line):
    other = [*tiny, "train_cfg.max_epochs=3", "model.neck.out_channels=32"]
    line = fails_in_one_line(train.main, "--data-root", streets, "--output", trained, *other)
    assert "epoch_2.pth: is of another model than the config" in line


@pytest.mark.everything  # 22 s; tests/solov2/test_training_options.py kills trainings in every run
def test_a_killed_training_goes_on_where_it_was(streets, tiny, tmp_path):
    def start(max_epochs: int) -> subprocess.Popen:
        command = [sys.executable, train.__file__, "--data-root", streets, "--output", tmp_path, *tiny]
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


def test_a_loss_of_nan_ends_the_training_before_a_checkpoint_is_written(streets, tiny, tmp_path, fails_in_one_line):
    rate = ["optim_wrapper.optimizer.lr=1e30", "optim_wrapper.clip_grad=None"]
    line = fails_in_one_line(train.main, "--data-root", streets, "--output", tmp_path, *tiny, *rate)
    assert "NaN or infinite" in line or "the loss is" in line
    assert find_last(tmp_path) in (None, tmp_path / "epoch_1.pth")  # the first step is too large, and the second finds it


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("train_cfg.max_epochs=x", "max_epochs is 'x', but a whole number"),
        ("optim_wrapper.optimizer.lr=nan", "lr is nan, but a number from 0 on"),
        ("optim_wraper.optimizer.lr=1", "optim_wraper.optimizer.lr: no such setting"),
        ("model.backbone.trainable_stages=4", "parts of the network stay as they are, backbone.features.lite._conv_stem.weight"),
    ],
)
def test_settings_that_nothing_can_be_learned_with_are_refused(option, words, streets, tmp_path, fails_in_one_line):
    arguments = ("--data-root", streets, "--output", tmp_path, "--weights", "none", "--cfg-options", option)
    assert words in fails_in_one_line(train.main, *arguments)


def test_going_on_with_another_rate_is_refused_as_it_would_not_be_taken(trained, streets, tiny, fails_in_one_line):
    arguments = ["--data-root", streets, "--output", trained, *tiny, "optim_wrapper.optimizer.lr=0.5"]
    line = fails_in_one_line(train.main, *arguments)
    assert "and 0.5 would not be taken" in line
