"""Training of EfficientPS, with or without its instance head: losses, validation, pictures. Lightning ends here."""

from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from data.panoptic_png import PanopticMap
from data.taxonomy import CITYSCAPES
from detection.instance_head import InstanceHeadSettings
from detection.instance_masks import to_instance_logits
from efficientps.loss import hardest_pixels_loss
from efficientps.network import LOGIT_STRIDE, build_network
from efficientps.norm import set_norm
from efficientps.panoptic_inference import to_semantic_logits
from evaluation.render import color_panoptic
from fusion.logit_fusion import FusionSettings, fuse
from runtime.files import InputError
from training.module import PanopticModule, to_picture
from training.schedule import OptimizerSettings


class EfficientPSModule(PanopticModule):
    """Trains the semantic model with the hardest-pixel loss; with an instance head, both by the sum of their losses.

    Args:
        variant: EfficientNet b0 .. b7.
        fpn_channels: width of the two-way FPN.
        is_separable: separable (paper) or standard (official code) FPN output convolutions.
        norm_momentum: of the encoder's running statistics.
        hardest_fraction: share of the pixels that the loss sees.
        optimizer: rate and schedule.
        num_pictures: validation images drawn in TensorBoard after each epoch.
        instance_head: sizes of the Mask R-CNN head of the original EfficientPS; None trains the semantic model alone.
        norm: bn, iabn (in place: a third of the feature maps is kept) or iabn_sync; all three write the same checkpoints.
        weights: file of scripts/import_weights.py to start from, where nothing is resumed.
        checkpoint_encoder: compute the encoder's blocks twice instead of keeping their feature maps: less memory, more time.
    """

    def __init__(
        self,
        variant: str = "b5",
        fpn_channels: int = 256,
        is_separable: bool = True,
        norm_momentum: float = 0.01,
        hardest_fraction: float = 0.25,
        optimizer: OptimizerSettings = OptimizerSettings(),
        num_pictures: int = 4,
        instance_head: InstanceHeadSettings | None = None,
        norm: str = "bn",
        weights: str | None = None,
        checkpoint_encoder: bool = False,
    ):
        has_instances = instance_head is not None
        super().__init__(CITYSCAPES, optimizer, weights, monitor="val/pq" if has_instances else "val/miou")
        if not 0 < hardest_fraction <= 1:
            raise InputError(f"hardest_fraction is {hardest_fraction}, but a share above 0 and up to 1 is needed")
        self.hardest_fraction = hardest_fraction
        self.num_pictures = num_pictures
        network = {
            "num_classes": self.taxonomy.num_classes,
            "variant": variant,
            "fpn_channels": fpn_channels,
            "is_separable": is_separable,
            "norm_momentum": norm_momentum,
        }
        if has_instances:
            network |= {"thing_ids": list(self.taxonomy.thing_ids), "instance_head": asdict(instance_head)}
        # Plain values only: a checkpoint must load with weights_only, and tells inference how to build the network.
        self.save_hyperparameters(
            {"network": network, "taxonomy": self.taxonomy.name, "optimizer": asdict(optimizer)}, logger=False
        )
        # Depthwise convolutions on CPU are faster in this memory format, and tensor cores want it too.
        self.network = build_network(network).to(memory_format=torch.channels_last)
        self.network.encoder.is_checkpointed = checkpoint_encoder
        set_norm(self.network, norm)
        if has_instances and norm == "iabn_sync":
            set_norm(self.network.instance_head, "iabn")  # each process has its own number of objects, or none
        self.has_instances = has_instances

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """(B, 3, H, W) normalised RGB -> pyramid, and (B, C, H / 4, W / 4) logits."""
        pyramid = self.network.pyramid(image.contiguous(memory_format=torch.channels_last))
        return pyramid, self.network.semantic_head(pyramid)

    def training_step(self, batch: dict, batch_index: int) -> Tensor:
        return self._loss("train", batch, *self(batch["image"]))

    def validation_step(self, batch: dict, batch_index: int) -> None:
        """Count whole images at full resolution, and draw the first `num_pictures` of them."""
        pyramid, logits = self(batch["image"])
        self._loss("val", batch, pyramid, logits)
        full = torch.nn.functional.interpolate(logits.float(), scale_factor=LOGIT_STRIDE, mode="bilinear", align_corners=False)
        prediction = full.argmax(1)
        self.count_semantic(prediction, batch["semantic"])
        colors, drawn = self.taxonomy.colors, batch_index * len(prediction)
        panels = ((colors[p], colors[t]) for p, t in zip(prediction.cpu().numpy(), batch["semantic"].cpu().numpy(), strict=True))
        if self.has_instances:
            maps = self._fuse(batch, pyramid, logits)
            for truth, fused in zip(batch["panoptic"], maps, strict=True):
                self.quality.add(truth, fused)
            pairs = zip(maps, batch["panoptic"], strict=True)
            panels = (tuple(color_panoptic(panoptic, self.taxonomy) for panoptic in pair) for pair in pairs)
        for k, (shown, truth) in zip(range(self.num_pictures - drawn), panels):
            # Image, prediction and truth, one above the other.
            panel = np.concatenate([to_picture(batch["image"][k], truth.shape[:2]), shown, truth])
            self.draw(f"val/{drawn + k}", panel)

    def on_validation_epoch_end(self) -> None:
        """Log mIoU, and with an instance head also panoptic quality."""
        self.log_semantic_iou()
        if self.has_instances:
            self.log_panoptic_quality()

    def _loss(self, stage: str, batch: dict, pyramid: list[Tensor], logits: Tensor) -> Tensor:
        """The sum of all losses, logged, and where there are several also each."""
        losses = {"semantic": hardest_pixels_loss(logits, batch["semantic"], self.hardest_fraction)}
        if self.has_instances:
            losses |= self.network.instance_head.losses(pyramid, batch["instances"])
        return self.log_losses(stage, losses, len(logits))

    def _fuse(self, batch: dict, pyramid: list[Tensor], logits: Tensor) -> list[PanopticMap]:
        """What is predicted for each image."""
        sizes = [truth.segment_ids.shape for truth in batch["panoptic"]]
        maps = []
        for k, detections in enumerate(self.network.instance_head.detect(pyramid, sizes)):
            about = {"image_id": batch["image_id"][k], "size": sizes[k], "taxonomy": self.taxonomy, "producer": "training"}
            instances, semantic = to_instance_logits(detections, **about), to_semantic_logits(logits[k], **about)
            # The head itself drops what has too low a score.
            maps.append(fuse(instances, semantic, self.taxonomy, FusionSettings(min_score=0.0), self.device))
        return maps
