"""Export the network of a trained Pan-SECB to ONNX, for any batch and any size in multiples of 8, and check it in onnxruntime.

    $ pip install -e '.[onnx]'
    $ python pan_secb/export_onnx.py
    $ python pan_secb/export_onnx.py --checkpoint outputs/pan_secb/cityscapes_finetune/best.ckpt --output pan_secb.onnx

Input: image, (B, 3, H, W) float32 RGB, normalised and padded as the file's metadata say. Outputs: offsets, sigmas, seeds and
semantic, as pan_secb/network.py has them, before any activation. The clustering is not in it: how many steps it takes depends on
the picture.
"""

import json
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from data.normalization import IMAGENET
from pan_secb.erfnet import STRIDE
from pan_secb.network import EmbeddingOutput, PanSECB
from pan_secb.predictor import DEFAULT_CHECKPOINT, PanSECBPredictor, load_predictor
from runtime.files import InputError, atomic_path, one_line_errors

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUT = REPOSITORY / "outputs" / "pan_secb" / "pan_secb.onnx"
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
        "normalization": asdict(IMAGENET),
        "size_multiple": STRIDE,
        "pixels_per_unit": predictor.network.pixels_per_unit,
        "clustering": asdict(predictor.clustering),
        "categories": predictor.taxonomy.to_coco_categories(),
    }
    plain = {"producer": predictor.producer, "taxonomy": predictor.taxonomy.name}
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


def parse_arguments() -> Namespace:
    """See --help."""
    parser = ArgumentParser(prog="export_onnx.py", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    help_checkpoint = f"of pan_secb/train.py; default: {DEFAULT_CHECKPOINT.relative_to(REPOSITORY)}"
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT, metavar="FILE", help=help_checkpoint)
    help_output = f"default: {OUTPUT.relative_to(REPOSITORY)}"
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE.onnx", help=help_output)
    return parser.parse_args()


def run(args: Namespace) -> None:
    """Export and compare.

    Raises:
        InputError: as load_predictor and export, and if the file does not do what the network does.
    """
    output = args.output.expanduser()
    predictor = load_predictor(args.checkpoint.expanduser())
    print(f"exporting {args.checkpoint} ({predictor.producer})", flush=True)
    export(predictor, output)
    difference = largest_difference(output, predictor.network)
    if not difference <= LARGEST_DIFFERENCE:
        raise InputError(f"{output}: differs from the network by {difference:.1e} of its largest output; do not use it")
    print(f"onnxruntime agrees with torch to {difference:.1e} of the largest output, on sizes {CHECKED_SIZES}")
    print(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(parse_arguments())


if __name__ == "__main__":
    main()
