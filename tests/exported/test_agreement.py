"""What counts as agreement between an exported file and its network."""

from types import SimpleNamespace

import numpy as np
import torch

from prediction import onnx_export


def test_an_output_that_is_no_number_never_agrees(monkeypatch):
    given = {"first": np.zeros((1, 2)), "second": np.full((1, 2), np.nan)}
    monkeypatch.setattr(onnx_export, "Session", lambda _: SimpleNamespace(run=lambda *_: given))
    exportable = SimpleNamespace(
        multiple=4,
        example=lambda *_: (torch.zeros(1, 3, 4, 4),),
        network=lambda _: (torch.zeros(1, 2), torch.zeros(1, 2)),
    )
    folder = SimpleNamespace(outputs=["first", "second"], input=SimpleNamespace(size=None))
    assert np.isnan(onnx_export.largest_difference(exportable, folder))
    given["second"] = np.full((1, 2), 0.5)
    assert onnx_export.largest_difference(exportable, folder) == 0.5
