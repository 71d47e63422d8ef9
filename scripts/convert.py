"""Convert a COCO panoptic JSON to instance annotations, class maps or COCO results, and back.

    $ python scripts/convert.py outputs/demo/panoptic.json --to instances --output instances.json
    $ python scripts/convert.py outputs/demo/panoptic.json --to results --output results.json
    $ python scripts/convert.py outputs/demo/panoptic.json --to semantic --output semantic
    $ python scripts/convert.py --to panoptic --instances results.json --semantic semantic --images outputs/demo/panoptic.json

instances   an annotation JSON as of COCO (images, annotations with run lengths, categories), crowds with `iscrowd` 1
results     a list with scores, as detectors write it; without crowds
semantic    a PNG an image: category ids and 0 for void, in 8 bits, or in 16 where an id exceeds 255; with --pixels train
            train ids and 255 for void. The classes are at most 255 either way
panoptic    objects in front of class maps: of those, thing classes without an object become void. Where objects overlap, the one
            with the higher score is in front

--with-stuff puts the stuff into instances and results, too, from where it also comes back without class maps.
"""

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from runtime.command_line import OUTPUTS, current_spelling, make_parser, relative_to_repository
from runtime.files import InputError, one_line_errors, read_json
from runtime.progress import track

if TYPE_CHECKING:
    from data.taxonomy import Taxonomy

OUTPUT = OUTPUTS / "convert"
FORMS = ("instances", "results", "semantic", "panoptic")


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("convert.py", __doc__, has_config=False)
    parser.add_argument(
        "panoptic", nargs="?", type=Path | None, metavar="PANOPTIC.json", help="what is converted, not --to panoptic"
    )
    parser.add_argument("--to", choices=FORMS, required=True, help="what it becomes")
    help_folder = "its PNGs; default: PANOPTIC.json without .json"
    parser.add_argument("--panoptic-folder", type=Path | None, metavar="DIR", help=help_folder)
    back = parser.add_argument_group("--to panoptic")
    back.add_argument("--instances", type=Path | None, metavar="FILE.json", help="COCO annotations or results with masks")
    back.add_argument("--semantic", type=Path | None, metavar="DIR", help="class maps, named as the images or by their ids")
    help_images = "JSON with `images`: ids, file names, sizes; default: --instances, where it has them"
    back.add_argument("--images", type=Path | None, metavar="FILE.json", help=help_images)
    classes = parser.add_argument_group("classes")
    help_taxonomy = "of a JSON without panoptic `categories`: cityscapes, coco_panoptic, ..., or a JSON that has them"
    classes.add_argument("--taxonomy", type=str | None, metavar="NAME|FILE.json", help=help_taxonomy)
    help_pixels = "what the pixels of class maps hold: category ids or train ids"
    classes.add_argument("--pixels", choices=("category", "train"), default="category", help=help_pixels)
    classes.add_argument("--with-stuff", action="store_true", help="stuff, too, in instances and results")
    help_output = f"file, of class maps a folder; default: in {relative_to_repository(OUTPUT)}"
    parser.add_argument("--output", type=Path | None, metavar="PATH", help=help_output)
    return parser


def check(args: Namespace) -> None:
    """Refuse arguments that do not go together.

    Raises:
        InputError: if one is missing, or belongs to another conversion.
    """
    is_back = args.to == "panoptic"
    if is_back and args.panoptic is not None:
        raise InputError(f"{args.panoptic}: --to panoptic reads --instances and --semantic; leave it out")
    if is_back and args.instances is None and args.semantic is None:
        raise InputError("--to panoptic: give --instances, COCO annotations or results, or --semantic, class maps, or both")
    if not is_back and args.panoptic is None:
        raise InputError(f"--to {args.to}: give the COCO panoptic JSON that is to be converted")
    strangers = [name for name in ("instances", "semantic", "images") if getattr(args, name) is not None and not is_back]
    if strangers:
        raise InputError(f"--{strangers[0]} is for --to panoptic; leave it out")
    if args.output is not None and args.to != "semantic" and args.output.suffix != ".json":
        raise InputError(f"--output {args.output}: a name that ends in .json is needed")


def taxonomy_of(args: Namespace) -> "Taxonomy | None":
    """The classes that --taxonomy names.

    Raises:
        InputError: if there are none of this name.
    """
    from data.panoptic_file import read_taxonomy
    from data.taxonomy import TAXONOMIES

    if args.taxonomy is None or args.taxonomy in TAXONOMIES:
        return TAXONOMIES.get(args.taxonomy)
    if not args.taxonomy.endswith(".json"):
        known = ", ".join(TAXONOMIES)
        raise InputError(f"--taxonomy {args.taxonomy}: unknown; give {known}, or the path of a .json with `categories`")
    return read_taxonomy(Path(args.taxonomy).expanduser())


def convert_panoptic(args: Namespace, output: Path) -> None:
    """From a panoptic JSON to the other forms."""
    from data.converted_files import write_class_maps, write_instances, write_results
    from data.panoptic_file import read_panoptic_json

    file = read_panoptic_json(args.panoptic.expanduser(), args.panoptic_folder, taxonomy_of(args), is_prediction=True)
    num_images, show = len(file.annotations), partial(bar, "converting")
    if args.to == "semantic":
        values = write_class_maps(output, file, args.pixels, track=show)
        bits = 8 * values.by_train_id.itemsize
        print(f"wrote {output}: {num_images} class maps of {bits} bits, {args.pixels} ids, {values.void} for void")
        return
    write = write_instances if args.to == "instances" else write_results
    number = write(output, file, with_stuff=args.with_stuff, track=show)
    print(f"wrote {output}: {number} {'annotations' if args.to == 'instances' else 'results'} of {num_images} images")


def convert_back(args: Namespace, output: Path) -> None:
    """From instances and class maps to a panoptic JSON."""
    from data.converted_files import find_class_maps, read_images, read_objects, write_panoptic
    from data.panoptic_conversions import PixelValues
    from data.panoptic_file import read_taxonomy

    source = args.images or args.instances
    if source is None or (args.images is None and isinstance(read_json(source), list)):
        raise InputError("--images is needed: a COCO JSON that lists the images, since results and class maps do not")
    images = read_images(source)
    try:
        taxonomy = taxonomy_of(args) or read_taxonomy(source)
    except InputError as error:
        raise InputError(f"{error}; or name the classes by --taxonomy") from None
    objects = {} if args.instances is None else read_objects(args.instances, images, taxonomy)
    class_maps = None if args.semantic is None else find_class_maps(args.semantic, images)
    for place in (args.images, args.instances, args.semantic):
        if place is not None and place.resolve() in (output.resolve(), output.with_suffix("").resolve()):
            raise InputError(f"{output}: would be written over {place}, which is read; give another --output")
    values = PixelValues.of(taxonomy, args.pixels)
    number = write_panoptic(output, images, objects, class_maps, values, track=partial(bar, "converting"))
    print(f"wrote {output} and the PNGs in {output.with_suffix('')}: {number} segments of {len(images)} images")


def bar(description: str, items: Iterable, total: int) -> Iterator:
    """The items, with a progress bar."""
    return track(items, description, total)


def run(args: Namespace) -> None:
    """Convert, and say what was written."""
    check(args)
    default = "semantic" if args.to == "semantic" else f"{args.to}.json"
    output = (args.output or OUTPUT / default).expanduser()
    if args.to == "panoptic":
        convert_back(args, output)
    else:
        convert_panoptic(args, output)


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
