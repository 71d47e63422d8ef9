"""A trained SOLOv2: load its checkpoint, picture in, scored mask logits out, dump to full-size masks."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine import Config
from torch import nn

from data.files import InputError
from data.instance_dump import InstanceLogits, from_full_logits
from data.taxonomy import CITYSCAPES
from solov2.checkpoints import load_weights, read_checkpoint
from solov2.location_head import LocationHead

TAXONOMY = CITYSCAPES
"""Class k of the model is TAXONOMY.thing_ids[k]."""


@dataclass(frozen=True)
class InstancePredictor:
    """A network in evaluation mode and what turns a picture into its input."""

    network: nn.Module
    pipeline: Compose

    @torch.inference_mode()
    def predict(self, image_id: str, picture: np.ndarray, producer: str) -> InstanceLogits:
        """(H, W, 3) uint8 RGB of any size -> its instances, mask logits at the head's `logit_stride`, 4 by default.

        Raises:
            InputError: if the network gives NaN.
        """
        bgr = np.ascontiguousarray(picture[..., ::-1])  # as mmdet's own loader gives it
        sample = self.pipeline({"img": bgr, "img_id": 0, "img_path": image_id})
        batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
        found = self.network.test_step(batch)[0].pred_instances
        # A sum is finite only if every term is; thirty times faster than asking each.
        if not all(values.sum(dtype=torch.float32).isfinite() for values in (found.mask_logits, found.scores)):
            raise InputError(f"{image_id}: the instance model gives NaN or infinite values; use another checkpoint")
        return from_full_logits(
            found.mask_logits.float().cpu().numpy(),
            [TAXONOMY.thing_ids[label] for label in found.labels.tolist()],
            found.scores.float().cpu().numpy(),
            image_id=image_id,
            size=picture.shape[:2],
            stride=self.network.mask_head.logit_stride,
            taxonomy=TAXONOMY,
            producer=producer,
        )


def load_predictor(config: Config, checkpoint: Path, device: str = "cpu") -> InstancePredictor:
    """Build the config's model and load a checkpoint that train.py wrote. No pickled code is executed.

    Raises:
        InputError: if the checkpoint is missing, truncated, of another model or not finite, or the model has no LocationHead
            of the taxonomy's things.
    """
    content = read_checkpoint(checkpoint)
    register_all_modules()
    settings = config.model.copy()
    settings.backbone.init_cfg = None  # the checkpoint holds everything; nothing is downloaded
    network = MODELS.build(settings)
    head = getattr(network, "mask_head", None)
    if not isinstance(head, LocationHead) or head.num_classes != len(TAXONOMY.thing_ids):
        needed = f"a LocationHead of {len(TAXONOMY.thing_ids)} classes ({TAXONOMY.name})"
        raise InputError(f"{config.filename}: {needed} is needed in model.mask_head; inherit one of configs/solov2")
    head.with_full_masks = False
    load_weights(network, content, checkpoint)
    # NaN would not crash anything: no mask is positive, so all images would look empty.
    broken = [name for name, value in network.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise InputError(
            f"{checkpoint}: NaN or infinite weights in {broken[0]} ({len(broken)} in all); use an earlier checkpoint"
        )
    return InstancePredictor(network.eval().to(device), _picture_pipeline(config))


def producer_name(config: Config, checkpoint: Path) -> str:
    """`solov2-<config>-<digest>`: changes with the weights and with every setting that prediction depends on.

    Raises:
        InputError: if the checkpoint is missing.
    """
    if not Path(checkpoint).is_file():
        raise InputError(f"{checkpoint}: no such checkpoint; train stage 1 first: cd solov2 && python train.py")
    digest = hashlib.sha256(Path(checkpoint).read_bytes())
    digest.update(repr((config.model.to_dict(), _test_transforms(config))).encode())
    return f"solov2-{Path(config.filename).stem}-{digest.hexdigest()[:16]}"


def full_masks(instances: InstanceLogits) -> Iterator[np.ndarray]:
    """The (H, W) bool mask of each instance, one by one: its logit, upsampled bilinearly, is above 0."""
    stride = instances.stride
    for (y1, x1, y2, x2), crop in zip(instances.crop_boxes.tolist(), instances.crops, strict=True):
        enlarged = F.interpolate(torch.from_numpy(crop).float()[None, None], scale_factor=stride, mode="bilinear")[0, 0] > 0
        canvas = np.zeros((instances.height, instances.width), dtype=bool)
        window = canvas[y1 * stride : y2 * stride, x1 * stride : x2 * stride]
        window[:] = enlarged[: window.shape[0], : window.shape[1]].numpy()
        yield canvas


def _test_transforms(config: Config) -> list[dict]:
    """The test pipeline without what reads files."""
    return [t.to_dict() for t in config.test_dataloader.dataset.pipeline if not t["type"].startswith("Load")]


def _picture_pipeline(config: Config) -> Compose:
    return Compose([{"type": "mmdet.LoadImageFromNDArray"}, *_test_transforms(config)])
