"""A trained EfficientPS with its instance head: load its checkpoint, picture in, instances and semantic logits out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.dump_file import grid_size
from data.instance_dump import InstanceLogits
from data.normalization import normalize_and_pad
from data.semantic_dump import SemanticLogits
from data.taxonomy import Taxonomy
from detection.instance_masks import to_instance_logits
from efficientps.network import LOGIT_STRIDE, EfficientPS
from efficientps.predictor import load_network
from runtime.files import InputError

LOWEST_SCORE = 0.05
"""Of a detection, as torchvision's and SOLOv2's: mask AP needs the uncertain ones too, and the fusion has a limit of its own."""


@dataclass(frozen=True)
class PanopticPredictor:
    """A network in evaluation mode, its classes, and a name that changes with its weights."""

    network: EfficientPS
    taxonomy: Taxonomy
    producer: str

    @torch.inference_mode()
    def predict(self, image_id: str, picture: np.ndarray) -> tuple[InstanceLogits, SemanticLogits]:
        """(H, W, 3) uint8 RGB of any size -> instances with masks at stride 1, semantic logits at stride 4.

        Raises:
            InputError: if the network gives NaN.
        """
        size = picture.shape[:2]
        device = next(self.network.parameters()).device
        image = torch.from_numpy(normalize_and_pad(picture))[None].to(device)
        pyramid = self.network.pyramid(image.contiguous(memory_format=torch.channels_last))
        logits = self.network.semantic_head(pyramid)[0]
        if not logits.isfinite().all():
            raise InputError(f"{image_id}: the model gives NaN or infinite logits; use another checkpoint")
        (detections,) = self.network.instance_head.detect(pyramid, [size])
        about = {"image_id": image_id, "size": size, "taxonomy": self.taxonomy, "producer": self.producer}
        return to_instance_logits(detections, **about), to_semantic_logits(logits, **about)


def to_semantic_logits(
    logits: Tensor, *, image_id: str, size: tuple[int, int], taxonomy: Taxonomy, producer: str
) -> SemanticLogits:
    """(C, h, w) logits at stride 4 of a padded image -> those of the image, whose (height, width) is `size`."""
    rows, columns = grid_size(*size, LOGIT_STRIDE)
    cut = logits[:, :rows, :columns].float().cpu().numpy()
    return SemanticLogits(image_id, *size, LOGIT_STRIDE, taxonomy.name, producer, cut)


def load_panoptic_predictor(path: Path, device: str = "cpu") -> PanopticPredictor:
    """Load a checkpoint that train_net.py wrote with an instance head. No pickled code is executed.

    Raises:
        InputError: if the file is missing, truncated, or of another model.
    """
    network, taxonomy, name = load_network(path, device)
    if not isinstance(network, EfficientPS):
        raise InputError(f"{path}: is of the semantic model, which has no instances; train a *_maskrcnn configuration")
    network.instance_head.roi.score_thresh = min(network.instance_head.roi.score_thresh, LOWEST_SCORE)
    return PanopticPredictor(network, taxonomy, f"{name}-from{LOWEST_SCORE}")
