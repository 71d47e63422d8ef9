"""Export any trained checkpoint to ONNX, with a YAML that says how to use it, and compare it with torch in onnxruntime.

    $ pip install -e '.[onnx]'
    $ python scripts/export.py --checkpoint outputs/efficientps/streets_lite0/best.ckpt --to onnx
    $ python scripts/export.py --checkpoint outputs/solov2/streets_lite0/epoch_6.pth --to onnx --size 192x384
    $ python scripts/export.py --checkpoint outputs/panoptic_fpn/streets_r18/best.ckpt --to onnx --half --output outputs/fpn16

Writes a folder of model.onnx and model.yaml, which predict.py takes as --model, --instances or --semantics, and which need no
torch. Opset 18, standard operators alone. By default the network takes images of any size (--dynamic), in multiples of 32.
"""

import re
import sys
from importlib import import_module
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from runtime.command_line import OUTPUTS, current_spelling, make_parser, relative_to_repository
from runtime.files import InputError, check_outputs, one_line_errors

FOLDER = OUTPUTS / "exported"


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("export.py", __doc__, has_config=False)
    help_checkpoint = "of any of the training commands: a .ckpt, or SOLOv2's epoch_*.pth"
    parser.add_argument("--checkpoint", type=str, required=True, metavar="FILE", help=help_checkpoint)
    parser.add_argument("--to", choices=["onnx"], default="onnx", help="the form of the exported model")
    parser.add_argument("--half", action="store_true", help="compute in float16, for GPUs; half the size of the file")
    help_dynamic = "images of any size; the default"
    parser.add_argument("--dynamic", action="store_true", help=help_dynamic)
    help_size = "one size of the network's input instead, to which images are padded; what does not fit is shrunk"
    parser.add_argument("--size", type=str | None, default=None, metavar="HxW", help=help_size)
    help_output = f"a folder; default: {relative_to_repository(FOLDER)}/ and the model's name"
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


def run(args: Namespace) -> None:
    """Export and compare.

    Raises:
        InputError: as load_predictor and export, and if the file does not do what the network does.
    """
    checkpoint, size = Path(args.checkpoint).expanduser(), read_size(args.size, args.dynamic)
    if checkpoint.suffix == ".pth":
        # First: it sets what torch reads when it is loaded.
        import solov2  # noqa: F401
    from prediction.exported.model_folder import SETTINGS
    from prediction.models import is_exported, load_predictor
    from prediction.onnx_export import LARGEST_DIFFERENCE, OPSET, export, largest_difference

    if is_exported(checkpoint):
        raise InputError(f"--checkpoint {checkpoint}: is exported already; give the checkpoint that it is of")
    predictor = load_predictor(checkpoint)
    system = type(predictor).__module__.partition(".")[0]
    exportable = import_module(f"{system}.export").export_of(predictor)
    output = FOLDER / predictor.name if args.output is None else Path(args.output).expanduser()
    check_outputs({"--output": output}, {"--checkpoint": checkpoint}, folder="--output")
    sizes = f"any size in multiples of {exportable.multiple}" if size is None else f"{size[0]}x{size[1]} pixels"
    print(f"exporting {checkpoint} ({predictor.name}): opset {OPSET}, {sizes}", flush=True)
    folder = export(exportable, output, size, args.half)
    difference, limit = largest_difference(exportable, folder), LARGEST_DIFFERENCE[folder.precision]
    if not difference <= limit:
        found = "finds other objects than torch" if difference == float("inf") else f"differs from torch by {difference:.1e}"
        if folder.precision == "float32":
            for path in (folder.model, folder.path / SETTINGS):
                path.unlink()
            advice = "it is deleted; give another --size, or update torch and onnxruntime"
            raise InputError(f"{folder.model}: {found} on random images, of 1 or the largest output; {advice}")
        print(f"note: in float16 it {found} on random images")
    else:
        print(f"onnxruntime agrees with torch to {difference:.1e} of 1 or the largest output, on random images")
    print(f"wrote {folder.model} ({folder.model.stat().st_size / 1e6:.1f} MB) and model.yaml")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
