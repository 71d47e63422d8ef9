"""Convert eight Cityscapes labels of 1024x2048 pixels, against the official tools: on one thread, from label files to files."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType

import numpy as np
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from PIL import Image

from benchmarks.scenes import REPOSITORY, street_root
from benchmarks.side_by_side import Contest
from data.layouts.cityscapes import write_instances_json, write_panoptic

FOLDER = REPOSITORY / "outputs" / "benchmark" / "prepare"
SPLIT = "val"


def linked_root() -> Path:
    """The drawn data set by links, so that what is written stays out of it."""
    root = FOLDER / "ours"
    for folder in (f"leftImg8bit/{SPLIT}", f"gtFine/{SPLIT}"):
        link = root / folder
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(street_root() / folder)
    return root


def panoptic() -> Contest:
    """cityscapesscripts itself. Ours also checks the labels, and waits until each file is on the disk."""
    root, output = linked_root(), FOLDER / "official"

    def ours() -> Path:
        shutil.rmtree(root / "gtFine" / f"cityscapes_panoptic_{SPLIT}", ignore_errors=True)  # what is right would be kept
        return write_panoptic(root, SPLIT, workers=1)

    def theirs() -> Path:
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        with redirect_stdout(StringIO()):
            convert2panoptic(str(root / "gtFine"), str(output), setNames=[SPLIT])
        return output / f"cityscapes_panoptic_{SPLIT}.json"

    return Contest("prepare: panoptic PNG + JSON", 15, ours, theirs, are_equal_panoptic)


def are_equal_panoptic(ours: Path, theirs: Path) -> bool:
    """JSON equal as parsed, images in order of their ids; PNGs pixel by pixel."""
    found, expected = (json.loads(path.read_text()) for path in (ours, theirs))
    found.pop("info")  # of what it was made, which the official file does not say
    for content in (found, expected):
        content["images"].sort(key=lambda image: image["id"])
        content["annotations"].sort(key=lambda annotation: annotation["image_id"])
    names = [[picture.name for picture in sorted(path.with_suffix("").iterdir())] for path in (ours, theirs)]
    images = ([Image.open(path.with_suffix("") / name) for path in (ours, theirs)] for name in names[0])
    return found == expected and names[0] == names[1] and all(np.array_equal(*map(np.asarray, pair)) for pair in images)


def coco_instances() -> Contest:
    """mmdet's converter itself, its file loaded alone: mmdet as a whole needs compiled operators."""
    root, output, converter = linked_root(), FOLDER / "mmdet.json", load_mmdet_converter()

    def ours() -> Path:
        return write_instances_json(root, SPLIT, workers=1)

    def theirs() -> Path:
        with redirect_stdout(StringIO()):
            files = sorted(converter.collect_files(str(root / "leftImg8bit" / SPLIT), str(root / "gtFine" / SPLIT)))
        converter.cvt_annotations([converter.load_img_info(file) for file in files], str(output))
        return output

    def same(ours: Path, theirs: Path) -> bool:
        found = json.loads(ours.read_text())
        found.pop("info")  # as above
        return found == json.loads(theirs.read_text())

    return Contest("prepare: COCO instance JSON", 4, ours, theirs, same)


def load_mmdet_converter() -> ModuleType:
    """tools/dataset_converters/cityscapes.py of the mmdet that is installed."""
    package = Path(importlib.util.find_spec("mmdet").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("mmdet_cityscapes", package / ".mim/tools/dataset_converters/cityscapes.py")
    converter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(converter)
    return converter


ROWS: dict[str, Callable[[], Contest]] = {
    "prepare: panoptic PNG + JSON": panoptic,
    "prepare: COCO instance JSON": coco_instances,
}
