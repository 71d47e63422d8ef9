"""A trained semantic model: load its checkpoint, picture in, semantic logits out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.normalization import normalize_and_pad
from data.resizing import logits_on_image
from data.semantic_dump import SemanticLogits
from data.taxonomy import TAXONOMIES, Taxonomy
from efficientps.network import LOGIT_STRIDE, EfficientPS, SemanticEfficientPS, build_network
from prediction.views import PLAIN, View, ViewSettings, look
from runtime.files import InputError, shorten
from training.checkpoints import load_weights, read_trained


@dataclass(frozen=True)
class SemanticPredictor:
    """A network in evaluation mode, its classes, a name that changes with weights and views, and the views it takes."""

    network: SemanticEfficientPS
    taxonomy: Taxonomy
    producer: str
    views: ViewSettings = PLAIN

    @torch.inference_mode()
    def predict(self, image_id: str, picture: np.ndarray) -> SemanticLogits:
        """(H, W, 3) uint8 RGB of any size -> logits at stride 4, the mean over the views, of which one is held at a time.

        Logits are averaged, not probabilities: the fusion adds them to mask logits and reads their sign, and the logarithm of
        a mean probability is never positive. The mean has the range that the network was trained to give.

        Raises:
            InputError: if the network gives NaN.
        """
        height, width = picture.shape[:2]
        views = self.views.views()
        logits = self._predict_view(picture, views[0])
        for view in views[1:]:
            logits += self._predict_view(picture, view)
        logits /= len(views)
        if not logits.isfinite().all():
            raise InputError(f"{image_id}: the semantic model gives NaN or infinite logits; use another checkpoint")
        taxonomy = self.taxonomy.name
        return SemanticLogits(image_id, height, width, LOGIT_STRIDE, taxonomy, self.producer, logits.cpu().numpy())

    def _predict_view(self, picture: np.ndarray, view: View) -> Tensor:
        """(C, ceil(H / 4), ceil(W / 4)) float32 logits of one view, on the picture's own grid."""
        seen = look(picture, view)
        device = next(self.network.parameters()).device
        image = torch.from_numpy(normalize_and_pad(seen))[None].to(device)
        logits = self.network(image.contiguous(memory_format=torch.channels_last))[0].float()
        return logits_on_image(logits, seen.shape[:2], picture.shape[:2], LOGIT_STRIDE, LOGIT_STRIDE, view.is_flipped)


def load_semantic_predictor(path: Path, device: str = "cpu", views: ViewSettings = PLAIN) -> SemanticPredictor:
    """Load a checkpoint that train_net.py wrote, with or without an instance head, for its semantics.

    Args:
        views: test-time augmentation; the default is none.

    Raises:
        InputError: as load_network.
    """
    network, taxonomy, name = load_network(path, device)
    return SemanticPredictor(network, taxonomy, name + views.suffix, views)


def load_network(path: Path, device: str = "cpu") -> tuple[SemanticEfficientPS | EfficientPS, Taxonomy, str]:
    """The network of a checkpoint, ready to predict, its classes, and a name that changes with its weights.

    No pickled code is executed.

    Raises:
        InputError: if the file is missing, truncated, or of another model.
    """
    advice = "train stage 2 first: python efficientps/train_net.py"
    trained = read_trained(path, advice)
    try:
        settings = trained.settings["network"]
        taxonomy = TAXONOMIES[trained.settings["taxonomy"]]
        network = build_network(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no checkpoint of efficientps/train_net.py ({shorten(error)}); {advice}") from None
    load_weights(network, trained)
    network.eval().to(device, memory_format=torch.channels_last)
    kind = "maskrcnn-" if isinstance(network, EfficientPS) else ""
    return network, taxonomy, f"efficientps-{kind}{settings['variant']}-{trained.digest}"
