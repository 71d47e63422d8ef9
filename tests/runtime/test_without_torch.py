"""Predictions are fused where nothing that trains is installed: in a process that finds none of these packages."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.instance_dump import read_instances, write_instances
from data.layouts.find import open_data_set
from data.panoptic_png import read_panoptic_png
from data.semantic_dump import SemanticLogits, read_semantic, write_semantic
from data.targets import panoptic_to_instance_logits, panoptic_to_semantic, semantic_to_logits
from data.taxonomy import CITYSCAPES
from fusion.logit_fusion import fuse
from runtime.command_line import REPOSITORY

ABSENT = (
    *("torch", "torchvision", "mmdet", "mmcv", "mmengine", "pytorch_lightning", "albumentations", "tensorboard", "matplotlib"),
    *("cityscapesscripts", "jinja2", "efficientnet_pytorch", "onnx", "transformers", "pyarrow"),
)
"""What the extra `train` brings, and other extras."""
MODULES = (
    *("data.instance_dump", "data.mask_pasting", "data.network_input", "data.resizing", "data.layouts.image_files"),
    *("fusion.embedding_clusters", "fusion.heuristic_merge", "fusion.logit_fusion", "fusion.solo_fusion", "runtime.device"),
    *("prediction.arguments", "prediction.compile_kernels", "prediction.fused", "prediction.models", "prediction.pipeline"),
    *("prediction.run", "prediction.score", "prediction.sources.find", "prediction.sources.onnx_model", "prediction.tiles"),
)
STRIDE = 4


def run_without(code: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    """Run Python code in a process where an import of what is absent fails."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({ABSENT})); sys.path.insert(0, {str(REPOSITORY)!r})\n"
    command = [sys.executable, "-c", blocked + code, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd="/")


def run_command(script: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    """Run a command of the repository in such a process."""
    code = f"import runpy; sys.argv[0] = {script!r}; runpy.run_path({str(REPOSITORY / script)!r}, run_name='__main__')"
    return run_without(code, *arguments)


@pytest.fixture(scope="module")
def halves(streets, tmp_path_factory):
    """An image of Streets, and its truth as a folder of instance dumps and one of semantic dumps: (image, folder, fused)."""
    split, folder = open_data_set(streets).split(), tmp_path_factory.mktemp("halves")
    image_id, truth = split.image_id(0), split.truth(0)
    about = {"image_id": image_id, "stride": STRIDE, "producer": "test"}
    instances = panoptic_to_instance_logits(truth, CITYSCAPES, **about)
    logits = semantic_to_logits(panoptic_to_semantic(truth, CITYSCAPES), CITYSCAPES, STRIDE, 3.0)
    semantic = SemanticLogits(image_id, *split.size(0), STRIDE, CITYSCAPES.name, "test", logits)
    write_instances(folder / "instances", instances)
    write_semantic(folder / "semantics", semantic)
    dumped = read_instances(folder / "instances", image_id, CITYSCAPES), read_semantic(folder / "semantics", image_id, CITYSCAPES)
    return split.image_path(0), folder, fuse(*dumped, CITYSCAPES)


def test_what_a_prediction_needs_is_imported_without_torch():
    done = run_without("import importlib\nfor name in sys.argv[1:]: importlib.import_module(name)", *MODULES)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", ["fusion/solo_fusion.py", "scripts/predict.py"])
def test_help_is_shown_without_torch(script):
    done = run_command(script, "--help")
    assert done.returncode == 0, done.stderr
    assert "--instances" in done.stdout


def test_files_are_fused_without_torch_as_with_it(halves, tmp_path):
    image, folder, expected = halves
    given = ("--images", image, "--instances", folder / "instances", "--semantics", folder / "semantics", "--output", tmp_path)
    done = run_command("fusion/solo_fusion.py", *given, "--keep", "panoptic", "instances", "semantic", "overlay")
    assert done.returncode == 0, done.stderr
    (png,) = (tmp_path / "panoptic").glob("*.png")
    found = read_panoptic_png(png)
    assert np.array_equal(found.segment_ids, expected.segment_ids)
    assert found.segments == expected.segments


def test_the_pipeline_works_without_torch(halves, tmp_path):
    image, folder, expected = halves
    code = """
import numpy as np
from prediction.pipeline import load_pipeline
image, instances, semantics, output = sys.argv[1:]
np.save(output, load_pipeline(instances=instances, semantics=semantics, images=image)(image).segment_ids)
"""
    done = run_without(code, image, folder / "instances", folder / "semantics", tmp_path / "ids.npy")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "ids.npy"), expected.segment_ids)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("last.ckpt", "last.ckpt: needs torch, which is not installed; install it by `pip install '.[train]'`"),
        ("epoch_6.pth", "epoch_6.pth: needs torch, which is not installed"),
        ("torchvision:maskrcnn_resnet50_fpn", "--instances torchvision:maskrcnn_resnet50_fpn: needs torch"),
    ],
)
def test_what_needs_torch_says_so_in_one_line(halves, tmp_path, given, complaint):
    image, folder, _ = halves
    files = ("--images", image, "--semantics", folder / "semantics", "--output", tmp_path)
    done = run_command("fusion/solo_fusion.py", *files, "--instances", given)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_gpu_is_refused_without_torch(halves, tmp_path):
    image, folder, _ = halves
    files = ("--images", image, "--semantics", folder / "semantics", "--instances", "none", "--output", tmp_path)
    done = run_command("fusion/solo_fusion.py", *files, "--device", "warp")
    assert done.stderr.startswith("error: device 'warp' cannot be used here (torch is not installed")
