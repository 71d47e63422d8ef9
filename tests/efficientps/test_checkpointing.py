"""Gradient checkpointing of the encoder: the same step in less memory."""

import pytest
import torch

from efficientps.encoder import Encoder


def step(is_checkpointed: bool) -> tuple[Encoder, int]:
    """The encoder after one forward and backward pass in training mode, and the bytes that autograd kept between the two."""
    torch.manual_seed(0)
    encoder = Encoder("b0", norm_momentum=0.1).train()
    encoder.is_checkpointed = is_checkpointed
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = sum(feature.square().mean() for feature in encoder(image))
    loss.backward()
    return encoder, sum(kept.values())


@pytest.fixture(scope="module")
def steps() -> tuple:
    return step(False), step(True)


def test_gradients_are_the_same(steps):
    (plain, _), (checkpointed, _) = steps
    for (name, parameter), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(parameter.grad, other.grad), name


def test_running_statistics_are_updated_once_a_step(steps):
    (plain, _), (checkpointed, _) = steps
    others = dict(checkpointed.named_buffers())
    for name, buffer in plain.named_buffers():
        assert torch.equal(buffer, others[name]), name
    counts = {int(buffer) for name, buffer in others.items() if name.endswith("num_batches_tracked")}
    assert counts == {1}


def test_less_is_kept_for_the_gradient(steps):
    (_, plain), (_, checkpointed) = steps
    weights = sum(p.numel() * 4 for p in Encoder("b0").parameters())
    assert checkpointed - weights < 0.5 * (plain - weights)
    assert checkpointed < plain


def test_in_evaluation_nothing_is_computed_twice():
    encoder = Encoder("b0").eval()
    calls = []
    encoder.net._blocks[0].register_forward_hook(lambda *_: calls.append(1))
    encoder.is_checkpointed = True
    sum(f.mean() for f in encoder(torch.zeros(1, 3, 32, 32))).backward()
    assert len(calls) == 1
