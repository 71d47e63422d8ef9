"""The formats that can be imported."""

from importlib import import_module
from types import ModuleType

from runtime.files import InputError

LABEL_FORMATS = {
    "ade20k": "ade20k",
    "ade20k-150": "ade20k_150",
    "bdd100k": "bdd100k",
    "coco": "coco_instances",
    "cvat-coco": "cvat_coco",
    "cvat-masks": "cvat_masks",
    "kitti-step": "kitti_step",
    "label-studio": "label_studio",
    "labelme": "labelme",
    "png-pairs": "png_pairs",
    "segments-ai": "segments_ai",
    "supervisely": "supervisely",
    "vistas": "vistas",
}
"""Name -> module of this folder, see labels.py; a new format is one file and one line. `--help` needs the names alone."""


def load_format(name: str) -> ModuleType:
    """The module of a format.

    Raises:
        InputError: if there is none of this name.
    """
    if name not in LABEL_FORMATS:
        raise InputError(f"--from {name!r} is no known format; choose one of {', '.join(LABEL_FORMATS)}")
    return import_module(f"{__package__}.{LABEL_FORMATS[name]}")
