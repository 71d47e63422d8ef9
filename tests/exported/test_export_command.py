"""scripts/export.py: what it writes, and what it refuses in one line."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from prediction.exported.model_folder import read_folder
from prediction.quantization import NUM_IMAGES

SCRIPT = Path(__file__).parents[2] / "scripts" / "export.py"


@pytest.fixture
def command(monkeypatch):
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("export_command", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.everything  # the exporter takes half a minute
def test_it_exports_one_size_compares_and_says_what_it_wrote(command, exported, tmp_path, monkeypatch, capsys):
    checkpoint, _ = exported("pan_secb")
    output = tmp_path / "model"
    arguments = ["--checkpoint", str(checkpoint), "--to", "onnx", "--size", "64x96", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["export.py", *arguments])
    command.main()
    printed = capsys.readouterr().out
    assert "opset 18, 64x96 pixels" in printed
    assert "onnxruntime agrees with torch to" in printed
    assert f"wrote {output / 'model.onnx'}" in printed
    assert read_folder(output).input.size == (64, 96)


@pytest.mark.everything  # the exporter takes half a minute
def test_int8_is_calibrated_on_the_images_given(command, exported, streets, tmp_path, monkeypatch, capsys):
    checkpoint, _ = exported("semantics")
    place = streets / "leftImg8bit" / "val"
    arguments = ["--checkpoint", str(checkpoint), "--int8", str(place), "--output", str(tmp_path / "model")]
    monkeypatch.setattr(sys, "argv", ["export.py", *arguments])
    command.main()
    number = len(list(place.rglob("*.png")))
    assert f"int8: {min(NUM_IMAGES, number)} of {number} images" in capsys.readouterr().out
    assert read_folder(tmp_path / "model").precision == "int8"


@pytest.mark.everything  # the exporter takes half a minute
def test_what_differs_from_torch_is_refused_and_deleted(command, exported, tmp_path, monkeypatch, fails_in_one_line):
    from prediction import onnx_export

    checkpoint, folder = exported("pan_secb")
    monkeypatch.setattr(onnx_export, "export", lambda _, path, *__: read_folder(shutil.copytree(folder, path)))
    arguments = ("--checkpoint", checkpoint, "--output", tmp_path / "model")
    for difference, words in ((0.1, "differs from torch by 1.0e-01"), (float("inf"), "finds other objects than torch")):
        monkeypatch.setattr(onnx_export, "largest_difference", lambda *_, value=difference: value)
        assert words in fails_in_one_line(command.main, *arguments)
        assert not list((tmp_path / "model").iterdir())
        (tmp_path / "model").rmdir()


def test_bad_arguments_are_refused_in_one_line(command, tmp_path, write_checkpoint, by_hand, fails_in_one_line):
    checkpoint = write_checkpoint(tmp_path / "last.ckpt")
    model = ("--checkpoint", checkpoint)
    assert "no such checkpoint" in fails_in_one_line(command.main, "--checkpoint", tmp_path / "none.ckpt")
    assert "HEIGHTxWIDTH in pixels is needed" in fails_in_one_line(command.main, *model, "--size", "512")
    assert "give one of both" in fails_in_one_line(command.main, *model, "--dynamic", "--size", "64x64")
    assert "such as 512x992" in fails_in_one_line(command.main, *model, "--size", "512x1000")
    assert "give one of both" in fails_in_one_line(command.main, *model, "--half", "--int8", tmp_path)
    assert "no images there" in fails_in_one_line(command.main, *model, "--int8", tmp_path)
    assert "is exported already" in fails_in_one_line(command.main, "--checkpoint", by_hand())
    assert "--to" in fails_in_one_line(command.main, *model, "--to", "tflite")
