"""Training of the semantic model: optimiser, schedule, validation and pictures. Lightning ends here."""

from dataclasses import asdict, dataclass

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from data.files import InputError
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from efficientps.loss import hardest_pixels_loss
from efficientps.network import LOGIT_STRIDE, SemanticEfficientPS
from evaluation.semantic_iou import SemanticIoU


@dataclass(frozen=True)
class OptimizerSettings:
    """SGD or AdamW with linear warm-up and steps; the defaults are those of the official configuration."""

    name: str = "sgd"
    """sgd (momentum 0.9) or adamw."""
    lr: float = 0.07
    """Learning rate after warm-up, for the official batch of 8 images."""
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
        if list(self.milestones) != sorted(self.milestones) or not all(0 < m < 1 for m in self.milestones):
            raise InputError(f"milestones {self.milestones} must ascend within 0..1: they are shares of the training")


class SemanticModule(pl.LightningModule):
    """Trains SemanticEfficientPS with the hardest-pixel loss and reports mIoU.

    Args:
        variant: EfficientNet b0 .. b7.
        fpn_channels: width of the two-way FPN.
        is_separable: separable (paper) or standard (official code) FPN output convolutions.
        norm_momentum: of the encoder's running statistics.
        hardest_fraction: share of the pixels that the loss sees.
        optimizer: rate and schedule.
        num_pictures: validation images drawn in TensorBoard after each epoch.
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
        # Plain values only: a checkpoint must load with weights_only, and tells inference how to build the network.
        self.save_hyperparameters(
            {"network": network, "taxonomy": self.taxonomy.name, "optimizer": asdict(optimizer)}, logger=False
        )
        # Depthwise convolutions on CPU are faster in this memory format, and tensor cores want it too.
        self.network = SemanticEfficientPS(**network).to(memory_format=torch.channels_last)
        self.confusion = MulticlassConfusionMatrix(self.taxonomy.num_classes, ignore_index=VOID_TRAIN_ID)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) normalised RGB -> (B, C, H / 4, W / 4) logits."""
        return self.network(image.contiguous(memory_format=torch.channels_last))

    def training_step(self, batch: dict, batch_index: int) -> Tensor:
        loss = hardest_pixels_loss(self(batch["image"]), batch["semantic"], self.hardest_fraction)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["image"]))
        return loss

    def validation_step(self, batch: dict, batch_index: int) -> None:
        """Count whole images at full resolution, and draw the first `num_pictures` of them."""
        logits = self(batch["image"])
        loss = hardest_pixels_loss(logits, batch["semantic"], self.hardest_fraction)
        self.log("val/loss", loss, batch_size=len(batch["image"]))
        full = torch.nn.functional.interpolate(logits.float(), scale_factor=LOGIT_STRIDE, mode="bilinear", align_corners=False)
        prediction = full.argmax(1)
        self.confusion.update(prediction, batch["semantic"])
        drawn = batch_index * len(prediction)
        for k in range(max(0, min(len(prediction), self.num_pictures - drawn))):
            self._draw(drawn + k, batch["image"][k], prediction[k], batch["semantic"][k])

    def on_validation_epoch_end(self) -> None:
        """Log `val/miou`, which picks best.ckpt, and the IoU of each class that occurs."""
        # torchmetrics collects over devices; SemanticIoU knows what the numbers mean.
        iou = SemanticIoU(self.taxonomy)
        iou.confusion[:, :-1] = self.confusion.compute().cpu().numpy()
        self.confusion.reset()
        scores = iou.scores()
        self.log("val/miou", scores["miou"] or 0.0, prog_bar=True)
        for name, value in scores["per_class"].items():
            if value is not None:
                self.log(f"val_iou/{name}", value)

    def configure_optimizers(self) -> dict:
        """The optimiser of the settings, its rate set at each step by learning_rate_factor."""
        s = self.optimizer_settings
        if s.name == "sgd":
            optimizer = torch.optim.SGD(self.parameters(), s.lr, momentum=0.9, weight_decay=s.weight_decay)
        else:
            optimizer = torch.optim.AdamW(self.parameters(), s.lr, weight_decay=s.weight_decay)
        total_steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, total_steps, s))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _draw(self, index: int, image: Tensor, prediction: Tensor, truth: Tensor) -> None:
        """Image, prediction and truth, one above the other, into TensorBoard."""
        if self.logger is None:
            return
        shown = image - image.amin()
        shown = (255 * shown / shown.amax().clamp(min=1e-6)).permute(1, 2, 0).byte().cpu()
        colors = torch.from_numpy(self.taxonomy.colors)
        panel = torch.cat([shown, colors[prediction.cpu()], colors[truth.cpu()]])
        self.logger.experiment.add_image(f"val/{index}", panel, self.global_step, dataformats="HWC")


def learning_rate_factor(step: int, total_steps: float, settings: OptimizerSettings) -> float:
    """Share of the full rate at an optimiser step: linear warm-up, then a drop at each milestone.

    Args:
        total_steps: of the whole training; may be infinite, then no milestone comes.
    """
    warmed = min(1.0, step / settings.warmup_steps) if settings.warmup_steps else 1.0
    warmup = settings.warmup_factor + (1 - settings.warmup_factor) * warmed
    return warmup * settings.gamma ** sum(step >= m * total_steps for m in settings.milestones)
