"""A trained Pan-SECB: load its checkpoint, picture in, embeddings or panoptic map out."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from data.normalization import IMAGENET, normalize_and_pad
from data.panoptic_png import PanopticMap
from data.taxonomy import Taxonomy
from fusion.embedding_clusters import ClusterSettings, EmbeddingMaps, fuse_embeddings
from pan_secb.embedding_maps import to_embedding_maps
from pan_secb.erfnet import STRIDE
from pan_secb.network import PanSECB
from runtime.files import InputError, shorten
from training.checkpoints import load_weights, read_trained

DEFAULT_CHECKPOINT = Path(__file__).resolve().parents[1] / "outputs" / "pan_secb" / "streets_finetune" / "last.ckpt"
ADVICE = "train first: python pan_secb/train.py"
RULE_VERSION = "1"
"""Raise it when the same picture gets other pixels from the same weights, so that old results are not taken for new ones."""


@dataclass(frozen=True)
class PanSECBPredictor:
    """A network in evaluation mode, its classes, how its embeddings are clustered, and a name that changes with its weights."""

    network: PanSECB
    taxonomy: Taxonomy
    producer: str
    clustering: ClusterSettings = ClusterSettings()

    @torch.inference_mode()
    def maps(self, image_id: str, picture: np.ndarray) -> EmbeddingMaps:
        """(H, W, 3) uint8 RGB of any size -> what the network says of its pixels, on the network's device.

        Raises:
            InputError: if the network gives NaN.
        """
        height, width = picture.shape[:2]
        device = next(self.network.parameters()).device
        image = torch.from_numpy(normalize_and_pad(picture, IMAGENET, STRIDE))[None].to(device)
        output = self.network(image.contiguous(memory_format=torch.channels_last))
        if not all(values.isfinite().all() for values in output):
            raise InputError(f"{image_id}: the model gives NaN or infinite numbers; use another checkpoint")
        about = {"image_id": image_id, "height": height, "width": width, "taxonomy": self.taxonomy}
        return to_embedding_maps(output, 0, **about, pixels_per_unit=self.network.pixels_per_unit)

    def fuse(self, maps: EmbeddingMaps) -> PanopticMap:
        """Its embeddings, clustered as the settings say, with stuff around."""
        return fuse_embeddings(maps, self.taxonomy, self.clustering)

    def panoptic(self, image_id: str, picture: np.ndarray) -> PanopticMap:
        """(H, W, 3) uint8 RGB of any size -> its panoptic map."""
        return self.fuse(self.maps(image_id, picture))

    def producer_of(self, picture: Path) -> str:
        """What a file's result is made by: the weights, the settings, and the file as it is now."""
        state = picture.stat()
        parts = (RULE_VERSION, asdict(self.clustering), state.st_size, state.st_mtime_ns)
        return f"{self.producer}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


def load_predictor(path: Path, device: str = "cpu", clustering: ClusterSettings | None = None) -> PanSECBPredictor:
    """Load a checkpoint that train.py wrote. No pickled code is executed.

    Args:
        clustering: None: as it was validated.

    Raises:
        InputError: if the file is missing, truncated, or of another model.
    """
    trained = read_trained(path, ADVICE)
    try:
        taxonomy = Taxonomy.from_coco_categories(trained.settings["taxonomy"], trained.settings["categories"])
        network = PanSECB(**trained.settings["network"])
        clustering = clustering or ClusterSettings(**trained.settings["clustering"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: no checkpoint of pan_secb/train.py ({shorten(error)}); {ADVICE}") from None
    load_weights(network, trained)
    network.eval().to(device, memory_format=torch.channels_last)
    return PanSECBPredictor(network, taxonomy, f"pan-secb-{trained.digest}", clustering)
