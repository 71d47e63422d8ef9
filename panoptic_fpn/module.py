"""Training of Panoptic FPN: losses by name, validation by every score, panels in TensorBoard. Lightning ends here."""

from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from data.instance_dump import full_masks
from data.panoptic_png import PanopticMap
from data.targets import panoptic_to_instances, panoptic_to_semantic
from data.taxonomy import Taxonomy
from detection.instance_masks import to_instance_logits
from fusion.heuristic_merge import MergeSettings, merge
from panoptic_fpn.loss import LossWeights, semantic_loss, to_output_index
from panoptic_fpn.network import NetworkSettings, build_network, to_plain
from panoptic_fpn.panels import Prediction, draw_panel
from panoptic_fpn.predictor import InputSize, enlarge, fill_other, resize_and_pad, to_train_ids
from runtime.files import InputError
from training.module import PanopticModule, to_picture
from training.schedule import OptimizerSettings


class PanopticFPNModule(PanopticModule):
    """Trains both branches by the weighted sum of their losses.

    Args:
        taxonomy: of the data; the command takes it from there.
        network: sizes of the network.
        optimizer: rate and schedule.
        loss: factors of the branches.
        merging: which instances and which stuff are kept in validation.
        input_size: to what size validation and inference bring an image.
        panels_every_n_steps: a panel is drawn in TensorBoard at each n-th validation step; 0 draws none.
        weights: file of scripts/import_weights.py, or a checkpoint of this command, to start from where nothing is resumed.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        network: NetworkSettings = NetworkSettings(),
        optimizer: OptimizerSettings = OptimizerSettings(),
        loss: LossWeights = LossWeights(),
        merging: MergeSettings = MergeSettings(),
        input_size: InputSize = InputSize(),
        panels_every_n_steps: int = 20,
        weights: str | None = None,
    ):
        super().__init__(taxonomy, optimizer, weights)
        if panels_every_n_steps < 0:
            raise InputError(f"panels_every_n_steps is {panels_every_n_steps}, but 0 or more is needed")
        self.loss_weights, self.merging, self.input_size, self.panels_every_n_steps = (
            loss,
            merging,
            input_size,
            panels_every_n_steps,
        )
        plain = to_plain(network, taxonomy)
        # Plain values only: a checkpoint must load with weights_only, and tells inference how to build the network.
        hyper_parameters = {
            "network": plain,
            "taxonomy": taxonomy.name,
            "categories": taxonomy.to_coco_categories(),
            "optimizer": asdict(optimizer),
            "input_size": asdict(input_size),
        }
        self.save_hyperparameters(hyper_parameters, logger=False)
        self.network = build_network(plain).to(memory_format=torch.channels_last)
        self.precision_of_masks = MeanAveragePrecision(iou_type="segm", backend="pycocotools")

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """(B, 3, H, W) normalised RGB -> pyramid, and (B, outputs, H / 4, W / 4) logits."""
        return self.network(image.contiguous(memory_format=torch.channels_last))

    def training_step(self, batch: dict, batch_index: int) -> Tensor:
        return self._loss("train", batch, *self(batch["image"]))

    def validation_step(self, batch: dict, batch_index: int) -> None:
        """Count whole images at their own resolution, one by one, and draw the first of each n-th step."""
        for k, truth in enumerate(batch["panoptic"]):
            size = truth.segment_ids.shape
            seen = self.input_size.of(size)
            image = batch["image"][k : k + 1]
            pyramid, logits = self(image if seen == size else resize_and_pad(image[..., : size[0], : size[1]], seen))
            if seen == size:  # else the truth is of another size
                own = {"semantic": batch["semantic"][k : k + 1], "instances": batch["instances"][k : k + 1]}
                self._loss("val", own, pyramid, logits)
            (detections,) = self.network.instance_head.detect(pyramid, [seen])
            about = {"image_id": batch["image_id"][k], "size": size, "taxonomy": self.taxonomy, "producer": "training"}
            instances = to_instance_logits(enlarge(detections, seen, size), **about)
            semantic = to_train_ids(logits[0], self.network, seen, size)
            predicted = Prediction(instances, semantic, merge(instances, semantic, self.taxonomy, self.merging))
            self._count(truth, predicted)
            if k == 0 and self.panels_every_n_steps and batch_index % self.panels_every_n_steps == 0:
                panel = draw_panel(to_picture(image[0], size), predicted, truth, self.taxonomy, self.merging.min_score)
                self.draw(f"val/{batch['image_id'][k]}", panel)

    def on_validation_epoch_end(self) -> None:
        """Log mIoU, panoptic quality and mask AP."""
        self.log_semantic_iou()
        self.log_panoptic_quality()
        scores = self.precision_of_masks.compute()
        self.precision_of_masks.reset()
        # torchmetrics gives -1 where there is no object of a size.
        self.log_dict({f"val/{ours}": scores[theirs].clamp(min=0) for ours, theirs in (("ap", "map"), ("ap50", "map_50"))})

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
        semantic = fill_other(predicted.semantic, predicted.panoptic, self.taxonomy)
        real = panoptic_to_semantic(truth, self.taxonomy)
        self.count_semantic(*(torch.from_numpy(train_ids).to(self.device) for train_ids in (semantic, real)))
        masks, train_ids, _ = panoptic_to_instances(truth, self.taxonomy)
        instances, found = predicted.instances, [*full_masks(predicted.instances)]
        shape = (0, *semantic.shape)
        self.precision_of_masks.update(
            [
                {
                    "masks": torch.from_numpy(np.stack(found) if found else np.zeros(shape, bool)),
                    "scores": torch.from_numpy(instances.scores),
                    "labels": torch.from_numpy(instances.train_ids),
                }
            ],
            [{"masks": torch.from_numpy(masks), "labels": torch.from_numpy(train_ids)}],
        )
