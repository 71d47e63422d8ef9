"""Training of Panoptic FPN: losses by name, validation by every score, panels in TensorBoard. Lightning ends here."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from backbones.efficientnet import LITE_SCALES
from data.network_input import NetworkInput
from data.panoptic_png import PanopticMap
from data.resizing import resize_image
from data.targets import panoptic_to_annotations
from data.taxonomy import Taxonomy
from detection.views import detections_on_image
from evaluation.instance_ap import InstanceAP, instances_to_detections
from fusion.settings import MergeSettings
from panoptic_fpn.loss import LossWeights, semantic_loss, to_output_index
from panoptic_fpn.network import NetworkSettings, build_network, to_plain
from panoptic_fpn.panels import draw_panel
from panoptic_fpn.predictor import PanopticFPNPredictor
from prediction.predictor import Prediction
from runtime.files import InputError
from training.module import PanopticModule, to_image
from training.processes import gather_objects
from training.schedule import OptimizerSettings


class PanopticFPNModule(PanopticModule):
    """Trains both branches by the weighted sum of their losses.

    Args:
        taxonomy: of the data; the command takes it from there.
        network_input: size and pixel values that the data brings an image to; the command takes them from there.
        network: sizes of the network.
        optimizer: rate and schedule.
        loss: factors of the branches.
        merging: which instances and which stuff are kept in validation.
        panels_every_n_steps: a panel is drawn in TensorBoard at each n-th validation step; 0 draws none.
        weights: name of packaged weights, such as lite0, a file of scripts/import_weights.py, or a checkpoint, to start from.
    """

    needs_instances = True
    from_scratch = "--model.network.norm bn --model.network.trainable_stages 5"

    def __init__(
        self,
        taxonomy: Taxonomy,
        network_input: NetworkInput = NetworkInput(),
        network: NetworkSettings = NetworkSettings(),
        optimizer: OptimizerSettings = OptimizerSettings(),
        loss: LossWeights = LossWeights(),
        merging: MergeSettings = MergeSettings(),
        panels_every_n_steps: int = 20,
        weights: str | None = None,
    ):
        super().__init__(taxonomy, optimizer, weights)
        if panels_every_n_steps < 0:
            raise InputError(f"panels_every_n_steps is {panels_every_n_steps}, but 0 or more is needed")
        self.loss_weights, self.network_input, self.merging = loss, network_input, merging
        self.panels_every_n_steps = panels_every_n_steps
        plain = to_plain(network, taxonomy)
        self.save_plain_settings("panoptic_fpn", plain, network_input, merging=asdict(merging))
        self.network = build_network(plain).to(memory_format=torch.channels_last)
        self.precision = InstanceAP(taxonomy)

    @staticmethod
    def normalization_of(settings: Mapping[str, Any]) -> str:
        return "lite" if settings["network"]["backbone"] in LITE_SCALES else "imagenet"

    @property
    def encoder(self) -> nn.Module:
        return self.network.backbone.levels.body

    @property
    def predictor(self) -> PanopticFPNPredictor:
        """What the network as it is now would be used as."""
        return PanopticFPNPredictor(self.network, self.taxonomy, "training", self.network_input, self.merging)

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """(B, 3, H, W) normalised RGB -> pyramid, and (B, outputs, H / 4, W / 4) logits."""
        return self.network(image.contiguous(memory_format=torch.channels_last))

    def training_step(self, batch: dict, batch_index: int) -> Tensor:
        return self._loss("train", batch, *self(batch["image"]))

    def validation_step(self, batch: dict, batch_index: int) -> None:
        """Count whole images as they will be predicted, one by one, and draw the first of each n-th step."""
        for k, truth in enumerate(batch["panoptic"]):
            size, seen = truth.segment_ids.shape, batch["seen_size"][k]
            pyramid, logits = self(batch["image"][k : k + 1])
            own = {"semantic": batch["semantic"][k : k + 1], "instances": batch["instances"][k : k + 1]}
            self._loss("val", own, pyramid, logits)
            (detections,) = self.network.instance_head.detect(pyramid, [seen])
            on_image = detections_on_image(detections, seen, size)
            predicted = self.predictor.to_prediction(logits[0], seen, on_image, batch["image_id"][k], size)
            self._count(truth, predicted)
            if k == 0 and self.panels_every_n_steps and batch_index % self.panels_every_n_steps == 0:
                image = resize_image(to_image(batch["image"][k], seen), size)
                panel = draw_panel(image, predicted, truth, self.taxonomy, self.merging.lowest_score)
                self.draw(f"val/{batch['image_id'][k]}", panel)

    def on_validation_epoch_end(self) -> None:
        """Log mIoU, panoptic quality and mask AP."""
        self.log_semantic_iou()
        self.log_panoptic_quality()
        precision, self.precision = self.precision, InstanceAP(self.taxonomy)
        scores = InstanceAP.merged(gather_objects(precision)).scores()
        self.log_dict({f"val/{ours}": scores[theirs] or 0.0 for ours, theirs in (("ap", "AP"), ("ap50", "AP50"))})

    def _loss(self, stage: str, batch: dict, pyramid: list[Tensor], logits: Tensor) -> Tensor:
        """The weighted sum, logged, and each term."""
        target = to_output_index(batch["semantic"], self.network.train_id_of_output)
        losses = {"semantic": self.loss_weights.semantic * semantic_loss(logits, target)}
        terms = self.network.instance_head.losses(pyramid, batch["instances"])
        losses |= {name: self.loss_weights.instance * loss for name, loss in terms.items()}
        return self.log_losses(stage, losses, len(logits))

    def _count(self, truth: PanopticMap, predicted: Prediction) -> None:
        """Add one image to all scores."""
        self.quality.add(truth, predicted.panoptic)
        self.count_semantic(predicted.semantic.train_ids, truth)
        annotations = panoptic_to_annotations(truth, self.taxonomy)
        detections = instances_to_detections(predicted.instances, self.taxonomy)
        self.precision.add(annotations, detections, truth.segment_ids.shape)
