"""Export the network of a trained Pan-SECB to ONNX, for any batch and any size in multiples of 8, and check it in onnxruntime.

    $ pip install -e '.[onnx]'
    $ python pan_secb/export_onnx.py
    $ python pan_secb/export_onnx.py --checkpoint outputs/pan_secb/cityscapes_finetune/best.ckpt --output pan_secb.onnx

Input: image, (B, 3, H, W) float32 RGB, resized, normalised and padded as the file's metadata say. Outputs: offsets, sigmas, seeds
and semantic, as pan_secb/network.py has them, before any activation. The clustering is not in it: how many steps it takes depends
on the image.
"""

import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from runtime.command_line import OUTPUTS, current_spelling, make_parser, relative_to_repository
from runtime.files import InputError, one_line_errors

CHECKPOINT = OUTPUTS / "pan_secb" / "streets_finetune" / "last.ckpt"
OUTPUT = OUTPUTS / "pan_secb" / "pan_secb.onnx"


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("export_onnx.py", __doc__, has_config=False)
    help_checkpoint = f"of pan_secb/train.py; default: {relative_to_repository(CHECKPOINT)}"
    parser.add_argument("--checkpoint", type=str, default=str(CHECKPOINT), metavar="FILE", help=help_checkpoint)
    help_output = f"default: {relative_to_repository(OUTPUT)}"
    parser.add_argument("--output", type=str, default=str(OUTPUT), metavar="FILE.onnx", help=help_output)
    return parser


def run(args: Namespace) -> None:
    """Export and compare.

    Raises:
        InputError: as load_predictor and export, and if the file does not do what the network does.
    """
    from pan_secb import onnx_file
    from pan_secb.predictor import load_predictor

    output = Path(args.output).expanduser()
    predictor = load_predictor(Path(args.checkpoint).expanduser())
    print(f"exporting {args.checkpoint} ({predictor.name})", flush=True)
    onnx_file.export(predictor, output)
    difference = onnx_file.largest_difference(output, predictor.network)
    if not difference <= onnx_file.LARGEST_DIFFERENCE:
        raise InputError(f"{output}: differs from the network by {difference:.1e} of its largest output; do not use it")
    print(f"onnxruntime agrees with torch to {difference:.1e} of the largest output, on sizes {onnx_file.CHECKED_SIZES}")
    print(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
