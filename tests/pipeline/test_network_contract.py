"""What every network that is trained here does, whatever it is made of; a new one is one entry of NETWORKS."""

from pathlib import Path

import pytest
import torch

from data.loading.datamodule import PanopticDataModule
from tests.systems import NETWORKS, load_module, save
from training.checkpoints import load_weights, read_trained

ALL_NETWORKS = pytest.mark.parametrize("network", NETWORKS)


def batch_of(root: Path, module) -> dict:
    """Two whole images with their targets."""
    data = PanopticDataModule(root, val_batch_size=2)
    data.has_instances = module.needs_instances
    data.setup("validate")
    return next(iter(data.val_dataloader()))


def silence(module) -> None:
    """Let a module compute without a trainer that it would log to."""
    module.log = module.log_dict = lambda *args, **kwargs: None


def train(module, batch: dict, num_steps: int) -> list[float]:
    """The loss of each step on one batch."""
    silence(module)
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    losses = []
    for _ in range(num_steps):
        loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 10.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@ALL_NETWORKS
@pytest.mark.parametrize("data_set", ["streets", "boxes"])
def test_every_parameter_learns(network, data_set, data_sets):
    torch.manual_seed(0)
    module = load_module(network, data_sets[data_set])
    module.train()
    silence(module)
    module.training_step(batch_of(data_sets[data_set], module), 0).backward()
    learning = {name: p.grad for name, p in module.network.named_parameters() if p.requires_grad}
    assert [name for name, grad in learning.items() if grad is None or not grad.isfinite().all()] == []


@ALL_NETWORKS
def test_two_images_are_learned(network, data_sets):
    torch.manual_seed(0)
    module = load_module(network, data_sets["boxes"])
    module.train()
    losses = train(module, batch_of(data_sets["boxes"], module), 10)
    assert min(losses[-3:]) < 0.8 * losses[0]


@ALL_NETWORKS
def test_a_checkpoint_is_plain_and_builds_the_same_network(network, data_sets, tmp_path):
    torch.manual_seed(0)
    module = load_module(network, data_sets["boxes"])
    trained = read_trained(save(module, tmp_path / "last.ckpt"), "")
    assert trained.taxonomy.difference(module.taxonomy) is None
    assert {"system", "input_size", "normalization", "network"} <= set(trained.settings)
    other = load_module(network, data_sets["boxes"])
    load_weights(other.network, trained)
    image = torch.zeros(1, 3, 64, 96)
    outputs = [m.eval()(image) for m in (module, other)]
    torch.testing.assert_close(*outputs, rtol=0, atol=0)
