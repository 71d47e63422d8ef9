"""A trained Panoptic FPN: load its checkpoint, picture in, panoptic map out."""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.dump_file import grid_size
from data.instance_dump import InstanceLogits
from data.normalization import IMAGENET, normalize_and_pad
from data.panoptic_png import PanopticMap
from data.targets import panoptic_to_semantic
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from detection.instance_head import Detections
from detection.instance_masks import to_instance_logits
from fusion.heuristic_merge import MergeSettings, merge
from panoptic_fpn.network import LOGIT_STRIDE, MULTIPLE, PanopticFPN, build_network
from runtime.files import InputError, shorten
from training.checkpoints import load_weights, read_trained

ROWS_AT_ONCE = 64
"""Rows of the full-size semantic map that are made at once: 54 outputs of a whole 1024x2048 image would take 450 MB."""
RULE_VERSION = "1"
"""Raise it when the same picture gets other pixels from the same weights, so that old results are not taken for new ones."""


@dataclass(frozen=True)
class InputSize:
    """To what size a picture is brought before the network; as they are by default."""

    shorter_side: int | None = None
    """Pixels; COCO's is 800. None: as it is."""
    longer_side: int | None = None
    """Pixels that the longer side has at most; COCO's is 1333."""

    def __post_init__(self):
        for name in ("shorter_side", "longer_side"):
            value = getattr(self, name)
            if value is not None and value < MULTIPLE:
                raise InputError(f"input.{name} is {value}, but at least {MULTIPLE} pixels are needed")
        if self.longer_side is not None and (self.shorter_side is None or self.longer_side < self.shorter_side):
            raise InputError(f"input.longer_side {self.longer_side} needs a shorter_side of at most as much")

    def of(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of a picture -> what the network sees."""
        if self.shorter_side is None:
            return size
        scale = self.shorter_side / min(size)
        if self.longer_side is not None:
            scale = min(scale, self.longer_side / max(size))
        height, width = size
        return max(1, round(height * scale)), max(1, round(width * scale))


@dataclass(frozen=True)
class PanopticFPNPredictor:
    """A network in evaluation mode, its classes, and a name that changes with its weights."""

    network: PanopticFPN
    taxonomy: Taxonomy
    producer: str
    input_size: InputSize = InputSize()
    merging: MergeSettings = MergeSettings()

    @torch.inference_mode()
    def predict(self, image_id: str, picture: np.ndarray) -> tuple[InstanceLogits, np.ndarray]:
        """(H, W, 3) uint8 RGB of any size -> instances with masks at stride 1, and (H, W) uint8 train ids of the semantics.

        Raises:
            InputError: if the network gives NaN.
        """
        size = picture.shape[:2]
        seen = resize(picture, self.input_size.of(size))
        device = next(self.network.parameters()).device
        image = torch.from_numpy(normalize_and_pad(seen, IMAGENET, MULTIPLE))[None].to(device)
        pyramid, logits = self.network(image.contiguous(memory_format=torch.channels_last))
        if not logits.isfinite().all():
            raise InputError(f"{image_id}: the model gives NaN or infinite logits; use another checkpoint")
        (detections,) = self.network.instance_head.detect(pyramid, [seen.shape[:2]])
        detections = enlarge(detections, seen.shape[:2], size)
        about = {"image_id": image_id, "size": size, "taxonomy": self.taxonomy, "producer": self.producer}
        return to_instance_logits(detections, **about), to_train_ids(logits[0], self.network, seen.shape[:2], size)

    def panoptic(self, image_id: str, picture: np.ndarray) -> PanopticMap:
        """(H, W, 3) uint8 RGB of any size -> its panoptic map, merged as the settings say."""
        return merge(*self.predict(image_id, picture), self.taxonomy, self.merging)

    def producer_of(self, picture: Path) -> str:
        """What a file's result is made by: the weights, the settings, and the file as it is now."""
        state = picture.stat()
        parts = (RULE_VERSION, asdict(self.input_size), asdict(self.merging), state.st_size, state.st_mtime_ns)
        return f"{self.producer}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


def load_predictor(
    path: Path, device: str = "cpu", input_size: InputSize | None = None, merging: MergeSettings = MergeSettings()
) -> PanopticFPNPredictor:
    """Load a checkpoint that train.py wrote.

    Args:
        input_size: None: the one that it was validated with.

    Raises:
        InputError: if the file is missing, truncated, or of another model.
    """
    advice = "train first: python panoptic_fpn/train.py"
    trained = read_trained(path, advice)
    try:
        taxonomy = Taxonomy.from_coco_categories(trained.settings["taxonomy"], trained.settings["categories"])
        network = build_network(trained.settings["network"])
        input_size = input_size or InputSize(**trained.settings["input_size"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: no checkpoint of panoptic_fpn/train.py ({shorten(error)}); {advice}") from None
    load_weights(network, trained)
    network.eval().to(device, memory_format=torch.channels_last)
    name = f"panoptic-fpn-{trained.settings['network']['backbone']}-{trained.digest}"
    return PanopticFPNPredictor(network, taxonomy, name, input_size, merging)


def resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 -> (h, w, 3), bilinear when it grows, means of areas when it shrinks."""
    if picture.shape[:2] == size:
        return picture
    kind = cv2.INTER_AREA if size[0] < picture.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(picture, size[::-1], interpolation=kind)


def resize_and_pad(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) normalised -> (B, 3, h', w'): `size` (h, w), and zeros below and on the right up to multiples of 32."""
    resized = F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)
    return F.pad(resized, (0, -size[1] % MULTIPLE, 0, -size[0] % MULTIPLE))


def enlarge(detections: Detections, seen: tuple[int, int], size: tuple[int, int]) -> Detections:
    """Detections of an image that was resized from `size` to `seen`, both (height, width), on the image as it was."""
    scale = detections.boxes.new_tensor([size[1] / seen[1], size[0] / seen[0]] * 2)
    return replace(detections, boxes=detections.boxes * scale)


def to_train_ids(logits: Tensor, network: PanopticFPN, seen: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Semantic logits at stride 4 -> (H, W) uint8 train ids of the largest one at full resolution.

    Args:
        logits: (outputs, h, w) of a padded image.
        seen: (height, width) that the image had without its padding.
        size: (H, W).
    """
    rows, columns = grid_size(*seen, LOGIT_STRIDE)
    # The grid covers whole cells, of which the last may reach beyond the image.
    y = (torch.arange(size[0], device=logits.device) + 0.5) * (seen[0] / size[0] * 2 / (rows * LOGIT_STRIDE)) - 1
    x = (torch.arange(size[1], device=logits.device) + 0.5) * (seen[1] / size[1] * 2 / (columns * LOGIT_STRIDE)) - 1
    grid = logits[None, :, :rows, :columns].float()
    indices = []
    for part in y.split(ROWS_AT_ONCE):
        places = torch.stack(torch.broadcast_tensors(x[None, :], part[:, None]), dim=-1)[None]  # (1, rows, W, 2)
        sampled = F.grid_sample(grid, places, mode="bilinear", padding_mode="border", align_corners=False)
        indices.append(sampled[0].argmax(0))
    return network.train_id_of_output[torch.cat(indices)].to(torch.uint8).cpu().numpy()


def fill_other(semantic: np.ndarray, panoptic: PanopticMap, taxonomy: Taxonomy) -> np.ndarray:
    """(H, W) uint8 train ids for mIoU: "other" is no class, so the panoptic map says which thing it is, if any.

    Args:
        semantic: (H, W) uint8 train ids of the semantic branch, VOID_TRAIN_ID for "other".
    """
    return np.where(semantic == VOID_TRAIN_ID, panoptic_to_semantic(panoptic, taxonomy), semantic)
