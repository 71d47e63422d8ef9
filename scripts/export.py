"""Export any trained checkpoint to ONNX, with a YAML that says how to use it, and compare it with torch in onnxruntime.

    $ pip install -e '.[onnx]'
    $ python scripts/export.py --checkpoint outputs/efficientps/streets_lite0/best.ckpt --to onnx
    $ python scripts/export.py --checkpoint outputs/solov2/streets_lite0/epoch_6.pth --to onnx --size 192x384
    $ python scripts/export.py --checkpoint outputs/panoptic_fpn/streets_r18/best.ckpt --to onnx --half --output outputs/fpn16
    $ python scripts/export.py --checkpoint outputs/efficientps/streets_lite0/best.ckpt --int8 datasets/streets/leftImg8bit/train

Writes a folder of model.onnx and model.yaml, which predict.py takes as --model, --instances or --semantics, and which need no
torch. Opset 18, standard operators alone. By default the network takes images of any size (--dynamic), in multiples of 32.
"""

import re
import sys
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jsonargparse import ArgumentParser, Namespace

from data.layouts.image_files import ImageFiles
from runtime.command_line import OUTPUTS, current_spelling, make_parser, relative_to_repository
from runtime.files import InputError, check_outputs, one_line_errors

if TYPE_CHECKING:
    from prediction.exported.model_folder import ModelFolder
    from prediction.onnx_export import Exportable

FOLDER = OUTPUTS / "exported"


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("export.py", __doc__, has_config=False)
    help_checkpoint = "of any of the training commands: a .ckpt, SOLOv2's epoch_*.pth, or the folder that holds it"
    parser.add_argument("--checkpoint", type=str, required=True, metavar="FILE", help=help_checkpoint)
    parser.add_argument("--to", choices=["onnx"], default="onnx", help="the form of the exported model")
    parser.add_argument("--half", action="store_true", help="compute in float16, for GPUs; half the size of the file")
    help_int8 = "compute in int8, for CPUs; 32 training images of this folder, 'glob' or video set the ranges"
    parser.add_argument("--int8", type=str | None, default=None, metavar="IMAGES", help=help_int8)
    help_dynamic = "images of any size; the default"
    parser.add_argument("--dynamic", action="store_true", help=help_dynamic)
    help_size = "one size of the network's input instead, to which images are padded; what does not fit is shrunk"
    parser.add_argument("--size", type=str | None, default=None, metavar="HxW", help=help_size)
    help_output = f"a folder; default: {relative_to_repository(FOLDER)}/ and the model's name, with -float16 or -int8 behind it"
    parser.add_argument("--output", type=str | None, default=None, metavar="DIR", help=help_output)
    return parser


def read_size(given: str | None, is_dynamic: bool) -> tuple[int, int] | None:
    """`192x384` -> (192, 384); None for any size.

    Raises:
        InputError: if it is anything else, or --dynamic is given too.
    """
    if given is None:
        return None
    if is_dynamic:
        raise InputError(f"--dynamic and --size {given}: give one of both")
    if (match := re.fullmatch(r"(\d{1,5})x(\d{1,5})", given)) is None:
        raise InputError(f"--size {given}: HEIGHTxWIDTH in pixels is needed, such as 512x1024")
    return int(match[1]), int(match[2])


def check_agreement(exportable: "Exportable", folder: "ModelFolder", name: str) -> None:
    """Compare the file with the network in torch; say how well they agree, or delete the file.

    Args:
        name: what is compared, for the error.

    Raises:
        InputError: if a float32 file does not do what the network does.
    """
    from prediction.exported.model_folder import SETTINGS
    from prediction.onnx_export import LARGEST_DIFFERENCE, largest_difference

    difference = largest_difference(exportable, folder)
    if difference <= LARGEST_DIFFERENCE[folder.precision]:
        print(f"onnxruntime agrees with torch to {difference:.1e} of 1 or the largest output, on random images")
        return
    found = "finds other objects than torch" if difference == float("inf") else f"differs from torch by {difference:.1e}"
    if folder.precision != "float32":
        print(f"note: in float16 it {found} on random images")
        return
    for path in (folder.model, folder.path / SETTINGS):
        path.unlink()
    advice = "it is deleted; give another --size, or update torch and onnxruntime"
    raise InputError(f"{name}: {found} on random images, of 1 or the largest output; {advice}")


def run(args: Namespace) -> None:
    """Export and compare.

    Raises:
        InputError: as load_predictor, export, check_agreement and quantize.
    """
    if args.int8 and args.half:
        raise InputError(f"--half and --int8 {args.int8}: give one of both; float16 is for GPUs, int8 for CPUs")
    from prediction.models import find_checkpoint, is_exported, load_predictor

    checkpoint, size = find_checkpoint(args.checkpoint), read_size(args.size, args.dynamic)
    if checkpoint.suffix == ".pth":
        # First: it sets what torch reads when it is loaded.
        import solov2  # noqa: F401
    from prediction.onnx_export import OPSET, export

    if is_exported(checkpoint):
        raise InputError(f"--checkpoint {checkpoint}: is exported already; give the checkpoint that it is of")
    calibration = None if args.int8 is None else ImageFiles(args.int8)
    predictor = load_predictor(checkpoint)
    system = type(predictor).__module__.partition(".")[0]
    if find_spec(f"{system}.export") is None:
        advice = "write it as docs/recipes.md says"
        raise InputError(f"--checkpoint {checkpoint}: {system} has no {system}/export.py with export_of(predictor); {advice}")
    exportable = import_module(f"{system}.export").export_of(predictor)
    precision = "-int8" if args.int8 else "-float16" if args.half else ""
    output = FOLDER / f"{predictor.name}{precision}" if args.output is None else Path(args.output).expanduser()
    check_outputs({"--output": output}, {"--checkpoint": checkpoint}, folder="--output")
    sizes = f"any size in multiples of {exportable.multiple}" if size is None else f"{size[0]}x{size[1]} pixels"
    print(f"exporting {checkpoint} ({predictor.name}): opset {OPSET}, {sizes}", flush=True)
    if calibration is None:
        folder = export(exportable, output, size, args.half)
        check_agreement(exportable, folder, str(folder.model))
    else:
        from prediction.quantization import NUM_IMAGES, quantize

        with tempfile.TemporaryDirectory() as scratch:
            in_float32 = export(exportable, Path(scratch), size)
            check_agreement(exportable, in_float32, f"{checkpoint} in float32")
            # Spread over the folder, where neighbours are often alike.
            chosen = np.linspace(0, len(calibration) - 1, min(NUM_IMAGES, len(calibration))).round().astype(int)
            print(f"int8: {len(chosen)} of {len(calibration)} images of {args.int8} set the ranges", flush=True)
            folder = quantize(in_float32, map(calibration.image, chosen), output)
        print("note: int8 rounds; compare its score with that of the float32 model before you use it")
    print(f"wrote {folder.model} ({folder.model.stat().st_size / 1e6:.1f} MB) and model.yaml")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
