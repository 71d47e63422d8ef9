"""Fuse any instances with any semantics into panoptic PNGs and a COCO panoptic JSON, and score them where there is truth.

    $ python fusion/solo_fusion.py
    $ python fusion/solo_fusion.py --data-root /path/to/cityscapes --instances dumps/val --checkpoint best.ckpt
    $ python fusion/solo_fusion.py --images images/ --instances dumps/images --output outputs/images --keep panoptic overlay
    $ python fusion/solo_fusion.py --instances model --checkpoint maskrcnn.ckpt
    $ python fusion/solo_fusion.py --instances predictions.json --semantics class_maps/ --instances-classes coco-to-cityscapes
    $ python fusion/solo_fusion.py --tta.scales 0.75 1 1.25 --tta.flip

Run the same command again after a kill, and only what is missing is fused.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from prediction.arguments import (
    add_half_arguments,
    add_input_arguments,
    add_model_arguments,
    add_rule_arguments,
    add_run_arguments,
    halves_of,
    predict_and_score,
    shard_of,
    split_of,
)
from runtime.command_line import OUTPUTS, current_spelling, make_parser, relative_to_repository
from runtime.files import InputError, one_line_errors, write_json

if TYPE_CHECKING:
    from data.split import Split
    from prediction.fused import FusedPredictor

CHECKPOINT = OUTPUTS / "efficientps" / "streets_lite0" / "best.ckpt"
DUMPS = OUTPUTS / "solov2" / "streets_lite0" / "dumps" / "val"


def build_parser() -> ArgumentParser:
    """The command's arguments; every one can stand in the YAML of --config too."""
    parser = make_parser("solo_fusion.py", __doc__)
    add_input_arguments(parser)
    add_run_arguments(parser, OUTPUTS / "fusion" / "streets", ("panoptic",))
    add_model_arguments(parser, CHECKPOINT, "what `model` means below, of any training here")
    group = add_half_arguments(parser, relative_to_repository(DUMPS), "model")
    for kind in ("semantics", "instances"):
        help_save = f"also keep the {kind}, in this folder"
        group.add_argument(f"--save-{kind}", type=str | None, default=None, metavar="DIR", help=help_save)
    help_stages = "also fuse with the truth in place of each half, and say what the instances, the semantics and the rule lose"
    group.add_argument("--stages", action="store_true", help=help_stages)
    add_rule_arguments(parser)
    return parser


def predictor_of(args: Namespace, split: "Split") -> "FusedPredictor":
    """What the arguments say is to be fused, and how.

    Raises:
        InputError: if something is missing, or does not fit.
    """
    return halves_of(args, split, str(DUMPS), "model", Path(args.checkpoint).expanduser())


def run(args: Namespace) -> None:
    """Fuse all images, write the run folder, score where there is truth."""
    if args.stages and shard_of(args).count > 1:
        raise InputError("--stages is of all images together; leave it or --shard out")
    split = split_of(args)
    predictor = predictor_of(args, split)
    places = {}
    for kind, folder in (("semantic", args.save_semantics), ("instances", args.save_instances)):
        if folder:
            args.keep = [*args.keep, kind]
            places[kind] = Path(folder).expanduser()
    if args.instances == "none" and "instances" in args.keep and args.save_instances:
        raise InputError("--save-instances has nothing to write with --instances none; leave one of them out")
    instances = "none" if predictor.instances is None else args.instances or DUMPS
    facts = {"instances": instances, "semantics": args.semantics or "model", "checkpoint": args.checkpoint}
    facts["fusion"] = predictor.rule.settings
    output = Path(args.output or OUTPUTS / "fusion" / "streets").expanduser()
    run = predict_and_score(args, split, predictor, output, facts, places)
    if args.stages:
        show_stages(args, split, predictor, run.folder)


def show_stages(args: Namespace, split: "Split", predictor: "FusedPredictor", folder: Path) -> None:
    """Print what each stage loses, and write it into stages.json, where scripts/evaluate.py finds it for its report."""
    from prediction.stages import STAGES_FILE, find_stage_losses

    losses = find_stage_losses(split, predictor, workers=args.workers)
    print(f"\n{losses.text()}")
    write_json(folder / STAGES_FILE, losses.to_json())
    print(f"wrote {folder / STAGES_FILE}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
