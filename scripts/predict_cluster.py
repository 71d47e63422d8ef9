"""Millions of images to panoptic PNGs on a cluster, by Ray Data: each stage has workers of its own. Needs `pip install '.[ray]'`.

    $ python scripts/predict_cluster.py --images FOLDER --write-manifest images.parquet
    $ python scripts/predict_cluster.py --manifest images.parquet --checkpoint outputs/panoptic_fpn/streets_r18/last.ckpt
    $ python scripts/predict_cluster.py --manifest s3://bucket/images.parquet --address auto --gpus-per-stage 1 \\
          --instances /models/epoch_6.pth --semantics /models/best.ckpt --stage1-actors 8 --stage2-actors 8 --output s3://bucket/run

Without --address a Ray of this machine alone is started. The same command again does only what is missing, also behind a kill.
Only panoptic maps are kept. docs/scale.md shows it by hand, on Kubernetes and under SLURM.
"""

import shlex
import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from fusion.settings import RULES
from prediction.arguments import add_rule_arguments, rule_of
from runtime.command_line import OUTPUTS, current_spelling, given_settings, make_parser, mark_common, relative_to_repository
from runtime.files import InputError, one_line_errors

OUTPUT = OUTPUTS / "cluster"


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("predict_cluster.py", __doc__)
    group = parser.add_argument_group("images")
    help_manifest = "Parquet or CSV with a column `path`, of anything that fsspec opens on every machine, and optional "
    help_manifest += "`image_id`, `key` and `file_name`, as panoptic.json will have them"
    group.add_argument("--manifest", type=str | None, default=None, metavar="FILE", help=help_manifest)
    help_images = "instead: an image, a folder, or a quoted glob, at the same place on every machine"
    group.add_argument("--images", "--image-path", type=str | None, default=None, metavar="PATH", help=help_images)
    help_write = "only write the manifest of --images there"
    group.add_argument("--write-manifest", type=str | None, default=None, metavar="FILE", help=help_write)
    group = parser.add_argument_group("model, of files at the same place on every machine")
    help_checkpoint = "of one training that gives everything, or an exported model, instead of the two below"
    group.add_argument("--checkpoint", type=str | None, default=None, metavar="FILE", help=help_checkpoint)
    live = "a checkpoint, an exported model, torchvision:NAME, hf:NAME or onnx:FILE"
    help_instances = f"{live}; none: things are regions of the semantic argmax"
    group.add_argument("--instances", "--stage1-checkpoint", type=str | None, default=None, metavar="WHAT", help=help_instances)
    group.add_argument("--semantics", "--stage2-checkpoint", type=str | None, default=None, metavar="WHAT", help=live)
    for half in ("instances", "semantics"):
        help_classes = f"class map of the {half}: a shipped one, a YAML file, or `names` (docs/formats.md)"
        group.add_argument(f"--{half}-classes", type=str | None, default=None, metavar="NAME|FILE", help=help_classes)
    group = parser.add_argument_group("workers")
    help_address = "of a Ray that runs, or auto; default: one is started on this machine for as long as the job takes"
    group.add_argument("--address", type=str | None, default=None, metavar="HOST:PORT", help=help_address)
    help_actors = "copies of the {} network"
    group.add_argument("--stage1-actors", type=PositiveInt, default=1, metavar="N", help=help_actors.format("instance"))
    help_second = help_actors.format("semantic") + ", or of one that gives both"
    group.add_argument("--stage2-actors", type=PositiveInt, default=1, metavar="N", help=help_second)
    help_gpus = "of each copy, also a part of one, such as 0.5; 0: they compute on the CPU"
    group.add_argument("--gpus-per-stage", type=NonNegativeFloat, default=0.0, metavar="N", help=help_gpus)
    help_cpus = "of each copy, which are its threads as well"
    group.add_argument("--cpus-per-actor", type=PositiveFloat, default=1.0, metavar="N", help=help_cpus)
    help_fusion = "of a task that fuses and writes; as many run as there are CPUs left"
    group.add_argument("--fusion-cpus", type=PositiveFloat, default=1.0, metavar="N", help=help_fusion)
    help_batch = "images of one size that a network sees at once; more than 1 changes the last digits of its logits"
    group.add_argument("--batch-size", type=PositiveInt, default=1, metavar="N", help=help_batch)
    group = parser.add_argument_group("result")
    help_output = f"run folder that every machine sees, or a URL of fsspec; default: {relative_to_repository(OUTPUT)}"
    group.add_argument("--output", type=str | None, default=None, metavar="DIR", help=help_output)
    help_form = "of the panoptic maps: a PNG each, or tars of --images-per-tar of them, to be unpacked before they are scored"
    group.add_argument("--output-form", choices=("png", "tar"), default="png", metavar="png|tar", help=help_form)
    group.add_argument("--images-per-tar", type=PositiveInt, default=10_000, metavar="N", help="of --output-form tar")
    help_failures = "images that may be left out, each with its reason in failures.jsonl, before the job stops"
    group.add_argument("--max-failures", type=NonNegativeInt, default=100, metavar="N", help=help_failures)
    mark_common(parser, "--manifest", "--images", "--write-manifest", "--checkpoint", "--instances", "--semantics")
    mark_common(parser, "--address", "--stage1-actors", "--stage2-actors", "--gpus-per-stage", "--output", "--output-form")
    add_rule_arguments(parser)
    return parser


def run(args: Namespace) -> None:
    """Predict, or write the manifest.

    Raises:
        InputError: as predict_on_cluster.
    """
    if (args.manifest is None) == (args.images is None):
        raise InputError("give --manifest FILE or --images PATH, one of both")
    from prediction.cluster import ClusterModel, ClusterSettings, find_manifest, predict_on_cluster, read_manifest, write_manifest

    if args.write_manifest is not None:
        if args.images is None:
            raise InputError("--write-manifest is of --images; give the folder")
        manifest = find_manifest(args.images)
        write_manifest(manifest, Path(args.write_manifest).expanduser())
        print(f"wrote {args.write_manifest}: {len(manifest)} images")
        return
    if args.checkpoint is not None and (args.instances or args.semantics):
        raise InputError("--checkpoint gives everything; give it, or --instances and --semantics")
    if args.checkpoint is None and args.semantics is None:
        raise InputError("give --checkpoint, or --semantics with or without --instances")
    classes = {"instances_classes": args.instances_classes, "semantics_classes": args.semantics_classes}
    classes = {name: value for name, value in classes.items() if value is not None}
    if args.checkpoint is not None and classes:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in classes)
        raise InputError(f"{flags} of a half, but --checkpoint gives everything; leave it out")
    model = ClusterModel(
        _absolute(args.checkpoint),
        None if args.instances == "none" else _absolute(args.instances),
        _absolute(args.semantics),
        rule_of(args),
        given_settings(args[RULES[rule_of(args)][0]]),
        classes,
    )
    names = ("batch_size", "stage1_actors", "stage2_actors", "gpus_per_stage", "cpus_per_actor", "fusion_cpus", "max_failures")
    about = {name: args[name] for name in (*names, "address", "images_per_tar")}
    settings = ClusterSettings(**about, form=args.output_form)
    manifest = read_manifest(args.manifest) if args.images is None else find_manifest(args.images)
    command = shlex.join(["python", "scripts/predict_cluster.py", *sys.argv[1:]])
    predict_on_cluster(manifest, model, args.output or str(OUTPUT), settings, command=command)


def _absolute(given: str | None) -> str | None:
    """A path as it is from everywhere; a name of a library's model as it is."""
    if given is None or not Path(given).expanduser().exists():
        return given
    return str(Path(given).expanduser().absolute())


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
