"""Networks of torch as exported models: written, and compared with what they were. See prediction/exported/model_folder.py.

A system says what there is to export by a function export_of(predictor) -> Exportable in its export.py; all else is here.
"""

import json
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.network_input import NetworkInput
from data.taxonomy import Taxonomy
from prediction.exported.model_folder import (
    FORMAT,
    MODEL,
    OUTPUTS,
    VERSION,
    ModelFolder,
    classes_digest,
    read_folder,
    write_settings,
)
from prediction.exported.session import CLASSES_KEY, Session
from prediction.predictor import NetworkPredictor
from runtime.files import InputError, atomic_path

OPSET = 18
"""That torch's exporter writes without converting; RoiAlign has its half-pixel mode since 16."""
LARGEST_DIFFERENCE = {"float32": 1e-3, "float16": 5e-2}
"""Of an output, as a share of its largest value or of 1: sums are added in other orders, and float16 has 11 bits."""


@dataclass(frozen=True)
class Exportable:
    """What a system gives to export.

    Args:
        system: of model_folder.OUTPUTS.
        network: image, and where `takes_size` the (2,) int64 size without padding -> the system's outputs, in their order.
            It is computed in the type of its parameters, and takes and gives float32.
        producer: a name that changes with the weights.
        multiple: of which height and width of the image must be multiples.
        stride: sides of an image below are refused.
        resize: how images are brought to the network's size; see model_folder.resized_size.
        mean, std: of RGB pixels of 0 to 255.
        is_batched: whether it takes any number of images at once.
        min_score: of the instances that are worth fusing.
        settings: of what follows, plain values.
    """

    system: str
    network: nn.Module
    taxonomy: Taxonomy
    producer: str
    multiple: int
    stride: int
    resize: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    takes_size: bool = False
    is_batched: bool = False
    min_score: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def example(self, height: int, width: int, seed: int = 0, batch: int = 1) -> tuple[Tensor, ...]:
        """Inputs of a random image that fills its size."""
        image = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))
        return (image, torch.tensor([height, width])) if self.takes_size else (image,)


def facts_of(predictor: NetworkPredictor) -> dict[str, Any]:
    """What an Exportable takes from a predictor that has a `network_input`: classes, name, form of the input, limit of scores.

    `system`, `network` and `stride` are left to the caller.
    """
    form: NetworkInput = predictor.network_input
    return {
        "taxonomy": predictor.taxonomy,
        "producer": predictor.name,
        "multiple": form.multiple,
        "resize": {"rule": "shorter_side", **asdict(form.size)},
        "mean": form.normalization.mean,
        "std": form.normalization.std,
        "min_score": predictor.min_score,
    }


@torch.inference_mode()
def export(exportable: Exportable, folder: Path, size: tuple[int, int] | None = None, is_half: bool = False) -> ModelFolder:
    """Write the network and its YAML; nothing half-written bears a final name.

    Args:
        size: (height, width) of the network's input; None: any, in multiples of `exportable.multiple`.
        is_half: compute in float16.

    Raises:
        InputError: if the size fits not, the packages of the extra `onnx` are absent, or torch cannot export the network.
    """
    multiple, folder = exportable.multiple, Path(folder)
    if size is not None and (min(size) < multiple or any(side % multiple for side in size)):
        nearest = "x".join(str(max(multiple, round(side / multiple) * multiple)) for side in size)
        raise InputError(f"--size {size[0]}x{size[1]}: multiples of {multiple} are needed, such as {nearest}")
    network = exportable.network.cpu().eval().to(memory_format=torch.contiguous_format)
    network = deepcopy(network).half() if is_half else network
    batch = 2 if exportable.is_batched else 1  # the exporter takes a batch of 1 for a constant
    inputs = exportable.example(*(size or (4 * multiple, 6 * multiple)), batch=batch)
    shapes = {0: torch.export.Dim("batch")} if exportable.is_batched else {}
    if size is None:
        shapes |= {2: multiple * torch.export.Dim("rows"), 3: multiple * torch.export.Dim("columns")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own old calls
            program = torch.onnx.export(
                network,
                inputs,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=(shapes, None)[: len(inputs)],
                input_names=("image", "size")[: len(inputs)],
                output_names=list(OUTPUTS[exportable.system]),
                verbose=False,
            )
    except ImportError as error:
        raise _absent(error) from None
    model = program.model_proto
    check_operators(model)
    about = {"producer": exportable.producer, CLASSES_KEY: classes_digest(exportable.system, exportable.taxonomy)}
    describe(model, about)
    with atomic_path(folder / MODEL) as partial:
        partial.write_bytes(model.SerializeToString(deterministic=True))
    write_settings(folder, settings_of(exportable, size, is_half))
    return read_folder(folder)


def describe(model: Any, about: Mapping[str, str]) -> None:
    """Let an ONNX model say `about` of itself, and nothing of the machine and the source that it was made from.

    The exporter notes the lines of Python that each node came from, which is more than a small network's weights.

    Args:
        model: an onnx.ModelProto.
    """
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for part in (model, model.graph):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for name, value in about.items():
        model.metadata_props.add(key=name, value=value)


def settings_of(exportable: Exportable, size: tuple[int, int] | None, is_half: bool) -> dict[str, Any]:
    """The content of the YAML: plain values."""
    e = exportable
    settings = {
        "format": FORMAT,
        "version": VERSION,
        "system": e.system,
        "producer": e.producer,
        "taxonomy": e.taxonomy.name,
        "opset": OPSET,
        "precision": "float16" if is_half else "float32",
        "batch": "any" if e.is_batched else 1,
        "input": {
            "size": size,
            "multiple": e.multiple,
            "stride": e.stride,
            "resize": e.resize,
            "mean": e.mean,
            "std": e.std,
        },
        "outputs": OUTPUTS[e.system],
        "min_score": e.min_score,
        "settings": e.settings,
        "categories": e.taxonomy.to_coco_categories(),
    }
    return json.loads(json.dumps(settings))  # lists for tuples


def check_operators(model: Any) -> None:
    """Refuse an ONNX model that not every runtime could read.

    Args:
        model: an onnx.ModelProto.

    Raises:
        InputError: if a node is of no standard operator.
    """
    strangers = sorted({f"{node.domain}::{node.op_type}" for node in model.graph.node if node.domain not in ("", "ai.onnx")})
    if strangers:
        raise InputError(f"the network needs operators that are not of ONNX itself, {', '.join(strangers)}; update torch")


@torch.inference_mode()
def largest_difference(exportable: Exportable, folder: ModelFolder, sizes: list[tuple[int, int]] | None = None) -> float:
    """Between the file's outputs in onnxruntime and the network's in torch, on random images, as a share of the largest value.

    Args:
        sizes: (height, width) of the images; None: two of them, or the file's one.

    Returns:
        Infinity where the network finds objects that the file does not find, or the other way round.
    """
    session, differences = Session(folder), []
    m = exportable.multiple
    sizes = sizes or ([folder.input.size] if folder.input.size else [(3 * m, 5 * m), (4 * m, 8 * m)])
    for seed, (height, width) in enumerate(sizes):
        inputs = exportable.example(height, width, seed)
        found = session.run("random", inputs[0].numpy(), (height, width))
        wanted_values = exportable.network(*inputs)
        wanted_values = (wanted_values,) if isinstance(wanted_values, Tensor) else wanted_values
        for name, wanted in zip(folder.outputs, wanted_values, strict=True):
            differences.append(difference(found[name], wanted.numpy()))
    return float(np.max(differences))  # which is NaN where one is


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest one, as a share of the largest wanted value or of 1; infinity for another shape."""
    if found.shape != wanted.shape:
        return float("inf")
    if not wanted.size:
        return 0.0
    return float(np.abs(found.astype(np.float64) - wanted).max() / max(1.0, np.abs(wanted).max()))


def _absent(error: ImportError) -> InputError:
    return InputError(f"export needs onnx, onnxscript and onnxruntime ({error.name} is absent); pip install -e '.[onnx]'")
