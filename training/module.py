"""What the training of every panoptic network shares: counting, logging and drawing while it is validated, and its optimiser."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from data.network_input import NetworkInput
from data.panoptic_png import PanopticMap
from data.targets import panoptic_to_semantic
from data.taxonomy import Taxonomy
from evaluation.panoptic_quality import ClassCounts, PanopticQuality
from evaluation.semantic_iou import SemanticIoU
from training.schedule import OptimizerSettings, make_optimizer


class PanopticModule(pl.LightningModule):
    """Base of the modules: they compute, this one counts over devices and logs.

    Args:
        taxonomy: of the predictions.
        optimizer: rate and schedule.
        weights: name of packaged weights or a file to start from, where nothing is resumed; the command loads it.
        monitor: the score that picks best.ckpt.
    """

    def __init__(self, taxonomy: Taxonomy, optimizer: OptimizerSettings, weights: str | None, monitor: str = "val/pq"):
        super().__init__()
        self.taxonomy, self.optimizer_settings, self.weights, self.monitor = taxonomy, optimizer, weights, monitor
        self.iou = SemanticIoU(taxonomy)
        self.quality = PanopticQuality()

    @staticmethod
    def normalization_of(settings: Mapping[str, Any]) -> str:
        """Which of NORMALIZATIONS a network wants.

        Args:
            settings: of the module, as its arguments.
        """
        return "imagenet"

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights fill, whose learning rate may be another."""
        return self.network.encoder

    from_scratch = ""
    """The flags with which all parts of the network learn, where by default some stay as their weights are."""
    needs_instances = False
    """Whether batches must have instance targets."""

    def save_plain_settings(self, system: str, network: dict, network_input: NetworkInput, **others: object) -> None:
        """Let checkpoints say how to build the network, its classes, and what it is given.

        Plain values only: a checkpoint must load with weights_only.

        Args:
            system: the folder whose predictor.py reads the checkpoint.
            others: settings that suit these weights, such as those of the fusion.
        """
        about = {"system": system, "taxonomy": self.taxonomy.name, "categories": self.taxonomy.to_coco_categories()}
        plain = {"network": network, "optimizer": asdict(self.optimizer_settings), **network_input.to_plain(), **others}
        self.save_hyperparameters(about | plain, logger=False)

    def configure_optimizers(self) -> dict:
        return make_optimizer(self.optimizer_settings, self, self.encoder, self.trainer)

    def log_losses(self, stage: str, losses: Mapping[str, Tensor], batch_size: int) -> Tensor:
        """Log the terms of a loss, where there are several, and their sum; return the sum."""
        counted = {"batch_size": batch_size, "sync_dist": True}
        if len(losses) > 1:
            self.log_dict({f"{stage}/loss_{name}": loss for name, loss in losses.items()}, **counted)
        loss = sum(losses.values())
        self.log(f"{stage}/loss", loss, prog_bar=stage == "train", **counted)
        return loss

    def count_semantic(self, predicted: np.ndarray, truth: PanopticMap) -> None:
        """Count an (H, W) map of train ids against a truth of the same size."""
        self.iou.add(panoptic_to_semantic(truth, self.taxonomy), predicted)

    def log_semantic_iou(self) -> None:
        """Log `val/miou` and the IoU of each class that occurs, of what all devices have counted; counting starts anew."""
        iou, self.iou = self.iou, SemanticIoU(self.taxonomy)
        counted = torch.from_numpy(iou.confusion).to(self.device)
        iou.confusion[:] = self.trainer.strategy.reduce(counted, reduce_op="sum").cpu().numpy()
        scores = iou.scores()
        self.log("val/miou", scores["miou"] or 0.0, prog_bar=True)
        for name, value in scores["per_class"].items():
            if value is not None:
                self.log(f"val_iou/{name}", value)

    def log_panoptic_quality(self) -> None:
        """Log PQ, SQ and RQ of All, Things and Stuff, of what `quality` has counted on all devices; counting starts anew."""
        scores = self._collect_quality().scores(self.taxonomy)
        for group, suffix in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
            for name in ("pq", "sq", "rq"):
                self.log(f"val/{name}{suffix}", scores[group][name] or 0.0, prog_bar=name + suffix == "pq")

    def draw(self, tag: str, panel: np.ndarray) -> None:
        """An (H, W, 3) uint8 image into each logger that takes images, such as TensorBoard and W&B."""
        for logger in self.loggers:
            if hasattr(logger.experiment, "add_image"):
                logger.experiment.add_image(tag, panel, self.global_step, dataformats="HWC")
            elif hasattr(logger, "log_image"):
                logger.log_image(tag, [panel], self.global_step)

    def _collect_quality(self) -> PanopticQuality:
        """What all devices have counted; counting starts anew."""
        ids = self.taxonomy.dataset_ids.tolist()
        own = [self.quality.counts.get(category_id, ClassCounts()) for category_id in ids]
        exact = torch.float32 if self.device.type == "mps" else torch.float64  # which mps has not
        rows = torch.tensor([[c.iou_sum, c.tp, c.fp, c.fn] for c in own], dtype=exact, device=self.device)
        total = self.trainer.strategy.reduce(rows, reduce_op="sum").tolist()
        self.quality = PanopticQuality()
        return PanopticQuality({k: ClassCounts(iou, int(tp), int(fp), int(fn)) for k, (iou, tp, fp, fn) in zip(ids, total)})


def to_image(image: Tensor, size: tuple[int, int]) -> np.ndarray:
    """(3, H, W) normalised -> (h, w, 3) uint8 for looking at, stretched to the full range and cut to `size` (h, w)."""
    shown = image - image.amin()
    shown = (255 * shown / shown.amax().clamp(min=1e-6)).permute(1, 2, 0).byte().cpu().numpy()
    return shown[: size[0], : size[1]]
