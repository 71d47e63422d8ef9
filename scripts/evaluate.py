"""Score any panoptic PNGs + COCO panoptic JSON against any other, say what costs most, and make a report to look at.

    $ python scripts/evaluate.py
    $ python scripts/evaluate.py --truth truth.json --prediction prediction.json
    $ python scripts/evaluate.py --truth a.json --prediction b.json --images images/ --report report
    $ python scripts/evaluate.py --truth a.json --prediction b.json --compare before=c.json --per-image images.csv --official

Without arguments: the demo's result (outputs/demo) against the truth of the embedded data set. docs/evaluation.md explains the
numbers.
"""

import os
import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from runtime.command_line import OUTPUTS, REPOSITORY, current_spelling, make_parser, mark_common, relative_to_repository
from runtime.files import InputError, check_outputs, one_line_errors, read_json
from runtime.progress import progress_bar

if TYPE_CHECKING:
    from data.panoptic_file import PanopticFile
    from data.taxonomy import Taxonomy
    from evaluation.report import Table
    from evaluation.run_scores import RunScores
    from evaluation.slices import Slices
    from prediction.selection import Shard

DEMO_PREDICTION = OUTPUTS / "demo" / "panoptic.json"
OUTPUT = OUTPUTS / "evaluate" / "scores.json"
PANOPTIC_JSON = "panoptic.json"
"""In every run folder."""
STREETS = REPOSITORY / "datasets" / "streets"


class Files(NamedTuple):
    """What is scored.

    runs: predictions by name, the first one first. scores: of each that is compared, None of predictions. stages: see
    evaluation.run_report.read_stages.
    """

    truth: "PanopticFile"
    runs: "dict[str, PanopticFile]"
    scores: dict[str, dict | None]
    stages: "Table | None"

    def all_scores(self, runs: "list[RunScores]") -> dict[str, dict]:
        """Of all that is compared, by name, in the order of the command."""
        scored = {run.name: run.scores for run in runs}
        return {name: scored[name] if known is None else known for name, known in self.scores.items()}


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("evaluate.py", __doc__, has_config=False)
    files = parser.add_argument_group("files")
    files.add_argument(
        "--truth", type=Path | None, metavar="A.json", help="COCO panoptic JSON of the truth; default: that of Streets"
    )
    help_prediction = "COCO panoptic JSON of the prediction, a run folder, or the folder of PNGs that save_panoptic wrote"
    help_prediction += "; default: that of the demo"
    files.add_argument("--prediction", type=Path | None, metavar="B.json|DIR", help=help_prediction)
    files.add_argument("--truth-folder", type=Path | None, metavar="DIR", help="its PNGs; default: A.json without .json")
    files.add_argument("--prediction-folder", type=Path | None, metavar="DIR", help="its PNGs; default: B.json without .json")
    help_taxonomy = (
        "classes of a truth without `categories`: the name of a known taxonomy, or a JSON with `categories`; "
        "default: Cityscapes, by ids or train ids"
    )
    files.add_argument("--taxonomy", type=str | None, metavar="NAME", help=help_taxonomy)
    for side, words in (("truth", "their own are"), ("prediction", "the truth's are")):
        help_classes = f"class map of the {side}: a shipped one, such as coco-to-cityscapes, or a YAML file (docs/formats.md)"
        help_classes += ", or `names`, which leaves out what has no equal name" if side == "prediction" else ""
        files.add_argument(f"--{side}-classes", type=str | None, metavar="NAME|FILE", help=f"{help_classes}; default: {words}")
    result = parser.add_argument_group("result")
    help_official = "also run cityscapesscripts' evaluator and compare every digit"
    result.add_argument("--official", action="store_true", help=help_official)
    help_output = f"scores as JSON; default: {relative_to_repository(OUTPUT)}"
    result.add_argument("--output", type=Path | None, metavar="FILE", help=help_output)
    help_images = "PQ, SQ, RQ, counts, kinds of errors and seconds of each image, as a table; Parquet needs pyarrow"
    result.add_argument("--per-image", type=Path | None, metavar="FILE.csv|.parquet", help=help_images)
    help_slices = "PQ by any column of a table (CSV or Parquet) with a column `image`: night, city, camera"
    result.add_argument("--slices", type=Path | None, metavar="FILE.csv", help=help_slices)
    help_also = "more numbers: boundary PQ (Cheng et al. 2021), PQ-dagger (Porzi et al. 2019)"
    result.add_argument("--also", nargs="+", choices=("boundary", "dagger"), default=[], help=help_also)
    help_report = "a folder to open by double click: all images with truth, prediction, and each segment's error"
    result.add_argument("--report", type=Path | None, metavar="DIR", help=help_report)
    help_picture = "image, truth, prediction and errors of the image of median PQ"
    result.add_argument("--picture", type=Path | None, metavar="FILE.png", help=help_picture)
    help_images = "the images, for --report and --picture: a folder or a quoted glob; paired by image id or file name"
    result.add_argument("--images", type=str | None, metavar="PATH", help=help_images)
    help_compare = "another prediction of the same truth: the difference with its interval, and in the report both side by side; "
    help_compare += "of a scores.json the numbers only; may be repeated"
    result.add_argument("--compare", action="append", default=[], metavar="NAME=FILE.json", help=help_compare)
    help_workers = "images that are compared at once; never change the result"
    help_shard = (
        "compares the i-th of n parts of the images, as their ids say, into parts/ beside --output, for scripts/collect.py; "
    )
    help_shard += "default: what SLURM_ARRAY_TASK_ID or RANK and their counts say, else all"
    result.add_argument("--shard", type=str | None, default=None, metavar="i/n", help=help_shard)
    result.add_argument("--workers", type=PositiveInt, default=os.cpu_count() or 1, help=help_workers)
    mark_common(files, "--truth", "--prediction")
    mark_common(result, "--official", "--output", "--per-image", "--slices", "--report", "--images", "--compare", "--workers")
    return parser


def check(args: Namespace) -> None:
    """Refuse arguments that do not go together.

    Raises:
        InputError: if one is missing or of the wrong kind.
    """
    if (args.truth is None) != (args.prediction is None):
        raise InputError("give both --truth and --prediction, or neither for the demo's result")
    if args.official and (args.truth_classes or args.prediction_classes):
        raise InputError("--official reads the files as they are, without class maps; leave one of both out")
    if args.per_image and args.per_image.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"--per-image {args.per_image}, but a name that ends in .csv or .parquet is needed")
    if args.report and args.report.suffix.lower() in (".html", ".htm"):
        args.report = args.report.with_suffix("")  # older commands named the report's file
    if args.picture and args.picture.suffix.lower() != ".png":
        raise InputError(f"--picture {args.picture}, but a name that ends in .png is needed")
    written = {"--output": args.output, "--per-image": args.per_image, "--picture": args.picture, "--report": args.report}
    read = {"--truth": args.truth, "--prediction": args.prediction, "--slices": args.slices}
    if args.report is not None:
        from evaluation.viewer import check_viewer_folder

        check_viewer_folder(args.report)
    check_outputs(written, read | {f"--compare {given}": split_named(given)[1] for given in args.compare}, "--report")


def use_demo(args: Namespace) -> None:
    """Fill in the demo's files."""
    args.prediction, args.truth = DEMO_PREDICTION, STREETS / "gtFine" / "cityscapes_panoptic_val.json"
    print(f"no files given: scoring {args.prediction} on the embedded data set, {args.truth}", flush=True)
    for path in (args.prediction, args.truth):
        if not path.exists():
            raise InputError(f"{path}: not there yet; run `make demo`, or give --truth and --prediction")
    if args.images is None and (STREETS / "leftImg8bit" / "val").is_dir():
        args.images = str(STREETS / "leftImg8bit" / "val")


def read_taxonomy(name: str | None) -> "Taxonomy | None":
    """A known taxonomy, or one from a JSON that is a list of categories or has `categories`.

    Raises:
        InputError: if it is neither.
    """
    from data.taxonomy import TAXONOMIES, Taxonomy

    if name is None or name in TAXONOMIES:
        return TAXONOMIES.get(name)
    if not name.endswith(".json"):
        raise InputError(f"--taxonomy {name}: unknown; give {', '.join(TAXONOMIES)}, or the path of a .json with `categories`")
    content = read_json(Path(name))
    categories = content.get("categories") if isinstance(content, dict) else content
    if not isinstance(categories, list):
        raise InputError(f"{name}: has no `categories`; give a JSON that lists the classes")
    return Taxonomy.from_coco_categories(Path(name).stem, categories)


def read_files(args: Namespace) -> "Files":
    """All files that the arguments name; images are read later, one by one.

    Raises:
        InputError: if one does not read or fit, or a name of --compare is given twice.
    """
    from data.class_map import map_file, read_class_map
    from data.panoptic_file import read_panoptic_json
    from evaluation.run_report import read_scores, read_stages

    truth = read_panoptic_json(args.truth, args.truth_folder, read_taxonomy(args.taxonomy))
    own_classes = truth.taxonomy
    if args.truth_classes is not None:
        truth = map_file(truth, read_class_map(args.truth_classes, truth.taxonomy))
    first = "this prediction" if args.compare else args.prediction.stem
    runs = {first: read_prediction(args, args.prediction, args.prediction_folder, truth, own_classes)}
    scores = {first: None}
    for given in args.compare:
        name, path = split_named(given)
        if name in scores:
            raise InputError(f"--compare {given}: the name {name!r} is taken; give each run its own")
        scores[name] = None if path.is_dir() else read_scores(path)
        if scores[name] is None:
            runs[name] = read_prediction(args, path, None, truth, own_classes)
    return Files(truth, runs, scores, read_stages(args.prediction))


def split_named(given: str) -> tuple[str, Path]:
    """The name and the path of NAME=FILE; either may hold more of the signs: that path counts which is there.

    Raises:
        InputError: if a name is missing.
    """
    parts = given.split("=")
    choices = [("=".join(parts[:k]), Path("=".join(parts[k:]))) for k in range(1, len(parts))]
    choices = [choice for choice in choices if choice[0]]
    if not choices:
        raise InputError(f"--compare {given}: give NAME=FILE.json, a prediction or a scores.json")
    return next((choice for choice in choices if choice[1].exists()), choices[0])


def read_prediction(
    args: Namespace, path: Path, folder: Path | None, truth: "PanopticFile", own_classes: "Taxonomy"
) -> "PanopticFile":
    """A panoptic JSON, a run folder with one, or a folder of PNGs that list their segments; in the truth's classes.

    Args:
        own_classes: the truth's, before a class map.
    """
    from data.class_map import map_file
    from data.class_matching import class_map_between
    from data.panoptic_file import read_panoptic_folder, read_panoptic_json

    if path.is_dir() and (path / PANOPTIC_JSON).is_file():
        path = path / PANOPTIC_JSON
    if path.is_dir():
        prediction = read_panoptic_folder(path, own_classes)
    else:
        prediction = read_panoptic_json(path, folder, truth.taxonomy, is_prediction=True)
    if args.prediction_classes is None:
        return prediction
    return map_file(prediction, class_map_between(args.prediction_classes, prediction.taxonomy, truth.taxonomy))


def slice_maker(args: Namespace, truth: "PanopticFile") -> "Callable[[], Slices] | None":
    """What makes the slices of a run, where --slices is given; prints what does not fit."""
    from evaluation.slices import read_image_table, slice_images

    if args.slices is None:
        return None
    table = read_image_table(args.slices)
    names = {image_id: [truth.image_files[image_id]] if image_id in truth.image_files else [] for image_id in truth.annotations}
    make = partial(slice_images, table, names, truth.taxonomy)
    for text in make().notes:
        print(text, flush=True)
    return make


def score(args: Namespace, files: "Files", facts: dict[str, object]) -> "list[RunScores]":
    """Score with a progress bar; write the table of images and the report where they are wanted."""
    from data.layouts.image_files import find_images
    from evaluation.per_image import write_per_image
    from evaluation.run_report import report_tables, summarise
    from evaluation.run_scores import Extras, score_runs
    from evaluation.viewer import open_viewer

    truth = files.truth
    extras = Extras("boundary" in args.also, slice_maker(args, truth))
    report = nullcontext()
    if args.report is not None:
        images = find_images(args.images, truth)
        report = open_viewer(args.report, truth.taxonomy, list(truth.annotations), images)
        if args.images is None and not images:
            print("the report shows maps alone; --images FOLDER shows the images, too")
        if args.images is not None and len(images) < len(truth.annotations):
            print(f"{len(truth.annotations) - len(images)} of {len(truth.annotations)} images have no picture in {args.images}")
        if len(files.runs) > 2:
            print(f"the report shows {' and '.join(list(files.runs)[:2])}; the others stand in its tables")
    with report as viewer:
        with progress_bar() as bar, write_per_image(args.per_image) as write_row:
            task = bar.add_task("scoring", total=len(truth.annotations))
            runs = score_runs(
                truth,
                files.runs,
                workers=args.workers,
                extras=extras,
                viewer=viewer,
                write_row=write_row,
                progress=lambda done, _: bar.update(task, completed=done),
            )
        if viewer is not None:
            tables = report_tables(runs, files.all_scores(runs), files.stages)
            name = args.prediction.stem
            if args.prediction.name == PANOPTIC_JSON:  # as every run folder calls it
                name = args.prediction.resolve().parent.name
            size = f"{len(truth.annotations)} images, {viewer.num_bytes / 1000 / len(truth.annotations):.0f} KB each"
            viewer.finish(summarise(f"Panoptic quality: {name}", runs, facts | {"Images": size}, tables))
            print(f"report: {size}")
    return runs


def run(args: Namespace) -> None:
    """Everything that the command does."""
    from evaluation.file_scores import check_predictions
    from evaluation.official_evaluator import compare_digits, explain_difference, score_officially
    from evaluation.provenance import describe_file
    from evaluation.run_report import check_same_truth, write_scores
    from prediction.arguments import command_of_whole, shard_of

    check(args)
    shard = shard_of(args)
    if args.truth is None:
        use_demo(args)
    output = args.output or OUTPUT
    files = read_files(args)
    truth, prediction = files.truth, next(iter(files.runs.values()))
    command = shlex.join(["python", "scripts/evaluate.py", *command_of_whole(sys.argv[1:])])
    if shard.count > 1:
        score_shard(args, files, shard, command, output.absolute())
        return
    facts = {
        "Truth": truth.json_path,
        "Prediction": args.prediction,
        "Images": len(truth.annotations),
        "Taxonomy": truth.taxonomy.name,
        "Command": command,
        "Date": date.today().isoformat(),
    }
    described = {"truth": describe_file(truth, truth.annotations, args.truth_classes)}
    for name, scores in files.scores.items():
        if scores is not None:
            check_same_truth(f"--compare {name}", scores, described["truth"])
    runs = score(args, files, facts)
    for name, file in files.runs.items():
        described[name] = describe_file(file, check_predictions(truth, file).values(), args.prediction_classes)
    write_scores(runs, output, files.all_scores(runs), command, described, "dagger" in args.also)
    if args.official:
        lines = compare_digits(runs[0].scores, score_officially(truth, prediction))
        print("\n".join(lines))
    if args.picture:
        draw(args, truth, prediction, runs[0])
    page = args.report and args.report / "index.html"
    written = [str(path) for path in (output, args.per_image, page, args.picture) if path]
    print(f"\nwrote {' and '.join(written)}")
    if args.official and "differ" in lines[-1]:
        explain_difference(truth)


def score_shard(args: Namespace, files: "Files", shard: "Shard", command: str, output: Path) -> None:
    """Compare the images of a shard, and write its part.

    Raises:
        InputError: if something is wanted that only all images together give.
    """
    from prediction.comparing import Wanted, write_comparisons

    for flag in ("report", "picture", "official"):
        if getattr(args, flag):
            raise InputError(f"--{flag} is of all images together; leave it or --shard out")
    wanted = Wanted(
        command=command,
        also=tuple(args.also),
        scores=files.scores,
        output=output.name,
        per_image=args.per_image and str(args.per_image.absolute()),
        slices=args.slices and str(args.slices.absolute()),
        class_maps=(args.truth_classes, args.prediction_classes),
    )
    write_comparisons(output.parent, shard, files.truth, files.runs, wanted, workers=args.workers)
    collect = f"python scripts/collect.py {shlex.quote(str(output.parent))}"
    print(f"part {shard.number} of {shard.count} is done; when all are: {collect}")


def draw(args: Namespace, truth: "PanopticFile", prediction: "PanopticFile", ours: "RunScores") -> None:
    """Write what shows the image of median PQ.

    Raises:
        InputError: if the image is of another size than its truth.
    """
    from data.image_names import pair_images
    from data.images import read_image, write_image
    from data.layouts.image_files import find_images
    from data.panoptic_file import read_panoptic_map
    from evaluation.render import color_panoptic, error_map, side_by_side
    from evaluation.report import typical_image

    image_id = typical_image(ours.image_pq)
    path = find_images(args.images, truth).get(image_id)
    maps = read_panoptic_map(truth, image_id), read_panoptic_map(prediction, pair_images(truth, prediction)[image_id])
    image = None if path is None else read_image(path)
    if image is not None and image.shape[:2] != maps[0].segment_ids.shape:
        sizes = " and ".join(f"{h}x{w}" for h, w in (image.shape[:2], maps[0].segment_ids.shape))
        raise InputError(f"{path}: image and truth are {sizes} pixels; give the images that were labelled")
    panels = {} if image is None else {"Image": image}
    panels |= {"Truth": color_panoptic(maps[0], truth.taxonomy), "Prediction": color_panoptic(maps[1], truth.taxonomy)}
    panels["Errors"] = error_map(*maps, truth.taxonomy)
    write_image(args.picture, side_by_side(list(panels.values()), list(panels)))
    print(f"\n{args.picture} shows {image_id}, the image of median PQ, {100 * ours.image_pq[image_id]:.1f}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
