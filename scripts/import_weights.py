"""Weights of other projects to start from: a checkpoint in, a weights file for one network out.

    $ python scripts/import_weights.py tf_efficientnet_b5_ra.pth --for efficientps-b5 --output weights/b5.safetensors
    $ python scripts/import_weights.py solov2_r50.pth --for solov2:configs/solov2/cityscapes_r50.py --output r50.safetensors
    $ python scripts/import_weights.py --list

What the checkpoint is, its tensors' names tell. Train with `efficientps/train_net.py --model.weights FILE` or
`solov2/train.py --weights FILE`. No pickled code is executed: plain tensors are read, anything else is refused.
"""

import argparse
from pathlib import Path

import solov2  # noqa: F401, first: it sets what torch reads when it is loaded

# isort: split
from data.files import InputError, one_line_errors
from data.taxonomy import CITYSCAPES
from data.weights_file import Source, count_names, find_source, match, read_tensors, write_weights
from efficientps import pretrained as efficientps_pretrained
from efficientps.encoder import VARIANTS
from efficientps.network import EfficientPS, SemanticEfficientPS
from solov2 import pretrained as solov2_pretrained
from solov2.checkpoints import allow_checkpoint_classes
from solov2.settings import find_config, load_config

TARGETS = "efficientps-b0 .. b7, efficientps-instances-b0 .. b7 (with instance head), or solov2:CONFIG"
KNOWN = """checkpoint                                                    --for
official EfficientPS (mmdet 1.x names), semantic part         efficientps-b0 .. efficientps-b7
the same, with its Mask R-CNN part                            efficientps-instances-b0 .. efficientps-instances-b7
EfficientNet of efficientnet_pytorch, ImageNet: the encoder   efficientps-b0 .. efficientps-b7
tf_efficientnet_b0 .. b7 of timm, ImageNet: the encoder       efficientps-b0 .. efficientps-b7
SOLOv2 of mmdet, COCO                                         solov2:CONFIG, such as solov2:configs/solov2/cityscapes_r50.py
ResNet of torchvision, ImageNet: the backbone                 solov2:CONFIG
Containers: torch (.pth, .pt, .bin, .ckpt) and .safetensors; the tensors at the top or under state_dict or model.
Left out where sizes differ: class layers. Always: squeeze-and-excitation and classifiers."""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="import_weights.py", description=__doc__, formatter_class=formatter)
    parser.add_argument("checkpoint", nargs="?", type=Path, help="a .pth, .pt, .bin, .ckpt or .safetensors file")
    parser.add_argument("--for", dest="network", help=TARGETS)
    parser.add_argument("--output", type=Path, help="the .safetensors file to write")
    parser.add_argument("--list", action="store_true", help="print which checkpoints are known, and for which networks")
    return parser


def describe_network(target: str, names: set[str]) -> tuple[str, dict, tuple[Source, ...]]:
    """What `--for` names: in words, its tensors, and the checkpoints that are known for it.

    Args:
        names: of the checkpoint's tensors; they tell which output convolution an official EfficientPS has.

    Raises:
        InputError: if there is no such network.
    """
    kind, _, config = target.partition(":")
    if kind == "solov2" and config:
        network = solov2_pretrained.build_network(load_config(find_config(config)))
        return target, network.state_dict(), solov2_pretrained.sources(network)
    family, _, variant = target.rpartition("-")
    if variant not in VARIANTS or family not in ("efficientps", "efficientps-instances"):
        raise InputError(f"--for {target}: no such network; give {TARGETS}")
    settings = {"variant": variant, "is_separable": efficientps_pretrained.is_separable(names)}
    if family == "efficientps":
        network = SemanticEfficientPS(CITYSCAPES.num_classes, **settings)
    else:
        network = EfficientPS(CITYSCAPES.num_classes, list(CITYSCAPES.thing_ids), {}, **settings)
    known = efficientps_pretrained.sources(network)
    is_whole = known[0].marker in names
    words = f"{target} with fpn_channels 256, is_separable {str(settings['is_separable']).lower()}" if is_whole else target
    return words, network.state_dict(), known


def run(args: argparse.Namespace) -> None:
    """Read, match, say what fits, write."""
    if args.list:
        print(KNOWN)
        return
    if not (args.checkpoint and args.network and args.output):
        raise InputError("a checkpoint, --for and --output are needed; --list tells what is known")
    if args.output.suffix != ".safetensors":
        raise InputError(f"--output {args.output}: must end in .safetensors")
    allow_checkpoint_classes()
    checkpoint = read_tensors(args.checkpoint)
    words, state, known = describe_network(args.network, set(checkpoint))
    source = find_source(known, checkpoint)
    if source is None:
        wanted = " or ".join(source.name for source in known)
        raise InputError(
            f"{args.checkpoint}: {wanted} is needed for {args.network}, but it holds {min(checkpoint)!r}; see --list"
        )
    try:
        found = match(state, checkpoint, source)
    except InputError as error:
        raise InputError(f"{args.checkpoint}: {error}") from None
    print(f"{args.checkpoint} is {source.name}, for {words}")
    print(f"matched: {len(found.tensors)} of {len(source.names)} tensors")
    print(f"left out of the checkpoint: {count_names(found.left_out)}")
    print(f"missing, will stay as initialised: {count_names(found.missing)}")
    write_weights(args.output, found, source=source.name, checkpoint=args.checkpoint, network=words)
    flag = "solov2/train.py --weights" if args.network.startswith("solov2:") else "efficientps/train_net.py --model.weights"
    print(f"wrote {args.output}; train with: python {flag} {args.output}")


def main() -> None:
    args = build_parser().parse_args()
    with one_line_errors():
        run(args)


if __name__ == "__main__":
    main()
