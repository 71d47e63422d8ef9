"""How much memory a training step takes, counted without that memory and without data: `--plan` of the training commands.

The network runs forward and backward on fake tensors (torch._subclasses), which have shapes and storages but no bytes; each
storage is counted from its creation to its end. A loss looks at values, so it runs for real, with convolutions and matrix
products left uncomputed, on a made-up truth and on what the network says of a small image, enlarged. What neither sees,
libraries' own workspaces and room lost between blocks, is a stated share on top.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from data.class_map import class_map_of
from data.layouts.find import open_data_set
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, Taxonomy

GB = 10**9
"""A card of 8 GB has 8 * 2**30 bytes, of which its driver takes a part: 8 * 10**9 are left to the training."""
CARDS = (8, 16, 24, 40, 80)
"""Memory of usual GPUs, in GB."""
BATCHES = (1, 2, 4, 8)
"""Of the table."""
OPTIMIZER_COPIES = {"sgd": 1, "adamw": 2}
"""Numbers that an optimiser keeps of each one that learns: the momentum; the mean and the mean square of the gradient."""
NUM_OBJECTS = 20
"""Of the made-up truth, an image: an assumption, which matters to SOLOv2, whose loss grows with the objects."""
SMALL = (128, 256)
"""Height and width, in pixels, of the image that the network really sees."""
DTYPES = {"bf16": torch.bfloat16, "16": torch.float16, "fp16": torch.float16}
"""First part of a precision's name -> what it computes in where it is safe."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step. The parts on which the sum depends have their own lines in describe_plan."""

    weights: int
    """Parameters and buffers."""
    gradients: int
    optimizer: int
    batch: int
    """Images and truth."""
    kept: int
    """What the network's forward pass leaves for its backward pass, the outputs included."""
    backward: int
    """The most that lives during the network's backward pass, what is kept included."""
    loss: int
    """The most that lives while the loss and its gradient are computed, beside what the network keeps."""
    loss_forward: int
    """The same without its gradient."""
    accumulated: int
    """Gradients of earlier batches that are there while new ones are computed."""

    @property
    def state(self) -> int:
        """What is there also between the steps."""
        return self.weights + self.gradients + self.optimizer

    @property
    def counted(self) -> int:
        """The peak of what has been counted.

        The gradients of one step stay until the loss of the next is known, as Lightning has it. An optimiser's step may hold a
        second copy of them.
        """
        forward = self.gradients + self.batch + self.kept + self.loss_forward
        loss = self.accumulated + self.batch + self.kept + self.loss
        backward = self.gradients + self.batch + self.backward
        return self.weights + self.optimizer + max(2 * self.gradients, forward, loss, backward)

    def for_batch(self, num_images: int, of_two: "StepMemory") -> "StepMemory":
        """The step with more images, from this one of one image and that of two: each part is linear in the images."""
        pairs = {field.name: (getattr(self, field.name), getattr(of_two, field.name)) for field in fields(self)}
        return StepMemory(**{name: one + (num_images - 1) * (two - one) for name, (one, two) in pairs.items()})


class LiveStorages(TorchDispatchMode):
    """Counts the bytes of all storages that operators create, from creation to end: `now`, and `peak`, the most so far.

    Args:
        is_computed: False leaves convolutions and matrix products uncomputed: they give zeros of the right shape.
    """

    def __init__(self, is_computed: bool = True):
        super().__init__()
        self.now = self.peak = 0
        self.is_computed = is_computed
        self._references: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """See TorchDispatchMode."""
        is_skipped = not self.is_computed and func.overloadpacket in _COSTLY
        result = (_zeros_of if is_skipped else _call)(func, args, kwargs or {})
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._references:
            return

        def forget(_: weakref.ref) -> None:
            self.now -= size
            self._references.pop(key, None)

        self._references[key] = weakref.ref(storage, forget)
        self.now += size
        self.peak = max(self.peak, self.now)


aten = torch.ops.aten
_COSTLY = {aten.convolution, aten.convolution_backward, aten.mm, aten.addmm, aten.bmm, aten.baddbmm}


def _call(func: Any, args: tuple, kwargs: dict) -> Any:
    return func(*args, **kwargs)


def _zeros_of(func: Any, args: tuple, kwargs: dict) -> Any:
    """What the operator would return, but for its values."""
    on_meta = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
    result = func(*on_meta[0], **on_meta[1])
    return tree_map_only(Tensor, lambda tensor: torch.zeros_like(tensor, device="cpu"), result)


def planned_taxonomy(data_root: str | None, layout: str, split: str | None, truth_classes: str | None) -> Taxonomy:
    """The classes of the data set or the class map that was given, else those of the layout: COCO's, or Cityscapes'.

    Raises:
        InputError: if the data set or the class map cannot be read.
    """
    class_map = class_map_of(truth_classes)
    if data_root:
        data_set = open_data_set(data_root, layout, class_map=class_map)
        return data_set.taxonomy(split or data_set.usual_split())
    if class_map is not None:
        return class_map.target
    return COCO_PANOPTIC if layout == "coco" else CITYSCAPES


def made_up_batch(num_images: int, size: tuple[int, int], taxonomy: Taxonomy, num_objects: int = NUM_OBJECTS) -> dict:
    """A batch as the data modules' collate makes them: grey images; every pixel has a class, and rectangles are objects.

    Args:
        size: (height, width) of the crops.
        num_objects: an image, in three sizes: a fourth of the crop's height, an eighth, and a sixteenth.
    """
    height, width = size
    rows = torch.arange(height) * taxonomy.num_classes // height
    semantic = rows[:, None].expand(size).contiguous()  # a strip a class
    columns = 5
    masks = torch.zeros(num_objects, height, width, dtype=torch.bool)
    boxes = torch.zeros(num_objects, 4)
    for k in range(num_objects):
        side = max(8, height // (4, 8, 16)[k % 3])
        top = min(k // columns * height * columns // num_objects, height - side)
        left = min(k % columns * width // columns, width - side)
        masks[k, top : top + side, left : left + side] = ~masks[:k, top : top + side, left : left + side].any(0)
        boxes[k] = torch.tensor([left, top, left + side, top + side])
    things = torch.tensor(taxonomy.thing_ids)
    train_ids = things[torch.arange(num_objects) % len(things)]
    instances = {"boxes": boxes, "train_ids": train_ids, "masks": masks}
    return {
        "image": torch.zeros(num_images, 3, height, width),
        "semantic": semantic.expand(num_images, height, width).contiguous(),
        "instances": [instances] * num_images,
        "image_id": [str(k) for k in range(num_images)],
    }


def count_steps(
    module: nn.Module,
    loss: Callable[[Any, dict], Tensor],
    make_batch: Callable[[int], dict],
    batches: Sequence[int] = BATCHES,
    *,
    optimizer: str = "sgd",
    precision: str = "32-true",
    num_averages: int = 0,
    accumulates: bool = False,
) -> dict[int, StepMemory]:
    """The memory of training steps with so many images. It is counted for one and for two: each part is linear in them.

    Args:
        module: its forward maps images (B, 3, H, W) to outputs, in training mode; it stays as it is.
        loss: of its outputs, a tensor or a nest of them, and a batch.
        make_batch: number of images -> a batch, as made_up_batch makes them.
        optimizer: one of OPTIMIZER_COPIES.
        precision: 32-true, bf16-mixed or 16-mixed, as a GPU computes them.
        num_averages: copies of the weights that are kept beside them.
        accumulates: whether gradients of several batches are added up.
    """
    about = (optimizer, precision, num_averages, accumulates)
    one, two = (_count_step(module, loss, make_batch(n), *about) for n in (1, 2))
    return {n: one.for_batch(n, two) for n in batches}


def _count_step(
    module: nn.Module,
    loss: Callable[[Any, dict], Tensor],
    batch: dict,
    optimizer: str,
    precision: str,
    num_averages: int,
    accumulates: bool,
) -> StepMemory:
    dtype = DTYPES.get(precision.partition("-")[0])
    kept, backward, outputs = _count_network(module, batch["image"])
    if dtype is not None:
        in_32_bits = kept
        kept, _, outputs = _count_network(module, batch["image"], dtype)
        backward = backward * kept // in_32_bits  # autograd has no GPU here to go backward on
    learning = sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad)
    loss_forward, loss_peak = _count_loss(module, loss, outputs, batch, dtype, accumulates)
    weights = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
    return StepMemory(
        weights=weights,
        gradients=learning,
        optimizer=OPTIMIZER_COPIES[optimizer] * learning + num_averages * weights,
        batch=sum(leaf.nbytes for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)),
        kept=kept,
        backward=backward,
        loss=loss_peak,
        loss_forward=loss_forward,
        accumulated=learning if accumulates else 0,
    )


def _count_network(module: nn.Module, image: Tensor, dtype: torch.dtype | None = None) -> tuple[int, int, Any]:
    """(bytes kept for the backward pass, the most that lives while it runs, the outputs on the meta device).

    Args:
        dtype: of mixed precision; then nothing goes backward.
    """
    # Only a GPU's autocast is the one that a GPU will have; a fake GPU needs no real one.
    device = "cpu" if dtype is None else "cuda"
    with FakeTensorMode(allow_non_fake_inputs=True):
        named = [*module.named_parameters(), *module.named_buffers()]
        state = {name: torch.empty_like(t, device=device).requires_grad_(t.requires_grad) for name, t in named}
        for tensor in state.values():
            if tensor.requires_grad:
                tensor.grad = torch.empty_like(tensor)  # counted elsewhere
        images = torch.empty(image.shape, device=device)
        live = LiveStorages()
        with live:
            with nullcontext() if dtype is None else _gpu_autocast(dtype):
                outputs = functional_call(module, state, (images,))
            kept = live.now
            if dtype is None:
                learned = [t for t in tree_leaves(outputs) if isinstance(t, Tensor) and t.requires_grad]
                torch.autograd.backward(learned, [torch.empty_like(t) for t in learned])
    return kept, live.peak, tree_map_only(Tensor, lambda t: torch.empty(t.shape, dtype=t.dtype, device="meta"), outputs)


def _count_loss(
    module: nn.Module,
    loss: Callable[[Any, dict], Tensor],
    outputs: Any,
    batch: dict,
    dtype: torch.dtype | None,
    accumulates: bool,
) -> tuple[int, int]:
    """The most that lives while the loss is computed, and until the gradients of the outputs are, too."""
    made_up = tree_map(lambda one, other: _enlarge(one, other) if isinstance(one, Tensor) else other, _untrained(module), outputs)
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    gradients = [parameter.grad for parameter in learning]
    for parameter in learning:
        parameter.grad = torch.zeros_like(parameter) if accumulates else None  # the zeros are counted elsewhere
    try:
        live = LiveStorages(is_computed=False)
        with live:
            with nullcontext() if dtype is None else torch.autocast("cpu", dtype):
                total = loss(made_up, batch)
            forward = live.peak
            total.backward()
        return forward, live.peak
    finally:
        for parameter, gradient in zip(learning, gradients, strict=True):
            parameter.grad = gradient


def _untrained(module: nn.Module) -> Any:
    """What the network says, as it is, of a small image of noise: how many pixels a loss looks at may depend on that."""
    state = {name: t.detach().clone() for name, t in (*module.named_parameters(), *module.named_buffers())}
    image = torch.randn(1, 3, *SMALL, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return functional_call(module, state, (image,))


def _enlarge(small: Tensor, wanted: Tensor) -> Tensor:
    """A real tensor of the shape and type of a meta one, with the values of another that differs in batch and size."""
    if small.shape[2:] != wanted.shape[2:]:
        small = F.interpolate(small.float(), wanted.shape[2:])
    values = small.to(wanted.dtype).expand(wanted.shape).clone()
    return values.requires_grad_(values.is_floating_point())


@contextmanager
def _gpu_autocast(dtype: torch.dtype) -> Iterator[None]:
    """torch.autocast("cuda"), also where there is no GPU, where torch itself would switch it off."""
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", dtype)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", False)


@dataclass(frozen=True)
class Overhead:
    """What a step takes beside what is counted: a share of it, and a fixed part in bytes."""

    share: float
    fixed: int
    source: str


CPU_OVERHEAD = Overhead(0.05, 0, "5 %; glibc by default keeps more, see docs/training.md")
GPU_OVERHEAD = Overhead(
    0.05, 6 * GB // 10, "5 % and 0.6 GB, from the peaks on an H100 in docs/benchmarks.md: CUDA itself, and workspaces of cuDNN"
)


@dataclass(frozen=True)
class TrainingPlan:
    """A training whose memory is to be counted; the arguments of count_steps, and what the training makes of them."""

    module: nn.Module
    loss: Callable[[Any, dict], Tensor]
    make_batch: Callable[[int], dict]
    size: tuple[int, int]
    """(height, width) of the largest image of a batch."""
    batch_size: int
    """A step and device."""
    accumulate: int = 1
    """Batches whose gradients are added up."""
    optimizer: str = "sgd"
    precision: str = "32-true"
    num_averages: int = 0
    """Copies of the weights that are kept beside them."""
    is_for_cpu: bool = False

    @property
    def overhead(self) -> Overhead:
        """Of the device."""
        return CPU_OVERHEAD if self.is_for_cpu else GPU_OVERHEAD

    def count(self, batches: Sequence[int] = BATCHES, precision: str | None = None) -> dict[int, StepMemory]:
        """As count_steps; by default in the training's own precision."""
        return count_steps(
            self.module,
            self.loss,
            self.make_batch,
            batches,
            optimizer=self.optimizer,
            precision=precision or self.precision,
            num_averages=self.num_averages,
            accumulates=self.accumulate > 1,
        )

    def peak(self, memory: StepMemory) -> int:
        """Estimated peak in bytes: what is counted, and the overhead."""
        return round(memory.counted * (1 + self.overhead.share)) + self.overhead.fixed


def print_plan(plan: TrainingPlan) -> None:
    """The parts of a step of this training, then the peak with other batches."""
    batches = sorted({*BATCHES, plan.batch_size})
    counted = plan.count(batches)
    own, (height, width) = counted[plan.batch_size], plan.size
    sizes = [(p.numel(), p.requires_grad) for p in plan.module.parameters()]
    learning, frozen = (sum(size for size, learns in sizes if learns is wanted) for wanted in (True, False))
    print(f"{(learning + frozen) / 1e6:.1f} million parameters: {learning / 1e6:.1f} learn, {frozen / 1e6:.1f} are frozen")
    step = f"{plan.batch_size * plan.accumulate} images a step and device"
    print(f"a batch of {plan.batch_size}, {height}x{width}, {plan.precision}, {plan.optimizer}; {step}")
    lines = {
        "weights": own.weights,
        "gradients": own.gradients,
        f"{plan.optimizer}'s state" + (", averaged weights" if plan.num_averages else ""): own.optimizer,
        "images and truth": own.batch,
        "kept for the backward pass": own.kept,
        "the loss and its gradient, or more of the backward pass": max(own.loss, own.backward - own.kept),
        "overhead": plan.peak(own) - own.counted,
        "estimated peak": plan.peak(own),
    }
    for name, size in lines.items():
        print(f"  {name:<56}{size / GB:8.2f} GB")
    print(f"overhead: {plan.overhead.source}")
    others = {plan.precision: counted}
    if plan.precision.partition("-")[0] in DTYPES:
        others["32-true"] = plan.count(batches, "32-true")
    print("batch" + "".join(f"{precision:>15}  fits in" for precision in others))
    for n in batches:
        peaks = [plan.peak(memories[n]) for memories in others.values()]
        print((f"{n:>5}" + "".join(f"{peak / GB:>12.2f} GB  {_fitting_card(peak):<7}" for peak in peaks)).rstrip())


def _fitting_card(peak: int) -> str:
    return next((f"{card} GB" for card in CARDS if peak <= card * GB), "none")
