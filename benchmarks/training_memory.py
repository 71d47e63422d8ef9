"""Peak memory of training steps on a CPU, measured, against what `--plan` estimates for the same steps.

Each case is measured in two processes of their own, which train three steps on made-up data. In one, what a tensor leaves goes
back to the system at once (MALLOC_MMAP_THRESHOLD_), so that the peak is that of the tensors; in the other the C library does as
it does by default, and keeps much of it in pieces too small for the next tensor. The weights, which are there before, are left
out on all sides. Needs Linux and glibc.

    $ python -m benchmarks.training_memory
    $ python -m benchmarks.training_memory pan_secb
"""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.side_by_side import REPOSITORY, memory_status

if TYPE_CHECKING:
    from training.memory_plan import TrainingPlan  # torch, which the measuring process is without

STEPS = 3
RETURN_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": str(2**17), "MALLOC_TRIM_THRESHOLD_": "0"}
"""Settings of glibc: blocks of 128 KiB or more are the system's own."""
CONFIGS = {
    "efficientps": "efficientps/cityscapes_b5.yaml",
    "solov2": "solov2/cityscapes_r50.py",
    "panoptic_fpn": "panoptic_fpn/cityscapes_r50.yaml",
    "pan_secb": "pan_secb/cityscapes.yaml",
}
CASES = {
    "efficientps": ((1, 256, 512), (2, 256, 512), (1, 384, 768)),
    "solov2": ((1, 256, 512), (2, 256, 512), (1, 512, 1024)),
    "panoptic_fpn": ((1, 256, 512), (2, 256, 512), (2, 512, 1024)),
    "pan_secb": ((2, 256, 256), (2, 384, 384), (4, 384, 384)),
}
"""(images, height, width)."""


def measure(system: str, num_images: int, height: int, width: int, is_default: bool = False) -> tuple[int, int, float]:
    """(measured peak, estimated peak) in bytes without the weights, and the seconds of a step.

    Args:
        is_default: whether the C library manages memory as it does by default.
    """
    command = [sys.executable, "-m", "benchmarks.training_memory", system, *map(str, (num_images, height, width))]
    environment = os.environ | ({} if is_default else RETURN_AT_ONCE)
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=REPOSITORY, env=environment
    )
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def build_plan(system: str, num_images: int, height: int, width: int) -> "TrainingPlan":
    """The plan of a system's Cityscapes configuration, on a CPU, with this batch."""
    config = REPOSITORY / "configs" / CONFIGS[system]
    if system == "solov2":
        import solov2  # noqa: F401, first
        from solov2.memory_plan import build_plan as build
        from solov2.train import build_parser

        options = [
            f"train_dataloader.batch_size={num_images}",
            f"train_dataloader.dataset.dataset.pipeline.2.scale=({width},{height})",
        ]
        return build(build_parser().parse_args(["--config", str(config), "--device", "cpu", "--cfg-options", *options]))
    from training.arguments import lightning_arguments
    from training.command import build_plan as build

    module, options = _module_of(system)
    size = ["--data.crop_height", str(height), "--data.crop_width", str(width), "--data.batch_size", str(num_images)]
    given = ["--config", str(config), "--device", "cpu", "--precision", "32", *size]
    about = {"prog": "train.py", "description": "", "system": system, "default_config": config}
    return build(module, lightning_arguments(given, **about)[0], system=system, **options)


def _module_of(system: str) -> tuple[type, dict]:
    if system == "efficientps":
        from efficientps.module import EfficientPSModule

        return EfficientPSModule, {}
    if system == "panoptic_fpn":
        from panoptic_fpn.module import PanopticFPNModule

        return PanopticFPNModule, {}
    from pan_secb.datamodule import PanSECBDataModule
    from pan_secb.module import PanSECBModule

    return PanSECBModule, {"data": PanSECBDataModule, "linked": ("foreground_weights",)}


def _measure_here(system: str, num_images: int, height: int, width: int) -> tuple[int, int, float]:
    import torch

    warnings.filterwarnings("ignore")
    plan = build_plan(system, num_images, height, width)
    learning = [parameter for parameter in plan.module.parameters() if parameter.requires_grad]
    make = {"sgd": lambda: torch.optim.SGD(learning, 1e-5, momentum=0.9), "adamw": lambda: torch.optim.AdamW(learning, 1e-5)}
    Path("/proc/self/clear_refs").write_text("5")  # the peak of the imports is not the training's
    before = memory_status("VmRSS")
    optimizer, start = make[plan.optimizer](), perf_counter()
    for _ in range(STEPS):
        batch = plan.make_batch(num_images)
        batch["image"].normal_()
        loss = plan.loss(plan.module(batch["image"]), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = (perf_counter() - start) / STEPS
    measured = 1024 * (memory_status("VmHWM") - before)
    memory = plan.count([num_images])[num_images]
    return measured, plan.peak(memory) - memory.weights, seconds


def run(systems: Sequence[str]) -> None:
    """Print the table."""
    print("system        images  size        estimated    measured  error    by default  seconds a step, by default")
    for system in systems:
        for case in CASES[system]:
            measured, estimated, seconds = measure(system, *case)
            by_default, _, seconds_by_default = measure(system, *case, is_default=True)
            size = f"{case[1]}x{case[2]}"
            row = f"{system:<14}{case[0]:>6}  {size:<10}{estimated / 1e9:8.2f} GB {measured / 1e9:8.2f} GB"
            row += f" {estimated / measured - 1:+6.0%} {by_default / 1e9:10.2f} GB  {seconds:8.1f} {seconds_by_default:8.1f}"
            print(row, flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 5:
        print(json.dumps(_measure_here(sys.argv[1], *map(int, sys.argv[2:]))))
    else:
        run(sys.argv[1:] or list(CASES))
