"""What the flags of train.py do: precision, accumulated gradients, averages, the rate, and a training that was killed."""

import os

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.utils import register_all_modules
from mmengine import Config
from mmengine.hooks import Hook
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn
from torch.utils._pytree import tree_leaves

from runtime.files import InputError
from solov2 import train
from solov2.checkpoints import read_checkpoint
from solov2.progress_display import ShortLogRunner
from solov2.training_options import apply_training_options
from training.seeds import seed_generators


def apply(config: Config, *arguments: str, num_processes: int = 1) -> list[str]:
    return apply_training_options(config, train.build_parser().parse_args(list(arguments)), num_processes)


@pytest.fixture
def run_train(monkeypatch, streets, tiny):
    """Train the tiny model; further arguments, then further --cfg-options."""

    def run(folder, *arguments, options: tuple[str, ...] = ()) -> None:
        words = ["train.py", *arguments, "--data-root", streets, "--output", folder, *tiny, *options]
        monkeypatch.setattr("sys.argv", list(map(str, words)))
        train.main()

    return run


def assert_same(first: object, second: object) -> None:
    """Nested containers of tensors and numbers, equal to the last bit."""
    for a, b in zip(tree_leaves(first), tree_leaves(second), strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize(
    ("num_workers", "precision"), [(0, ()), (0, ("--precision", "bf16")), pytest.param(1, (), marks=pytest.mark.slow)]
)
def test_a_killed_training_goes_on_bit_for_bit(num_workers, precision, run_train, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)  # elsewhere it is slow, not another arithmetic
    # One image a step, so that order and flips show in the weights; small ones, as many steps are needed.
    options = ("train_dataloader.batch_size=1", f"train_dataloader.num_workers={num_workers}", "train_cfg.max_epochs=3")
    options += ("train_dataloader.dataset.dataset.pipeline.2.scale=(192,96)",)
    run_train(tmp_path / "a", *precision, "--seed", "3", options=options)

    class Killed(Exception):
        pass

    def stop(hook, runner) -> None:
        if runner.epoch == 1:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("solov2.epoch_seeds.EpochSeedHook.after_train_epoch", stop)
        with pytest.raises(Killed):
            run_train(tmp_path / "b", *precision, "--seed", "3", options=options)
    assert not (tmp_path / "b/epoch_2.pth").exists()
    run_train(tmp_path / "b", *precision, "--seed", "3", options=options)
    undisturbed, resumed = (read_checkpoint(tmp_path / name / "epoch_3.pth") for name in ("a", "b"))
    for part in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers"):
        assert_same(undisturbed[part], resumed[part])


def test_epochs_seed_and_workers_change_the_config_and_the_schedule_keeps_its_shape(tiny_config):
    tiny_config.train_cfg.max_epochs = tiny_config.param_scheduler[1].end = 10
    steps = dict(type="MultiStepLR", milestones=[6, 9], end=10)
    tiny_config.param_scheduler = [*tiny_config.param_scheduler, steps]
    apply(tiny_config, "--epochs", "20", "--seed", "7", "--workers", "1", "--accumulate", "3")
    assert tiny_config.train_cfg.max_epochs == 20
    assert [scheduler.get("end") for scheduler in tiny_config.param_scheduler] == [100, 20, 20]  # the first counts steps
    assert tiny_config.param_scheduler[2].milestones == [12, 18]
    assert tiny_config.randomness.seed == 7
    assert type(tiny_config.randomness.seed) is int  # mmengine writes it into checkpoints, which hold plain types only
    assert tiny_config.train_dataloader.num_workers == 1
    assert tiny_config.optim_wrapper.accumulative_counts == 3


def test_averaged_weights_are_not_trained_on_without_their_average(run_train, tmp_path, fails_in_one_line, tiny, streets):
    run_train(tmp_path, options=("train_cfg.max_epochs=1",))
    words = ("--data-root", streets, "--output", tmp_path, "--ema-decay", "0", *tiny, "train_cfg.max_epochs=2")
    assert "holds averaged weights" in fails_in_one_line(train.main, *words)
    assert not (tmp_path / "epoch_2.pth").exists()


def test_processes_and_epochs_draw_other_numbers():
    drawn = []
    for words in ((0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0, 1), (0, 0, 0)):
        seed_generators(words)
        drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[-1]
    assert len(set(drawn)) == 4


def test_an_accumulated_step_is_that_of_the_mean_gradient(streets, tiny_config, on_data, tmp_path):
    options = {
        "work_dir": str(tmp_path),
        "train_dataloader.batch_size": 1,
        "train_cfg.max_epochs": 1,
        "train_dataloader.dataset.dataset.pipeline.3.prob": 0.0,  # no flips
        "model.backbone.norm_eval": True,  # statistics of a batch would differ
        "optim_wrapper.optimizer.type": "SGD",
        "optim_wrapper.clip_grad": None,
        "param_scheduler.0.start_factor": 1.0,
        "param_scheduler.1.eta_min": tiny_config.optim_wrapper.optimizer.lr,
    }
    tiny_config.merge_from_dict(options)
    on_data(tiny_config, streets)
    apply(tiny_config, "--accumulate", "2", "--ema-decay", "0")
    runner = ShortLogRunner.from_cfg(tiny_config)
    before = {}

    class Keep(Hook):
        def before_train(self, runner) -> None:
            before.update((name, p.detach().clone()) for name, p in runner.model.named_parameters())

    runner.register_hook(Keep())
    runner.train()  # two images: one step
    model = MODELS.build(tiny_config.model)
    model.load_state_dict(runner.model.state_dict() | before)
    model.train()
    dataset = DATASETS.build(tiny_config.train_dataloader.dataset)
    for k in range(2):
        sample = dataset[k]
        batch = model.data_preprocessor({"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}, training=True)
        (sum(model.loss(batch["inputs"], batch["data_samples"]).values()) / 2).backward()
    rate, decay = tiny_config.optim_wrapper.optimizer.lr, tiny_config.optim_wrapper.optimizer.weight_decay
    for name, parameter in model.named_parameters():
        expected = before[name] - rate * (parameter.grad + decay * before[name])
        torch.testing.assert_close(dict(runner.model.named_parameters())[name], expected, rtol=1e-5, atol=1e-7, msg=name)


def test_losses_in_bfloat16_are_close_to_those_in_float32(streets, tiny_config, on_data):
    on_data(tiny_config, streets)
    register_all_modules()
    torch.manual_seed(0)
    model, sample = MODELS.build(tiny_config.model), DATASETS.build(tiny_config.train_dataloader.dataset)[0]
    batch = model.data_preprocessor({"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}, training=True)
    expected = model.loss(batch["inputs"], batch["data_samples"])
    with torch.autocast("cpu", torch.bfloat16):
        found = model.loss(batch["inputs"], batch["data_samples"])
    sum(found.values()).backward()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=0.05), name  # 8 bits of mantissa, many layers
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("precision", "dtype", "scale"), [("fp16", "float16", "dynamic"), ("bf16", "bfloat16", 1.0)])
def test_mixed_precision_is_used_where_it_is_and_falls_back_with_a_line(precision, dtype, scale, tiny_config, monkeypatch):
    given = tiny_config.optim_wrapper.to_dict()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert apply(tiny_config, "--precision", precision) == [f"no {dtype} on this CPU: training in float32"]
    assert tiny_config.optim_wrapper.to_dict() == {"type": "OptimWrapper"} | given
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert apply(tiny_config, "--precision", precision) == [f"training in {dtype} where it is safe"]
    wrapper = tiny_config.optim_wrapper
    assert (wrapper.type, wrapper.dtype, wrapper.loss_scale) == ("AmpOptimWrapper", dtype, scale)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    has_fallen_back = "no bfloat16 on this GPU: training in float32" in apply(tiny_config, "--precision", precision)
    assert has_fallen_back == (precision == "bf16")


def test_a_cpu_with_bfloat16_trains_in_it(tiny_config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    given = tiny_config.optim_wrapper.to_dict()
    assert apply(tiny_config, "--precision", "fp16") == ["no float16 on this CPU: training in float32"]
    assert apply(tiny_config, "--precision", "bf16") == ["training in bfloat16 where it is safe"]
    assert tiny_config.optim_wrapper.to_dict() == given | {"type": "CPUBfloat16OptimWrapper"}
    layer = nn.Conv2d(3, 4, 3)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    wrapper = OPTIM_WRAPPERS.build(dict(type="CPUBfloat16OptimWrapper", optimizer=optimizer, accumulative_counts=2))
    with wrapper.optim_context(layer):
        features = layer(torch.ones(1, 3, 8, 8))
    assert features.dtype == torch.bfloat16
    before = layer.weight.detach().clone()
    wrapper.update_params(features.float().mean())
    assert torch.equal(layer.weight, before)  # the first of two batches
    wrapper.update_params(layer(torch.ones(1, 3, 8, 8)).mean())
    assert not torch.equal(layer.weight, before)
    assert layer.weight.dtype == torch.float32


def test_the_rate_follows_the_images_a_step_and_is_told(tiny_config):
    tiny_config.auto_scale_lr = dict(enable=False, base_batch_size=4)
    rate = tiny_config.optim_wrapper.optimizer.lr  # batches of 2
    assert apply(tiny_config, num_processes=8) == []
    assert tiny_config.optim_wrapper.optimizer.lr == rate
    lines = apply(tiny_config, "--scale-lr", "--accumulate", "3", num_processes=8)
    assert lines == [f"learning rate {12 * rate:g} for 48 images a step: {rate:g} is for 4"]
    assert tiny_config.optim_wrapper.optimizer.lr == pytest.approx(12 * rate)
    assert not tiny_config.auto_scale_lr.enable  # mmengine must not do it again
    tiny_config.auto_scale_lr.enable = True
    assert apply(tiny_config, "--no-scale-lr") == []
    tiny_config.auto_scale_lr = None
    with pytest.raises(InputError, match=r"needs auto_scale_lr\.base_batch_size"):
        apply(tiny_config, "--scale-lr")


def test_the_average_is_set_added_and_left_out(tiny_config):
    apply(tiny_config, "--ema-decay", "0.9")
    average, seeds = tiny_config.custom_hooks
    assert (average["type"], average["momentum"], average["gamma"]) == ("EMAHook", pytest.approx(0.1), 200)
    assert seeds["type"] == "EpochSeedHook"
    tiny_config.custom_hooks = []
    apply(tiny_config, "--ema-decay", "0.99")
    assert tiny_config.custom_hooks[0]["momentum"] == pytest.approx(0.01)
    tiny_config.custom_hooks = tiny_config.custom_hooks[:1]
    apply(tiny_config, "--ema-decay", "0")
    assert [hook["type"] for hook in tiny_config.custom_hooks] == ["EpochSeedHook"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ema-decay", "1"), "--ema-decay is 1.0, but a share from 0 to below 1"),
        (("--accumulate", "0"), "--accumulate 0: does not conform to restriction v>0"),
        (("--launcher", "pytorch"), "--launcher pytorch needs processes that torchrun has started"),
    ],
)
def test_bad_values_fail_in_one_line(arguments, message, streets, tmp_path, tiny, fails_in_one_line):
    assert "RANK" not in os.environ
    assert message in fails_in_one_line(train.main, *arguments, "--data-root", streets, "--output", tmp_path, *tiny)
