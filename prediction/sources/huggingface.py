"""Models of Hugging Face transformers, by name or from a folder: hf:ORG/NAME, hf:FOLDER (the extra `hf`).

Semantic models (SegFormer, UperNet, DPT, ...: *ForSemanticSegmentation) and mask-classification models (MaskFormer, Mask2Former,
OneFormer, EoMT), which give either half. Only safetensors are loaded, and no code of a repository is executed.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from data.dump_file import grid_size
from prediction.sources.foreign import SEMANTIC_STRIDE, FoundObject, cut_out, probabilities_to_logits
from prediction.sources.live import LOWEST_SCORE, LiveInstances, LiveModel, LiveSemantics
from runtime.files import InputError, digest_of, file_digest, shorten

SEMANTIC = "ForSemanticSegmentation"
MASKS = ("ForUniversalSegmentation", "MaskFormerForInstanceSegmentation")
TASKS = {"instances": "instance", "semantics": "semantic"}
"""Half -> what OneFormer is asked for."""


def open_instances(name: str, device: str) -> LiveInstances:
    """The instances of a mask-classification model.

    Raises:
        InputError: if transformers is not there, the model cannot be had, or it gives no objects.
    """
    return LiveInstances(_model(name, device, "instances"))


def open_semantics(name: str, device: str) -> LiveSemantics:
    """The semantics of any model; errors as open_instances."""
    return LiveSemantics(_model(name, device, "semantics"))


def _model(name: str, device: str, half: str) -> "TransformersModel":
    config = _load_config(name)
    architecture = (config.architectures or ["none"])[0]
    if not architecture.endswith((SEMANTIC, *MASKS)):
        known = "SegFormer, MaskFormer, Mask2Former, OneFormer or EoMT"
        raise InputError(f"hf:{name}: is a {architecture}, which gives no masks that are read here; give {known}")
    if half == "instances" and architecture.endswith(SEMANTIC):
        raise InputError(f"hf:{name}: is a {architecture}, which tells no objects apart; give it as --semantics")
    # OneFormer is asked for one task; all others run once for both halves.
    return _load(name, device, half if architecture.startswith("OneFormer") else "both")


@lru_cache(maxsize=2)
def _load(name: str, device: str, half: str) -> "TransformersModel":
    return TransformersModel(name, device, half)


def _load_config(name: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise InputError("hf: needs transformers; install it by `pip install .[hf]`") from None
    return _or_one_line(name, lambda: transformers.AutoConfig.from_pretrained(_place(name)))


def _place(name: str) -> str:
    path = Path(name).expanduser()
    return str(path) if path.is_dir() else name


def _or_one_line(name: str, load: Any) -> Any:
    try:
        return load()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError, SafetensorError) as error:
        first = shorten(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__, 160)
        raise InputError(f"hf:{name}: cannot be loaded ({first}); give a repository's name or a folder with its files") from None


class TransformersModel(LiveModel):
    """One model with its image processor.

    Args:
        half: instances, semantics, or both: what the model is asked for.
    """

    def __init__(self, name: str, device: str, half: str):
        import transformers

        config, place = _load_config(name), _place(name)
        architecture = config.architectures[0]
        loader = getattr(transformers, architecture)
        self.is_semantic, self.is_oneformer = architecture.endswith(SEMANTIC), architecture.startswith("OneFormer")
        self.task = TASKS.get(half)
        auto = transformers.AutoProcessor if self.is_oneformer else transformers.AutoImageProcessor
        self.processor = _or_one_line(name, lambda: auto.from_pretrained(place))
        network = _or_one_line(name, lambda: loader.from_pretrained(place, use_safetensors=True))
        self.network, self.device = network.eval().to(device), device
        known = {int(k): str(v) for k, v in config.id2label.items()}
        names = {k: None if v == f"LABEL_{k}" else v for k, v in known.items()}
        files = [file_digest(path) for path in sorted(Path(place).glob("*.safetensors"))] if Path(place).is_dir() else []
        commit = getattr(config, "_commit_hash", None)
        digest = digest_of("hf", transformers.__version__, name, commit, files, config.to_json_string(), repr(self._images))
        super().__init__(f"hf:{name}", digest, dict(sorted(names.items())))

    @property
    def _images(self) -> Any:
        """The image processor, which for OneFormer is a part of the processor."""
        return getattr(self.processor, "image_processor", self.processor)

    @torch.inference_mode()
    def run(self, image: np.ndarray) -> tuple[Any, Mapping]:
        """See LiveModel: the outputs, and what the network was given."""
        more: dict[str, Any] = {"task_inputs": [self.task]} if self.is_oneformer else {}
        if getattr(self._images, "do_center_crop", False):
            more["do_center_crop"] = False  # the whole image is wanted
        given = self.processor(images=image, return_tensors="pt", **more)
        tensors = {name: value.to(self.device) for name, value in given.items() if isinstance(value, Tensor)}
        patches = {name: given[name] for name in ("patch_offsets",) if name in given}
        outputs = self.network(**tensors, **patches)
        return outputs, given

    def scores_of(self, result: tuple[Any, Mapping], size: tuple[int, int]) -> np.ndarray:
        """See LiveModel; of mask classification, whose scores are sums of shares, the log-odds."""
        (outputs, given), grid = result, grid_size(*size, SEMANTIC_STRIDE)
        if self.is_semantic:
            logits = outputs.logits.float().cpu()
            return F.interpolate(logits, grid, mode="bilinear", align_corners=False)[0].numpy()
        classes = outputs.class_queries_logits.float().softmax(-1)[..., :-1].cpu()
        if given.get("patch_offsets"):  # EoMT for semantics sees an image in windows
            masks = F.interpolate(outputs.masks_queries_logits.float().cpu(), self._input_size(given), mode="bilinear")
            scores = torch.einsum("bqc,bqhw->bchw", classes, masks.sigmoid())
            whole = self._images.merge_image_patches(scores, outputs.patch_offsets, [size], self._images.size)[0]
            scores = F.interpolate(whole[None], grid, mode="area")[0]
        else:
            masks = self._masks(outputs, given, size, grid)
            scores = torch.einsum("qc,qhw->chw", classes[0], masks.sigmoid())
        return probabilities_to_logits(scores.numpy())

    def objects_of(self, result: tuple[Any, Mapping], size: tuple[int, int]) -> list[FoundObject]:
        """See LiveModel: of each query its best class, scored as the library does, by its share times the mean of the mask."""
        (outputs, given), grid = result, grid_size(*size, SEMANTIC_STRIDE)
        if given.get("patch_offsets"):
            raise InputError(f"{self.name}: sees an image in windows, which cut objects apart; give it as --semantics")
        shares, labels = outputs.class_queries_logits[0].float().softmax(-1)[:, :-1].max(-1)
        masks, objects = self._masks(outputs, given, size, grid), []
        for mask, share, label in zip(masks, shares.tolist(), labels.tolist(), strict=True):
            positive = mask > 0
            if share >= LOWEST_SCORE and label in self.classes.names and positive.any():
                score = share * float(mask[positive].sigmoid().mean())
                objects.append(FoundObject(label, score, *cut_out(mask.numpy()), SEMANTIC_STRIDE))
        return objects

    def _masks(self, outputs: Any, given: Mapping, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
        """(Q, rows, columns) mask logits of the image itself, without what it was padded by."""
        masks = outputs.masks_queries_logits.float().cpu()
        height, width = self._input_size(given)
        seen = self._seen_size(given, size, (height, width))
        if seen != (height, width):
            masks = F.interpolate(masks, (height, width), mode="bilinear", align_corners=False)[..., : seen[0], : seen[1]]
        return F.interpolate(masks, grid, mode="bilinear", align_corners=False)[0]

    @staticmethod
    def _input_size(given: Mapping) -> tuple[int, int]:
        return tuple(given["pixel_values"].shape[-2:])

    def _seen_size(self, given: Mapping, size: tuple[int, int], padded: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the image in what the network was given, which may be padded on the right and at the bottom."""
        if "pixel_mask" in given:
            mask = given["pixel_mask"][0]
            return int(mask.any(1).sum()), int(mask.any(0).sum())
        if hasattr(self._images, "do_split_image") and self._images.do_pad:  # EoMT keeps no mask of what it pads
            scale = min(padded[0] / size[0], padded[1] / size[1])
            return min(padded[0], round(size[0] * scale)), min(padded[1], round(size[1] * scale))
        return padded
