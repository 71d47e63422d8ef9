"""A trained SOLOv2: load its checkpoint, picture in, scored mask logits out, dump to full-size masks."""

import hashlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine import Config
from mmengine.structures import InstanceData
from torch import nn

from data.instance_dump import InstanceLogits, from_full_logits
from data.taxonomy import CITYSCAPES
from prediction.views import PLAIN, View, ViewSettings, look
from runtime.files import InputError
from solov2.checkpoints import load_weights, read_checkpoint
from solov2.location_head import LocationHead
from solov2.pooled_views import CandidateHead, select_from_views
from solov2.weights import build_network

TAXONOMY = CITYSCAPES
"""Class k of the model is TAXONOMY.thing_ids[k]."""


@dataclass(frozen=True)
class InstancePredictor:
    """A network in evaluation mode, what turns a picture into its input, one for each scale, and the views that are taken.

    The network has a CandidateHead where there are several views.
    """

    network: nn.Module
    pipelines: dict[float, Compose]
    views: ViewSettings = field(default=PLAIN)

    @torch.inference_mode()
    def predict(self, image_id: str, picture: np.ndarray, producer: str) -> InstanceLogits:
        """(H, W, 3) uint8 RGB of any size -> its instances, mask logits at the head's `logit_stride`, 4 by default.

        Raises:
            InputError: if the network gives NaN.
        """
        looks = [partial(self._predict_view, picture, view) for view in self.views.views()]
        head = self.network.mask_head
        found = looks[0]() if self.views.is_plain else select_from_views(looks, head.test_cfg)
        # A sum is finite only if every term is; thirty times faster than asking each.
        if not all(values.sum(dtype=torch.float32).isfinite() for values in (found.mask_logits, found.scores)):
            raise InputError(f"{image_id}: the instance model gives NaN or infinite values; use another checkpoint")
        return from_full_logits(
            found.mask_logits.float().cpu().numpy(),
            [TAXONOMY.thing_ids[label] for label in found.labels.tolist()],
            found.scores.float().cpu().numpy(),
            image_id=image_id,
            size=picture.shape[:2],
            stride=head.logit_stride,
            taxonomy=TAXONOMY,
            producer=producer,
        )

    def _predict_view(self, picture: np.ndarray, view: View) -> InstanceData:
        """What the head gives for one view; its scale is the pipeline's, which resizes anyway."""
        bgr = look(picture, view._replace(scale=1.0))[..., ::-1]  # as mmdet's own loader gives it
        sample = self.pipelines[view.scale]({"img": np.ascontiguousarray(bgr), "img_id": 0, "img_path": ""})
        sample["data_samples"].set_metainfo({"flip": view.is_flipped})
        batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
        return self.network.test_step(batch)[0].pred_instances


def load_predictor(config: Config, checkpoint: Path, device: str = "cpu", views: ViewSettings = PLAIN) -> InstancePredictor:
    """Build the config's model and load a checkpoint that train.py wrote. No pickled code is executed.

    Args:
        views: test-time augmentation; the default is none.

    Raises:
        InputError: if the checkpoint is missing, truncated, of another model or not finite, the model cannot be built or has no
            LocationHead of the taxonomy's things, or the test pipeline has no size to scale.
    """
    content = read_checkpoint(checkpoint)
    is_pooled = not views.is_plain and config.model.get("mask_head", {}).get("type") == LocationHead.__name__
    network = build_network(config, CandidateHead.__name__ if is_pooled else None)
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
    pipelines = {scale: _picture_pipeline(config, scale) for scale in views.scales}
    return InstancePredictor(network.eval().to(device), pipelines, views)


def producer_name(config: Config, checkpoint: Path, views: ViewSettings = PLAIN) -> str:
    """`solov2-<config>-<digest>`: changes with the weights and with every setting that prediction depends on.

    Raises:
        InputError: if the checkpoint is missing.
    """
    if not Path(checkpoint).is_file():
        raise InputError(f"{checkpoint}: no such checkpoint; train stage 1 first: cd solov2 && python train.py")
    digest = hashlib.sha256(Path(checkpoint).read_bytes())
    digest.update(repr((config.model.to_dict(), _test_transforms(config))).encode())
    return f"solov2-{Path(config.filename).stem}-{digest.hexdigest()[:16]}{views.suffix}"


def _test_transforms(config: Config) -> list[dict]:
    """The test pipeline without what reads files."""
    return [t.to_dict() for t in config.test_dataloader.dataset.pipeline if not t["type"].startswith("Load")]


def _picture_pipeline(config: Config, scale: float) -> Compose:
    """The test pipeline of a picture in memory, its sizes multiplied by `scale`."""
    transforms = _test_transforms(config)
    if scale != 1:
        resizing = [t for t in transforms if t["type"] == "Resize" and t.get("scale")]
        if not resizing:
            raise InputError(f"{config.filename}: test-time scales need a Resize with `scale` in test_dataloader; add one")
        for t in resizing:
            t["scale"] = tuple(max(1, round(side * scale)) for side in t["scale"])
    return Compose([{"type": "mmdet.LoadImageFromNDArray"}, *transforms])
