"""Make a data set in the COCO panoptic layout out of what labelling tools and other data sets export.

    $ python scripts/import_labels.py --from labelme --source exports/mine --output datasets/mine --stuff floor --others things
    $ python scripts/import_labels.py --from vistas --source /data/vistas --output datasets/vistas

docs/labels.md shows an example of each format. Written into the output are
  annotations/panoptic_SPLIT.json and annotations/panoptic_SPLIT/   the labels
  SPLIT/                                                            the images: hard links, or copies where links cannot be
  import_report.json                                                what overlapped, what was lost, for each image
Whether a class is a thing is asked for where the format does not say it. Splits that the source names stay; else an image's name
and --seed decide, so that it stays where it is when others are added. The source is never changed. The same command goes on
where it was stopped, and makes anew only what has changed.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from data.label_formats.find import LABEL_FORMATS
from runtime.command_line import current_spelling, make_parser
from runtime.files import InputError, first_few, on_interruption, one_line_errors
from runtime.progress import track

if TYPE_CHECKING:
    from data.label_formats.conversion import Imported
    from data.label_formats.labels import LabelSet
    from data.taxonomy import Taxonomy


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("import_labels.py", __doc__, has_config=False)
    parser.add_argument(
        "--from", type=str, required=True, metavar="FORMAT", help=f"what the source is: {', '.join(LABEL_FORMATS)}"
    )
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help="the unpacked export, with its images")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder, or one of an earlier import")
    group = parser.add_argument_group("classes; what is said here goes before what the format says")
    group.add_argument("--things", nargs="+", default=[], metavar="NAME", help="classes whose objects are counted")
    group.add_argument("--stuff", nargs="+", default=[], metavar="NAME", help="classes without objects")
    group.add_argument("--void", nargs="+", default=[], metavar="NAME", help="classes that are left unlabelled")
    help_others = "things, stuff or void: what all classes are of which neither the format nor a flag says it"
    group.add_argument("--others", type=str | None, default=None, metavar="KIND", help=help_others)
    help_classes = "YAML with `classes`, in the form of a panoptic JSON's categories, instead of these flags (docs/labels.md)"
    group.add_argument("--classes", type=Path | None, default=None, metavar="FILE", help=help_classes)
    parser.add_argument(
        "--val-share", type=float, default=0.1, help="share of the images that become val, of those without a split"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides which ones")
    parser.add_argument("--min-area", type=int, default=1, help="segments with fewer pixels left become unlabelled")
    parser.add_argument("--copies", action="store_true", help="copy the images instead of making hard links")
    parser.add_argument("--workers", type=PositiveInt | None, default=None, help="images at once; default: one a core, at most 8")
    return parser


def choose_classes(args: Namespace, labels: "LabelSet") -> "tuple[Taxonomy, list[str]]":
    """The classes of the new data set, and lines about them.

    Raises:
        InputError: as data.label_formats.classes.
    """
    from data.label_formats.classes import ClassChoice, choose_taxonomy, read_classes

    choice = ClassChoice(args.things, args.stuff, args.void, args.others)
    if args.classes is None:
        return choose_taxonomy(labels.classes, choice), []
    if choice != ClassChoice([], [], [], None):
        raise InputError("--classes says what all classes are; leave out --things, --stuff, --void and --others")
    taxonomy, absent = read_classes(args.classes, labels.classes)
    return taxonomy, [f"not in the source, but in {args.classes}: {', '.join(absent)}"] if absent else []


def describe(imported: "Imported", labels: "LabelSet", min_area: int) -> list[str]:
    """The report for the terminal, in lines."""
    losses, lines = imported.losses, []
    lines.append("images: " + ", ".join(f"{count} {kind}" for kind, count in sorted(imported.placed.items())))
    crowds = losses.num_crowds.total()
    groups = f", {crowds} of them groups that nobody told apart" if crowds else ""
    lines.append(f"segments: {losses.num_segments.total()}{groups}")
    if losses.overlaps:
        pairs = [f"{top} over {below} {count:,} pixels" for (top, below), count in losses.overlaps.most_common()]
        lines.append(f"overlaps, the class on top first: {first_few(pairs)}")
    share = losses.num_unlabelled / max(losses.num_pixels, 1)
    most = max(imported.unlabelled, key=imported.unlabelled.__getitem__)
    lines.append(f"unlabelled: {share:.1%} of the pixels, most in {most} ({imported.unlabelled[most]:.1%})")
    for what, counts in (
        ("lost segments, hidden whole", losses.hidden),
        (f"lost segments, with fewer than {min_area} pixels left", losses.too_small),
        ("pixels of things that no object covers, now unlabelled", losses.without_object),
    ):
        if counts:
            lines.append(f"{what}: {first_few([f'{name} {count:,}' for name, count in counts.most_common()])}")
    if labels.left_out:
        lines.append(f"left out: {', '.join(f'{count} {what}' for what, count in labels.left_out.items())}")
    return lines


def run(args: Namespace) -> None:
    """Import, and say what was made and what was lost."""
    from data.label_formats.conversion import REPORT, ImportSettings, check_folders, import_images
    from data.label_formats.find import load_format
    from runtime.threads import default_workers

    name = getattr(args, "from")
    read = load_format(name).read
    source, output = args.source.expanduser().resolve(), args.output.expanduser()
    settings = ImportSettings(name, str(source), args.val_share, args.seed, args.min_area)
    check_folders(source, output)
    labels = read(source)
    if not labels.images:
        raise InputError(f"{source}: no labelled images of {name} there; {load_format(name).NAME} needs {load_format(name).FORM}")
    taxonomy, notes = choose_classes(args, labels)
    kinds = f"{len(taxonomy.thing_ids)} things and {len(taxonomy.stuff_ids)} stuff"
    print(f"{name}: images {len(labels.images)}, classes {taxonomy.num_classes} ({kinds})", flush=True)
    with on_interruption(lambda: f"what is finished in {output} stays; the same command goes on there"):
        imported = import_images(
            labels.images,
            taxonomy,
            output,
            settings,
            extra={"left_out": dict(labels.left_out)},
            copies=args.copies,
            workers=args.workers or default_workers(),
            track=track,
        )
    print("splits, in images: " + ", ".join(f"{split} {count}" for split, count in imported.splits.items()))
    if len(imported.splits) == 1 and args.val_share and all(image.split is None for image in labels.images):
        (only,) = imported.splits
        print(f"all images fell into {only}; another --seed or --val-share makes a second split")
    for line in [*notes, *describe(imported, labels, args.min_area)]:
        print(line)
    made, kept = imported.num_made, len(labels.images) - imported.num_made
    print(f"made {made} PNGs, {kept} were already finished")
    for path in (*imported.written, output / REPORT):
        print(f"wrote {path}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
