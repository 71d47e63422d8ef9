"""Networks on a device, with random weights: the forward pass of every system at 1024x2048, and training steps at 512x1024.

A forward pass ends where fusion, merging or clustering begin; Mask R-CNN's heads find their objects in it. A training step is
forward, loss, backward and AdamW's step of stage 2, on 4 crops of random content.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import solov2  # noqa: F401, before torch: it sets what torch reads when it is loaded

# isort: split
import torch
from torch import Tensor, nn

from data.taxonomy import CITYSCAPES
from detection.instance_head import InstanceHeadSettings
from efficientps.loss import hardest_pixels_loss
from efficientps.network import EfficientPS, SemanticEfficientPS
from pan_secb.network import PanSECB
from panoptic_fpn.network import NetworkSettings, PanopticFPN
from runtime.command_line import REPOSITORY
from solov2.settings import load_config
from solov2.weights import build_network

PRECISIONS = {"32 bits": None, "bf16": torch.bfloat16}
"""Name -> what autocast computes in; 32 bits are full ones, without TF32."""
FORWARD_SIZE, STEP_SIZE, STEP_BATCH = (1024, 2048), (512, 1024), 4
CLASSES, THINGS = CITYSCAPES.num_classes, list(CITYSCAPES.thing_ids)
HEAD = InstanceHeadSettings()


@dataclass(frozen=True)
class Measured:
    """One row. milliseconds: median of a pass or step. megabytes: peak of the device's memory, None on a CPU."""

    network: str
    what: str
    precision: str
    milliseconds: float
    images_per_second: float
    megabytes: float | None


def forward_passes() -> dict[str, Callable[[], tuple[nn.Module, Callable[[nn.Module, Tensor], object]]]]:
    """Network -> function that builds it and says how it is called."""
    config = REPOSITORY / "configs" / "solov2" / "cityscapes_r50.py"

    def two_heads(network: EfficientPS | PanopticFPN, image: Tensor) -> tuple:
        pyramid = network.pyramid(image)
        return network.semantic_head(pyramid[:4]), network.instance_head.detect(pyramid, [tuple(image.shape[-2:])])

    def grids(network: nn.Module, image: Tensor) -> tuple:
        return network.mask_head(network.extract_feat(image))

    def plain(network: nn.Module, image: Tensor) -> object:
        return network(image)

    head = {"anchor_sizes": HEAD.anchor_sizes}
    return {
        "SOLOv2 ResNet-50": lambda: (build_network(load_config(config).model, str(config)), grids),
        "EfficientPS semantics B5": lambda: (SemanticEfficientPS(CLASSES, "b5"), plain),
        "EfficientPS semantics Lite0": lambda: (SemanticEfficientPS(CLASSES, "lite0"), plain),
        "original EfficientPS B5": lambda: (EfficientPS(CLASSES, THINGS, head, variant="b5"), two_heads),
        "original EfficientPS Lite0": lambda: (EfficientPS(CLASSES, THINGS, head, variant="lite0"), two_heads),
        "Panoptic FPN ResNet-50": lambda: (PanopticFPN(CITYSCAPES.is_thing.tolist()), two_heads),
        "Panoptic FPN Lite0": lambda: (PanopticFPN(CITYSCAPES.is_thing.tolist(), NetworkSettings("lite0")), two_heads),
        "Pan-SECB": lambda: (PanSECB(CLASSES, len(THINGS)), plain),
    }


def measure(device: torch.device, repeats: int, forward_size=FORWARD_SIZE, step_size=STEP_SIZE) -> Iterator[Measured]:
    """All rows, one after the other."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    for name, build in forward_passes().items():
        for precision, dtype in PRECISIONS.items():
            torch.manual_seed(0)
            network, call = build()
            network = network.to(device, memory_format=torch.channels_last).eval()
            image = torch.randn(1, 3, *forward_size, device=device).contiguous(memory_format=torch.channels_last)

            @torch.inference_mode()
            def run(network=network, call=call, image=image, dtype=dtype) -> None:
                with _autocast(device, dtype):
                    call(network, image)

            yield _timed(name, "forward", precision, run, device, repeats, 1)
    for variant in ("lite0", "b5"):
        for precision, dtype in PRECISIONS.items():
            run = _step(variant, dtype, device, step_size)
            yield _timed(f"EfficientPS semantics {variant}", "step", precision, run, device, repeats, STEP_BATCH)


def _step(variant: str, dtype: torch.dtype | None, device: torch.device, size: tuple[int, int]) -> Callable[[], None]:
    torch.manual_seed(0)
    network = SemanticEfficientPS(CLASSES, variant).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    image = torch.randn(STEP_BATCH, 3, *size, device=device).contiguous(memory_format=torch.channels_last)
    target = torch.randint(CLASSES, (STEP_BATCH, *size), device=device)

    def run() -> None:
        with _autocast(device, dtype):
            loss = hardest_pixels_loss(network(image), target, 0.25)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def _autocast(device: torch.device, dtype: torch.dtype | None):
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def _timed(
    name: str, what: str, precision: str, run: Callable[[], None], device: torch.device, repeats: int, images: int
) -> Measured:
    """Time calls after some untimed ones, each until the device has ended."""
    is_cuda = device.type == "cuda"
    if is_cuda:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(repeats + max(1, repeats // 3)):
        start = time.perf_counter()
        run()
        if is_cuda:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[-repeats:])
    peak = torch.cuda.max_memory_allocated(device) / 1e6 if is_cuda else None
    return Measured(name, what, precision, 1000 * median, images / median, peak)
