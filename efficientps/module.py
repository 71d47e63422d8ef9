"""Training of EfficientPS, with or without its instance head: optimiser, schedule, validation, pictures. Lightning ends here."""

from dataclasses import asdict, dataclass

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from data.cityscapes import instance_ids_to_panoptic
from data.files import InputError
from data.panoptic_png import PanopticMap
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from efficientps.instance_head import Detections, InstanceHeadSettings
from efficientps.loss import hardest_pixels_loss
from efficientps.network import LOGIT_STRIDE, build_network
from efficientps.norm import set_norm
from efficientps.panoptic_inference import to_instance_logits, to_semantic_logits
from evaluation.panoptic_quality import ClassCounts, PanopticQuality
from evaluation.render import color_panoptic
from evaluation.semantic_iou import SemanticIoU
from fusion.logit_fusion import FusionSettings, fuse


@dataclass(frozen=True)
class OptimizerSettings:
    """SGD or AdamW with linear warm-up and steps; the defaults are those of the official configuration."""

    name: str = "sgd"
    """sgd (momentum 0.9) or adamw."""
    lr: float = 0.07
    """Learning rate after warm-up; the official one. For how many images a step that is, is not said: see base_batch."""
    base_batch: int | None = None
    """Images a step that `lr` is for: the rate grows and shrinks with those that there are. None: `lr` as it is."""
    weight_decay: float = 1e-4
    warmup_steps: int = 500
    warmup_factor: float = 1 / 3
    """Learning rate at step 0, as a share of `lr`."""
    milestones: tuple[float, ...] = (0.75, 0.9)
    """Shares of the training after which the rate drops; the official 120 and 144 of 160 epochs."""
    gamma: float = 0.1
    """Factor at each milestone."""

    def __post_init__(self):
        if self.name not in ("sgd", "adamw"):
            raise InputError(f"optimizer {self.name!r} is unknown; choose sgd or adamw")
        if not self.lr > 0 or not self.weight_decay >= 0 or not self.warmup_steps >= 0:
            found = f"lr {self.lr}, weight_decay {self.weight_decay}, warmup_steps {self.warmup_steps}"
            raise InputError(f"optimizer {found}, but lr above 0 and the others from 0 on are needed")
        if list(self.milestones) != sorted(self.milestones) or not all(0 < m < 1 for m in self.milestones):
            raise InputError(f"milestones {self.milestones} must ascend within 0..1: they are shares of the training")
        if self.base_batch is not None and self.base_batch < 1:
            raise InputError(f"base_batch is {self.base_batch}, but at least 1 image, or null, is needed")


class EfficientPSModule(pl.LightningModule):
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
        super().__init__()
        if not 0 < hardest_fraction <= 1:
            raise InputError(f"hardest_fraction is {hardest_fraction}, but a share above 0 and up to 1 is needed")
        self.taxonomy = CITYSCAPES
        self.optimizer_settings = optimizer
        self.hardest_fraction = hardest_fraction
        self.num_pictures = num_pictures
        network = {
            "num_classes": self.taxonomy.num_classes,
            "variant": variant,
            "fpn_channels": fpn_channels,
            "is_separable": is_separable,
            "norm_momentum": norm_momentum,
        }
        if instance_head is not None:
            network |= {"thing_ids": list(self.taxonomy.thing_ids), "instance_head": asdict(instance_head)}
        # Plain values only: a checkpoint must load with weights_only, and tells inference how to build the network.
        self.save_hyperparameters(
            {"network": network, "taxonomy": self.taxonomy.name, "optimizer": asdict(optimizer)}, logger=False
        )
        # Depthwise convolutions on CPU are faster in this memory format, and tensor cores want it too.
        self.network = build_network(network).to(memory_format=torch.channels_last)
        self.network.encoder.is_checkpointed = checkpoint_encoder
        set_norm(self.network, norm)
        if instance_head is not None and norm == "iabn_sync":
            set_norm(self.network.instance_head, "iabn")  # each process has its own number of objects, or none
        self.weights = weights
        self.has_instances = instance_head is not None
        self.confusion = MulticlassConfusionMatrix(self.taxonomy.num_classes, ignore_index=VOID_TRAIN_ID)
        self.quality = PanopticQuality()

    @property
    def monitor(self) -> str:
        """The score that picks best.ckpt."""
        return "val/pq" if self.has_instances else "val/miou"

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
        self.confusion.update(prediction, batch["semantic"])
        colors, drawn = self.taxonomy.colors, batch_index * len(prediction)
        panels = ((colors[p], colors[t]) for p, t in zip(prediction.cpu().numpy(), batch["semantic"].cpu().numpy(), strict=True))
        if self.has_instances:
            maps = self._fuse(batch, pyramid, logits)
            for truth, fused in maps:
                self.quality.add(truth, fused)
            panels = ((color_panoptic(fused, self.taxonomy), color_panoptic(truth, self.taxonomy)) for truth, fused in maps)
        for k, (shown, truth) in zip(range(self.num_pictures - drawn), panels):
            self._draw(drawn + k, batch["image"][k], shown, truth)

    def on_validation_epoch_end(self) -> None:
        """Log `val/miou` and the IoU of each class that occurs; with an instance head also `val/pq`."""
        # torchmetrics collects over devices; SemanticIoU knows what the numbers mean.
        iou = SemanticIoU(self.taxonomy)
        iou.confusion[:, :-1] = self.confusion.compute().cpu().numpy()
        self.confusion.reset()
        scores = iou.scores()
        self.log("val/miou", scores["miou"] or 0.0, prog_bar=True)
        for name, value in scores["per_class"].items():
            if value is not None:
                self.log(f"val_iou/{name}", value)
        if self.has_instances:
            scores = self._collect_quality().scores(self.taxonomy)
            for name, group in (("val/pq", "All"), ("val/pq_things", "Things"), ("val/pq_stuff", "Stuff")):
                self.log(name, scores[group]["pq"] or 0.0, prog_bar=group == "All")

    def configure_optimizers(self) -> dict:
        """The optimiser of the settings, its rate set at each step by learning_rate_factor."""
        s = self.optimizer_settings
        rate = learning_rate(s, self.trainer, self.trainer.datamodule)
        if s.name == "sgd":
            optimizer = torch.optim.SGD(self.parameters(), rate, momentum=0.9, weight_decay=s.weight_decay)
        else:
            optimizer = torch.optim.AdamW(self.parameters(), rate, weight_decay=s.weight_decay)
        total_steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, total_steps, s))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _loss(self, stage: str, batch: dict, pyramid: list[Tensor], logits: Tensor) -> Tensor:
        """The sum of all losses, logged, and where there are several also each."""
        losses = {"semantic": hardest_pixels_loss(logits, batch["semantic"], self.hardest_fraction)}
        counted = {"batch_size": len(logits), "sync_dist": True}
        if self.has_instances:
            losses |= self.network.instance_head.losses(pyramid, batch["instances"])
            self.log_dict({f"{stage}/loss_{name}": loss for name, loss in losses.items()}, **counted)
        loss = sum(losses.values())
        self.log(f"{stage}/loss", loss, prog_bar=stage == "train", **counted)
        return loss

    def _fuse(self, batch: dict, pyramid: list[Tensor], logits: Tensor) -> list[tuple[PanopticMap, PanopticMap]]:
        """Truth and prediction of each image."""
        sizes = [tuple(ids.shape) for ids in batch["instance_ids"]]
        detections: list[Detections] = self.network.instance_head.detect(pyramid, sizes)
        maps = []
        for k, ids in enumerate(batch["instance_ids"]):
            about = {"image_id": batch["image_id"][k], "size": sizes[k], "taxonomy": self.taxonomy, "producer": "training"}
            instances, semantic = to_instance_logits(detections[k], **about), to_semantic_logits(logits[k], **about)
            # The head itself drops what has too low a score.
            fused = fuse(instances, semantic, self.taxonomy, FusionSettings(min_score=0.0), self.device)
            maps.append((instance_ids_to_panoptic(ids.cpu().numpy()), fused))
        return maps

    def _collect_quality(self) -> PanopticQuality:
        """What all devices have counted; counting starts anew."""
        ids = self.taxonomy.dataset_ids.tolist()
        own = [self.quality.counts.get(category_id, ClassCounts()) for category_id in ids]
        rows = torch.tensor([[c.iou_sum, c.tp, c.fp, c.fn] for c in own], device=self.device)
        total = self.trainer.strategy.reduce(rows, reduce_op="sum").tolist()
        self.quality = PanopticQuality()
        return PanopticQuality({k: ClassCounts(iou, int(tp), int(fp), int(fn)) for k, (iou, tp, fp, fn) in zip(ids, total)})

    def _draw(self, index: int, image: Tensor, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Image, prediction and truth, the last two (H, W, 3) uint8, one above the other, into TensorBoard."""
        if self.logger is None:
            return
        shown = image - image.amin()
        shown = (255 * shown / shown.amax().clamp(min=1e-6)).permute(1, 2, 0).byte().cpu().numpy()
        panel = np.concatenate([shown[: len(truth), : truth.shape[1]], prediction, truth])
        self.logger.experiment.add_image(f"val/{index}", panel, self.global_step, dataformats="HWC")


def learning_rate(settings: OptimizerSettings, trainer: pl.Trainer, data: pl.LightningDataModule) -> float:
    """The rate after warm-up, for as many images as an optimiser step of this training sees."""
    if settings.base_batch is None:
        return settings.lr
    images = trainer.world_size * data.batch_size * trainer.accumulate_grad_batches
    return settings.lr * images / settings.base_batch


def learning_rate_factor(step: int, total_steps: float, settings: OptimizerSettings) -> float:
    """Share of the full rate at an optimiser step: linear warm-up, then a drop at each milestone.

    Args:
        total_steps: of the whole training; may be infinite, then no milestone comes.
    """
    warmed = min(1.0, step / settings.warmup_steps) if settings.warmup_steps else 1.0
    warmup = settings.warmup_factor + (1 - settings.warmup_factor) * warmed
    return warmup * settings.gamma ** sum(step >= m * total_steps for m in settings.milestones)
