"""prediction/quantization.py: int8 is what float32 is, to a step of the range that its images showed."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from prediction.exported.model_folder import MODEL, SETTINGS, ModelFolder, read_folder
from prediction.exported.predictor import load_predictor
from prediction.quantization import NUM_FIRST, quantize, sensitive_convolutions
from runtime.files import InputError, read_yaml

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
NUM_CONVOLUTIONS = NUM_FIRST + 2
"""One between the first and the last: the only one that int8 computes."""


@pytest.fixture
def identity(by_hand) -> ModelFolder:
    """The model of conftest.py behind convolutions that give back what they get."""
    from onnx import helper, numpy_helper

    folder = by_hand()
    model = onnx.load(folder / MODEL)
    (pool,) = model.graph.node
    model.graph.initializer.append(numpy_helper.from_array(np.eye(3, dtype=np.float32)[:, :, None, None], "eye"))
    names = ["image", *(f"x{k}" for k in range(NUM_CONVOLUTIONS))]
    nodes = [helper.make_node("Conv", [a, "eye"], [b], name=b) for a, b in pairwise(names)]
    pool.input[0] = names[-1]
    del model.graph.node[:]
    model.graph.node.extend([*nodes, pool])
    onnx.save(model, folder / MODEL)
    return read_folder(folder)


def image_of(value: int) -> np.ndarray:
    return np.full((8, 8, 3), value, np.uint8)


def logit(folder: Path, value: int) -> float:
    """What the model says of an image of one value."""
    return float(load_predictor(folder).predict("a", image_of(value)).semantic.logits[0, 0, 0])


def test_int8_keeps_the_range_that_its_images_showed_and_clips_the_rest(identity, tmp_path):
    assert logit(identity.path, 200) == 200
    quantized = quantize(identity, [image_of(0), image_of(100)], tmp_path / "int8")
    assert quantized.precision == "int8"
    step = 100 / 255
    assert logit(quantized.path, 60) == pytest.approx(60, abs=step)
    assert logit(quantized.path, 200) == pytest.approx(100, abs=step)


def test_it_is_another_model_of_the_same_classes(identity, tmp_path):
    quantized = quantize(identity, [image_of(100)], tmp_path / "int8")
    assert quantized.taxonomy == identity.taxonomy
    assert load_predictor(quantized.path).fingerprint != load_predictor(identity.path).fingerprint
    changed = {"precision": "int8", "producer": f"{identity.producer}-int8"}
    assert read_yaml(quantized.path / SETTINGS) == read_yaml(identity.path / SETTINGS) | changed


def test_the_first_convolutions_and_the_last_one_stay_float32(identity):
    names = sensitive_convolutions(onnx.load(identity.model))
    assert names == [*(f"x{k}" for k in range(NUM_FIRST)), f"x{NUM_CONVOLUTIONS - 1}"]


def test_a_model_of_another_precision_is_refused(identity, tmp_path):
    with pytest.raises(InputError, match="is float16, but a float32 model is needed; export one without --half"):
        quantize(replace(identity, precision="float16"), [], tmp_path / "int8")
    assert not (tmp_path / "int8").exists()
