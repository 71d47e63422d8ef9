"""The network of a trained Pan-SECB as an ONNX file, and whether that does what the network does."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from pan_secb.erfnet import STRIDE
from pan_secb.network import EmbeddingOutput, PanSECB
from pan_secb.predictor import PanSECBPredictor
from runtime.files import InputError, atomic_path

TRACED_SHAPE = (2, 3, 8 * STRIDE, 16 * STRIDE)
"""Of the batch that the exporter follows through the network; any would do but a batch of 1, which it takes for a constant."""
CHECKED_SIZES = ((1, 128, 256), (2, 8 * STRIDE, 9 * STRIDE))
"""(images, height, width) on which the file is compared with the network."""
LARGEST_DIFFERENCE = 1e-3
"""Of an output, as a share of the largest one: a dozen convolutions whose float32 sums are added in other orders."""


@torch.inference_mode()
def export(predictor: PanSECBPredictor, path: Path) -> None:
    """Write the network as one ONNX file, atomically, with what a user of it must know as metadata.

    Raises:
        InputError: if the packages of the extra `onnx` are absent.
    """
    network = predictor.network.cpu().eval().to(memory_format=torch.contiguous_format)
    height, width = STRIDE * torch.export.Dim("rows"), STRIDE * torch.export.Dim("columns")
    try:
        program = torch.onnx.export(
            network,
            (torch.zeros(TRACED_SHAPE),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch"), 2: height, 3: width},),
            input_names=["image"],
            output_names=list(EmbeddingOutput._fields),
            verbose=False,
        )
    except ImportError as error:
        raise _absent(error) from None
    program.model.metadata_props.update(metadata(predictor))
    with atomic_path(path) as partial:
        program.save(partial, external_data=False)


def metadata(predictor: PanSECBPredictor) -> dict[str, str]:
    """Facts as texts; those that are no plain text as JSON."""
    facts = {
        "normalization": asdict(predictor.network_input.normalization),
        "input_size": asdict(predictor.network_input.size),
        "size_multiple": predictor.network_input.multiple,
        "pixels_per_unit": predictor.network.pixels_per_unit,
        "clustering": asdict(predictor.clustering),
        "categories": predictor.taxonomy.to_coco_categories(),
    }
    plain = {"producer": predictor.name, "taxonomy": predictor.taxonomy.name}
    return plain | {name: json.dumps(value) for name, value in facts.items()}


@torch.inference_mode()
def largest_difference(path: Path, network: PanSECB) -> float:
    """Between the file's outputs in onnxruntime and the network's, on random images, as a share of the largest output.

    Raises:
        InputError: if onnxruntime is absent.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise _absent(error) from None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng, differences = np.random.default_rng(0), []
    for batch, height, width in CHECKED_SIZES:
        image = rng.normal(size=(batch, 3, height, width)).astype(np.float32)
        expected = network(torch.from_numpy(image))
        found = session.run(EmbeddingOutput._fields, {"image": image})
        for values, wanted in zip(found, expected, strict=True):
            largest = np.abs(wanted.numpy()).max().clip(min=1)
            differences.append(np.abs(values - wanted.numpy()).max() / largest)
    return float(max(differences))


def _absent(error: ImportError) -> InputError:
    return InputError(f"export needs onnx, onnxscript and onnxruntime ({error.name} is absent); pip install -e '.[onnx]'")
