"""A working copy in which the commands of the pages can be typed: the project, small data sets, and the demo's results."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from data.drawn.snapshots import SnapshotsSettings, ensure_snapshots
from data.drawn.streets import StreetsSettings, ensure_streets
from data.layouts.cityscapes import panoptic_json_path
from tests.documented.commands import REPOSITORY, Line, command_of, simple_commands
from tests.documented.settings import STAND_INS, TINY

SKIPPED = (".git", ".venv*", "outputs", "datasets", "weights", ".hypothesis", ".pytest_cache", ".ruff_cache", "*.egg-info")
SMALLER = {
    "data/drawn/streets.py": {"num_train: int = 400": "num_train: int = 4", "num_val: int = 60": "num_val: int = 3"},
    "data/drawn/snapshots.py": {"num_train: int = 240": "num_train: int = 4", "num_val: int = 40": "num_val: int = 3"},
}
"""The embedded data sets of the copy."""
SECONDS = 900
"""That a command may take, on a busy machine."""
WITHOUT_TORCH = """\
import sys

TRAINING = ("torch", "torchvision", "pytorch_lightning", "mmdet", "mmcv", "mmengine")


class Others:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in TRAINING else self.finder.find_spec(name, path, target)


sys.meta_path = [Others(finder) for finder in sys.meta_path]
"""
"""The sitecustomize of an environment in which what trains is not installed."""


def build(folder: Path) -> Path:
    """Make the working copy, with all that pages take for granted: the environment, the demo's results, the user's data sets."""
    shutil.copytree(REPOSITORY, folder, ignore=shutil.ignore_patterns(*SKIPPED), symlinks=True)
    for name, changes in SMALLER.items():
        text = (folder / name).read_text()
        for old, new in changes.items():
            assert text.count(old) == 1, f"{name} has no `{old}`; correct SMALLER"
            text = text.replace(old, new)
        (folder / name).write_text(text)
    (folder / ".venv").symlink_to(sys.prefix)
    add_runtime(folder)
    run(folder, "make -o .venv/.installed demo")
    add_data_sets(folder)
    add_networks(folder)
    add_files(folder)
    return folder


def add_runtime(folder: Path) -> None:
    """`.venv-runtime`: the same environment without what trains, as `make runtime` leaves it out."""
    blocked = folder / ".venv-runtime" / "blocked"
    blocked.mkdir(parents=True)
    (blocked / "sitecustomize.py").write_text(WITHOUT_TORCH)
    python = folder / ".venv-runtime" / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nPYTHONPATH=$PWD/.venv-runtime/blocked:$PYTHONPATH exec {sys.prefix}/bin/python "$@"\n')
    python.chmod(0o755)


def add_data_sets(folder: Path) -> None:
    """The user's, in the_users/, and `mydata` and `drive` where pages call them so."""
    users = folder / "the_users"
    cityscapes = ensure_streets(users / "cityscapes", StreetsSettings(128, 256, num_train=4, num_val=3, seed=1))
    for image in sorted((cityscapes / "leftImg8bit" / "val").rglob("*.png")):
        there = cityscapes / "leftImg8bit" / "test" / image.parent.name / image.name
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, there)
    ensure_snapshots(users / "coco", SnapshotsSettings(num_train=4, num_val=3, seed=2))
    listed = json.loads((users / "coco/annotations/panoptic_val2017.json").read_text())
    shutil.copytree(users / "coco/val2017", users / "coco/test2017")
    info = {"images": listed["images"], "categories": listed["categories"]}
    (users / "coco/annotations/image_info_test-dev2017.json").write_text(json.dumps(info))
    for root, categories in ((users / "photos", "all"), (users / "mine", "drawn"), (folder / "mydata", "drawn")):
        ensure_snapshots(root, SnapshotsSettings(num_train=4, num_val=3, seed=3, categories=categories))
        for split in ("train", "val"):  # the names of docs/custom_data.md
            (root / f"{split}2017").rename(root / split)
            (root / f"annotations/panoptic_{split}2017").rename(root / f"annotations/panoptic_{split}")
            (root / f"annotations/panoptic_{split}2017.json").rename(root / f"annotations/panoptic_{split}.json")
    (users / "mydata").symlink_to(folder / "mydata")


def add_networks(folder: Path) -> None:
    """Networks with random weights, and weight files under the names that their publishers gave them."""
    import torch
    import torchvision
    from efficientnet_pytorch import EfficientNet

    from solov2.settings import DEFAULT_CONFIG, load_config
    from solov2.weights import build_network
    from tests.systems import efficientps_module, save

    users = folder / "the_users"
    torch.manual_seed(0)
    for name in ("cityscapes", "coco"):
        save(efficientps_module(users / name), users / f"{name}.ckpt")
    save(efficientps_module(folder / "mydata"), users / "mydata.ckpt")
    torch.save(torchvision.models.resnet50().state_dict(), folder / "resnet50-0676ba61.pth")
    torch.save(EfficientNet.from_name("efficientnet-b5").state_dict(), folder / "b5.pth")
    solo = build_network(
        load_config(DEFAULT_CONFIG.with_name("cityscapes_r50.py"), {"model.backbone.init_cfg": None}).model, "test"
    )
    torch.save({"state_dict": solo.state_dict(), "meta": {}}, folder / "solov2_r50_fpn_1x_coco.pth")
    run(folder, "python scripts/import_weights.py resnet50-0676ba61.pth --for panoptic-fpn-r50 --output weights/r50.safetensors")
    run(
        folder, "python scripts/import_weights.py b5.pth --for efficientps-b5 --output weights/b5.safetensors"
    )  # what a download gives


def add_files(folder: Path) -> None:
    """Images, and the files of other tools that pages read."""
    users = folder / "the_users"
    images = sorted((users / "cityscapes/leftImg8bit/val").rglob("*.png"))
    shutil.copytree(images[0].parent, folder / "images")
    with Image.open(images[0]) as image:
        image.save(folder / "street.png")
        image.save(folder / "street.jpg")
        image.resize((900, 300)).save(folder / "panorama.png")
    run(folder, "python scripts/prepare_cityscapes.py --data-root the_users/cityscapes")
    truth = panoptic_json_path(users / "cityscapes", "val")
    shutil.copy(truth, folder / "a.json")
    shutil.copytree(truth.with_suffix(""), folder / "pngs")
    for name in ("class_maps", "results"):
        run(folder, f"python scripts/convert.py {truth} --to semantic --output {name}")
    boxes = [{"image_id": i.stem, "category_id": 3, "score": 0.9, "segmentation": rectangle(i)} for i in images]
    (folder / "predictions.json").write_text(json.dumps(boxes))
    run(folder, "python scripts/predict.py --checkpoint the_users/mydata.ckpt --data-root mydata --output outputs/mydata_val")


def rectangle(path: Path) -> dict:
    """A mask in the middle of an image, as run lengths of COCO."""
    from pycocotools import mask as coco_mask

    with Image.open(path) as image:
        width, height = image.size
    mask = np.zeros((height, width), np.uint8, order="F")
    mask[height // 2 : -8, width // 4 : width // 2] = 1
    encoded = coco_mask.encode(mask)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def link(source: Path, target: Path) -> Path:
    """A working copy of a working copy by hard links: what a command writes, it writes under another name first."""
    shutil.copytree(source, target, copy_function=os.link, symlinks=True)
    data = target / "the_users" / "mydata"
    data.unlink()
    data.symlink_to(target / "mydata")
    return target


def run(folder: Path, text: str, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess:
    """Type a line in a working copy; it must succeed."""
    done = type_line(folder, text, variables or {})
    assert done.returncode == 0, f"$ {text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def type_line(folder: Path, text: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess:
    """Type a line in a working copy, without network."""
    unset = ("CITYSCAPES_DATASET", "CITYSCAPES_DIR", "COCO_DATASET", "MAKEFLAGS", "MAKELEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    environment |= {"HF_HUB_OFFLINE": "1", "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    words = ["timeout", str(SECONDS), "bash", "-eo", "pipefail", "-c", text]
    return subprocess.run(words, cwd=folder, env=environment | variables, capture_output=True, text=True)


def as_typed(line: Line, root: Path) -> str:
    """A line with what a working copy has in place of what the user has, and with the flags that make it tiny."""
    parts, folder = re.split(r"( && |; | \| )", line.text), ""
    for k in range(0, len(parts), 2):
        if parts[k].startswith("cd "):
            folder = parts[k].removeprefix("cd ").strip()
            continue
        loose = parts[k].removeprefix("do ")
        found = None if loose.startswith(("for ", "done")) else next(map(command_of, simple_commands(loose)), None)
        if found is not None:
            script = f"{folder}/{found[0]}" if folder not in ("", "..") else found[0]
            parts[k] = with_flags(parts[k], f"{script} {' '.join(found[1])}")
    text = "".join(parts)
    for rule in STAND_INS:
        text = re.sub(rule.pattern, rule.value.replace("the_users/", f"{root}/the_users/"), text)
    return text


def with_flags(text: str, command: str) -> str:
    """A command with the flags of the first rule of TINY that fits; those that it has itself count, but for lengths and sizes."""
    rule = next((rule for rule in TINY if rule.fits(command)), None)
    if rule is None:
        return text
    flags, _, options = rule.value.partition(" --cfg-options ")
    if "--weights " in command:
        flags = flags.replace("--weights none", "")
    if "epoch_" in command or re.search(r"--epochs \d", command):
        flags = re.sub(r"--epochs \d+", "", flags)
    if options and "--cfg-options" in text:
        text, options = text.replace("--cfg-options", f"--cfg-options {quoted(options)}"), ""
    return " ".join(f"{text} {flags}".split()) + (f" --cfg-options {quoted(options)}" if options else "")


def quoted(options: str) -> str:
    """Settings of --cfg-options as words of a shell."""
    return " ".join(f"'{option}'" for option in options.split())
