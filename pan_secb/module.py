"""Training of Pan-SECB, on crops and on whole images: losses by name, validation, images. Lightning ends here."""

from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from data.network_input import NetworkInput
from data.resizing import resize_image
from data.taxonomy import Taxonomy
from evaluation.render import color_panoptic, side_by_side
from fusion.embedding_clusters import EmbeddingMaps
from fusion.settings import ClusterSettings
from pan_secb.embedding_maps import to_embedding_maps
from pan_secb.embeddings import PIXELS_PER_UNIT
from pan_secb.loss import LossSettings, embedding_loss
from pan_secb.network import EmbeddingOutput, PanSECB
from pan_secb.predictor import PanSECBPredictor
from pan_secb.targets import EmbeddingTargets
from runtime.files import InputError
from training.module import PanopticModule, to_image
from training.schedule import OptimizerSettings


@dataclass(frozen=True)
class NetworkSettings:
    """Size of the network and the unit of its embeddings; the defaults are the ancestor's."""

    width: float = 1.0
    """Factor of all channels of ERFNet."""
    num_sigma: int = 1
    """Bandwidths a pixel: 1, or 2, one along each axis."""
    pixels_per_unit: float = PIXELS_PER_UNIT
    """The height of the whole images that it is for, as the ancestor's 1024."""
    start_sigma: float = 1.0
    """Of every pixel before training; the bandwidth is exp(10 sigma), as the ancestor starts."""
    dropout: float = 1.0
    """Factor of ERFNet's dropout rates, .03 and .3."""


class PanSECBModule(PanopticModule):
    """Trains all three decoders at once by the weighted sum of their losses.

    Args:
        taxonomy: of the data; the command takes it from there.
        network_input: size and pixel values that the data brings an image to; the command takes them from there.
        network: size of the network.
        optimizer: rate and schedule.
        loss: weights of the terms; its foreground weights are those of the data where there are none.
        clustering: how embeddings become objects in validation.
        foreground_weights: of each thing class, as the data has counted them; the command takes them from there.
        num_pictures: validation images drawn in TensorBoard.
        weights: checkpoint of an earlier step to start from, where nothing is resumed.
    """

    needs_instances = True

    def __init__(
        self,
        taxonomy: Taxonomy,
        network_input: NetworkInput = NetworkInput(),
        network: NetworkSettings = NetworkSettings(),
        optimizer: OptimizerSettings = OptimizerSettings(),
        loss: LossSettings = LossSettings(),
        clustering: ClusterSettings = ClusterSettings(),
        foreground_weights: tuple[float, ...] | None = None,
        num_pictures: int = 4,
        weights: str | None = None,
    ):
        super().__init__(taxonomy, optimizer, weights)
        if num_pictures < 0:
            raise InputError(f"num_pictures is {num_pictures}, but 0 or more is needed")
        self.loss_settings = loss
        if loss.foreground_weights is None and foreground_weights is not None:
            self.loss_settings = replace(loss, foreground_weights=tuple(foreground_weights))
        self.num_pictures, self.network_input, self.clustering = num_pictures, network_input, clustering
        plain = {"num_classes": taxonomy.num_classes, "num_things": len(taxonomy.thing_ids)} | asdict(network)
        self.save_plain_settings("pan_secb", plain, network_input, clustering=asdict(clustering))
        self.network = PanSECB(**plain).to(memory_format=torch.channels_last)

    @property
    def predictor(self) -> PanSECBPredictor:
        """What the network as it is now would be used as."""
        return PanSECBPredictor(self.network, self.taxonomy, "training", self.network_input, self.clustering)

    def forward(self, image: Tensor) -> EmbeddingOutput:
        """(B, 3, H, W) normalised RGB -> what the network says of every pixel."""
        return self.network(image.contiguous(memory_format=torch.channels_last))

    def training_step(self, batch: dict, batch_index: int) -> Tensor:
        return self._loss("train", batch, self(batch["image"]))

    def validation_step(self, batch: dict, batch_index: int) -> None:
        """Count whole images as they will be predicted, and draw the first `num_pictures` of them."""
        output = self(batch["image"])
        self._loss("val", batch, output)
        for k, truth in enumerate(batch["panoptic"]):
            size, (height, width) = truth.segment_ids.shape, batch["seen_size"][k]
            about = {"image_id": batch["image_id"][k], "height": height, "width": width, "taxonomy": self.taxonomy}
            maps = to_embedding_maps(output, k, **about, pixels_per_unit=self.network.pixels_per_unit)
            predicted = self.predictor.to_prediction(maps, size)
            self.quality.add(truth, predicted.panoptic)
            self.count_semantic(predicted.semantic.train_ids, truth)
            number = batch_index * len(batch["panoptic"]) + k
            if number < self.num_pictures:
                shown = [color_panoptic(panoptic, self.taxonomy) for panoptic in (predicted.panoptic, truth)]
                image = resize_image(to_image(batch["image"][k], (height, width)), size)
                titles = ("image", "seeds, the largest of the classes", "predicted", "truth")
                seeds = resize_image(draw_seeds(maps), size)
                self.draw(f"val/{number}", side_by_side([image, seeds, *shown], titles, columns=2))

    def on_validation_epoch_end(self) -> None:
        """Log mIoU and panoptic quality."""
        self.log_semantic_iou()
        self.log_panoptic_quality()

    def _loss(self, stage: str, batch: dict, output: EmbeddingOutput) -> Tensor:
        """The weighted sum, logged, and each term."""
        targets = EmbeddingTargets.of_batch(batch)
        losses = embedding_loss(output, targets, self.taxonomy, self.loss_settings, self.network.pixels_per_unit)
        total = losses.pop("total")
        size = {"batch_size": len(output.seeds), "sync_dist": True}
        self.log_dict({f"{stage}/loss_{name}": loss for name, loss in losses.items()}, **size)
        self.log(f"{stage}/loss", total, prog_bar=stage == "train", **size)
        return total


def draw_seeds(maps: EmbeddingMaps) -> np.ndarray:
    """(H, W, 3) uint8: black where no class has a seed, white where one is certain."""
    grey = (255 * maps.seeds.amax(0)).byte().cpu().numpy()
    return np.repeat(grey[..., None], 3, axis=2)
