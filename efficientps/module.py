"""Training of EfficientPS, with or without its instance head: losses, validation, images. Lightning ends here."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.efficientnet import LITE_SCALES, STAGES
from data.network_input import NetworkInput
from data.panoptic_png import PanopticMap
from data.resizing import logits_on_image, resize_image
from data.taxonomy import Taxonomy
from detection.instance_head import InstanceHeadSettings
from detection.views import detections_on_image
from efficientps.loss import hardest_pixels_loss
from efficientps.network import LOGIT_STRIDE, build_network
from efficientps.norm import set_norm
from efficientps.predictor import to_prediction
from evaluation.render import color_panoptic
from fusion.logit_fusion import fuse, semantic_argmax, semantic_only
from fusion.settings import FusionSettings
from prediction.predictor import Prediction
from runtime.files import InputError
from training.module import PanopticModule, to_image
from training.schedule import OptimizerSettings


class EfficientPSModule(PanopticModule):
    """Trains the semantic model with the hardest-pixel loss; with an instance head, both by the sum of their losses.

    Args:
        taxonomy: of the data; the command takes it from there.
        network_input: size and pixel values that the data brings an image to; the command takes them from there.
        variant: EfficientNet b0 .. b7, or EfficientNet-Lite lite0 .. lite2, which wants its own pixel values.
        fpn_channels: width of the two-way FPN.
        is_separable: separable (paper) or standard (official code) FPN output convolutions.
        norm_momentum: of the encoder's running statistics.
        trainable_stages: how many of the five stages of an EfficientNet-Lite learn, counted from the last; 0: it stays what its
            weights are, which suits a hundred images.
        hardest_fraction: share of the pixels that the loss sees.
        optimizer: rate and schedule.
        num_pictures: validation images drawn in TensorBoard after each epoch.
        instance_head: sizes of the Mask R-CNN head of the original EfficientPS; None trains the semantic model alone.
        norm: bn, iabn (in place: a third of the feature maps is kept) or iabn_sync; all three write the same checkpoints.
        weights: name of packaged weights, such as lite0, or a file of scripts/import_weights.py, to start from.
        checkpoint_encoder: compute the encoder's blocks twice instead of keeping their feature maps: less memory, more time.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        network_input: NetworkInput = NetworkInput(),
        variant: str = "b5",
        fpn_channels: int = 256,
        is_separable: bool = True,
        norm_momentum: float = 0.01,
        trainable_stages: int = STAGES,
        hardest_fraction: float = 0.25,
        optimizer: OptimizerSettings = OptimizerSettings(),
        num_pictures: int = 4,
        instance_head: InstanceHeadSettings | None = None,
        norm: str = "bn",
        weights: str | None = None,
        checkpoint_encoder: bool = False,
    ):
        has_instances = instance_head is not None
        super().__init__(taxonomy, optimizer, weights, monitor="val/pq" if has_instances else "val/miou")
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
            "trainable_stages": trainable_stages,
        }
        if has_instances:
            network |= {"thing_ids": list(self.taxonomy.thing_ids), "instance_head": asdict(instance_head)}
        self.save_plain_settings("efficientps", network, network_input)
        # Depthwise convolutions on CPU are faster in this memory format, and tensor cores want it too.
        self.network = build_network(network).to(memory_format=torch.channels_last)
        self.network.encoder.is_checkpointed = checkpoint_encoder
        set_norm(self.network, norm)
        if has_instances and norm == "iabn_sync":
            set_norm(self.network.instance_head, "iabn")  # each process has its own number of objects, or none
        self.needs_instances = has_instances

    @staticmethod
    def normalization_of(settings: Mapping[str, Any]) -> str:
        return "lite" if settings["variant"] in LITE_SCALES else "efficientps"

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """(B, 3, H, W) normalised RGB -> pyramid, and (B, C, H / 4, W / 4) logits."""
        pyramid = self.network.pyramid(image.contiguous(memory_format=torch.channels_last))
        return pyramid, self.network.semantic_head(pyramid)

    def training_step(self, batch: dict, batch_index: int) -> Tensor:
        return self._loss("train", batch, *self(batch["image"]))

    def validation_step(self, batch: dict, batch_index: int) -> None:
        """Count whole images as they will be predicted, and draw the first `num_pictures` of them."""
        pyramid, logits = self(batch["image"])
        self._loss("val", batch, pyramid, logits)
        detections = [None] * len(logits)
        if self.needs_instances:
            detections = self.network.instance_head.detect(pyramid, batch["seen_size"])
        for k, truth in enumerate(batch["panoptic"]):
            size, seen = truth.segment_ids.shape, batch["seen_size"][k]
            on_image = logits_on_image(logits[k].float(), seen, size, LOGIT_STRIDE, LOGIT_STRIDE)
            found = None if detections[k] is None else detections_on_image(detections[k], seen, size)
            about = {"image_id": batch["image_id"][k], "size": size, "taxonomy": self.taxonomy}
            predicted = to_prediction(on_image, found, **about)
            self.count_semantic(semantic_argmax(predicted.semantic, self.taxonomy), truth)
            number = batch_index * len(logits) + k
            is_drawn = number < self.num_pictures
            shown = self._fused(predicted) if self.needs_instances or is_drawn else None
            if self.needs_instances:
                self.quality.add(truth, shown)
            if is_drawn:
                # Image, prediction and truth, one above the other.
                panels = [color_panoptic(panoptic, self.taxonomy) for panoptic in (shown, truth)]
                image = resize_image(to_image(batch["image"][k], seen), size)
                self.draw(f"val/{number}", np.concatenate([image, *panels]))

    def on_validation_epoch_end(self) -> None:
        """Log mIoU, and with an instance head also panoptic quality."""
        self.log_semantic_iou()
        if self.needs_instances:
            self.log_panoptic_quality()

    def _loss(self, stage: str, batch: dict, pyramid: list[Tensor], logits: Tensor) -> Tensor:
        """The sum of all losses, logged, and where there are several also each."""
        losses = {"semantic": hardest_pixels_loss(logits, batch["semantic"], self.hardest_fraction)}
        if self.needs_instances:
            losses |= self.network.instance_head.losses(pyramid, batch["instances"])
        return self.log_losses(stage, losses, len(logits))

    def _fused(self, predicted: Prediction) -> PanopticMap:
        """The panoptic map of an image; without an instance head each region of a thing class is an object."""
        if predicted.instances is None:
            return semantic_only(predicted.semantic, self.taxonomy)
        # The head itself drops what has too low a score.
        return fuse(predicted.instances, predicted.semantic, self.taxonomy, FusionSettings(min_score=0.0), self.device)
