"""A trained semantic model: load its checkpoint, picture in, semantic logits out."""

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data.dump_file import grid_size
from data.files import InputError, shorten
from data.semantic_dump import SemanticLogits
from data.taxonomy import TAXONOMIES, Taxonomy
from data.transforms import normalize_and_pad
from efficientps.network import LOGIT_STRIDE, SemanticEfficientPS


@dataclass(frozen=True)
class SemanticPredictor:
    """A network in evaluation mode, its classes, and a name that changes with its weights."""

    network: SemanticEfficientPS
    taxonomy: Taxonomy
    producer: str

    @torch.inference_mode()
    def predict(self, image_id: str, picture: np.ndarray) -> SemanticLogits:
        """(H, W, 3) uint8 RGB of any size -> logits at stride 4.

        Raises:
            InputError: if the network gives NaN.
        """
        height, width = picture.shape[:2]
        device = next(self.network.parameters()).device
        image = torch.from_numpy(normalize_and_pad(picture))[None].to(device)
        logits = self.network(image.contiguous(memory_format=torch.channels_last))[0].float()
        if not logits.isfinite().all():
            raise InputError(f"{image_id}: the semantic model gives NaN or infinite logits; use another checkpoint")
        rows, columns = grid_size(height, width, LOGIT_STRIDE)
        logits = logits[:, :rows, :columns].cpu().numpy()
        return SemanticLogits(image_id, height, width, LOGIT_STRIDE, self.taxonomy.name, self.producer, logits)


def load_semantic_predictor(path: Path, device: str = "cpu") -> SemanticPredictor:
    """Load a checkpoint that train_net.py wrote. No pickled code is executed.

    Raises:
        InputError: if the file is missing, truncated, or of another model.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; train stage 2 first: python efficientps/train_net.py")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise InputError(f"{path}: broken checkpoint ({_reason(error)}); train again or copy it again") from None
    try:
        settings = checkpoint["hyper_parameters"]
        taxonomy = TAXONOMIES[settings["taxonomy"]]
        network = SemanticEfficientPS(**settings["network"])
        weights = {k.removeprefix("network."): v for k, v in checkpoint["state_dict"].items() if k.startswith("network.")}
        network.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"{path}: no checkpoint of efficientps/train_net.py ({_reason(error)}); give one of its .ckpt files"
        ) from None
    network.eval().to(device, memory_format=torch.channels_last)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return SemanticPredictor(network, taxonomy, f"efficientps-{settings['network']['variant']}-{digest}")


def _reason(error: Exception) -> str:
    # torch adds paragraphs on how to load what cannot be trusted; nothing that a user of ours should do.
    return shorten(str(error).partition("This file can still be loaded")[0].partition("In PyTorch 2.6")[0])
