"""Exported models as predictors: onnxruntime runs the network, NumPy and kernels do what the systems do after it."""

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np

from data.instance_dump import InstanceLogits, from_full_logits
from data.mask_pasting import to_instance_logits
from data.normalization import normalize
from data.panoptic_png import PanopticMap, describe_segments
from data.resizing import argmax_on_image, logits_on_image, resize_image, resize_segment_ids
from data.semantic_dump import SemanticLogits, SemanticMap
from data.targets import fill_void
from data.taxonomy import MAX_INSTANCES_PER_IMAGE, VOID_TRAIN_ID
from detection.matrix_nms import choose_masks
from fusion.embedding_clusters import EmbeddingMaps, fuse_embeddings
from fusion.heuristic_merge import merge
from fusion.settings import ClusterSettings, MergeSettings
from prediction.exported.model_folder import SETTINGS, ModelFolder, read_folder
from prediction.exported.session import Session
from prediction.predictor import Prediction
from prediction.views import PLAIN, ViewSettings
from runtime.device import is_cpu
from runtime.files import InputError, ItemError, shorten
from runtime.progress import note

RULE_VERSION = "1"
"""Raise it when the same image gets other pixels from the same files, so that old results are not taken for new ones."""
NMS_SETTINGS = {"mask_thr", "nms_pre", "max_per_img", "kernel", "sigma", "filter_thr"}
LARGEST_SIGMA = np.float32(8)
"""As pan_secb.embeddings has it."""


class ExportedPredictor(ABC):
    """Base: one image at a time runs through the network, since that uses all cores; what follows may overlap.

    Args:
        threads: that compute one image; None: see session.default_threads.
    """

    gives: tuple[str, ...]
    strides: tuple[str, ...] = ("logit_stride",)
    """Which of the settings are numbers of pixels."""

    def __init__(self, folder: ModelFolder, device: str, threads: int | None = None):
        for name in self.strides:
            if type(folder.settings[name]) is not int or not 0 < folder.settings[name] < 2**15:
                raise ValueError(f"{name} must be a whole number above 0")
        self.folder, self.taxonomy, self.min_score = folder, folder.taxonomy, folder.min_score
        self.name = f"{folder.name}-{RULE_VERSION}"
        self.session, self._turn = Session(folder, device, threads), Lock()
        self.is_on_cpu = is_cpu(device)

    @property
    def threads(self) -> int:
        """That compute one image; a new number opens the session again."""
        return self.session.threads

    @threads.setter
    def threads(self, value: int) -> None:
        if value != self.session.threads:
            self.session = Session(self.folder, self.session.device, value)

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return self.name

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor.

        Raises:
            ItemError: if a side of the image is shorter than the network's stride.
            InputError: as Session.run.
        """
        size, stride = image.shape[:2], self.folder.input.stride
        if min(size) < stride:
            found = "x".join(map(str, size))
            raise ItemError(f"an image of {found} pixels, but the network needs {stride} a side, its stride; leave it out")
        pixels, seen = to_input(image, self.folder)
        with self._turn:
            found = self.session.run(image_id, pixels, seen)
        return self.to_prediction(found, seen, image_id, size)

    @abstractmethod
    def to_prediction(
        self, found: dict[str, np.ndarray], seen: tuple[int, int], image_id: str, size: tuple[int, int]
    ) -> Prediction:
        """What the network gives for an image, in the exchange formats.

        Args:
            found: its outputs; see model_folder.OUTPUTS.
            seen: (height, width) that the image had there, without padding; `size` is its own.
        """


class ExportedSOLOv2(ExportedPredictor):
    """settings: mask_stride and logit_stride in pixels, and `nms`: what choose_masks takes."""

    gives = ("instances",)
    strides = ("mask_stride", "logit_stride")

    def __init__(self, folder: ModelFolder, device: str, threads: int | None = None):
        super().__init__(folder, device, threads)
        if set(folder.settings["nms"]) != NMS_SETTINGS:
            raise ValueError(f"nms must have {', '.join(sorted(NMS_SETTINGS))}")

    def to_prediction(
        self, found: dict[str, np.ndarray], seen: tuple[int, int], image_id: str, size: tuple[int, int]
    ) -> Prediction:
        """See ExportedPredictor."""
        settings, logits, labels = self.folder.settings, found["masks"], found["labels"]
        chosen = choose_masks(logits, found["scores"], labels, found["smallest_areas"], **settings["nms"])
        stride = settings["logit_stride"]
        on_image = logits_on_image(logits[chosen.places], seen, size, settings["mask_stride"], stride)
        train_ids = np.array(self.taxonomy.thing_ids)[labels[chosen.places]]
        about = {"image_id": image_id, "size": size, "stride": stride, "taxonomy": self.taxonomy, "producer": ""}
        return Prediction(instances=from_full_logits(on_image, train_ids, chosen.scores, **about))


class ExportedEfficientPS(ExportedPredictor):
    """settings: logit_stride in pixels; with boxes also `convention`, how the masks become pixels."""

    def __init__(self, folder: ModelFolder, device: str, threads: int | None = None):
        super().__init__(folder, device, threads)
        self.gives = ("instances", "semantic") if "boxes" in folder.outputs else ("semantic",)
        if "boxes" in folder.outputs:
            check_convention(folder)

    def to_prediction(
        self, found: dict[str, np.ndarray], seen: tuple[int, int], image_id: str, size: tuple[int, int]
    ) -> Prediction:
        """See ExportedPredictor."""
        stride = self.folder.settings["logit_stride"]
        logits = logits_on_image(found["semantic_logits"][0], seen, size, stride, stride)
        semantic = SemanticLogits(image_id, *size, stride, self.taxonomy.name, "", logits)
        instances = instances_on_image(found, self.folder, seen, image_id, size) if "boxes" in found else None
        return Prediction(instances=instances, semantic=semantic)


class ExportedPanopticFPN(ExportedPredictor):
    """settings: logit_stride, convention, train_id_of_output, and `merging`: fields of MergeSettings."""

    gives = ("panoptic", "instances", "semantic")

    def __init__(self, folder: ModelFolder, device: str, threads: int | None = None):
        super().__init__(folder, device, threads)
        check_convention(folder)
        self.merging = MergeSettings(**folder.settings["merging"])
        self.merging = replace(self.merging, min_score=self.merging.lowest_score)
        self.min_score = self.merging.min_score
        if not set(folder.settings["train_id_of_output"]) <= {*range(folder.taxonomy.num_classes), VOID_TRAIN_ID}:
            raise ValueError("train_id_of_output holds ids of no class")
        self.train_id_of_output = np.array(folder.settings["train_id_of_output"], dtype=np.uint8)

    def to_prediction(
        self, found: dict[str, np.ndarray], seen: tuple[int, int], image_id: str, size: tuple[int, int]
    ) -> Prediction:
        """See ExportedPredictor."""
        instances = instances_on_image(found, self.folder, seen, image_id, size)
        outputs = argmax_on_image(found["semantic_logits"][0], seen, size, self.folder.settings["logit_stride"])
        train_ids = self.train_id_of_output[outputs]
        panoptic = merge(instances, train_ids, self.taxonomy, self.merging)
        filled = fill_void(train_ids, panoptic, self.taxonomy)
        return Prediction(panoptic, instances, SemanticMap(image_id, self.taxonomy.name, "", filled))


class ExportedPanSECB(ExportedPredictor):
    """settings: pixels_per_unit, and `clustering`: fields of ClusterSettings."""

    gives = ("panoptic", "semantic")
    strides = ()

    def __init__(self, folder: ModelFolder, device: str, threads: int | None = None):
        super().__init__(folder, device, threads)
        self.clustering = ClusterSettings(**folder.settings["clustering"])
        if not float(folder.settings["pixels_per_unit"]) > 0:
            raise ValueError("pixels_per_unit must be above 0")

    def to_prediction(
        self, found: dict[str, np.ndarray], seen: tuple[int, int], image_id: str, size: tuple[int, int]
    ) -> Prediction:
        """See ExportedPredictor."""
        maps = self.maps(found, seen, image_id)
        panoptic = enlarge(fuse_embeddings(maps, self.taxonomy, self.clustering), size)
        things = {c.dataset_id for c in self.taxonomy.categories if c.is_thing}
        if sum(segment.category_id in things for segment in panoptic.segments) >= MAX_INSTANCES_PER_IMAGE:
            note(f"image {image_id!r}: segment ids number {MAX_INSTANCES_PER_IMAGE} objects, further ones are left out")
        train_ids = resize_segment_ids(maps.semantic_train_ids, size).astype(np.uint8)
        return Prediction(panoptic, semantic=SemanticMap(image_id, self.taxonomy.name, "", train_ids))

    def maps(self, found: dict[str, np.ndarray], seen: tuple[int, int], image_id: str) -> EmbeddingMaps:
        """What goes into the clustering, as pan_secb.embedding_maps makes it."""
        height, width = seen
        cut = {name: values[0, :, :height, :width] for name, values in found.items()}
        unit = np.float32(self.folder.settings["pixels_per_unit"])
        embeddings = np.tanh(cut["offsets"])
        embeddings[0] += (np.arange(height, dtype=np.float32) / unit)[:, None]
        embeddings[1] += np.arange(width, dtype=np.float32) / unit
        with np.errstate(over="ignore"):
            seeds = 1 / (1 + np.exp(-cut["seeds"]))
        return EmbeddingMaps(
            image_id=image_id,
            height=height,
            width=width,
            taxonomy=self.taxonomy.name,
            embeddings=embeddings,
            bandwidths=np.exp(10 * np.minimum(cut["sigmas"], LARGEST_SIGMA)),
            seeds=seeds,
            semantic_train_ids=cut["semantic"].argmax(0).astype(np.uint8),
        )


PREDICTORS = {
    "solov2": ExportedSOLOv2,
    "efficientps": ExportedEfficientPS,
    "efficientps-maskrcnn": ExportedEfficientPS,
    "panoptic_fpn": ExportedPanopticFPN,
    "pan_secb": ExportedPanSECB,
}


def load_predictor(path: Path, device: str = "cpu", views: ViewSettings = PLAIN, threads: int | None = None) -> ExportedPredictor:
    """Open a model that scripts/export.py wrote.

    Args:
        path: of its folder, or of one of its two files.
        threads: that compute one image; None: see session.default_threads.

    Raises:
        InputError: if a file is missing, broken, or of another model than the other; or for test-time augmentation, which is
            not offered.
    """
    folder = read_folder(path)
    if not views.is_plain:
        raise InputError(f"{folder.path}: an exported model has no test-time views; leave --tta.* out, or give its checkpoint")
    try:
        return PREDICTORS[folder.system](folder, device, threads)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder.path / SETTINGS}: `settings` do not fit {folder.system} ({shorten(error)})") from None


def to_input(image: np.ndarray, folder: ModelFolder) -> tuple[np.ndarray, tuple[int, int]]:
    """(H, W, 3) uint8 RGB -> (1, 3, H', W') float32, and the (height, width) of the image in it.

    Raises:
        ItemError: as InputForm.seen_size.
    """
    form = folder.input
    seen = form.seen_size(image.shape[:2])
    pixels = normalize(resize_as(image, seen, form.resize["rule"]), form.normalization)
    padded = form.size or tuple(side + -side % form.multiple for side in seen)
    whole = np.zeros((1, 3, *padded), dtype=np.float32)
    whole[0, :, : seen[0], : seen[1]] = pixels
    return whole, seen


def resize_as(image: np.ndarray, size: tuple[int, int], rule: str) -> np.ndarray:
    """(H, W, 3) uint8 -> (h, w, 3), as the training that has this rule of size moves pixels."""
    if rule == "shorter_side" or image.shape[:2] == tuple(size):
        return resize_image(image, size)
    import cv2

    try:
        return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)  # as mmcv, also where it shrinks
    except cv2.error:
        found = "x".join(map(str, image.shape[:2]))
        raise ItemError(f"an image of {found} pixels cannot be resized to the model's input; cut a strip into parts") from None


def check_convention(folder: ModelFolder) -> None:
    """Refuse a convention of masks that data.mask_pasting has not.

    Raises:
        KeyError, ValueError: if there is none, or another one.
    """
    if folder.settings["convention"] not in ("torchvision", "detectron2"):
        raise ValueError("convention must be torchvision or detectron2")


def instances_on_image(
    found: dict[str, np.ndarray], folder: ModelFolder, seen: tuple[int, int], image_id: str, size: tuple[int, int]
) -> InstanceLogits:
    """Boxes and masks of the network's input on the image."""
    scale = np.array([size[1] / seen[1], size[0] / seen[0]] * 2, dtype=np.float32)
    about = {"image_id": image_id, "size": size, "taxonomy": folder.taxonomy, "producer": ""}
    detections = (found["boxes"] * scale, found["scores"], found["labels"], found["masks"])
    return to_instance_logits(*detections, convention=folder.settings["convention"], **about)


def enlarge(panoptic: PanopticMap, size: tuple[int, int]) -> PanopticMap:
    """A panoptic map at another (height, width), each pixel of the segment at its place; scores stay."""
    if panoptic.segment_ids.shape == tuple(size):
        return panoptic
    segment_ids = resize_segment_ids(panoptic.segment_ids, size)
    by_id = {segment.segment_id: segment for segment in panoptic.segments}
    counted = describe_segments(segment_ids, lambda segment_id: by_id[segment_id].category_id)
    return PanopticMap(segment_ids, tuple(replace(s, score=by_id[s.segment_id].score) for s in counted))
