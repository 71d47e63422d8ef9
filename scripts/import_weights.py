"""Weights of other projects to start from: a checkpoint in, or a published one by name, a weights file for one network out.

    $ python scripts/import_weights.py --download torchvision-resnet50
    $ python scripts/import_weights.py tf_efficientnet_b5_ra.pth --for efficientps-b5 --output weights/b5.safetensors
    $ python scripts/import_weights.py solov2_r50.pth --for solov2:configs/solov2/cityscapes_r50.py --output r50.safetensors
    $ python scripts/import_weights.py model_final.pkl --for panoptic-fpn-r50 --output weights/panoptic_fpn.safetensors
    $ python scripts/import_weights.py --list

--list names what can be downloaded; EfficientNet-Lite's weights need no download: train with --weights lite0.
What the checkpoint is, its tensors' names tell. The last line printed is the command to train with. No pickled code is
executed: plain tensors are read, of detectron2's .pkl files plain arrays; anything else is refused.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from data.panoptic_file import read_taxonomy
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, TAXONOMIES, Taxonomy
from runtime.command_line import REPOSITORY, current_spelling, make_parser
from runtime.downloads import UNFINISHED, download
from runtime.files import InputError, on_interruption, one_line_errors
from runtime.progress import progress_bar
from training.published_weights import PUBLISHED, Published

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from torch import Tensor

    from training.weights_file import Source

WEIGHTS = REPOSITORY / "weights"
RESNETS = {"r18": "resnet18", "r34": "resnet34", "r50": "resnet50", "r101": "resnet101"}
"""Of Panoptic FPN, by their names in --for."""
PANOPTIC_FPN = "panoptic-fpn"
TARGETS = (
    "efficientps-b0 .. b7, lite0 .. lite2, efficientps-instances-b0 .. b7, lite0 .. lite2 (with instance head), solov2:CONFIG, "
    "or panoptic-fpn-r18 .. r101, lite0 .. lite2, with COCO's classes or :cityscapes or :FILE.json of a COCO panoptic data set"
)
KNOWN = """checkpoint                                                    --for
official EfficientPS (mmdet 1.x names), semantic part         efficientps-b0 .. efficientps-b7
the same, with its Mask R-CNN part                            efficientps-instances-b0 .. efficientps-instances-b7
EfficientNet of efficientnet_pytorch, ImageNet: the encoder   efficientps-b0 .. efficientps-b7
tf_efficientnet_b0 .. b7 of timm, ImageNet: the encoder       efficientps-b0 .. efficientps-b7
EfficientNet-Lite0 .. 2 of efficientnet-lite-pytorch           the same with lite0 .. lite2; or --weights lite0, without a file
SOLOv2 of mmdet, COCO                                         solov2:CONFIG, such as solov2:configs/solov2/cityscapes_r50.py
ResNet of torchvision, ImageNet: the backbone                 solov2:CONFIG
Panoptic FPN of detectron2 (.pkl or .pth) or mmdet            panoptic-fpn-r50, -r101
Mask R-CNN of torchvision, COCO: all but the semantic branch  panoptic-fpn-r50
ResNet of torchvision, ImageNet: the backbone                 panoptic-fpn-r18, -r34, -r50, -r101
Classes of panoptic-fpn-...: COCO's 133; others by :cityscapes or :FILE.json, a COCO panoptic JSON, such as
panoptic-fpn-r50:cityscapes. Class layers of the right length are taken to be of these classes, in this order.
Containers: torch (.pth, .pt, .bin, .ckpt) and .safetensors; the tensors at the top or under state_dict or model.
Left out where sizes differ: class layers. Always: squeeze-and-excitation and classifiers."""


@dataclass(frozen=True)
class Target:
    """The network that a checkpoint is to start."""

    words: str
    """`--for`, and the settings that the network needs for this checkpoint."""
    state: "Mapping[str, Tensor]"
    """The network's tensors, for their names and shapes."""
    sources: "tuple[Source, ...]"
    """The checkpoints that are known for it."""
    checkpoint: "dict[str, Tensor]"
    """The checkpoint in the network's own order of classes."""
    command: str
    """Begins a training; the weights file is to follow."""


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("import_weights.py", __doc__, has_config=False)
    help_checkpoint = "a .pth, .pt, .bin, .ckpt, .safetensors or detectron2 .pkl file"
    parser.add_argument("checkpoint", nargs="?", type=Path | None, default=None, help=help_checkpoint)
    help_download = "fetch a published one instead, see --list; it is checked, kept in weights/downloads, and resumed"
    parser.add_argument("--download", type=str | None, default=None, metavar="NAME", help=help_download)
    help_for = f"{TARGETS}; default with --download: what it is listed for"
    parser.add_argument("--for", dest="network", type=str | None, default=None, metavar="NETWORK", help=help_for)
    help_output = "the .safetensors file to write; default with --download: weights/NAME.safetensors"
    parser.add_argument("--output", type=Path | None, default=None, metavar="FILE", help=help_output)
    parser.add_argument("--list", action="store_true", help="print what can be downloaded, and which checkpoints are known")
    return parser


def read_checkpoint(path: Path) -> "dict[str, Tensor]":
    """The tensors of a checkpoint of any project, by name.

    Raises:
        InputError: if it is broken, or no checkpoint.
    """
    from panoptic_fpn.detectron2_pickle import read_pickle
    from solov2.checkpoints import allow_checkpoint_classes
    from training.weights_file import read_tensors

    if path.suffix == ".pkl":
        return read_pickle(path)
    allow_checkpoint_classes()
    return read_tensors(path)


def find_network(target: str) -> "Callable[[dict[str, Tensor]], Target]":
    """What `--for` names, as a function of the checkpoint, whose names may tell more about it.

    Raises:
        InputError: if there is no such network.
    """
    from backbones.efficientnet import LITE_SCALES
    from efficientps.encoder import VARIANTS
    from solov2.settings import find_config

    kind, _, rest = target.partition(":")
    if kind == "solov2" and rest:
        return partial(describe_solov2, target, rest, find_config(rest))
    family, _, variant = kind.rpartition("-")
    if family == PANOPTIC_FPN and variant in (*RESNETS, *LITE_SCALES):
        return partial(describe_panoptic_fpn, target, RESNETS.get(variant, variant), find_classes(rest))
    if target == kind and variant in VARIANTS and family in ("efficientps", "efficientps-instances"):
        return partial(describe_efficientps, target, family, variant)
    raise InputError(f"--for {target}: no such network; give {TARGETS}")


def describe_solov2(target: str, config: str, path: Path, checkpoint: "dict[str, Tensor]") -> Target:
    """The network of a configuration, with the configuration's own number of classes."""
    from solov2.settings import load_config
    from solov2.weights import build_network, sources

    network = build_network(load_config(path, needed=("model",)).model, str(path))
    command = f"python solov2/train.py --config {config} --weights"
    return Target(target, network.state_dict(), sources(network), checkpoint, command)


def describe_efficientps(target: str, family: str, variant: str, checkpoint: "dict[str, Tensor]") -> Target:
    """The semantic network, or the one with an instance head; a checkpoint tells which output convolution it has."""
    from efficientps.network import EfficientPS, SemanticEfficientPS
    from efficientps.weights import is_separable, sources

    settings = {"variant": variant, "is_separable": is_separable(checkpoint)}
    if family == "efficientps":
        network = SemanticEfficientPS(CITYSCAPES.num_classes, **settings)
    else:
        network = EfficientPS(CITYSCAPES.num_classes, list(CITYSCAPES.thing_ids), {}, **settings)
    known = sources(network)
    is_whole = known[0].marker in checkpoint
    words, flags = target, f"--model.variant {variant}"
    if is_whole:
        separable = str(settings["is_separable"]).lower()
        words += f" with fpn_channels 256, is_separable {separable}"
        flags += f" --model.fpn_channels 256 --model.is_separable {separable}"
    if family != "efficientps":  # the configuration with the head's sizes of above
        flags = f"--config configs/efficientps/cityscapes_b5_maskrcnn.yaml {flags}"
    return Target(words, network.state_dict(), known, checkpoint, f"python efficientps/train_net.py {flags} --model.weights")


def describe_panoptic_fpn(target: str, backbone: str, classes: Taxonomy, checkpoint: "dict[str, Tensor]") -> Target:
    """The network of these classes, with what settings a checkpoint wants."""
    import torch

    from panoptic_fpn.network import NetworkSettings, PanopticFPN
    from panoptic_fpn.weights import sources
    from training.weights_file import find_source

    with torch.device("meta"):  # names and shapes are enough
        network = PanopticFPN(classes.is_thing.tolist(), NetworkSettings(backbone))
    known = sources(network, classes)
    source = find_source(known, checkpoint)
    settings = dict(source.settings) if source else {}
    words = ", ".join(f"{name} {value}" for name, value in settings.items())
    config = "cityscapes_r50" if classes == CITYSCAPES else "coco_r50"
    flags = [f"--model.network.{name} {value}" for name, value in ({"backbone": backbone} | settings).items()]
    return Target(
        f"{target} with {words}" if words else target,
        network.state_dict(),
        known,
        source.arrange(checkpoint) if source else checkpoint,
        f"python panoptic_fpn/train.py --config configs/panoptic_fpn/{config}.yaml {' '.join(flags)} --model.weights",
    )


def find_classes(name: str) -> Taxonomy:
    """COCO's where nothing is named; else those of a known taxonomy, or of a panoptic JSON.

    Raises:
        InputError: if there are none of this name.
    """
    if name.endswith(".json"):
        return read_taxonomy(Path(name))
    if name and name not in TAXONOMIES:
        raise InputError(f"--for ...:{name}: no such classes; give {', '.join(TAXONOMIES)}, or a COCO panoptic .json file")
    return TAXONOMIES[name] if name else COCO_PANOPTIC


def check_output(output: Path | None) -> None:
    """Refuse the name of a weights file that is none."""
    if output is not None and output.suffix != ".safetensors":
        raise InputError(f"--output {output}: must end in .safetensors")


def published_table() -> str:
    """What can be downloaded, a line each."""
    rows = [("--download", "task", "classes", "licence", "size", "listed in", "--for")]
    rows += [(p.name, p.task, p.classes, p.licence, f"{p.megabytes} MB", p.listed_in, p.target) for p in PUBLISHED.values()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "No address has been tried. A file must have the SHA-256 whose first digits its name ends in."])


def find_published(args: Namespace) -> Published:
    """What --download names; its place and the defaults that it has go into the arguments.

    Raises:
        InputError: if nothing is published under this name.
    """
    if args.checkpoint is not None:
        raise InputError(f"{args.checkpoint} and --download {args.download} are given; give one of both")
    if args.download not in PUBLISHED:
        near = get_close_matches(args.download, PUBLISHED, n=3, cutoff=0.4)
        raise InputError(f"--download {args.download}: no such weights; give one of {', '.join(near or PUBLISHED)}, see --list")
    published = PUBLISHED[args.download]
    check_output(args.output)
    args.checkpoint = WEIGHTS / "downloads" / published.file_name
    if args.network not in (None, published.target) and args.output is None:
        raise InputError(f"--for {args.network} is not what {published.name} is listed for; give --output, too")
    args.network = args.network or published.target
    args.output = args.output or WEIGHTS / f"{published.name}.safetensors"
    return published


def fetch(published: Published, path: Path) -> None:
    """Download published weights, unless they are there.

    Raises:
        InputError: if they cannot be fetched.
    """
    with on_interruption(partial(describe_unfinished, path)), progress_bar() as bar:
        task = bar.add_task(f"fetching {published.file_name}", total=None)
        advance = partial(_advance, bar, task)
        is_new = download(published.address, path, published.sha256, 2_000_000 * published.megabytes, advance)
    print(f"{'wrote' if is_new else 'was there:'} {path}, {published.licence}, from {published.address}")


def describe_unfinished(path: Path) -> str:
    """What an interrupted download has left."""
    there = path.with_name(path.name + UNFINISHED)
    if not there.exists():
        return "before anything was fetched; run the same command again"
    return f"{there.stat().st_size / 1e6:.1f} MB are kept in {there}; run the same command again to go on from there"


def _advance(bar: "Progress", task: "TaskID", there: int, total: int | None) -> None:
    bar.update(task, completed=there // 1000, total=None if total is None else total // 1000)  # kilobytes


def run(args: Namespace) -> None:
    """Read, match, say what fits, write."""
    if args.list:
        print(f"{published_table()}\n\n{KNOWN}")
        return
    published = None if args.download is None else find_published(args)
    if not (args.checkpoint and args.network and args.output):
        raise InputError("a checkpoint, --for and --output are needed, or --download NAME; --list tells what is known")
    check_output(args.output)
    # First: it sets what torch reads when it is loaded.
    import solov2  # noqa: F401
    from training.weights_file import count_names, find_source, match, write_weights

    describe = find_network(args.network)  # before a long download
    if published is not None:
        fetch(published, args.checkpoint)
    checkpoint = read_checkpoint(args.checkpoint)
    try:
        target = describe(checkpoint)
        source = find_source(target.sources, checkpoint)
        if source is None:
            wanted = " or ".join(source.name for source in target.sources)
            raise InputError(f"{wanted} is needed for {args.network}, but it holds {min(checkpoint)!r}; see --list")
        found = match(target.state, target.checkpoint, source)
    except InputError as error:
        raise InputError(f"{args.checkpoint}: {error}") from None
    print(f"{args.checkpoint} is {source.name}, for {target.words}")
    print(f"matched: {len(found.tensors)} of {len(source.names)} tensors")
    print(f"left out of the checkpoint: {count_names(found.left_out)}")
    print(f"missing, will stay as initialised: {count_names(found.missing)}")
    write_weights(args.output, found, source=source.name, checkpoint=args.checkpoint, network=target.words)
    print(f"wrote {args.output}; train with: {target.command} {args.output}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
