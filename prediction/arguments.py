"""The arguments that predicting commands share, in one spelling, and what they do with them; light until they run."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt

from fusion.settings import RULES
from prediction.selection import KINDS, Shard
from prediction.views import ViewSettings
from runtime.command_line import (
    add_data_arguments,
    add_settings,
    add_switch,
    given_settings,
    mark_common,
    relative_to_repository,
)
from runtime.files import InputError
from runtime.progress import note

if TYPE_CHECKING:
    from data.split import Split
    from prediction.fused import FusedPredictor
    from prediction.predictor import Predictor
    from prediction.run import Run


OLDER_RULES = {"logits": "logit", "merge": "heuristic"}
"""Older name of a rule -> the one of today."""


def add_input_arguments(parser: ArgumentParser) -> None:
    """Which images."""
    group = parser.add_argument_group("images")
    add_data_arguments(group)
    group.add_argument("--split", type=str | None, default=None, help="of the data set; default: the one for validation")
    help_images = "instead of a data set: an image, a video, a folder of both, or a quoted glob; any sizes, no truth"
    group.add_argument("--images", "--image-path", type=str | None, default=None, metavar="PATH", help=help_images)
    mark_common(group, "--images", "--split")


def add_model_arguments(parser: ArgumentParser, checkpoint: Path | None, help_checkpoint: str) -> None:
    """Which network, on what, in which views.

    Args:
        checkpoint: default.
    """
    group = parser.add_argument_group("model")
    shown = "" if checkpoint is None else f"; default: {relative_to_repository(checkpoint)}"
    default = None if checkpoint is None else str(checkpoint)
    help_checkpoint += "; or a folder that scripts/export.py wrote"
    names = ("--checkpoint", "--model")
    group.add_argument(*names, type=str | None, default=default, metavar="FILE|DIR", help=help_checkpoint + shown)
    group.add_argument("--device", type=str | None, default=None, help="cpu, cuda, cuda:1, ...; default: cuda if there is one")
    help_tta = "test-time augmentation: factors of the size at which the network sees an image"
    group.add_argument("--tta.scales", "--tta-scales", type=tuple[float, ...], default=(1.0,), metavar="S ...", help=help_tta)
    group.add_argument("--tta.flip", "--tta-flip", type=bool, default=False, help="see each scale also flipped left to right")
    help_tile = "predict larger images in tiles of this size, joined across the seams; best of the training's size"
    group.add_argument("--tile", type=str | None, default=None, metavar="HxW", help=f"{help_tile}; default: whole images")
    group.add_argument("--overlap", type=PositiveInt, default=128, metavar="N", help="what neighbouring tiles share, in pixels")
    mark_common(group, "--checkpoint", "--device", "--tta.scales", "--tta.flip")


def add_half_arguments(parser: ArgumentParser, instances: str, semantics: str) -> ArgumentParser:
    """What is joined, and how the two are read; the group is returned for more.

    Args:
        instances, semantics: words that say what is taken where nothing is given.
    """
    group = parser.add_argument_group("halves, of any tool: docs/joint.md")
    help_instances = (
        "a folder of instance dumps, such as solov2/eval.py writes, a COCO result JSON (RLE or polygons), a folder of "
    )
    help_instances += "ultralytics' or Cityscapes' txt files, a panoptic JSON, a checkpoint of any training here, "
    help_instances += "torchvision:NAME, hf:NAME|FOLDER, onnx:FILE, `model` (that of --checkpoint), `truth`, or `none` "
    help_instances += f"(things are regions of the semantic argmax); default: {instances}"
    group.add_argument("--instances", "--stage1-checkpoint", type=str | None, default=None, metavar="WHAT", help=help_instances)
    help_semantics = (
        "a folder of semantic dumps, of class-map PNGs or of .npy or .npz arrays (C, h, w), a panoptic JSON, a checkpoint, "
    )
    help_semantics += f"torchvision:NAME, hf:NAME|FOLDER, onnx:FILE, `model`, or `truth`; default: {semantics}"
    group.add_argument("--semantics", "--stage2-checkpoint", type=str | None, default=None, metavar="WHAT", help=help_semantics)
    help_images = "annotation JSON that tells which image and class a number in a result JSON is"
    group.add_argument("--instances-images", type=str | None, default=None, metavar="FILE", help=help_images)
    help_names = "YAML with `names`, such as ultralytics' data sets have: which class a number in txt files or a channel is"
    group.add_argument("--class-names", type=str | None, default=None, metavar="FILE", help=help_names)
    for half in ("instances", "semantics"):
        help_classes = (
            f"class map of the {half}: a shipped one, such as coco-to-cityscapes, a YAML file, or `names`, which leaves out "
        )
        help_classes += "what has no equal name here; of numbers also dataset-ids or train-ids (docs/formats.md)"
        group.add_argument(f"--{half}-classes", type=str | None, default=None, metavar="NAME|FILE", help=help_classes)
    help_confidence = "logit inside a mask that is binary, as most files have them, and minus that outside"
    group.add_argument("--instances-confidence", type=PositiveFloat, default=10.0, metavar="LOGIT", help=help_confidence)
    mark_common(group, "--instances", "--semantics", "--instances-classes")
    return group


def add_rule_arguments(parser: ArgumentParser) -> None:
    """The rule that joins the halves, and a flag for each of its settings."""
    group = parser.add_argument_group("rule")
    help_rule = "that joins the halves: logit (EfficientPS), heuristic (Panoptic FPN), or argmax (the semantics alone)"
    choices = (*RULES, *OLDER_RULES)
    group.add_argument("--rule", choices=choices, default=next(iter(RULES)), metavar="RULE", help=help_rule)
    mark_common(group, "--rule")
    for prefix, settings in dict(RULES.values()).items():
        rules = " or ".join(name for name, (other, _) in RULES.items() if other == prefix)
        short = {"min_score": "--min-score"} if prefix == "fusion" else {}
        add_settings(parser, prefix, settings, f"--rule {rules}", short)


def rule_of(args: Namespace) -> str:
    """The name of the rule that the arguments name."""
    return OLDER_RULES.get(args.rule, args.rule)


def halves_of(
    args: Namespace, split: "Split", instances: str, semantics: str, checkpoint: Path | None = None
) -> "FusedPredictor":
    """What the arguments say is to be fused, and how.

    Args:
        instances, semantics: what is taken where nothing is given.
        checkpoint: what `model` means.

    Raises:
        InputError: if something is missing, or does not fit.
    """
    from prediction.fused import RULES as MAKERS
    from prediction.fused import FusedPredictor
    from prediction.sources.find import Halves, HalvesSettings

    files = {"images_json": args.instances_images, "names_yaml": args.class_names}
    settings = HalvesSettings(
        checkpoint=checkpoint,
        device=device_of(args),
        views=views_of(args),
        instances_classes=args.instances_classes,
        semantics_classes=args.semantics_classes,
        instances_confidence=args.instances_confidence,
        **{name: None if given is None else Path(given).expanduser() for name, given in files.items()},
    )
    is_alone = rule_of(args) == "argmax" and args.instances is None
    halves = Halves(split, "none" if is_alone else args.instances or instances, args.semantics or semantics, settings)
    found = halves.find()
    if not halves.has_model and not views_of(args).is_plain:
        raise InputError("--tta is of a live model of this project, but neither half is one; leave it out")
    prefix, rule_settings = RULES[rule_of(args)]
    return FusedPredictor(*found, MAKERS[rule_of(args)](rule_settings(**given_settings(args[prefix])), settings.device))


def add_run_arguments(parser: ArgumentParser, output: Path, keep: tuple[str, ...], shown_output: str | None = None) -> None:
    """Where the result goes, what is kept of it, and how the work is done.

    Args:
        output, keep: defaults.
    """
    group = parser.add_argument_group("result")
    help_output = f"run folder; default: {shown_output or relative_to_repository(output)}"
    group.add_argument("--output", type=str | None, default=None, metavar="DIR", help=help_output)
    help_keep = f"what is written; default: {' '.join(keep)}"
    group.add_argument("--keep", nargs="+", choices=KINDS, default=list(keep), help=help_keep)
    add_switch(group, "--resume", True, "keep what is done: by the same model, settings and images; --no-resume does all anew")
    help_sequences = "images whose names differ in their last number alone are a film, as videos are: ids that stay, in tracks/"
    group.add_argument("--sequences", action="store_true", help=help_sequences)
    add_shard_argument(group, "joins them and finishes films, too")
    help_batch = "images of one size that a network sees at once; more than 1 changes the last digits of its logits"
    group.add_argument("--batch-size", type=PositiveInt, default=1, metavar="N", help=help_batch)
    help_workers = "images that are read, fused, written and scored at once; a network takes one at a time, or --batch-size"
    group.add_argument("--workers", type=PositiveInt, default=2, help=help_workers)
    mark_common(group, "--output", "--keep", "--resume")


def add_shard_argument(group: ArgumentParser, unsharded: str) -> None:
    """Which part of the images is done here.

    Args:
        unsharded: what the same command without it does in the end.
    """
    help_shard = "does the i-th of n parts of the images, as their ids say, for scripts/collect.py to join; the same command "
    help_shard += f"without it {unsharded}; default: what SLURM_ARRAY_TASK_ID or RANK and their counts say, else all"
    group.add_argument("--shard", type=str | None, default=None, metavar="i/n", help=help_shard)


def shard_of(args: Namespace) -> Shard:
    """The part that the arguments or the scheduler name; says so where it is the scheduler.

    Raises:
        InputError: if it cannot be.
    """
    if args.shard is not None:
        return Shard.parse(args.shard)
    shard, said_by = Shard.of_environment()
    if shard.count > 1:
        note(f"part {shard} of the images, as {said_by} say; --shard 1/1 does all")
        args.shard = str(shard)  # whoever asks again is not told again
    return shard


def command_of_whole(arguments: list[str]) -> list[str]:
    """The command without its --shard: that of the whole."""
    before = ["", *arguments[:-1]]
    return [text for text, last in zip(arguments, before) if last != "--shard" and not text.startswith("--shard")]


def views_of(args: Namespace) -> ViewSettings:
    """The test-time augmentation that the arguments name."""
    return ViewSettings(tuple(args.tta.scales), args.tta.flip)


def device_of(args: Namespace) -> str:
    """The device that the arguments name.

    Raises:
        InputError: if this machine has it not.
    """
    from runtime.device import check_device, default_device

    return check_device(args.device or default_device())


def in_tiles(args: Namespace, predictor: "Predictor") -> "Predictor":
    """The predictor, or where --tile is given one that works in tiles.

    Raises:
        InputError: if the tiles are of no use, or the predictor is no live model.
    """
    if args.tile is None:
        return predictor
    from prediction.tiles import TileSettings, tiled

    return tiled(predictor, TileSettings.parse(args.tile, args.overlap))


def split_of(args: Namespace) -> "Split":
    """The images that the arguments name.

    Raises:
        InputError: if there are none.
    """
    if args.images:
        if args.split is not None:
            raise InputError(f"--split {args.split} is of a data set, but --images names other images; give one of both")
        if args.truth_classes is not None:
            raise InputError(f"--truth-classes {args.truth_classes} is for a truth, which --images has not; leave it out")
        from data.layouts.image_files import ImageFiles

        return ImageFiles(args.images)
    from data.drawn.embedded import find_data_set

    return find_data_set(args.data_root, args.layout, args.truth_classes).split(args.split)


def predict_and_score(
    args: Namespace,
    split: "Split",
    predictor: "Predictor",
    output: Path,
    facts: Mapping[str, object],
    places: Mapping[str, Path] | None = None,
) -> "Run":
    """What every predicting command does: the one loop, then scores where there is truth.

    Args:
        facts: what stands beside the numbers in results.md.
        places: folders outside of the run folder for some kinds.
    """
    from prediction.batches import set_batch_size
    from prediction.collecting import write_scores
    from prediction.run import predict_split
    from prediction.score import score, score_part
    from prediction.tracking import films_of, numbered_images_of

    if args.batch_size > 1 and not set_batch_size(predictor, args.batch_size):
        raise InputError("--batch-size is for networks of this project, but the prediction comes from elsewhere; leave it out")
    shard = shard_of(args)
    program = relative_to_repository(Path(sys.argv[0]).resolve())
    command = shlex.join(["python", program, *command_of_whole(sys.argv[1:])])
    films = films_of(split) | (numbered_images_of(split) if args.sequences else {})
    facts = {name: str(value) for name, value in facts.items()}
    run = predict_split(
        split,
        in_tiles(args, predictor),
        output,
        args.keep,
        workers=args.workers if args.batch_size == 1 else max(args.workers, 2 * args.batch_size),
        shard=shard,
        resume=args.resume,
        command=command,
        places=places,
        films=films,
        about={"command": command, "facts": facts, "has_films": bool(films)},
    )
    num_labelled = sum(split.has_truth(index) for index in range(len(split)))
    if shard.count > 1:
        if num_labelled:
            score_part(run, split, shard, workers=args.workers)
        collect = f"python scripts/collect.py {shlex.quote(str(output))}"
        print(f"part {shard.number} of {shard.count} is done; when all are: {collect}")
    elif num_labelled:
        write_scores(score(run, split, workers=args.workers), run.folder, facts, command)
    if 0 < num_labelled < len(split):
        print(f"not scored: {len(split) - num_labelled} of {len(split)} images have no label")
    return run
