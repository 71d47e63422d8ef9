"""ERFNet's size and shapes, what the ancestor starts from, and what the network's numbers mean."""

import pytest
import torch
from torch import nn

from data.taxonomy import CITYSCAPES
from pan_secb.embeddings import bandwidth, coordinates, embed
from pan_secb.erfnet import WIDTHS, Decoder, Encoder, NonBottleneck1D
from pan_secb.loss import embedding_loss
from pan_secb.network import PanSECB
from pan_secb.targets import EmbeddingTargets
from runtime.files import InputError

THINGS, CLASSES = len(CITYSCAPES.thing_ids), CITYSCAPES.num_classes


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small_network(**settings) -> PanSECB:
    torch.manual_seed(0)
    return PanSECB(CLASSES, THINGS, width=0.25, **settings)


@pytest.mark.parametrize("channels", [16, 64, 128])
def test_a_residual_block_has_four_factorised_convolutions(channels):
    # Four of three taps with biases, two norms with a weight and a bias a channel.
    assert num_parameters(NonBottleneck1D(channels)) == 4 * (3 * channels**2 + channels) + 2 * 2 * channels


def test_encoder_and_decoder_have_the_parameters_of_the_published_network():
    # Blocks as above; a downsampler's convolution gives what the maximum does not: 13 of 16, 48 of 64, 64 of 128 channels.
    blocks = {c: 12 * c * c + 8 * c for c in WIDTHS}
    downsamplers = (3 * 9 * 13 + 13 + 2 * 16) + (16 * 9 * 48 + 48 + 2 * 64) + (64 * 9 * 64 + 64 + 2 * 128)
    upsamplers = (128 * 9 * 64 + 64 + 2 * 64) + (64 * 9 * 16 + 16 + 2 * 16)
    assert num_parameters(Encoder()) == downsamplers + 5 * blocks[64] + 8 * blocks[128]
    assert num_parameters(Decoder(20)) == upsamplers + 2 * blocks[64] + 2 * blocks[16] + (16 * 4 + 1) * 20
    # The paper's network for 20 classes: 2.06 million, as its authors' code counts them.
    assert round((num_parameters(Encoder()) + num_parameters(Decoder(20))) / 1e6, 2) == 2.06


def test_the_whole_network_is_one_encoder_and_three_decoders():
    decoders = sum(num_parameters(Decoder(outputs)) for outputs in (2 + 1, THINGS, CLASSES))
    assert num_parameters(PanSECB(CLASSES, THINGS)) == num_parameters(Encoder()) + decoders


@torch.no_grad()
@pytest.mark.parametrize("num_sigma", [1, 2])
def test_every_map_has_the_size_of_the_image(num_sigma):
    output = small_network(num_sigma=num_sigma).eval()(torch.randn(2, 3, 24, 40))
    assert [tuple(values.shape) for values in output] == [(2, n, 24, 40) for n in (2, num_sigma, THINGS, CLASSES)]


@torch.no_grad()
def test_training_starts_with_every_embedding_on_its_pixel_and_sigma_1():
    output = small_network(num_sigma=2)(torch.randn(1, 3, 16, 24))
    assert torch.equal(embed(output.offsets)[0], coordinates(16, 24))
    assert (output.sigmas == 1).all()


@torch.no_grad()
def test_memory_format_does_not_change_the_output():
    network, image = small_network().eval(), torch.randn(1, 3, 16, 24)
    plain = network(image)
    last = network.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain)


def test_one_graph_serves_every_size():
    # Nothing depends on what the image shows, so that a compiler and an exporter can take the network whole.
    network = small_network().eval()
    sides = {2: 8 * torch.export.Dim("rows", min=2, max=64), 3: 8 * torch.export.Dim("columns", min=2, max=64)}
    exported = torch.export.export(network, (torch.randn(1, 3, 32, 48),), dynamic_shapes=(sides,)).module()
    image = torch.randn(1, 3, 24, 80)
    torch.testing.assert_close(exported(image), network(image))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"width": 0.1}, "width 0.1, but 0.25 or more"),
        ({"num_sigma": 3}, "num_sigma 3; choose 1"),
        ({"num_things": 0}, "0 thing classes of 19"),
        ({"pixels_per_unit": 0}, "pixels_per_unit 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, complaint):
    with pytest.raises(InputError, match=complaint):
        PanSECB(**({"num_classes": CLASSES, "num_things": THINGS} | settings))


def test_a_pixel_has_the_same_place_in_a_crop_and_in_a_large_image():
    assert torch.equal(coordinates(8, 16), coordinates(64, 64)[:, :8, :16])
    y, x = coordinates(4, 5, pixels_per_unit=10)
    assert (y[3, 1].item(), x[3, 1].item()) == pytest.approx((0.3, 0.1))


def test_an_offset_reaches_at_most_one_unit():
    offsets = torch.tensor([100.0, -100.0]).view(2, 1, 1)  # tanh: +1 down, -1 to the left
    assert embed(offsets).flatten().tolist() == [1.0, -1.0]


def test_bandwidths_are_exp_10_sigma_and_finite():
    assert bandwidth(torch.tensor([0.0, 0.1, 1.0])).tolist() == pytest.approx([1, 2.718282, 22026.466], rel=1e-5)
    assert bandwidth(torch.tensor(1e4)).isfinite()


def test_every_part_of_the_loss_falls_on_one_image(targets):
    network = small_network(pixels_per_unit=256)
    targets = enlarge(targets, 4)
    objects = torch.stack([targets.instance_map == k for k in (1, 2, 3)], dim=1)
    image = objects + 0.1 * torch.randn(objects.shape)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        losses.append(embedding_loss(network(image), targets, CITYSCAPES, pixels_per_unit=network.pixels_per_unit))
        optimizer.zero_grad()
        losses[-1]["total"].backward()
        optimizer.step()
    for name in ("instance", "seed", "semantic"):
        assert losses[-1][name] < 0.6 * losses[0][name], name


def enlarge(targets: EmbeddingTargets, factor: int) -> EmbeddingTargets:
    """Every pixel as `factor` x `factor` of them."""
    semantic, numbers = (m.repeat_interleave(factor, 1).repeat_interleave(factor, 2) for m in targets[:2])
    return EmbeddingTargets(semantic, numbers, targets.train_ids)
