"""Time each part of Pan-SECB: network, clustering, merging, and reading and writing files.

    $ python pan_secb/forward_time.py
    $ python pan_secb/forward_time.py --sizes 1024x2048 --precision 32 bf16 --channels-last --compile --device cuda
    $ python pan_secb/forward_time.py --checkpoint outputs/pan_secb/cityscapes_finetune/best.ckpt --images street.png

network: normalised pixels on the device -> embeddings, bandwidths, seeds and classes of all pixels. clustering: -> which object
each pixel belongs to. merging: -> segment ids on the CPU, at the size of the image. read: PNG -> normalised pixels on the
device, at the size that the network sees. write: panoptic PNG.

A checkpoint says how pixels are normalised and to what size an image is brought; --sizes asks for others. Without --checkpoint
the network has random weights, which cost the same, but would give no clusters: clustering and merging then get the ideal
embeddings of the drawn scene, in which each pixel points exactly at its object's centre. Real ones are noisier.

All times are by the wall clock, between points where the device has nothing left to do, and of one image.
"""

import platform
import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt

from prediction.arguments import device_of
from runtime.command_line import current_spelling, make_parser
from runtime.files import InputError, one_line_errors, write_json

STRIDE = 8
"""As pan_secb.erfnet.STRIDE, whose import takes seconds."""
DEFAULT_SIZES = ("1024x2048", "512x1024")
OLDER_PRECISIONS = {"fp32": "32"}


def parse_size(text: str) -> tuple[int, int]:
    """1024x2048 -> (1024, 2048).

    Raises:
        InputError: if it is anything else, or no size that the network can take.
    """
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise InputError(f"--sizes {text}: is no size; give HEIGHTxWIDTH such as 1024x2048")
    size = int(height), int(width)
    if min(size) < 1 or any(side % STRIDE for side in size):
        raise InputError(f"--sizes {text}: both sides must be multiples of {STRIDE}, as the network needs them")
    return size


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("forward_time.py", __doc__, has_config=False)
    help_sizes = f"at which the network sees the image; default: the checkpoint's, without one {' '.join(DEFAULT_SIZES)}"
    parser.add_argument("--sizes", type=str, nargs="+", default=None, metavar="HxW", help=help_sizes)
    parser.add_argument("--batch", type=PositiveInt, default=1, help="images that the network sees at once")
    help_precision = "of weights and activations of the network"
    choices = ("32", "bf16", "fp16")
    parser.add_argument("--precision", nargs="+", choices=choices, default=["32"], help=help_precision)
    parser.add_argument("--channels-last", action="store_true", help="memory format of the network")
    parser.add_argument("--compile", action="store_true", help="by torch.compile, on a GPU with CUDA graphs")
    help_device = "cpu, cuda, cuda:1, ...; default: cuda if there is one"
    parser.add_argument("--device", type=str | None, default=None, help=help_device)
    help_width = "of a network with random weights; default: the published 1"
    parser.add_argument("--width", type=PositiveFloat, default=1.0, help=help_width)
    help_checkpoint = "of pan_secb/train.py: time a trained network on its own embeddings"
    parser.add_argument("--checkpoint", type=str | None, default=None, metavar="FILE", help=help_checkpoint)
    help_images = "for --checkpoint: an image, of several the first; default: a drawn scene"
    parser.add_argument("--images", "--image-path", type=str | None, default=None, metavar="PATH", help=help_images)
    help_seconds = "for the repeats of one row, of which there are 3 or more"
    parser.add_argument("--seconds", type=NonNegativeFloat, default=20.0, help=help_seconds)
    help_output = "also write all times, as JSON"
    parser.add_argument("--output", "--json", type=str | None, default=None, metavar="FILE", help=help_output)
    return parser


def run(args: Namespace) -> None:
    """Time every size in every precision and print a table.

    Raises:
        InputError: if the arguments do not fit, or as load_subject, random_subject and time_parts.
    """
    if args.images is not None and args.checkpoint is None:
        raise InputError(f"--images {args.images} needs --checkpoint: random weights find nothing in it; give both")
    asked = args.sizes or ([None] if args.checkpoint else DEFAULT_SIZES)
    sizes = [None if text is None else parse_size(text) for text in asked]
    import torch

    from pan_secb.part_times import Form, describe_hardware, format_rows, load_subject, random_subject, time_row

    device = device_of(args)
    torch.backends.cudnn.benchmark = True  # sizes do not change
    facts = {"hardware": describe_hardware(device), "torch": torch.__version__, "python": platform.python_version()}
    weights = "random weights, ideal embeddings of a drawn scene" if args.checkpoint is None else str(args.checkpoint)
    print(f"{facts['hardware']}; torch {facts['torch']}; {weights}\n", flush=True)
    rows = []
    for size in sizes:
        for precision in args.precision:
            if args.checkpoint is None:
                subject = random_subject(size, args.width, device)
            else:
                subject = load_subject(Path(args.checkpoint).expanduser(), args.images, size, device)
            form = Form(device, args.batch, precision, args.channels_last, args.compile)
            rows.append(time_row(subject, form, args.seconds))
            print(format_rows(rows[-1:]), flush=True)
    if args.output is not None:
        write_json(Path(args.output).expanduser(), facts | {"weights": weights, "rows": rows})
        print(f"wrote {args.output}")


def main() -> None:
    """The command; see above."""
    arguments = [OLDER_PRECISIONS.get(argument, argument) for argument in current_spelling(sys.argv[1:])]
    with one_line_errors():
        run(build_parser().parse_args(arguments))


if __name__ == "__main__":
    main()
