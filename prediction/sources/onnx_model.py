"""A network as an ONNX file, of anybody: onnx:FILE, with a YAML of the same name that says what goes in and comes out.

classes: [road, sidewalk, ...]          # of the channels, or of the labels; null for one that is no class
input:
  size: [512, 1024]                     # height, width; or `multiple: 32`, which pads to it, for a network of any size
  mean: [123.675, 116.28, 103.53]       # of RGB pixels of 0 to 255; default 0
  std: [58.395, 57.12, 57.375]          # default 1
semantic: {name: logits, form: logits}  # (1, C, h, w) of form logits or probabilities, or (1, h, w) of form classes
instances:                              # besides or instead
  masks: masks                          # (N, h, w) or (N, 1, h, w), of the whole input
  form: logits                          # or probabilities
  scores: scores                        # (N)
  labels: labels                        # (N), places in `classes`
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.dump_file import grid_size
from prediction.sources.foreign import SEMANTIC_STRIDE, FoundObject, cut_out, probabilities_to_logits, resize_logits
from prediction.sources.live import LOWEST_SCORE, LiveInstances, LiveModel, LiveSemantics
from runtime.files import InputError, digest_of, file_digest, read_yaml, shorten

ADVICE = "see the head of prediction/sources/onnx_model.py"
FORMS = {"semantic": ("logits", "probabilities", "classes"), "instances": ("logits", "probabilities")}


def open_instances(name: str, device: str) -> LiveInstances:
    """The instances of a network.

    Raises:
        InputError: if onnxruntime, the file or its YAML is missing or broken, or the YAML names no instances.
    """
    return LiveInstances(_with(name, device, "instances"))


def open_semantics(name: str, device: str) -> LiveSemantics:
    """The semantics of a network; errors as open_instances."""
    return LiveSemantics(_with(name, device, "semantic"))


def _with(name: str, device: str, part: str) -> "OnnxModel":
    model = _load(name, device)
    if model.about.get(part) is None:
        raise InputError(f"{model.yaml_path}: names no `{part}`; add it, or give another half; {ADVICE}")
    return model


@lru_cache(maxsize=2)
def _load(name: str, device: str) -> "OnnxModel":
    return OnnxModel(Path(name).expanduser(), device)


class OnnxModel(LiveModel):
    """One network."""

    def __init__(self, path: Path, device: str):
        try:
            import onnxruntime
        except ImportError:
            raise InputError("onnx: needs onnxruntime; install it by `pip install '.[runtime]'`") from None
        self.yaml_path = path.with_suffix(".yaml")
        if not path.is_file():
            raise InputError(f"onnx:{path}: no such file; give the path of an ONNX file")
        self.about = read_about(self.yaml_path)
        providers = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
        try:
            self.session = onnxruntime.InferenceSession(path, providers=[*providers, "CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own, of no common class
            raise InputError(f"{path}: is no network that onnxruntime reads ({shorten(error)}); export it again") from None
        inputs, outputs = ([value.name for value in values] for values in (self.session.get_inputs(), self.session.get_outputs()))
        if len(inputs) != 1:
            raise InputError(f"{path}: has inputs {', '.join(inputs)}, but one, an image, was needed; export it so")
        semantic, instances = self.about.get("semantic") or {}, self.about.get("instances") or {}
        wanted = [semantic.get("name"), *(instances.get(k) for k in ("masks", "scores", "labels"))]
        self.outputs = [name for name in wanted if name is not None]
        if strangers := [name for name in self.outputs if name not in outputs]:
            raise InputError(f"{self.yaml_path}: names output {', '.join(strangers)}, but {path} has {', '.join(outputs)}")
        self.input = inputs[0]
        names = {k: name for k, name in enumerate(self.about["classes"]) if name is not None}
        void = frozenset(k for k, name in enumerate(self.about["classes"]) if name is None)
        super().__init__(f"onnx:{path}", digest_of(file_digest(path), file_digest(self.yaml_path)), names, void)

    def run(self, image: np.ndarray) -> dict[str, Any]:
        """See LiveModel: the outputs by name, and the size of the image in the input."""
        pixels, seen = to_input(image, self.about["input"])
        try:
            found = self.session.run(self.outputs, {self.input: pixels})
        except Exception as error:  # as above
            raise InputError(f"{self.name}: fails on an image of {image.shape[0]}x{image.shape[1]} ({shorten(error)})") from None
        padded = pixels.shape[2:]
        return {"seen": seen, "padded": padded} | dict(zip(self.outputs, found, strict=True))

    def scores_of(self, result: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
        """See LiveModel."""
        about = self.about["semantic"]
        array = result[about["name"]][0]
        if about["form"] == "classes" and array.ndim != 2:
            raise InputError(f"{self.yaml_path}: output {about['name']} gives {array.shape}, but (h, w) was needed; {ADVICE}")
        if about["form"] == "classes":
            classes = self._without_padding(array[None].astype(np.float32), result)[0]
            return cv2.resize(classes, size[::-1], interpolation=cv2.INTER_NEAREST).astype(np.int32)
        if array.ndim != 3 or len(array) != len(self.about["classes"]):
            found = f"gives {array.shape}, but ({len(self.about['classes'])}, h, w) was needed, by its classes"
            raise InputError(f"{self.yaml_path}: output {about['name']} {found}; {ADVICE}")
        array = self._without_padding(array[list(self.classes.names)], result)
        return probabilities_to_logits(array) if about["form"] == "probabilities" else array

    def objects_of(self, result: dict[str, Any], size: tuple[int, int]) -> list[FoundObject]:
        """See LiveModel."""
        about, objects, grid = self.about["instances"], [], grid_size(*size, SEMANTIC_STRIDE)
        masks = result[about["masks"]]
        if masks.ndim not in (3, 4) or (masks.ndim == 4 and masks.shape[1] != 1):
            raise InputError(f"{self.yaml_path}: masks are {masks.shape}, but (N, h, w) or (N, 1, h, w) was needed; {ADVICE}")
        masks = masks.reshape(len(masks), *masks.shape[-2:])
        scores, labels = (np.ravel(result[about[name]]).tolist() for name in ("scores", "labels"))
        for mask, score, label in zip(masks, scores, labels, strict=True):
            if score >= LOWEST_SCORE and int(label) in self.classes.names:
                logits = resize_logits(self._without_padding(mask[None], result), grid)[0]
                cut = cut_out(probabilities_to_logits(logits) if about["form"] == "probabilities" else logits)
                if cut is not None:
                    objects.append(FoundObject(int(label), float(score), *cut, SEMANTIC_STRIDE))
        return objects

    @staticmethod
    def _without_padding(planes: np.ndarray, result: Mapping[str, Any]) -> np.ndarray:
        """(C, h, w) maps of the input as those of the image: cells that are padding alone go."""
        sides = zip(planes.shape[1:], result["seen"], result["padded"], strict=True)
        rows, columns = (-(-cells * seen // padded) for cells, seen, padded in sides)
        return planes[:, :rows, :columns]


def to_input(image: np.ndarray, about: Mapping[str, Any]) -> tuple[np.ndarray, tuple[int, int]]:
    """(H, W, 3) uint8 RGB -> (1, 3, h, w) float32 as the YAML's `input` says, and the (height, width) of the image in it."""
    if about.get("size"):
        height, width = about["size"]
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    pixels = (image.astype(np.float32) - np.float32(about.get("mean", 0))) / np.float32(about.get("std", 1))
    multiple = about.get("multiple", 1)
    padding = [(0, -side % multiple) for side in pixels.shape[:2]]
    return np.ascontiguousarray(np.pad(pixels, [*padding, (0, 0)]).transpose(2, 0, 1)[None]), image.shape[:2]


def read_about(path: Path) -> dict[str, Any]:
    """The YAML beside an ONNX file, checked.

    Raises:
        InputError: if it is missing, or lacks something.
    """
    about = read_yaml(path)
    problem = None
    if not isinstance(about, dict) or not isinstance(about.get("classes"), list) or not isinstance(about.get("input"), dict):
        problem = "needs `classes`, a list of names, and `input`"
    elif not all(name is None or isinstance(name, str) for name in about["classes"]) or not about["classes"]:
        problem = "`classes` must be names, or null for what is no class"
    elif not _is_input(about["input"]):
        problem = "`input` needs `size`, two whole numbers, or `multiple`; `mean` and `std` are a number or three"
    elif not any(about.get(part) is not None for part in FORMS):
        problem = "needs `semantic` or `instances`"
    for part, forms in FORMS.items():
        needed = {"semantic": ("name",), "instances": ("masks", "scores", "labels")}[part]
        given = about.get(part) if problem is None else None
        if given is not None:
            if not isinstance(given, dict) or not all(isinstance(given.get(name), str) for name in needed):
                problem = f"`{part}` needs {', '.join(needed)}, names of outputs"
            elif given.get("form") not in forms:
                problem = f"`form` of `{part}` must be {' or '.join(forms)}"
    if problem:
        raise InputError(f"{path}: {problem}; {ADVICE}")
    return about


def _is_input(about: Mapping[str, Any]) -> bool:
    sizes, multiple = about.get("size"), about.get("multiple", 1)
    is_size = sizes is None or (
        isinstance(sizes, list) and len(sizes) == 2 and all(type(v) is int and 0 < v < 2**15 for v in sizes)
    )
    scales = {name: about.get(name, 1) for name in ("mean", "std")}
    listed = {name: value if isinstance(value, list) else [value] * 3 for name, value in scales.items()}
    is_scale = all(len(v) == 3 and all(type(number) in (int, float) for number in v) for v in listed.values())
    is_scale = is_scale and all(number > 0 for number in listed["std"])
    return is_size and is_scale and type(multiple) is int and 0 < multiple < 2**12
