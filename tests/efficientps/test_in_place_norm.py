"""Activated norms computed in place by inplace-abn: the function, gradients and checkpoints of the plain ones."""

import copy
import importlib.util
import os
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientps.loss import hardest_pixels_loss
from efficientps.network import SemanticEfficientPS
from efficientps.norm import ConvNormAct, NormAct, SeparableConv, set_norm
from efficientps.semantic_head import SemanticHead
from efficientps.two_way_fpn import TwoWayFPN
from runtime.files import InputError

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("inplace_abn") is None, reason="inplace-abn is not installed; make iabn builds it with a compiler"
)
# float32, a dozen layers: in place, what the gradient needs is computed back from the norm's output.
CLOSE = {"rtol": 1e-3, "atol": 1e-5}


def randomize_norms(network: nn.Module) -> None:
    """Scales of both signs, and statistics that are not those of the batch."""
    generator = torch.Generator().manual_seed(0)
    for norm in (m for m in network.modules() if isinstance(m, NormAct)):
        size = norm.weight.shape
        norm.weight.data = (torch.rand(size, generator=generator) + 0.5) * torch.randn(size, generator=generator).sign()
        norm.bias.data = torch.randn(size, generator=generator)
        norm.running_mean = torch.randn(size, generator=generator)
        norm.running_var = torch.rand(size, generator=generator) + 0.5


def plain_and_in_place(network: nn.Module, norm: str = "iabn") -> tuple[nn.Module, nn.Module]:
    randomize_norms(network)
    in_place = copy.deepcopy(network)
    set_norm(in_place, norm)
    return network, in_place


def compare(plain: nn.Module, in_place: nn.Module, *inputs: Tensor, run=lambda network, *inputs: network(*inputs)) -> None:
    """Outputs, gradients of inputs and parameters, and the norms' statistics after one pass."""
    results = []
    for network in (plain, in_place):
        leaves = [x.clone().requires_grad_() for x in inputs]
        output = run(network, *leaves)
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
        (output * weights).mean().backward()
        gradients = {name: p.grad for name, p in network.named_parameters()}
        results.append(({"output": output.detach()} | gradients | dict(network.named_buffers()), [x.grad for x in leaves]))
    for wanted, found in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(found, wanted, **CLOSE)
    for name, wanted in results[0][0].items():
        torch.testing.assert_close(results[1][0][name], wanted, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


@needs_package
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activated", [True, False])
def test_one_norm_gives_the_same_output_and_gradients(activated, training):
    norm = nn.Sequential(nn.Conv2d(3, 5, 1), NormAct(5, eps=1e-3, momentum=0.3, activated=activated))
    compare(*(n.train(training) for n in plain_and_in_place(norm)), torch.randn(2, 3, 4, 6))


@needs_package
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("is_separable", [True, False])
def test_pyramid_and_head_read_no_overwritten_feature(is_separable, training):
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.fpn, self.head = TwoWayFPN((3, 4, 5, 6), 8, is_separable), SemanticHead(8, 3)

        def forward(self, *features):
            return self.head(self.fpn(list(features)))

    torch.manual_seed(0)
    features = [torch.randn(2, c, 64 // s, 96 // s) for c, s in zip((3, 4, 5, 6), (4, 8, 16, 32))]
    compare(*(n.train(training) for n in plain_and_in_place(Decoder())), *features)


def one_step(network: nn.Module, norm: str, dtype: torch.dtype, memory_format: torch.memory_format) -> dict[str, Tensor]:
    """Loss, gradients of image and parameters, and the parameters and statistics after one step of SGD, as float64."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, 64, 128, generator=generator).to(dtype).contiguous(memory_format=memory_format).requires_grad_()
    target = torch.randint(0, 5, (2, 64, 128), generator=generator)
    network = copy.deepcopy(network).to(dtype).to(memory_format=memory_format)
    set_norm(network, norm)
    loss = hardest_pixels_loss(network(image), target, 0.25)
    loss.backward()
    results = {"loss": loss.detach(), "image": image.grad}
    results |= {f"gradient of {name}": p.grad for name, p in network.named_parameters()}
    torch.optim.SGD(network.parameters(), 0.01).step()
    return {name: tensor.double() for name, tensor in (results | network.state_dict()).items()}


def error(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """The largest relative difference of a tensor; what should be 0, such as a bias before a norm, counts as a thousandth."""
    floor = 1e-3 * max(tensor.norm() for name, tensor in wanted.items() if name.startswith("gradient"))
    return max(((found[name] - tensor).norm() / (tensor.norm() + floor)).item() for name, tensor in wanted.items())


@needs_package
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_whole_b0_learns_the_same_in_one_step(memory_format):
    torch.manual_seed(0)
    network = SemanticEfficientPS(5, "b0", fpn_channels=16)
    exact = one_step(network, "bn", torch.float64, memory_format)
    # The package holds eps as float32, so 1e-3 is off by 5e-8 of itself.
    assert error(one_step(network, "iabn", torch.float64, memory_format), exact) < 1e-5
    # In float32 a fresh B0's gradients carry an error of some percent, of either form: the coarsest level has 16 samples.
    plain = error(one_step(network, "bn", torch.float32, memory_format), exact)
    assert error(one_step(network, "iabn", torch.float32, memory_format), exact) < max(1e-2, 5 * plain)


@needs_package
def test_blocks_that_are_computed_twice_instead_of_kept_learn_the_same():
    torch.manual_seed(0)
    network = SemanticEfficientPS(5, "b0", fpn_channels=16)
    exact = one_step(network, "bn", torch.float64, torch.contiguous_format)
    network.encoder.is_checkpointed = True
    assert error(one_step(network, "iabn", torch.float64, torch.contiguous_format), exact) < 1e-5


@needs_package
def test_a_checkpoint_of_one_form_loads_in_the_other():
    torch.manual_seed(0)
    trained, image = SemanticEfficientPS(5, "b0", fpn_channels=16), torch.randn(1, 3, 64, 64)
    set_norm(trained, "iabn")
    trained(image)
    plain = SemanticEfficientPS(5, "b0", fpn_channels=16)
    plain.load_state_dict(trained.state_dict())
    back = copy.deepcopy(plain)
    set_norm(back, "iabn")
    back.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        wanted = trained.eval()(image)
        torch.testing.assert_close(plain.eval()(image), wanted, **CLOSE)
        assert torch.equal(back.eval()(image), wanted)


@needs_package
def test_in_place_a_third_of_the_feature_maps_is_kept_for_the_gradient():
    def num_kept(norm: str) -> int:
        network = nn.Sequential(*(ConvNormAct(4, 4, 3) for _ in range(6)))
        set_norm(network, norm)
        kept = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.setdefault(x.data_ptr(), x), lambda x: x):
            network(torch.randn(2, 4, 8, 8))
        return sum(x.shape == (2, 4, 8, 8) for x in kept.values())

    # The image, then of each layer the output; plain also the convolution's and the batch norm's, and not the last output.
    assert num_kept("iabn") == 1 + 6
    assert num_kept("bn") == 1 + 3 * 6 - 1


@needs_package
def test_no_objects_are_no_error():
    head = SeparableConv(4, 4).eval()
    set_norm(head, "iabn")
    assert head(torch.zeros(0, 4, 14, 14)).shape == (0, 4, 14, 14)


@needs_package
def test_bfloat16_is_refused():
    network = ConvNormAct(3, 4, 1)
    set_norm(network, "iabn")
    with pytest.raises(InputError, match="16-mixed"), torch.autocast("cpu", torch.bfloat16):
        network(torch.randn(1, 3, 4, 4))


def pooled_statistics(means: Tensor, variances: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of several processes, (P, C) and (P, 1) -> (C,) and (1,). The package has this step for CUDA only."""
    shares = counts / counts.sum()
    mean = (shares * means).sum(0)
    return mean, (shares * (variances + (means - mean).square())).sum(0), counts.sum(0)


@needs_package
def test_iabn_sync_takes_the_statistics_of_all_processes(tmp_path, monkeypatch):
    backend = importlib.import_module("inplace_abn.functions")._backend
    monkeypatch.setattr(backend, "reduce_statistics", pooled_statistics, raising=False)
    torch.manual_seed(0)
    batch = torch.randn(4, 3, 6, 6)
    plain, in_place = plain_and_in_place(nn.Sequential(nn.Conv2d(3, 5, 1), NormAct(5, momentum=0.3)), "iabn_sync")
    wanted = plain(batch)

    def work(rank: int) -> None:
        torch.distributed.init_process_group("gloo", f"file://{tmp_path}/meet", rank=rank, world_size=2)
        output = in_place(batch[2 * rank : 2 * rank + 2])
        F.mse_loss(output, torch.zeros_like(output)).backward()
        torch.save((output.detach(), in_place[0].weight.grad, in_place[1].running_var), tmp_path / f"{rank}.pt")

    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            try:
                work(rank)
                os._exit(0)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]

    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    torch.testing.assert_close(torch.cat([half[0] for half in halves]), wanted, **CLOSE)
    F.mse_loss(wanted, torch.zeros_like(wanted)).backward()
    torch.testing.assert_close((halves[0][1] + halves[1][1]) / 2, plain[0].weight.grad, **CLOSE)
    torch.testing.assert_close(halves[0][2], plain[1].running_var)


def test_without_the_package_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "inplace_abn", None)
    with pytest.raises(InputError, match="pip install --no-build-isolation inplace-abn") as error:
        set_norm(ConvNormAct(3, 4, 1), "iabn")
    assert "\n" not in str(error.value)


def test_an_unknown_norm_is_refused_with_the_choices():
    with pytest.raises(InputError, match="bn, iabn, iabn_sync"):
        set_norm(ConvNormAct(3, 4, 1), "gn")
