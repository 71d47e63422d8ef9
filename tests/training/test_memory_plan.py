"""What a training's memory is counted to be, against what follows from the shapes."""

import sys

import pytest
import torch
from torch import Tensor, nn

from data.taxonomy import CITYSCAPES, COCO_PANOPTIC
from efficientps import train_net
from panoptic_fpn import train as panoptic_fpn_train
from training import command
from training.memory_plan import GB, LiveStorages, TrainingPlan, count_steps, made_up_batch, planned_taxonomy

SIZE = (32, 64)
CHANNELS = 16
FLOAT = 4
MAP = CHANNELS * SIZE[0] * SIZE[1] * FLOAT
"""Bytes of a feature map of one image."""


class TwoConvolutions(nn.Module):
    """Of 1x1: their feature maps are all that it keeps."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Conv2d(c, CHANNELS, 1, bias=False) for c in (3, CHANNELS))

    def forward(self, image: Tensor) -> Tensor:
        return self.second(self.first(image))


def sum_of(outputs: Tensor, batch: dict) -> Tensor:
    """A loss that keeps nothing."""
    return outputs.sum()


def batch_of(num_images: int) -> dict:
    return {"image": torch.zeros(num_images, 3, *SIZE)}


def count(module: nn.Module | None = None, **options) -> dict:
    return count_steps(module or TwoConvolutions(), sum_of, batch_of, (1, 2, 5), **options)


def test_a_convolution_keeps_its_input_and_the_last_its_output():
    assert count()[1].kept == 2 * MAP


def test_each_part_is_linear_in_the_images():
    counted = count()
    assert counted[5].kept == 5 * counted[1].kept
    assert counted[5].batch == 5 * 3 * SIZE[0] * SIZE[1] * FLOAT
    assert counted[5].state == counted[1].state


def test_sgd_keeps_one_number_a_weight_that_learns_and_adamw_two():
    module = TwoConvolutions()
    module.first.requires_grad_(False)
    frozen, learning = 3 * CHANNELS * FLOAT, CHANNELS * CHANNELS * FLOAT
    for optimizer, copies in (("sgd", 1), ("adamw", 2)):
        counted = count(module, optimizer=optimizer)[1]
        assert counted.weights == frozen + learning
        assert counted.gradients == learning
        assert counted.optimizer == copies * learning
    assert count(module, num_averages=1)[1].optimizer == learning + frozen + learning


def test_gradients_of_earlier_batches_count_where_they_are_added_up():
    alone, together = count()[1], count(accumulates=True)[1]
    assert (alone.accumulated, together.accumulated) == (0, together.gradients)
    assert together.counted >= alone.counted


def test_bfloat16_halves_the_maps_and_adds_copies_of_the_weights_and_the_image():
    in_bfloat16 = 2
    weights, image = (3 + CHANNELS) * CHANNELS, 3 * SIZE[0] * SIZE[1]
    assert count(precision="bf16-mixed")[1].kept == MAP + in_bfloat16 * (weights + image)


def test_checkpoints_keep_less():
    kept = {}
    for is_checkpointed in (False, True):
        network = train_net_network()
        network.encoder.is_checkpointed = is_checkpointed
        kept[is_checkpointed] = count_steps(network, sum_of, batch_of, (1,))[1].kept
    assert kept[True] < 0.7 * kept[False]


def train_net_network() -> nn.Module:
    from efficientps.network import SemanticEfficientPS

    return SemanticEfficientPS(num_classes=19, variant="b0", fpn_channels=16)


def test_counting_leaves_a_network_as_it_was():
    network = train_net_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    count_steps(network, sum_of, batch_of, (1,))
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_what_is_counted_on_fake_tensors_is_what_lives_on_real_ones():
    network = train_net_network()
    counted = count_steps(network, sum_of, batch_of, (2,))[2]
    image = batch_of(2)["image"]
    with LiveStorages() as live:
        outputs = network(image)
    assert live.now == counted.kept
    assert len(outputs) == 2


def test_a_storage_counts_once_and_until_its_end():
    with LiveStorages() as live:
        first = torch.zeros(100)
        view = first[:50]
        assert live.now == 100 * FLOAT
        second = torch.zeros(10)
        del first
        assert live.now == 110 * FLOAT  # the view holds it
        del view, second
    assert (live.now, live.peak) == (0, 110 * FLOAT)


def test_a_made_up_batch_has_objects_that_share_no_pixel_and_boxes_that_hold_them():
    batch = made_up_batch(2, (64, 128), CITYSCAPES)
    (instances, _) = batch["instances"]
    assert instances["masks"].sum(0).max() == 1
    for mask, (left, top, right, bottom) in zip(instances["masks"], instances["boxes"].int().tolist()):
        assert mask.any()
        assert mask[top:bottom, left:right].sum() == mask.sum()
    assert set(batch["semantic"].unique().tolist()) == set(range(CITYSCAPES.num_classes))


def test_the_classes_are_those_of_the_layout_the_map_or_the_data(streets):
    assert planned_taxonomy(None, "auto", None, None) == CITYSCAPES
    assert planned_taxonomy(None, "coco", None, None) == COCO_PANOPTIC
    assert planned_taxonomy(None, "coco", None, "coco-supercategories").num_classes == 27
    assert planned_taxonomy(str(streets), "auto", None, None).difference(CITYSCAPES) is None


def test_plan_prints_and_trains_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "fit", lambda cli: pytest.fail("it trains"))
    small = ["--data.crop_height", "64", "--data.crop_width", "64", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["train_net.py", "--plan", "--data.batch_size", "3", *small])
    train_net.main()
    printed = capsys.readouterr().out
    assert "a batch of 3, 64x64, 32-true, adamw" in printed
    assert [line.split()[0] for line in printed.splitlines()[-5:]] == ["1", "2", "3", "4", "8"]
    assert not (tmp_path / "out").exists()


@pytest.mark.everything  # half a minute each
@pytest.mark.parametrize("gigabytes", [8, 16, 24])
@pytest.mark.parametrize("build", ["efficientps", "panoptic_fpn", "solov2"])
def test_a_preset_fits_its_card_and_sees_as_many_images_a_step(build, gigabytes):
    plan, images_a_step = preset(build, gigabytes)
    assert plan.batch_size * plan.accumulate == images_a_step
    memory = plan.count([plan.batch_size])[plan.batch_size]
    assert plan.peak(memory) < gigabytes * GB


def preset(system: str, gigabytes: int) -> tuple[TrainingPlan, int]:
    """A preset's plan, and the images a step that its rate is for."""
    if system == "solov2":
        import solov2  # noqa: F401, first
        from solov2.memory_plan import build_plan
        from solov2.train import build_parser

        config = f"configs/solov2/cityscapes_r50_{gigabytes}gb.py"
        return build_plan(build_parser().parse_args(["--config", config])), 8
    plan = lightning_plan(system, f"configs/{system}/cityscapes_{NETWORKS[system]}_{gigabytes}gb.yaml")
    return plan, plan.module.optimizer_settings.base_batch


NETWORKS = {"efficientps": "b5", "panoptic_fpn": "r50"}


def lightning_plan(system: str, config: str) -> TrainingPlan:
    """What the command with this configuration would count."""
    main = {"efficientps": train_net, "panoptic_fpn": panoptic_fpn_train}[system].main
    planned: list[TrainingPlan] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "print_plan", planned.append)
        patch.setattr(sys, "argv", ["train.py", "--plan", "--config", config])
        main()
    return planned.pop()
