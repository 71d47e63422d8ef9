import pytest
import torch
import torch.nn.functional as F
from torch import nn

from efficientps.encoder import EFFICIENTNETS, Encoder, build_encoder
from efficientps.loss import hardest_pixels_loss
from efficientps.network import SemanticEfficientPS
from efficientps.norm import NormAct
from efficientps.two_way_fpn import TwoWayFPN


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("is_separable", "millions"), [(True, 25.8), (False, 27.9)])
def test_b5_has_the_parameters_of_the_paper_and_of_the_official_code(is_separable, millions):
    assert round(num_parameters(SemanticEfficientPS(19, "b5", is_separable=is_separable)) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("variant", "channels"), [("b0", (24, 40, 112, 1280)), ("b4", (32, 56, 160, 1792)), ("b5", (40, 64, 176, 2048))]
)
def test_features_have_the_official_widths(variant, channels):
    assert Encoder(variant).channels == channels


@torch.no_grad()
@pytest.mark.parametrize("variant", EFFICIENTNETS[:4])
def test_features_have_strides_4_8_16_32(variant):
    features = Encoder(variant).eval()(torch.randn(1, 3, 64, 128))
    assert [tuple(f.shape[-2:]) for f in features] == [(16, 32), (8, 16), (4, 8), (2, 4)]


def test_an_unknown_variant_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"b0, b1, .*, lite2"):
        build_encoder("b9", 0.01)


def test_no_squeeze_and_excitation_and_no_swish_remain():
    names = {type(m).__name__ for m in Encoder("b0").modules()}
    assert not {"MemoryEfficientSwish", "Swish", "BatchNorm2d"} & names
    assert not [name for name, _ in Encoder("b0").named_parameters() if "_se_" in name]


def test_norm_scales_by_the_absolute_weight_plus_eps():
    norm = NormAct(3, eps=1e-3).eval()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    plain = nn.BatchNorm2d(3, eps=1e-3).eval()
    plain.load_state_dict(norm.state_dict())
    plain.weight.data = norm.weight.data.abs() + 1e-3
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(norm(x), F.leaky_relu(plain(x), 0.01))


def test_norm_keeps_running_statistics_like_batch_norm():
    norm, plain = NormAct(3, momentum=0.3), nn.BatchNorm2d(3, momentum=0.3)
    for _ in range(3):
        x = torch.randn(4, 3, 5, 5)
        norm(x), plain(x)
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)
    assert norm.num_batches_tracked == plain.num_batches_tracked == 3


def test_both_ways_of_the_fpn_reach_every_level():
    fpn = TwoWayFPN((4, 4, 4, 4), channels=8).eval()
    features = [torch.randn(1, 4, 64 // s, 64 // s, requires_grad=True) for s in (4, 8, 16, 32)]
    for level in fpn(features):
        gradients = torch.autograd.grad(level.sum(), features, retain_graph=True)
        assert all((g != 0).any() for g in gradients)


def test_network_overfits_one_image():
    torch.manual_seed(0)
    network = SemanticEfficientPS(3, "b0", fpn_channels=32, norm_momentum=0.1)
    target = torch.zeros(1, 64, 64, dtype=torch.long)
    target[:, 32:], target[:, :, 48:] = 1, 2
    image = 0.1 * torch.randn(1, 3, 64, 64) + F.one_hot(target, 3).permute(0, 3, 1, 2)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    first = None
    for _ in range(25):
        loss = hardest_pixels_loss(network(image), target)
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2 * first
