"""A trained Pan-SECB: image in; embeddings, or the panoptic and the class map, out."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from data.network_input import NetworkInput
from data.resizing import resize_segment_ids
from data.semantic_dump import SemanticMap
from data.taxonomy import MAX_INSTANCES_PER_IMAGE, Taxonomy
from fusion.embedding_clusters import EmbeddingMaps, fuse_embeddings
from fusion.settings import ClusterSettings
from pan_secb.embedding_maps import average_with_flipped, to_embedding_maps
from pan_secb.network import PanSECB
from prediction.batches import Named
from prediction.exported.predictor import enlarge
from prediction.predictor import NetworkPredictor, Prediction
from prediction.views import PLAIN, ViewSettings
from runtime.files import InputError, digest_of, shorten
from runtime.progress import note
from training.checkpoints import load_weights, read_trained

ADVICE = "train first: python pan_secb/train.py"
RULE_VERSION = "3"
"""Raise it when the same image gets other pixels from the same weights, so that old results are not taken for new ones."""


class PanSECBPredictor(NetworkPredictor):
    """A network in evaluation mode and what goes around it.

    Args:
        name: changes with the weights.
        network_input: as the network was trained; padded to 32, not to the 8 that it needs, as validation pads.
        clustering: how embeddings become objects.
        views: of which only the flip is offered: the outputs of both are averaged before the clustering. Scales are not, as
            an embedding's unit is a number of pixels: at another scale every offset and bandwidth means something else.

    Raises:
        InputError: for other scales.
    """

    def __init__(
        self,
        network: PanSECB,
        taxonomy: Taxonomy,
        name: str,
        network_input: NetworkInput = NetworkInput(),
        clustering: ClusterSettings = ClusterSettings(),
        views: ViewSettings = PLAIN,
    ):
        if views.scales != PLAIN.scales:
            raise InputError(
                f"Pan-SECB offers no test-time scales {list(views.scales)}: its embeddings' unit is a number of pixels; "
                "leave --tta.scales out, --tta.flip is offered"
            )
        made_with = digest_of(RULE_VERSION, asdict(network_input), asdict(clustering))
        super().__init__(taxonomy, f"{name}-{made_with}{views.suffix}")
        self.network, self.network_input, self.clustering, self.views = network, network_input, clustering, views
        self.gives = ("panoptic", "semantic")

    @torch.inference_mode()
    def maps(self, image_id: str, image: np.ndarray) -> EmbeddingMaps:
        """(H, W, 3) uint8 RGB of any size -> what the network says of its pixels, at the network's size, on its device.

        Raises:
            InputError: if the network gives NaN.
        """
        return self.maps_of_all([(image_id, image)])[0]

    def maps_of_all(self, images: Sequence[Named]) -> list[EmbeddingMaps]:
        """As `maps`, of images of one size at once."""
        device, pixels = next(self.network.parameters()).device, [image for _, image in images]
        seen = self.network_input.apply_all(pixels, device)
        output = self.network(seen.tensor)
        if self.views.flip:
            flipped = self.network_input.apply_all(pixels, device, is_flipped=True)
            output = average_with_flipped(output, self.network(flipped.tensor), seen.size)
        about = {"height": seen.size[0], "width": seen.size[1], "taxonomy": self.taxonomy}
        for k, (image_id, _) in enumerate(images):
            if not all(values[k].isfinite().all() for values in output):
                raise InputError(f"{image_id}: the model gives NaN or infinite numbers; use another checkpoint")
        scale = self.network.pixels_per_unit
        return [
            to_embedding_maps(output, k, image_id=image_id, **about, pixels_per_unit=scale)
            for k, (image_id, _) in enumerate(images)
        ]

    def run(self, image_id: str, image: np.ndarray) -> Prediction:
        """See NetworkPredictor: a panoptic and a class map."""
        return self.run_batch([(image_id, image)])[0]

    def run_batch(self, images: Sequence[Named]) -> list[Prediction]:
        """See NetworkPredictor."""
        return [self.to_prediction(maps, images[0][1].shape[:2]) for maps in self.maps_of_all(images)]

    def to_prediction(self, maps: EmbeddingMaps, size: tuple[int, int]) -> Prediction:
        """Cluster what the network says, and bring the result to the (height, width) of the image."""
        start = time.perf_counter()
        panoptic = enlarge(fuse_embeddings(maps, self.taxonomy, self.clustering), size)
        seconds = {"fusion": time.perf_counter() - start}
        things = {c.dataset_id for c in self.taxonomy.categories if c.is_thing}
        if sum(segment.category_id in things for segment in panoptic.segments) >= MAX_INSTANCES_PER_IMAGE:
            note(f"image {maps.image_id!r}: segment ids number {MAX_INSTANCES_PER_IMAGE} objects, further ones are left out")
        train_ids = resize_segment_ids(maps.semantic_train_ids.cpu().numpy(), size).astype(np.uint8)
        return Prediction(panoptic, semantic=SemanticMap(maps.image_id, self.taxonomy.name, "", train_ids), seconds=seconds)


def load_predictor(
    path: Path, device: str = "cpu", views: ViewSettings = PLAIN, clustering: dict | None = None
) -> PanSECBPredictor:
    """Load a checkpoint that train.py wrote, with all that it says of classes, input and clustering.

    Args:
        clustering: settings that are to be others than the checkpoint's.

    Raises:
        InputError: if the file is missing, truncated, or of another model, or a setting is impossible.
    """
    trained = read_trained(path, ADVICE, "pan_secb")
    try:
        network = PanSECB(**trained.settings["network"])
        network_input = NetworkInput.from_plain(trained.settings)
        settings = ClusterSettings(**trained.settings["clustering"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: no checkpoint of pan_secb/train.py ({shorten(error)}); {ADVICE}") from None
    load_weights(network, trained)
    network.eval().to(device, memory_format=torch.channels_last)
    settings = replace(settings, **(clustering or {}))
    return PanSECBPredictor(network, trained.taxonomy, f"pan-secb-{trained.digest}", network_input, settings, views)
