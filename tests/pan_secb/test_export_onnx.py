"""onnxruntime does what the network does, at sizes and batches that the exporter has not seen; the file says how to use it."""

import json
import sys
from pathlib import Path

import pytest
import torch

from data.input_size import InputSize
from data.taxonomy import Taxonomy
from pan_secb import export_onnx, onnx_file
from pan_secb.network import EmbeddingOutput
from pan_secb.predictor import load_predictor
from runtime.files import InputError

pytestmark = pytest.mark.slow  # the exporter takes ten seconds for any network
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "pan_secb.onnx"
    onnx_file.export(load_predictor(checkpoint), path)
    return path


@pytest.mark.parametrize("shape", [(1, 3, 40, 72), (3, 3, 128, 8)])
@torch.inference_mode()
def test_onnxruntime_gives_the_networks_outputs(exported, checkpoint, shape):
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = load_predictor(checkpoint).network(image)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    found = session.run(list(EmbeddingOutput._fields), {"image": image.numpy()})
    # 40 layers of float32 sums, each added up in another order.
    for values, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(values), wanted, rtol=1e-4, atol=1e-5)
        assert wanted.std() > 1e-3  # not a constant, which anything would match


def test_the_file_says_how_images_become_its_input_and_what_its_outputs_mean(exported, checkpoint):
    predictor = load_predictor(checkpoint)
    found = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map
    assert Taxonomy.from_coco_categories(found["taxonomy"], json.loads(found["categories"])) == predictor.taxonomy
    assert json.loads(found["normalization"]) == {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    assert InputSize(**json.loads(found["input_size"])) == predictor.network_input.size
    assert json.loads(found["size_multiple"]) == predictor.network_input.multiple
    assert json.loads(found["pixels_per_unit"]) == 128
    assert json.loads(found["clustering"])["min_seed"] == predictor.clustering.min_seed


def test_a_file_of_another_network_is_noticed(exported, checkpoint):
    network = load_predictor(checkpoint).network
    assert onnx_file.largest_difference(exported, network) < 1e-5
    with torch.no_grad():
        network.seed_decoder.output.bias += 0.1
    assert onnx_file.largest_difference(exported, network) == pytest.approx(0.1, rel=0.2)  # its seeds are below 1


def test_the_command_compares_and_refuses_what_differs(exported, checkpoint, tmp_path, monkeypatch, capsys, fails_in_one_line):
    arguments = ["--checkpoint", str(checkpoint), "--output", str(tmp_path / "new.onnx")]
    monkeypatch.setattr(onnx_file, "export", lambda predictor, path: path.write_bytes(exported.read_bytes()))
    monkeypatch.setattr(sys, "argv", ["export_onnx.py", *arguments])
    export_onnx.main()
    printed = capsys.readouterr().out
    assert "onnxruntime agrees with torch" in printed
    assert f"wrote {tmp_path / 'new.onnx'}" in printed
    monkeypatch.setattr(onnx_file, "largest_difference", lambda path, network: 0.1)
    assert "differs from the network by 1.0e-01" in fails_in_one_line(export_onnx.main, *arguments)
    assert "no such checkpoint" in fails_in_one_line(export_onnx.main, "--checkpoint", tmp_path / "none.ckpt")


def test_without_onnxruntime_the_error_says_what_to_install(exported, checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[onnx\]'"):
        onnx_file.largest_difference(exported, load_predictor(checkpoint).network)
