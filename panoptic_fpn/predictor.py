"""A trained Panoptic FPN: image in; instances, semantic map and both merged out."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.network_input import NetworkInput
from data.resizing import argmax_on_image, logits_on_image
from data.semantic_dump import SemanticMap
from data.targets import fill_void
from data.taxonomy import Taxonomy
from detection.instance_head import Detections
from detection.instance_masks import to_instance_logits
from detection.views import detections_on_image, merge_views
from fusion.heuristic_merge import merge
from fusion.settings import MergeSettings
from panoptic_fpn.network import LOGIT_STRIDE, MULTIPLE, PanopticFPN, build_network
from prediction.batches import Named
from prediction.predictor import NetworkPredictor, Prediction
from prediction.views import PLAIN, View, ViewSettings
from runtime.files import InputError, digest_of, shorten
from training.checkpoints import load_weights, read_trained

ADVICE = "train first: python panoptic_fpn/train.py"
RULE_VERSION = "2"
"""Raise it when the same image gets other pixels from the same weights, so that old results are not taken for new ones."""


class PanopticFPNPredictor(NetworkPredictor):
    """A network in evaluation mode and what goes around it.

    Args:
        name: changes with the weights.
        network_input: as the network was trained.
        merging: which instances and which stuff are kept.
        views: test-time augmentation: semantic logits are averaged, detections meet in one suppression.
    """

    def __init__(
        self,
        network: PanopticFPN,
        taxonomy: Taxonomy,
        name: str,
        network_input: NetworkInput = NetworkInput(multiple=MULTIPLE),
        merging: MergeSettings = MergeSettings(),
        views: ViewSettings = PLAIN,
    ):
        merging = replace(merging, min_score=merging.lowest_score)
        made_with = digest_of(RULE_VERSION, asdict(network_input), asdict(merging))
        super().__init__(taxonomy, f"{name}-{made_with}{views.suffix}")
        self.network, self.network_input, self.merging, self.views = network, network_input, merging, views
        self.min_score = merging.min_score

    def run(self, image_id: str, image: np.ndarray) -> Prediction:
        """See NetworkPredictor: masks at stride 1, and a class map."""
        return self.run_batch([(image_id, image)])[0]

    def run_batch(self, images: Sequence[Named]) -> list[Prediction]:
        """See NetworkPredictor."""
        size, views = images[0][1].shape[:2], self.views.views()
        if self.views.is_plain:
            seen, logits, found = self._predict_view(images, views[0])
            return [
                self.to_prediction(*of_image, image_id, size)
                for (image_id, _), of_image in zip(images, zip(logits, [seen] * len(images), found), strict=True)
            ]
        totals, all_found = [0.0 for _ in images], [[] for _ in images]
        for view in views:
            seen, logits, found = self._predict_view(images, view)
            for k, of_image in enumerate(logits):
                on_image = logits_on_image(of_image.float(), seen, size, LOGIT_STRIDE, LOGIT_STRIDE, view.is_flipped)
                totals[k] = totals[k] + on_image
                all_found[k].append(found[k])
        most = self.network.instance_head.roi.detections_per_img
        return [
            self.to_prediction(total / len(views), size, merge_views(found, most), image_id, size)
            for (image_id, _), total, found in zip(images, totals, all_found, strict=True)
        ]

    def _predict_view(self, images: Sequence[Named], view: View) -> tuple[tuple[int, int], Tensor, list[Detections]]:
        """Size that the images had in the network, logits of the batch, and the detections on each image."""
        device, size = next(self.network.parameters()).device, images[0][1].shape[:2]
        seen = self.network_input.apply_all([image for _, image in images], device, *view)
        pyramid, logits = self.network(seen.tensor)
        found = self.network.instance_head.detect(pyramid, [seen.size] * len(images))
        return seen.size, logits, [detections_on_image(d, seen.size, size, view.is_flipped) for d in found]

    def to_prediction(
        self, logits: Tensor, seen: tuple[int, int], detections: Detections, image_id: str, size: tuple[int, int]
    ) -> Prediction:
        """What the branches give for an image, in the exchange formats, and both merged.

        The semantic branch's "other" is no class: in the class map the panoptic map says which thing it is, if any.

        Args:
            logits: (outputs, h, w) at stride 4, of a padded image.
            seen: (height, width) that the image had there without its padding.
            detections: on the image, whose (height, width) is `size`.

        Raises:
            InputError: if the logits are NaN or infinite.
        """
        if not logits.isfinite().all():
            raise InputError(f"{image_id}: the model gives NaN or infinite logits; use another checkpoint")
        instances = to_instance_logits(detections, image_id=image_id, size=size, taxonomy=self.taxonomy, producer="")
        outputs = argmax_on_image(logits, seen, size, LOGIT_STRIDE)
        train_ids = self.network.train_id_of_output[outputs].to(torch.uint8).cpu().numpy()
        start = time.perf_counter()
        panoptic = merge(instances, train_ids, self.taxonomy, self.merging)
        seconds = {"fusion": time.perf_counter() - start}
        filled = fill_void(train_ids, panoptic, self.taxonomy)
        return Prediction(panoptic, instances, SemanticMap(image_id, self.taxonomy.name, "", filled), seconds)


def load_predictor(
    path: Path,
    device: str = "cpu",
    views: ViewSettings = PLAIN,
    input_size: dict | None = None,
    merging: dict | None = None,
) -> PanopticFPNPredictor:
    """Load a checkpoint that train.py wrote, with all that it says of classes, input and merging.

    Args:
        input_size, merging: settings that are to be others than the checkpoint's.

    Raises:
        InputError: if the file is missing, truncated, or of another model, or a setting is impossible.
    """
    trained = read_trained(path, ADVICE, "panoptic_fpn")
    try:
        network = build_network(trained.settings["network"])
        network_input = NetworkInput.from_plain(trained.settings, MULTIPLE)
        settings = MergeSettings(**trained.settings["merging"])
        backbone = trained.settings["network"]["backbone"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: no checkpoint of panoptic_fpn/train.py ({shorten(error)}); {ADVICE}") from None
    load_weights(network, trained)
    network.eval().to(device, memory_format=torch.channels_last)
    network_input = replace(network_input, size=replace(network_input.size, **(input_size or {})))
    name = f"panoptic-fpn-{backbone}-{trained.digest}"
    settings = replace(settings, **(merging or {}))
    return PanopticFPNPredictor(network, trained.taxonomy, name, network_input, settings, views)
