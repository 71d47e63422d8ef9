"""An exported model in int8: weights by channel, activations by the range that calibration images show; see onnxruntime's docs.

Only convolutions and what stands between them are quantised. What decides where an object is (boxes, suppression, the last layers
of a head) stays float32: it takes little time, and a rounded box costs more than a rounded feature.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from prediction.exported.model_folder import MODEL, SETTINGS, ModelFolder, read_folder, write_settings
from prediction.exported.predictor import to_input
from prediction.exported.session import Session
from prediction.onnx_export import describe
from runtime.files import InputError, atomic_path, read_yaml

QUANTIZED = ("Conv",)
NUM_FIRST = 6
NUM_IMAGES = 32
"""Enough for the ranges of activations."""


class _Calibration:
    """Images as onnxruntime's calibrator reads them."""

    def __init__(self, images: Iterable[np.ndarray], folder: ModelFolder, takes_size: bool):
        self._inputs = self._read(images, folder, takes_size)

    @staticmethod
    def _read(images: Iterable[np.ndarray], folder: ModelFolder, takes_size: bool) -> Iterator[dict[str, np.ndarray]]:
        for image in images:
            pixels, seen = to_input(image, folder)
            yield {"image": pixels} | ({"size": np.array(seen, np.int64)} if takes_size else {})

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input, None at the end."""
        return next(self._inputs, None)


def quantize(folder: ModelFolder, images: Iterable[np.ndarray], output: Path, keep: Sequence[str] = ()) -> ModelFolder:
    """Write a model in int8 beside a float32 one.

    Args:
        images: (H, W, 3) uint8 RGB, of the training split: NUM_IMAGES of them will do.
        output: folder of the new model.
        keep: names of nodes that stay float32.

    Raises:
        InputError: if the packages of the extra `onnx` are absent, or the model is no float32 one.
    """
    if folder.precision != "float32":
        raise InputError(f"{folder.path}: is {folder.precision}, but a float32 model is needed; export one without --half")
    try:
        import onnx
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise InputError(f"int8 needs onnx and onnxruntime ({error.name} is absent); pip install -e '.[onnx]'") from None
    producer = f"{folder.producer}-int8"
    takes_size = Session(folder).takes_size
    with tempfile.TemporaryDirectory() as scratch, atomic_path(Path(output) / MODEL) as partial:
        prepared = Path(scratch) / MODEL
        quant_pre_process(str(folder.model), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(partial),
            _Calibration(images, folder, takes_size),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            nodes_to_exclude=list(keep) or sensitive_convolutions(onnx.load(str(prepared))),
        )
        # What the file says of itself is lost on the way.
        model, source = onnx.load(str(partial)), onnx.load(str(folder.model))
        describe(model, {p.key: p.value for p in source.metadata_props} | {"producer": producer})
        onnx.save(model, str(partial))
    write_settings(output, read_yaml(folder.path / SETTINGS) | {"precision": "int8", "producer": producer})
    return read_folder(output)


def sensitive_convolutions(model: object) -> list[str]:
    """Names of the convolutions that a model is not worth without: the NUM_FIRST first ones, which see the few channels of an
    image, and those behind which no other one follows, since what they give is what the model says.

    Args:
        model: an onnx.ModelProto.
    """
    users: dict[str, list] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    last = [node.name for node in convolutions if not _leads_to_convolution(node, users)]
    return [node.name for node in convolutions[:NUM_FIRST]] + last


def _leads_to_convolution(start: object, users: dict[str, list]) -> bool:
    waiting, seen = list(start.output), set()
    while waiting:
        for node in users.get(waiting.pop(), ()):
            if node.op_type == "Conv":
                return True
            new = [name for name in node.output if name not in seen]
            seen.update(new)
            waiting += new
    return False
