"""A trained EfficientPS, with or without its instance head: image in; semantic logits, and with the head instances, out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.network_input import NetworkInput
from data.resizing import logits_on_image
from data.semantic_dump import SemanticLogits
from data.taxonomy import Taxonomy
from detection.instance_head import Detections
from detection.instance_masks import to_instance_logits
from detection.views import detections_on_image, merge_views
from efficientps.network import LOGIT_STRIDE, EfficientPS, SemanticEfficientPS, build_network
from prediction.batches import Named
from prediction.predictor import NetworkPredictor, Prediction
from prediction.views import PLAIN, View, ViewSettings
from runtime.files import InputError, shorten
from training.checkpoints import load_weights, read_trained

ADVICE = "train stage 2 first: python efficientps/train_net.py"
LOWEST_SCORE = 0.05
"""Of a detection, as torchvision's and SOLOv2's: mask AP needs the uncertain ones too, and the fusion has a limit of its own."""


class EfficientPSPredictor(NetworkPredictor):
    """A network in evaluation mode and what goes around it.

    Args:
        name: changes with the weights.
        network_input: as the network was trained.
        min_score: of the instances that are worth fusing.
        views: test-time augmentation. Semantic logits are averaged, not probabilities: the fusion adds them to mask logits and
            reads their sign, and the logarithm of a mean probability is never positive. Detections meet in one suppression.
    """

    def __init__(
        self,
        network: SemanticEfficientPS | EfficientPS,
        taxonomy: Taxonomy,
        name: str,
        network_input: NetworkInput,
        min_score: float | None = None,
        views: ViewSettings = PLAIN,
    ):
        super().__init__(taxonomy, name + views.suffix)
        self.network, self.network_input, self.min_score, self.views = network, network_input, min_score, views
        self.gives = ("instances", "semantic") if isinstance(network, EfficientPS) else ("semantic",)

    def run(self, image_id: str, image: np.ndarray) -> Prediction:
        """See NetworkPredictor: logits at stride 4, masks at stride 1."""
        return self.run_batch([(image_id, image)])[0]

    def run_batch(self, images: Sequence[Named]) -> list[Prediction]:
        """See NetworkPredictor."""
        views, size = self.views.views(), images[0][1].shape[:2]
        totals, found = [0.0 for _ in images], [[] for _ in images]
        for view in views:
            for k, (logits, detections) in enumerate(self._predict_view([image for _, image in images], view)):
                totals[k] = totals[k] + logits
                if detections is not None:
                    found[k].append(detections)
        predictions = []
        for (image_id, _), total, of_views in zip(images, totals, found, strict=True):
            merged = merge_views(of_views, self.network.instance_head.roi.detections_per_img) if of_views else None
            predictions.append(to_prediction(total / len(views), merged, image_id=image_id, size=size, taxonomy=self.taxonomy))
        return predictions

    def _predict_view(self, images: Sequence[np.ndarray], view: View) -> list[tuple[Tensor, Detections | None]]:
        """What the heads give for one view, on each image; a method, so that no view's features outlive it."""
        size = images[0].shape[:2]
        seen = self.network_input.apply_all(images, next(self.network.parameters()).device, *view)
        pyramid = self.network.pyramid(seen.tensor)
        found = self.network.semantic_head(pyramid).float()
        found = [logits_on_image(k, seen.size, size, LOGIT_STRIDE, LOGIT_STRIDE, view.is_flipped) for k in found]
        if not isinstance(self.network, EfficientPS):
            return [(logits, None) for logits in found]
        detections = self.network.instance_head.detect(pyramid, [seen.size] * len(images))
        on_image = [detections_on_image(d, seen.size, size, view.is_flipped) for d in detections]
        return list(zip(found, on_image, strict=True))


def to_prediction(
    logits: Tensor, detections: Detections | None, *, image_id: str, size: tuple[int, int], taxonomy: Taxonomy
) -> Prediction:
    """What the heads give for an image, in the exchange formats.

    Args:
        logits: (C, ceil(H / 4), ceil(W / 4)) of the image, whose (height, width) is `size`.
        detections: on the image.

    Raises:
        InputError: if the logits are NaN or infinite.
    """
    if not logits.isfinite().all():
        raise InputError(f"{image_id}: the semantic model gives NaN or infinite logits; use another checkpoint")
    semantic = SemanticLogits(image_id, *size, LOGIT_STRIDE, taxonomy.name, "", logits.cpu().numpy())
    instances = None
    if detections is not None:
        instances = to_instance_logits(detections, image_id=image_id, size=size, taxonomy=taxonomy, producer="")
    return Prediction(instances=instances, semantic=semantic)


def load_predictor(path: Path, device: str = "cpu", views: ViewSettings = PLAIN) -> EfficientPSPredictor:
    """Load a checkpoint that train_net.py wrote, with all that it says of classes, input and scores.

    Raises:
        InputError: if the file is missing, truncated, or of another model.
    """
    trained = read_trained(path, ADVICE, "efficientps")
    try:
        network = build_network(with_lowest_score(trained.settings["network"]))
        network_input = NetworkInput.from_plain(trained.settings)
        min_score = trained.settings["network"].get("instance_head", {}).get("score_threshold")
        variant = trained.settings["network"]["variant"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no checkpoint of efficientps/train_net.py ({shorten(error)}); {ADVICE}") from None
    load_weights(network, trained)
    network.eval().to(device, memory_format=torch.channels_last)
    kind = "maskrcnn-" if isinstance(network, EfficientPS) else ""
    name = f"efficientps-{kind}{variant}-{trained.digest}"
    return EfficientPSPredictor(network, trained.taxonomy, name, network_input, min_score, views)


def with_lowest_score(network: dict) -> dict:
    """A network's settings with which its instance head, if it has one, also gives the detections that mask AP needs."""
    if "instance_head" not in network:
        return network
    head = network["instance_head"]
    return network | {"instance_head": head | {"score_threshold": min(head["score_threshold"], LOWEST_SCORE)}}
