"""What training.memory_plan counts of a SOLOv2 training: `--plan` of solov2/train.py."""

import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from mmdet.models import BaseDetector
from mmdet.structures.mask import BitmapMasks
from mmengine import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from runtime.files import InputError
from solov2.data_set import use_classes
from solov2.settings import find_config, load_config, parse_options
from solov2.weights import build_network
from training.arguments import PRECISIONS
from training.memory_plan import OPTIMIZER_COPIES, TrainingPlan, made_up_batch, planned_taxonomy

NEEDED = ("model", "train_dataloader", "optim_wrapper")
LIGHTNING = {"float16": "16-mixed", "bfloat16": "bf16-mixed"}
"""mmengine's name of mixed precision -> Lightning's, which the plan prints."""
STRIDE = 32
"""mmdet pads images to multiples of it."""


class RawOutputs(nn.Module):
    """A detector whose forward pass ends where its loss begins.

    Args:
        model: mmdet's, of a backbone, a neck and a mask head.
    """

    def __init__(self, model: BaseDetector):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple:
        """(B, 3, H, W) normalised -> the outputs of the mask head: kernels, class scores and mask features."""
        return self.model.mask_head(self.model.extract_feat(image))

    def loss(self, outputs: tuple, batch: Mapping[str, Any]) -> Tensor:
        """The sum of the losses of a batch, as training.memory_plan.made_up_batch makes them."""
        size = tuple(batch["image"].shape[-2:])
        truth = [_to_mmdet(instances) for instances in batch["instances"]]
        metas = [{"img_shape": size, "batch_input_shape": size, "pad_shape": size}] * len(truth)
        losses = self.model.mask_head.loss_by_feat(*outputs, batch_gt_instances=truth, batch_img_metas=metas)
        return self.model.parse_losses(losses)[0]


def _to_mmdet(instances: Mapping[str, Tensor]) -> InstanceData:
    masks = instances["masks"].numpy().astype(np.uint8)
    class_of = {train_id: k for k, train_id in enumerate(sorted(set(instances["train_ids"].tolist())))}
    labels = instances["train_ids"].clone().apply_(class_of.__getitem__)
    return InstanceData(bboxes=instances["boxes"], labels=labels, masks=BitmapMasks(masks, *masks.shape[1:]))


def build_plan(args: Namespace) -> TrainingPlan:
    """The plan of the training that the arguments of solov2/train.py describe; the network has random weights.

    Raises:
        InputError: if the configuration cannot be used, or its optimiser is another than SGD or AdamW.
    """
    warnings.filterwarnings("ignore", message="torch.meshgrid")  # of mmdet's own calls; nothing that the user could change
    path = find_config(args.config)
    config = load_config(path, parse_options(args.cfg_options), NEEDED)
    taxonomy = planned_taxonomy(args.data_root, args.layout, args.split, args.truth_classes or config.get("truth_classes"))
    use_classes(config, taxonomy)
    wrapper, hooks = config.optim_wrapper, config.get("custom_hooks", [])
    optimizer = wrapper.optimizer.type.lower()
    if optimizer not in OPTIMIZER_COPIES:
        raise InputError(f"{path}: optimiser {wrapper.optimizer.type} cannot be planned; choose SGD or AdamW")
    network = RawOutputs(build_network(config.model, str(path))).train()
    size = largest_size(config)
    has_average = any(hook["type"] == "EMAHook" for hook in hooks) if args.ema_decay is None else args.ema_decay > 0
    return TrainingPlan(
        module=network,
        loss=network.loss,
        make_batch=lambda num_images: made_up_batch(num_images, size, taxonomy),
        size=size,
        batch_size=config.train_dataloader.batch_size,
        accumulate=args.accumulate or wrapper.get("accumulative_counts", 1),
        optimizer=optimizer,
        precision=_precision(wrapper, args.precision),
        num_averages=int(has_average),
        is_for_cpu=args.device == "cpu",
    )


def _precision(wrapper: Mapping[str, Any], asked: str | None) -> str:
    if asked is not None:
        return PRECISIONS[asked]
    return LIGHTNING[wrapper.get("dtype") or "float16"] if wrapper.get("type") == "AmpOptimWrapper" else "32-true"


def largest_size(config: Config) -> tuple[int, int]:
    """(height, width) of the largest image of a batch, which the training pipeline's resizing and cropping decide.

    Images are taken to be wider than high, and to fill the size that they are resized to.

    Raises:
        InputError: if the pipeline does neither.
    """
    sizes, cut = [], None
    for transform in _pipeline(config.train_dataloader.dataset):
        given = transform.get("scale", transform.get("scales"))
        if given is not None:
            factor = max(transform.get("ratio_range") or (1.0,))
            scales = given if isinstance(given[0], Sequence) else [given]
            sizes += [(round(min(scale) * factor), round(max(scale) * factor)) for scale in scales]
        cut = transform.get("crop_size", cut)
    if not sizes and cut is None:
        raise InputError(f"{config.filename}: its train_pipeline has no scale and no crop_size, so no largest image; add one")
    size = max(sizes, key=lambda s: s[0] * s[1], default=cut)
    if cut is not None:
        size = tuple(map(min, size, cut))
    return tuple(-side // STRIDE * -STRIDE for side in size)


def _pipeline(dataset: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    while "pipeline" not in dataset:
        dataset = dataset["dataset"]
    return iter(dataset["pipeline"])
