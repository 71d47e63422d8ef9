"""Tell which objects SOLOv2's grids cannot keep apart, and propose grids that can.

    $ python solov2/grids/doctor.py
    $ python solov2/grids/doctor.py --config configs/solov2/cityscapes_r50.py --data-root /path/to/cityscapes
    $ python solov2/grids/doctor.py --annotations train.json --config my_config.py --size 800 1333 --target-share 0.02

SOLOv2 finds an object by the cells around its centre of mass: each cell of a level's grid predicts one mask. Where two objects of
one level claim the same cell, its kernel learns both masks at once and its label is that of the object later in the file.

  outside      sqrt(box area) lies in no level's range: the object is never learned
  collide      on one of its levels at least, another object claims one of its cells
  no own cell  on one of its levels at least, other objects claim all of its cells
  centre lost  on one of its levels at least, the cell of its centre has the label of a later object
  lost         on each of its levels all of its cells have: no cell stands for it any more
  no pixel     nothing is left of its mask at the stride of the mask features: an empty mask is learned
  AR           mask AR of a network that reproduces its training targets exactly, which its AP cannot exceed: it detects at
               least the objects that have a cell of their own on some level, at most those whose label some cell has; edges
               are those of the mask features, enlarged and cut at probability 0.5

The rule is that of the head itself, at the size of the training's resize (its largest where that is random). The proposal has the
aspect ratio of the images, scale ranges as SOLOv2 itself adapts them to the shorter side, and the fewest cells that were found
for the target. --json keeps all numbers; nothing else is written, but for the instance JSON that the data set lacks. What came of
it on street images: docs/grids.md.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from runtime.command_line import (
    add_data_arguments,
    add_derived_argument,
    current_spelling,
    make_parser,
    mark_common,
    relative_to_repository,
)
from runtime.files import InputError, one_line_errors, write_json
from runtime.progress import track

if TYPE_CHECKING:
    from mmengine import Config

    from solov2.grids.claims import Layout
    from solov2.grids.objects import Objects, Resize
    from solov2.grids.proposal import Proposal

MMDET_STRIDES = (4, 8, 16, 32, 64)
"""Of a SOLOV2Head whose config names none."""
TARGETS = ("collide", "no own cell", "centre lost", "AR")
"""proposal.CRITERIA, which is not loaded for --help."""


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("doctor.py", __doc__, has_config=False)
    parser.add_argument("--config", default="configs/solov2/streets_lite0.py", help="mmengine config")
    help_options = "settings of the config to change, such as model.mask_head.pos_scale=0.3"
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="NAME=VALUE", help=help_options)
    add_data_arguments(parser)
    add_derived_argument(parser)
    parser.add_argument("--split", type=str | None, default=None, help="of the data set; default: train or train2017")
    help_annotations = "COCO instances JSON instead of a data set"
    parser.add_argument("--annotations", type=Path | None, default=None, metavar="FILE", help=help_annotations)
    help_size = "of the network's input; default: the training's resize"
    parser.add_argument("--size", type=int, nargs=2, default=None, metavar=("H", "W"), help=help_size)
    help_target = "which objects the proposal keeps rare, or AR: what collisions may take from it"
    parser.add_argument("--target", choices=TARGETS, default="no own cell", help=help_target)
    help_share = "of all objects, or of AR's 1, at most"
    parser.add_argument("--target-share", type=float, default=0.01, metavar="SHARE", help=help_share)
    help_cost = "cells of all levels, in times COCO's 3872"
    parser.add_argument("--cost-limit", type=float, default=5.0, metavar="TIMES", help=help_cost)
    parser.add_argument("--json", type=Path | None, default=None, metavar="FILE", help="gets all numbers; default: none")
    mark_common(parser, "--config", "--split", "--annotations", "--size", "--target", "--target-share", "--cost-limit", "--json")
    return parser


def read_layout(config: "Config", path: Path) -> "tuple[Layout, int]":
    """The head's layout, and the stride of its mask features.

    Raises:
        InputError: if the config has none.
    """
    from solov2.grids.claims import Layout
    from solov2.location_head import rows_and_columns

    try:
        head = config.model.mask_head
        ranges = tuple(tuple(pair) for pair in head.scale_ranges)
        strides = tuple(head.get("strides", MMDET_STRIDES))
        layout = Layout(tuple(rows_and_columns(head.num_grids)), ranges, head.get("pos_scale", 0.2), strides)
        mask_stride = head.mask_feature_head.get("mask_stride", 4)
    except (AttributeError, TypeError, ValueError) as error:
        needed = "a SOLOv2 model.mask_head with num_grids and scale_ranges is needed"
        raise InputError(f"{path}: {needed} ({error}); give such a config") from None
    if not len(layout.grids) == len(layout.scale_ranges) == len(layout.strides):
        counts = f"{len(layout.grids)} num_grids, {len(layout.scale_ranges)} scale_ranges and {len(layout.strides)} strides"
        raise InputError(f"{path}: {counts}; give one of each a level")
    return layout, mask_stride


def training_resize(config: "Config") -> "Resize":
    """The resize of the training's pipeline, the largest where it is random; none where there is none."""
    from solov2.grids.objects import Resize

    dataset = config.get("train_dataloader", {}).get("dataset", {})
    while "dataset" in dataset:  # RepeatDataset and its kind
        dataset = dataset.dataset
    for transform in dataset.get("pipeline", ()):
        scale = transform.get("scale", transform.get("scales"))
        if "Resize" in str(transform.get("type")) and scale:
            scales = scale if isinstance(scale[0], Sequence) else [scale]
            return Resize(tuple(max(scales, key=lambda s: s[0] * s[1])), transform.get("keep_ratio", False))
    return Resize()


def find_annotations(args: Namespace) -> Path:
    """--annotations, else those of the data set's split for training, written where they are absent; they name the classes.

    Raises:
        InputError: if there is no data set, it holds no object, or a label is broken.
    """
    from data.drawn.embedded import find_data_set
    from solov2.data_set import prepare_split

    if args.annotations:
        return args.annotations.expanduser()
    data_set = find_data_set(args.data_root, args.layout, args.truth_classes)
    data_set = replace(data_set, root=data_set.root.resolve(), derived=args.derived)
    split, is_written = prepare_split(
        data_set, args.split, for_training=True, track=lambda items, total: track(items, "converting training labels", total)
    )
    if is_written:
        print(f"wrote {relative_to_repository(split.instances_json)}", flush=True)
    return split.instances_json


def propose(objects: "Objects", layout: "Layout", args: Namespace) -> "tuple[Proposal, str]":
    """The proposal instead of a layout, and a sentence on how it meets the target."""
    from solov2.grids.claims import COCO_CELLS
    from solov2.grids.proposal import RECALL, Proposer, adapted_ranges

    ranges = adapted_ranges(objects.usual_size, len(layout.grids))
    proposer = Proposer(objects, replace(layout, scale_ranges=ranges), args.target, track)
    proposal = proposer.propose(args.target_share, args.cost_limit * COCO_CELLS)
    if args.target == RECALL:
        aim = f"collisions to take at most {100 * args.target_share:g} of 100 in mask AR"
    else:
        aim = f"{args.target!r} for at most {100 * args.target_share:g} %"
    if proposal.is_met:
        return proposal, f"proposed, {aim}"
    unlimited = proposer.propose(args.target_share)
    needs = f"{unlimited.layout.cost:.1f} times COCO's cells"
    needs = f"takes {needs}" if unlimited.is_met else f"is out of reach: {100 * unlimited.share:.1f} with {needs}"
    return proposal, f"proposed within --cost-limit {args.cost_limit:g} ({aim} {needs})"


def diagnose(args: Namespace) -> None:
    """Everything that the command does."""
    from solov2.grids.collision_tables import config_lines, examine, format_groups, format_levels
    from solov2.grids.objects import Resize, read_objects
    from solov2.settings import DEFAULT_CONFIG, find_config, load_config, parse_options

    if not 0 <= args.target_share < 1:
        raise InputError(f"--target-share is {args.target_share}, but a share from 0 on and below 1 was needed")
    if args.size and min(args.size) < 1:
        raise InputError(f"--size is {args.size[0]} {args.size[1]}, but a height and a width in pixels were needed")
    config_path = find_config(args.config)
    config = load_config(config_path, parse_options(args.cfg_options))
    layout, mask_stride = read_layout(config, config_path)
    resize = Resize(tuple(args.size[::-1])) if args.size else training_resize(config)
    args.truth_classes = args.truth_classes or config.get("truth_classes")
    path = find_annotations(args)
    is_default = config_path == DEFAULT_CONFIG
    shown = f"{relative_to_repository(config_path)}{' (the default)' if is_default else ''}"
    print(f"grid doctor: {shown} on {relative_to_repository(path)}", flush=True)

    objects = read_objects(path, resize, mask_stride, track)
    height, width = objects.usual_size
    seen = f"{len(objects)} objects in {objects.num_images} images, which the network sees at {height}x{width}"
    num_without = int((~objects.has_small_pixel).sum())
    print(f"{seen}; {num_without} have no pixel left at stride {mask_stride}", flush=True)
    proposal, title = propose(objects, layout, args)
    now, proposed = examine(objects, layout), examine(objects, proposal.layout)
    print("\n" + format_levels("configured", now) + "\n\n" + format_levels(title, proposed))
    print("\nshares in the configured grids | in the proposed ones")
    print(format_groups("size", now["by_size"], proposed["by_size"]) + "\n")
    print(format_groups("class", now["by_class"], proposed["by_class"]) + "\n\nto paste into a config:\n")
    print(config_lines(proposal.layout))
    if args.json:
        about = {"annotations": str(path), "config": str(config_path), "size": [height, width], "objects": len(objects)}
        target = {"target": args.target, "target_share": args.target_share, "cost_limit": args.cost_limit}
        proposed = target | {"is_met": proposal.is_met} | proposed
        write_json(args.json.expanduser(), about | {"configured": now, "proposed": proposed})
        print(f"\nwrote {args.json}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        diagnose(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
