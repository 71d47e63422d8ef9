"""What load_predictor, and with it --instances, --semantics and the pipeline, take for an exported model."""

import pytest

from prediction.models import is_exported, load_predictor
from prediction.pipeline import load_pipeline
from prediction.sources.find import Halves, HalvesSettings
from runtime.files import InputError


@pytest.mark.parametrize("name", ["model.onnx", "model.yaml"])
def test_an_exported_model_is_known_by_either_of_its_files(tmp_path, name):
    assert not is_exported(tmp_path)
    (tmp_path / name).touch()
    assert is_exported(tmp_path)
    assert is_exported(tmp_path / name)


def test_a_checkpoint_is_no_exported_model(tmp_path):
    (tmp_path / "best.ckpt").touch()
    assert not is_exported(tmp_path / "best.ckpt")


def test_half_of_an_exported_model_is_refused_wherever_it_is_given(tmp_path):
    (tmp_path / "model.onnx").touch()
    ways = (
        lambda: load_predictor(tmp_path),
        lambda: load_pipeline(tmp_path),
        lambda: load_pipeline(semantics=tmp_path),
        lambda: Halves(None, str(tmp_path), "model", HalvesSettings(checkpoint=tmp_path)).find(),
    )
    for way in ways:
        with pytest.raises(InputError, match=r"model\.yaml"):
            way()
