"""onnxruntime: one network, opened with suspicion, run on a device."""

import os
import sys
from typing import Any

import numpy as np

from prediction.exported.model_folder import ADVICE, MODEL, SETTINGS, ModelFolder
from runtime.files import InputError, shorten

CLASSES_KEY = "classes_digest"
"""Of the ONNX file's metadata: see model_folder.classes_digest."""
ERRORS_ONLY = 3
"""onnxruntime's severity, which warns of each operator that it does not move to a GPU."""


class Session:
    """An exported network.

    Args:
        threads: that compute one image; None: see default_threads.

    Raises:
        InputError: if onnxruntime or its CUDA is absent, or the ONNX file is broken, or of another network than the YAML.
    """

    def __init__(self, folder: ModelFolder, device: str = "cpu", threads: int | None = None):
        try:
            import onnxruntime
        except ImportError:
            raise InputError(f"{folder.path}: needs onnxruntime; install it by `pip install '.[runtime]'`") from None
        options = onnxruntime.SessionOptions()
        self.threads, self.device = threads or default_threads(), device
        options.intra_op_num_threads, options.log_severity_level = self.threads, ERRORS_ONLY
        providers = _providers(onnxruntime.get_available_providers(), device)
        try:
            self._session = onnxruntime.InferenceSession(folder.model, options, providers=providers)
        except Exception as error:  # onnxruntime's own, of no common class
            raise InputError(
                f"{folder.model}: onnxruntime cannot read it ({shorten(error)}); copy it again, or {ADVICE}"
            ) from None
        self.folder = folder
        self._check()
        self.takes_size = len(self._session.get_inputs()) > 1

    def run(self, image_id: str, pixels: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """The outputs by name.

        Args:
            pixels: (1, 3, H, W) float32. size: (height, width) without padding.

        Raises:
            InputError: if onnxruntime fails, or a value is NaN or infinite.
        """
        inputs = {"image": pixels} | ({"size": np.array(size, dtype=np.int64)} if self.takes_size else {})
        options = _run_options()
        try:
            values = self._session.run(self.folder.outputs, inputs, options)
        except Exception as error:  # as above
            seen = "x".join(map(str, pixels.shape[2:]))
            reason = f"onnxruntime fails on an input of {seen} pixels ({shorten(error)})"
            raise InputError(f"{image_id}: {reason}; {ADVICE}") from None
        found = dict(zip(self.folder.outputs, values, strict=True))
        # A sum is finite only if every term is, and takes no memory; only one that is not is looked at again.
        broken = [name for name, array in found.items() if array.dtype == np.float32 and not _is_finite(array)]
        if broken:
            raise InputError(f"{image_id}: the exported model gives NaN or infinite {broken[0]}; use another checkpoint")
        return found

    def _check(self) -> None:
        """Refuse a file of another network than the YAML's."""
        folder, session = self.folder, self._session
        outputs = {value.name: value.shape for value in session.get_outputs()}
        if absent := [name for name in folder.outputs if name not in outputs]:
            has = f"{MODEL} gives {', '.join(outputs)}, but {SETTINGS} is of {folder.system}, which gives {absent[0]}"
            raise InputError(f"{folder.path}: {has}; copy both files of one export")
        if [value.name for value in session.get_inputs()] not in (["image"], ["image", "size"]):
            has = ", ".join(value.name for value in session.get_inputs())
            raise InputError(f"{folder.model}: takes {has}, but `image`, and `size` for boxes, were needed; {ADVICE}")
        about = session.get_modelmeta().custom_metadata_map
        channels, num = {"semantic_logits": 1, "semantic": 1}, folder.settings.get("num_outputs", folder.taxonomy.num_classes)
        shapes = [outputs[name] for name in channels if name in outputs]
        is_other = any(len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != num) for shape in shapes)
        if is_other or about.get(CLASSES_KEY, folder.digest()) != folder.digest():
            raise InputError(f"{folder.path}: the classes of {SETTINGS} are not those of {MODEL}; copy both files of one export")
        if about.get("producer", folder.producer) != folder.producer:
            both = f"{SETTINGS} is of {folder.producer}, {MODEL} of {shorten(about['producer'], 60)}"
            raise InputError(f"{folder.path}: {both}; copy both files of one export")
        size = session.get_inputs()[0].shape[2:]
        if folder.input.size is not None and any(isinstance(n, int) and n != m for n, m in zip(size, folder.input.size)):
            raise InputError(f"{folder.path}: {MODEL} takes {size}, but {SETTINGS} says {list(folder.input.size)}; {ADVICE}")
        if folder.input.size is None and any(isinstance(side, int) for side in size):
            raise InputError(f"{folder.path}: {MODEL} takes {size} alone, but {SETTINGS} says any size; {ADVICE}")


def default_threads() -> int:
    """torch's number where torch is loaded, else OMP_NUM_THREADS, else all cores."""
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(given) if given.isdecimal() and int(given) else os.cpu_count() or 1


def _providers(available: list[str], device: str) -> list[Any]:
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    if kind != "cuda" or "CUDAExecutionProvider" not in available:
        advice = "pip install onnxruntime-gpu" if kind == "cuda" else "cpu and cuda are known"
        raise InputError(f"device {device!r}: onnxruntime here has {', '.join(available)}; {advice}, or take cpu")
    return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]


def _run_options():
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = 4  # what fails is in the exception
    return options


def _is_finite(array: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum(dtype=np.float64))) or bool(np.isfinite(array).all())
