"""torchvision's Mask R-CNN and semantic models by name: torchvision:NAME, or torchvision:NAME@FILE with weights of one's own.

The classes, the size and the normalisation are those of the model's published weights (torchvision.models.get_model_weights).
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor

from data.dump_file import grid_size
from prediction.sources.foreign import SEMANTIC_STRIDE, FoundObject, cut_out, probabilities_to_logits
from prediction.sources.live import LOWEST_SCORE, LiveInstances, LiveModel, LiveSemantics
from runtime.checkpoint_file import read_checkpoint_file
from runtime.files import InputError, digest_of, file_digest, shorten

NO_CLASS = ("__background__", "N/A")


def open_instances(name: str, device: str) -> LiveInstances:
    """A Mask R-CNN.

    Raises:
        InputError: if there is no such model, its weights cannot be had, or it gives no masks.
    """
    return LiveInstances(_model(name, device, "detection"))


def open_semantics(name: str, device: str) -> LiveSemantics:
    """A semantic model, such as DeepLabV3; errors as open_instances."""
    return LiveSemantics(_model(name, device, "segmentation"))


@lru_cache(maxsize=2)
def _model(name: str, device: str, kind: str) -> "TorchvisionModel":
    return TorchvisionModel(name, device, kind)


class TorchvisionModel(LiveModel):
    """One model; `kind` is the module of torchvision.models that it must be of."""

    def __init__(self, name: str, device: str, kind: str):
        architecture, _, file = name.partition("@")
        module = getattr(torchvision.models, kind)
        known = [k for k in torchvision.models.list_models(module=module) if kind == "segmentation" or "mask" in k]
        if architecture not in known:
            raise InputError(f"torchvision:{architecture}: no such {kind} model with masks; give one of {', '.join(known)}")
        published = torchvision.models.get_model_weights(architecture).DEFAULT
        names = {k: None if c in NO_CLASS else c for k, c in enumerate(published.meta["categories"])}
        void = frozenset(k for k, c in names.items() if c is None)
        network = _load(architecture, published, Path(file).expanduser() if file else None)
        digest = digest_of("torchvision", torchvision.__version__, architecture, published.url, file_digest(file) if file else "")
        used = {k: c for k, c in names.items() if k not in void}
        super().__init__(f"torchvision:{name}", digest, used, void)
        self.network, self.device, self.transform = network.eval().to(device), device, published.transforms()

    @torch.inference_mode()
    def run(self, image: np.ndarray) -> dict[str, Tensor]:
        """See LiveModel."""
        pixels = self.transform(torch.from_numpy(image.copy()).permute(2, 0, 1)).to(self.device)
        found = self.network([pixels])[0] if pixels.shape[-2:] == image.shape[:2] else self.network(pixels[None])
        return {name: value.cpu() for name, value in found.items()}

    def objects_of(self, result: dict[str, Tensor], size: tuple[int, int]) -> list[FoundObject]:
        """See LiveModel."""
        objects = []
        for mask, score, label in zip(result["masks"], result["scores"].tolist(), result["labels"].tolist(), strict=True):
            if score >= LOWEST_SCORE and label in self.classes.names:
                cut = cut_out(probabilities_to_logits(mask[0].numpy()))
                if cut is not None:
                    objects.append(FoundObject(label, score, *cut))
        return objects

    def scores_of(self, result: dict[str, Tensor], size: tuple[int, int]) -> np.ndarray:
        """See LiveModel; the background, which is any other class, does not compete."""
        logits = result["out"][:, list(self.classes.names)]
        grid = grid_size(*size, SEMANTIC_STRIDE)
        return torch.nn.functional.interpolate(logits, grid, mode="bilinear", align_corners=False)[0].numpy()


def _load(architecture: str, published: object, file: Path | None) -> torch.nn.Module:
    if file is None:
        try:
            return torchvision.models.get_model(architecture, weights=published)
        except (OSError, RuntimeError) as error:  # no network, or a hash that differs
            advice = f"download {published.url} and give torchvision:{architecture}@FILE"
            raise InputError(f"torchvision:{architecture}: its weights cannot be had ({shorten(error)}); {advice}") from None
    arguments = {"weights": None, "weights_backbone": None, "num_classes": len(published.meta["categories"])}
    aux = {"aux_loss": True} if architecture.startswith(("deeplab", "fcn")) else {}
    network = torchvision.models.get_model(architecture, **arguments, **aux)
    content = read_checkpoint_file(file, "give torchvision's own file")
    try:
        network.load_state_dict(content)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: is of another model than {architecture} ({shorten(error)}); give its own weights") from None
    return network
