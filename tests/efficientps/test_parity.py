"""The network computes what the official one computes: its numbers on weights that anyone can rebuild."""

import json
import zlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from efficientps.network import SemanticEfficientPS
from efficientps.official_weights import official_names
from efficientps.weights import sources
from training.weights_file import load_weights_file, match, write_weights

PARITY = Path(__file__).parents[1] / "parity"
pytestmark = pytest.mark.parity


def official_tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weight that the parity numbers were made with."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    if len(shape) == 4:
        return torch.randn(shape, generator=generator) / (shape[1] * shape[2] * shape[3]) ** 0.5
    if name.endswith("running_var"):
        return torch.rand(shape, generator=generator) * 0.5 + 0.75
    if name.endswith("weight"):
        return torch.rand(shape, generator=generator) * 0.5 + 0.5
    return torch.randn(shape, generator=generator) * 0.1


@torch.no_grad()
@pytest.mark.parametrize("variant", ["b0", "b5"])
def test_all_nine_outputs_equal_the_official_ones(variant, tmp_path):
    network = SemanticEfficientPS(19, variant, is_separable=False).eval()
    names = official_names(network)
    shapes = {official: tuple(network.state_dict()[ours].shape) for ours, official in names.items()}
    checkpoint = {name: official_tensor(name, shape) for name, shape in shapes.items()}
    found = match(network.state_dict(), checkpoint, sources(network)[0])
    assert found.left_out == found.missing == []
    # Through the file that a user would make with scripts/import_weights.py.
    write_weights(tmp_path / "w.safetensors", found, source="official", checkpoint=Path(__file__), network=variant)
    load_weights_file(network, tmp_path / "w.safetensors")

    image = torch.randn(1, 3, 256, 512, generator=torch.Generator().manual_seed(0))
    features = network.encoder(image)
    pyramid = network.two_way_fpn(features)
    logits = F.interpolate(network.semantic_head(pyramid), scale_factor=4, mode="bilinear", align_corners=False)

    expected = json.loads((PARITY / "efficientps_stage2.json").read_text())[f"tf_efficientnet_{variant}"]
    outputs = [*features, *pyramid, logits]
    wanted = [*expected["features"], *expected["pyramid"], expected["logits"]]
    assert len(outputs) == 9
    for output, numbers in zip(outputs, wanted, strict=True):
        assert list(output.shape) == numbers["shape"]
        found = output.flatten()[numbers["index"]]
        error = (found - torch.tensor(numbers["value"])).abs().max() / numbers["std"]
        assert error < 1e-4
        torch.testing.assert_close(output.mean().item(), numbers["mean"], rtol=1e-4, atol=1e-4 * numbers["std"])
        torch.testing.assert_close(output.std().item(), numbers["std"], rtol=1e-4, atol=0)


def test_every_tensor_has_its_official_name_and_shape():
    rows = [line.split("\t") for line in (PARITY / "efficientps_official_keys.tsv").read_text().splitlines()]
    official = {name: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for name, shape in rows}
    network = SemanticEfficientPS(19, "b5", is_separable=False)
    ours = {name: tuple(network.state_dict()[key].shape) for key, name in official_names(network).items()}
    assert ours == official
