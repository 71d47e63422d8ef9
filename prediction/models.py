"""Any checkpoint or exported model of this project as a predictor: the file itself says which system reads it."""

from importlib import import_module
from pathlib import Path

from prediction.predictor import Predictor
from prediction.views import PLAIN, ViewSettings
from runtime.device import need_torch
from runtime.files import InputError, shorten

SYSTEMS = (
    "efficientps",
    "panoptic_fpn",
    "pan_secb",
)
"""Packages with a predictor.py that has load_predictor(path, device, views); a new system is one entry: docs/recipes.md."""
SOLOV2_SUFFIX = ".pth"
CHECKPOINTS = ("best.ckpt", "last.ckpt")
"""Names of a training's checkpoints, the better one first."""
EXPORTED_FILES = ("model.onnx", "model.yaml")
"""What scripts/export.py writes into a folder of its own."""


def load_predictor(path: Path, device: str = "cpu", views: ViewSettings = PLAIN) -> Predictor:
    """Load a checkpoint that any of the training commands wrote, or the newest in its output folder; or the folder of an exported
    model, which needs no torch.

    Raises:
        InputError: if it is missing, broken, or of no system of this project; or a checkpoint where there is no torch.
    """
    path = find_checkpoint(path)
    if is_exported(path):
        return import_module("prediction.exported.predictor").load_predictor(Path(path), device, views)
    need_torch(str(path))
    if Path(path).suffix == SOLOV2_SUFFIX:
        # mmengine's form; nothing else here writes it, and only solov2/ can read it.
        return import_module("solov2.predictor").load_predictor(path, device, views)
    from runtime.checkpoint_file import read_checkpoint_file  # imports torch, which a parser needs not

    content = read_checkpoint_file(path, "train a model first, or give another checkpoint")
    try:
        system = content["hyper_parameters"]["system"]
    except (KeyError, TypeError):
        system = None
    if system not in SYSTEMS:
        raise InputError(f"{path}: no checkpoint of {', '.join(SYSTEMS)} or solov2; give one that a training here has written")
    try:
        return import_module(f"{system}.predictor").load_predictor(path, device, views)
    except InputError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError, MemoryError) as error:  # settings of no network
        raise InputError(f"{path}: no network can be built of its settings ({shorten(error)}); train it again") from None


def find_checkpoint(given: str | Path) -> Path:
    """The checkpoint in a training's output folder; else what was given."""
    folder = Path(given).expanduser()
    if not folder.is_dir() or is_exported(folder):
        return folder
    for name in CHECKPOINTS:
        if (folder / name).is_file():
            return folder / name
    if (folder / "last_checkpoint").is_file():  # mmengine's
        need_torch(str(folder))
        last = import_module("solov2.checkpoints").find_last(folder)
        if last is not None:
            return Path(last)
    return folder


def is_exported(path: Path) -> bool:
    """Whether it is the folder of an exported model, or one of its two files; either may be missing."""
    path = Path(path)
    return path.name in EXPORTED_FILES or any((path / name).is_file() for name in EXPORTED_FILES)
