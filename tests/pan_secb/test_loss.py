"""The loss against the ancestor's, written as loops over images, classes and objects; and scenes worked by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from pan_secb.loss import LossSettings, embedding_loss
from pan_secb.lovasz import lovasz_hinge
from pan_secb.network import EmbeddingOutput
from pan_secb.targets import EmbeddingTargets
from runtime.files import InputError

CAR, TRUCK = (next(k for k, c in enumerate(CITYSCAPES.categories) if c.name == name) for name in ("car", "truck"))
WEIGHTS = tuple(float(k) for k in range(2, 10))
SETTINGS = LossSettings(foreground_weights=WEIGHTS)


def reference(output: EmbeddingOutput, targets: EmbeddingTargets) -> dict[str, Tensor]:
    """SYSTEMS' description of the ancestor, one object after the other, over all pixels."""
    losses = {"instance": 0.0, "bandwidth": 0.0, "seed": 0.0}
    num_images, _, height, width = output.offsets.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack((y, x)).to(output.offsets.dtype) / 1024
    for b in range(num_images):
        embedding, seeds = output.offsets[b].tanh() + grid, output.seeds[b].sigmoid()
        instance = bandwidth = seed = 0.0
        is_labelled = targets.semantic[b] != VOID_TRAIN_ID
        for t, train_id in enumerate(CITYSCAPES.thing_ids):
            seed = seed + seeds[t][is_labelled & (targets.semantic[b] != train_id)].square().sum()
        for k, train_id in enumerate(targets.train_ids[b].tolist()):
            mask = targets.instance_map[b] == k + 1
            center = grid[:, mask].mean(1)
            sigmas = output.sigmas[b][:, mask]
            sigma = sigmas.mean(1)
            s = (10 * sigma).exp()
            distance = (s[:, None, None] * (embedding - center[:, None, None]).square()).sum(0)
            likeness = (-distance).exp()
            instance = instance + lovasz_hinge((2 * likeness - 1).view(1, -1), mask.view(1, -1))[0]
            bandwidth = bandwidth + (sigmas - sigma.detach()[:, None]).square().mean()
            t = CITYSCAPES.thing_ids.index(train_id)
            seed = seed + WEIGHTS[t] * (seeds[t] - likeness.detach())[mask].square().sum()
        count = max(1, len(targets.train_ids[b]))
        losses["instance"] = losses["instance"] + instance / count / num_images
        losses["bandwidth"] = losses["bandwidth"] + bandwidth / count / num_images
        losses["seed"] = losses["seed"] + seed / (height * width) / num_images
    losses["semantic"] = F.cross_entropy(output.semantic, targets.semantic, ignore_index=VOID_TRAIN_ID)
    total = losses["instance"] + 10 * losses["bandwidth"] + losses["seed"] + losses["semantic"]
    return losses | {"total": total}


def gradients(loss: Tensor, output: EmbeddingOutput) -> list[Tensor]:
    return [g for g in torch.autograd.grad(loss, output, retain_graph=True, allow_unused=True) if g is not None]


def in_a_batch(targets: EmbeddingTargets) -> EmbeddingTargets:
    """The scene, an image without objects, and the scene mirrored."""
    empty = torch.zeros_like(targets.semantic)
    return EmbeddingTargets(
        torch.cat((targets.semantic, empty, targets.semantic.flip(2))),
        torch.cat((targets.instance_map, empty.short(), targets.instance_map.flip(2))),
        [targets.train_ids[0], targets.train_ids[0][:0], targets.train_ids[0]],
    )


@pytest.mark.parametrize("num_sigma", [1, 2])
def test_losses_and_gradients_equal_those_of_loops_over_objects(targets, random_output, num_sigma):
    batch = in_a_batch(targets)
    output = random_output(3, *batch.semantic.shape[1:], num_sigma, torch.float64)
    found, expected = embedding_loss(output, batch, CITYSCAPES, SETTINGS), reference(output, batch)
    assert list(found) == list(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])
        torch.testing.assert_close(gradients(found[name], output), gradients(expected[name], output))


@pytest.mark.parametrize("sigma", [-0.5, 0.5, 2.0])
def test_they_are_equal_for_any_bandwidth(targets, random_output, sigma):
    # From clusters wider than the image to such where almost every distance underflows.
    output = random_output(1, *targets.semantic.shape[1:])
    output = output._replace(sigmas=output.sigmas + sigma - 1)
    torch.testing.assert_close(embedding_loss(output, targets, CITYSCAPES, SETTINGS), reference(output, targets))


def test_chunks_do_not_change_the_loss(targets, random_output, monkeypatch):
    batch = in_a_batch(targets)
    output = random_output(3, *batch.semantic.shape[1:])
    whole = embedding_loss(output, batch, CITYSCAPES)
    monkeypatch.setattr("pan_secb.loss.CHUNK", 2 * batch.semantic[0].numel())  # three objects: a chunk of two, one of one
    assert embedding_loss(output, batch, CITYSCAPES) == whole


def test_two_touching_objects_of_two_pixels_worked_by_hand():
    # One row of four pixels: objects {0, 1} and {2, 3}, centres 0.5 and 2.5. A unit is four pixels.
    targets = EmbeddingTargets(
        torch.full((1, 1, 4), CAR), torch.tensor([[[1, 1, 2, 2]]], dtype=torch.int16), [torch.tensor([CAR, CAR])]
    )
    s = math.log(2) / (0.5 / 4) ** 2  # half a pixel away is a likeness of 1/2, d pixels away 2 ** -(4 d^2)
    output = EmbeddingOutput(
        torch.zeros(1, 2, 1, 4),
        torch.full((1, 1, 1, 4), math.log(s) / 10),
        torch.full((1, 8, 1, 4), -100.0),  # seeds 0
        torch.zeros(1, 19, 1, 4),
    )
    losses = embedding_loss(output, targets, CITYSCAPES, pixels_per_unit=4)
    # Of each object: both inside have the error 2 - 2/2; outside it is at most 2 * 2 ** -9, 1.5 pixels away.
    # The two inside, wrong first, bring the IoU from 2/2 to 1/2 and 0: 1 * 1/2 + 1 * 1/2. The others change it no more.
    assert losses["instance"].item() == pytest.approx(1)
    assert losses["bandwidth"].item() == pytest.approx(0, abs=1e-12)
    assert losses["seed"].item() == pytest.approx(10 * 0.5**2)  # 10 (0 - 1/2)^2 for each of the four
    assert losses["semantic"].item() == pytest.approx(math.log(19))

    output.offsets[0, 1, 0, 2] = -math.atanh(1.5 / 4)  # the pixel at 2 points at 0.5, the centre of the other object
    losses = embedding_loss(output, targets, CITYSCAPES, pixels_per_unit=4)
    # To the first object it is an error of 2: IoU 2/2 to 2/3. Then the two inside, of error 1, to 1/3 and 0.
    first = 2 * 1 / 3 + 1 * 1 / 3 + 1 * 1 / 3
    # To its own it is two pixels away, an error of 2 - 2 * 2 ** -16; the other one's is still 1.
    second = (2 - 2**-15) * 1 / 2 + 1 * 1 / 2
    assert losses["instance"].item() == pytest.approx((first + second) / 2)


def test_crowds_and_void_have_no_seed_loss_but_crowds_count_for_other_classes(targets, random_output):
    output = random_output(1, *targets.semantic.shape[1:])
    seeds = torch.autograd.grad(embedding_loss(output, targets, CITYSCAPES)["seed"], output.seeds)[0][0]
    is_void = targets.semantic[0] == VOID_TRAIN_ID
    assert (seeds[:, is_void] == 0).all()
    car = CITYSCAPES.thing_ids.index(CAR)
    is_crowd = (targets.semantic[0] == CAR) & (targets.instance_map[0] == 0)
    assert is_crowd.sum() == 4
    others = [t for t in range(len(seeds)) if t != car]
    assert (seeds[car, is_crowd] == 0).all()
    assert (seeds[others][:, is_crowd] != 0).all()
    assert (seeds[:, ~is_void & ~is_crowd] != 0).all()


def test_seeds_and_centres_get_no_gradient_from_each_other(targets, random_output):
    output = random_output(1, *targets.semantic.shape[1:])
    losses = embedding_loss(output, targets, CITYSCAPES)
    found = torch.autograd.grad(losses["seed"], output, allow_unused=True)
    assert [g is None or not g.any() for g in found] == [True, True, False, True]


def test_weights_scale_the_total(targets, random_output):
    output = random_output(1, *targets.semantic.shape[1:])
    losses = embedding_loss(output, targets, CITYSCAPES, LossSettings(2.0, 3.0, 5.0, 7.0))
    parts = (losses["instance"], losses["bandwidth"], losses["seed"], losses["semantic"])
    torch.testing.assert_close(losses["total"], sum(w * part for w, part in zip((2, 3, 5, 7), parts, strict=True)))


def test_without_weights_every_class_has_the_ancestors(targets, random_output):
    output = random_output(1, *targets.semantic.shape[1:])
    tens = LossSettings(foreground_weights=(10.0,) * 8)
    assert embedding_loss(output, targets, CITYSCAPES) == embedding_loss(output, targets, CITYSCAPES, tens)


def test_an_image_of_void_alone_has_loss_0_and_a_gradient(random_output):
    output = random_output(1, 8, 8)
    targets = EmbeddingTargets(
        torch.full((1, 8, 8), VOID_TRAIN_ID), torch.zeros(1, 8, 8, dtype=torch.int16), [torch.zeros(0, dtype=torch.long)]
    )
    losses = embedding_loss(output, targets, CITYSCAPES)
    assert all(loss.item() == 0 for loss in losses.values())
    losses["total"].backward()
    assert (output.seeds.grad == 0).all()


def test_an_object_without_a_pixel_counts_for_nothing(targets, random_output):
    output = random_output(1, *targets.semantic.shape[1:])
    hidden = targets._replace(train_ids=[torch.cat((targets.train_ids[0], torch.tensor([TRUCK])))])
    torch.testing.assert_close(embedding_loss(output, hidden, CITYSCAPES), embedding_loss(output, targets, CITYSCAPES))


def test_sixteen_bits_are_computed_in_thirty_two(targets, random_output):
    output = random_output(1, *targets.semantic.shape[1:])
    short = EmbeddingOutput(*(values.bfloat16() for values in output))
    expected = embedding_loss(EmbeddingOutput(*(values.float() for values in short)), targets, CITYSCAPES)
    assert embedding_loss(short, targets, CITYSCAPES) == expected


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"seed_weight": -1.0}, "'seed': -1.0"),
        ({"instance_weight": math.nan}, "'instance': nan"),
        ({"foreground_weights": (1.0, 0.0)}, r"foreground_weights \(1.0, 0.0\), but numbers above 0"),
    ],
)
def test_weights_out_of_range_are_refused(settings, complaint):
    with pytest.raises(InputError, match=complaint):
        LossSettings(**settings)


def test_there_must_be_a_weight_for_each_thing_class(targets, random_output):
    output = random_output(1, *targets.semantic.shape[1:])
    with pytest.raises(InputError, match="3 foreground_weights, but cityscapes has 8 thing classes"):
        embedding_loss(output, targets, CITYSCAPES, LossSettings(foreground_weights=(1.0, 1.0, 1.0)))
