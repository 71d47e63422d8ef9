"""Every system in the environment of `make runtime`, which has no torch: predict.py there writes what is predicted here."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from data.images import read_image
from data.panoptic_png import read_panoptic_png
from fusion.settings import FusionSettings
from prediction.fused import FusedPredictor, LogitRule, with_panoptic
from prediction.models import load_predictor
from runtime.command_line import REPOSITORY

PYTHON = REPOSITORY / ".venv-runtime" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="there is no .venv-runtime: make runtime")
SYSTEMS = {
    "two stages": ("solov2", "semantics"),
    "original EfficientPS": ("efficientps",),
    "Panoptic FPN": ("panoptic_fpn",),
    "Pan-SECB": ("pan_secb",),
}


def predict(*arguments: str | Path) -> None:
    """Run predict.py there."""
    command = [PYTHON, REPOSITORY / "scripts" / "predict.py", *arguments]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_torch_is_not_in_that_environment():
    for name in ("torch", "mmdet", "pytorch_lightning"):
        done = subprocess.run([str(PYTHON), "-c", f"import {name}"], capture_output=True, text=True)
        assert "ModuleNotFoundError" in done.stderr


@pytest.mark.everything  # five networks take the exporter minutes
@pytest.mark.parametrize("names", SYSTEMS.values(), ids=SYSTEMS)
def test_an_image_runs_through_every_system(exported, streets, tmp_path, names):
    folders = [exported(name)[1] for name in names]
    image = next((streets / "leftImg8bit" / "val").rglob("*.png"))
    rule = LogitRule(FusionSettings())
    if len(folders) == 1:
        models = ["--model", folders[0]]
        predictor = with_panoptic(load_predictor(folders[0]), rule)
    else:
        models = ["--instances", folders[0], "--semantics", folders[1]]
        predictor = FusedPredictor(*map(load_predictor, folders), rule)
    predict("--images", image, *models, "--output", tmp_path)
    (png,) = (tmp_path / "panoptic").glob("*.png")
    wanted = predictor.predict(image.stem, read_image(image)).panoptic
    np.testing.assert_array_equal(read_panoptic_png(png).segment_ids, wanted.segment_ids)
