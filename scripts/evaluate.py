"""Score any panoptic PNGs + COCO panoptic JSON against any other: PQ, SQ, RQ for all classes, things, stuff and each class.

    $ python scripts/evaluate.py
    $ python scripts/evaluate.py --truth truth.json --prediction prediction.json
    $ python scripts/evaluate.py --truth a.json --prediction b.json --official --report report.html --images images/

Without arguments: the demo's result (outputs/demo) against the truth of the embedded data set.
"""

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from runtime.command_line import OUTPUTS, REPOSITORY, current_spelling, make_parser, relative_to_repository
from runtime.files import InputError, one_line_errors, read_json, write_json
from runtime.progress import progress_bar

if TYPE_CHECKING:
    from data.panoptic_file import ImageId, PanopticFile
    from data.taxonomy import Taxonomy
    from evaluation.file_scores import FileScores
    from evaluation.report import Example, Table

DEMO_PREDICTION = OUTPUTS / "demo" / "panoptic.json"
OUTPUT = OUTPUTS / "evaluate" / "scores.json"
STREETS = REPOSITORY / "datasets" / "streets"


def build_parser() -> ArgumentParser:
    """The command's args."""
    parser = make_parser("evaluate.py", __doc__, has_config=False)
    files = parser.add_argument_group("files")
    files.add_argument("--truth", type=Path | None, metavar="A.json", help="COCO panoptic JSON of the truth")
    help_prediction = "COCO panoptic JSON of the prediction, or the folder of PNGs that save_panoptic wrote"
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
    help_images = "PQ, SQ, RQ, counts and kinds of errors of each image, as a table for a spreadsheet"
    result.add_argument("--per-image", type=Path | None, metavar="FILE.csv", help=help_images)
    result.add_argument("--report", type=Path | None, metavar="FILE.html", help="a report with best and worst images")
    help_picture = "image, truth, prediction and errors of the image of median PQ"
    result.add_argument("--picture", type=Path | None, metavar="FILE.png", help=help_picture)
    help_images = "the images, for --report and --picture: a folder or a quoted glob; paired by image id or file name"
    result.add_argument("--images", type=str | None, metavar="PATH", help=help_images)
    help_compare = "another run's scores, as a row of the report's and the printed comparison; may be repeated"
    result.add_argument("--compare", action="append", default=[], metavar="NAME=scores.json", help=help_compare)
    help_workers = "images that are compared at once; never change the result"
    result.add_argument("--workers", type=PositiveInt, default=os.cpu_count() or 1, help=help_workers)
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
    if args.per_image and args.per_image.suffix.lower() != ".csv":
        raise InputError(f"--per-image {args.per_image}, but a name that ends in .csv is needed")
    if args.picture and args.picture.suffix.lower() != ".png":
        raise InputError(f"--picture {args.picture}, but a name that ends in .png is needed")


def use_demo(args: Namespace) -> None:
    """Fill in the demo's files."""
    args.prediction, args.truth = DEMO_PREDICTION, STREETS / "gtFine" / "cityscapes_panoptic_val.json"
    print(f"No files given: scoring {args.prediction} on the embedded data set, {args.truth}", flush=True)
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


def score(truth: "PanopticFile", prediction: "PanopticFile", workers: int, per_image: Path | None = None) -> "FileScores":
    """Score with a progress bar; write a line an image where that is wanted."""
    from evaluation.file_scores import evaluate_files
    from evaluation.per_image import write_per_image

    with progress_bar() as bar, write_per_image(per_image) as write:
        task = bar.add_task("scoring", total=len(truth.annotations))
        return evaluate_files(truth, prediction, workers, lambda done, _: bar.update(task, completed=done), write)


def score_officially(truth: "PanopticFile", prediction: "PanopticFile") -> dict:
    """Scores by cityscapesscripts, {"All"|"Things"|"Stuff": {pq, sq, rq, n}, "per_class": {name: {pq, sq, rq}}}.

    Its parts are called instead of its evaluatePanoptic, for that one adds up in an order that depends on the number of
    cores, fails where a group has no class, and needs `categories` in the truth.
    """
    from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import pq_compute_single_core

    from data.image_names import pair_images
    from evaluation.panoptic_quality import GROUPS

    categories = {entry["id"]: entry for entry in truth.taxonomy.to_coco_categories()}
    predicted, pairs = {entry["image_id"]: entry for entry in read_json(prediction.json_path)["annotations"]}, []
    names = pair_images(truth, prediction)
    for entry in read_json(truth.json_path)["annotations"]:
        pairs.append((entry, predicted[names[entry["image_id"]]] | {"image_id": entry["image_id"]}))
    try:
        with progress_bar() as bar, contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            bar.add_task("scoring with the official evaluator", total=None)
            counts = pq_compute_single_core(0, pairs, truth.folder, prediction.folder, categories)
    except Exception as error:  # whatever it stumbles over, the user needs one line
        raise InputError(f"the official evaluator failed on {truth.json_path}: {error!r}; it needs every optional key") from None
    scores = {}
    for name, is_thing in zip(GROUPS, (None, True, False), strict=True):
        try:
            scores[name], per_class = counts.pq_average(categories, is_thing)
        except ZeroDivisionError:
            scores[name], per_class = {"pq": None, "sq": None, "rq": None, "n": 0}, {}
        if name == "All":
            scores["per_class"] = {categories[category_id]["name"]: entry for category_id, entry in per_class.items()}
    return scores


def compare(ours: dict, theirs: dict) -> list[str]:
    """Lines that say which numbers agree to the last digit."""
    from evaluation.panoptic_quality import GROUPS

    lines, differing = ["", f"{'':8s} {'':2s} {'ours':>22s} {'cityscapesscripts':>22s}"], []
    for name in GROUPS:
        for key in ("pq", "sq", "rq", "n"):
            own, official = (s[name][key] for s in (ours, theirs))
            lines.append(f"{name:8s} {key:2s} {own!s:>22s} {official!s:>22s}")
            if own != official:
                differing.append(f"{name} {key}")
    for name, entry in theirs["per_class"].items():
        differing += [f"{name} {key}" for key in ("pq", "sq", "rq") if ours["per_class"][name][key] != entry[key]]
    verdict = f"differ in: {', '.join(differing[:8])}" if differing else "agree to the last digit, each class too"
    return [*lines, f"Ours and the official evaluator {verdict}"]


def explain_difference(truth: "PanopticFile") -> None:
    """The official evaluator believes the areas in the truth's JSON; we count them.

    Raises:
        InputError: always, with the reason.
    """
    from data.panoptic_file import read_panoptic_map

    wrong = 0
    for image_id, annotation in truth.annotations.items():
        counted = read_panoptic_map(truth, image_id).segments
        wrong += sum(said.area != real.area for said, real in zip(annotation.segments, counted, strict=True))
    reason = f"{wrong} segments have another `area` than their PNG, and the official evaluator believes the JSON"
    raise InputError(f"{truth.json_path}: {reason if wrong else 'areas are right, so this is a bug: please report it'}")


def find_images(place: str | None, truth: "PanopticFile") -> "dict[ImageId, Path]":
    """The file of each image that has one: by the image id, or by the file name that the JSON gives it.

    Raises:
        InputError: if there is no image at all, or two could be meant.
    """
    from data.image_names import ImageNames
    from data.images import IMAGE_SUFFIXES
    from data.layouts.image_files import find_image_files

    if place is None:
        return {}
    files = {name: path for name, path in find_image_files(place).items() if path.suffix.lower() in IMAGE_SUFFIXES}
    names = ImageNames({name: (name, path.name) for name, path in files.items()})
    found = {}
    for image_id in truth.annotations:
        known = [image_id, truth.image_files.get(image_id, image_id)]
        try:
            name = next((name for name in map(names.find, known) if name is not None), None)
        except InputError as error:
            raise InputError(f"--images {place}: {error}") from None
        if name is not None:
            found[image_id] = files[name]
    return found


def compare_runs(args: Namespace, ours: dict) -> "list[Table]":
    """The tables of --compare, one a group of classes; none without --compare.

    Raises:
        InputError: if a file holds no scores.
    """
    from evaluation.panoptic_quality import GROUPS
    from evaluation.report import compare_scores

    runs = {"this prediction": ours}
    for given in args.compare:
        name, _, path = given.rpartition("=")
        if not name:
            raise InputError(f"--compare {given}: give NAME=scores.json")
        scores = read_json(Path(path))
        if not isinstance(scores, dict) or not all(_is_group(scores.get(group)) for group in GROUPS):
            raise InputError(f"{path}: no scores; give a scores.json of scripts/evaluate.py or fusion/solo_fusion.py")
        runs[name] = scores
    if len(runs) == 1:
        return []
    return [compare_scores(f"Compared: {group}", runs, group, emphasis="this prediction") for group in GROUPS]


def _is_group(entry: object) -> bool:
    """Whether an entry of a scores.json is what PanopticQuality.scores says of a group of classes."""
    numbers = [entry.get(key, "absent") for key in ("pq", "sq", "rq", "n")] if isinstance(entry, dict) else ["absent"]
    return all(number is None or type(number) in (int, float) for number in numbers) and numbers[-1] is not None


def example_maker(
    args: Namespace, truth: "PanopticFile", prediction: "PanopticFile", result: "FileScores"
) -> "Callable[[ImageId], Example]":
    """What shows an image: the image itself where there is a file of it, truth, prediction and errors."""
    from data.image_names import pair_images
    from data.images import read_image
    from data.panoptic_file import read_panoptic_map
    from evaluation.report import make_example

    images, pairs = find_images(args.images, truth), pair_images(truth, prediction)

    def show(image_id: "ImageId") -> "Example":
        maps = read_panoptic_map(truth, image_id), read_panoptic_map(prediction, pairs[image_id])
        image = read_image(images[image_id]) if image_id in images else None
        if image is not None and image.shape[:2] != maps[0].segment_ids.shape:
            sizes = " and ".join(f"{h}x{w}" for h, w in (image.shape[:2], maps[0].segment_ids.shape))
            raise InputError(f"{images[image_id]}: image and truth are {sizes} pixels; give the images that were labelled")
        return make_example(image_id, result.image_pq[image_id], image, *maps, truth.taxonomy)

    return show


def report(
    args: Namespace,
    truth: "PanopticFile",
    prediction: "PanopticFile",
    result: "FileScores",
    tables: "list[Table]",
    show: "Callable[[ImageId], Example]",
) -> None:
    """Write the HTML report."""
    from evaluation.report import pick_examples, write_report

    best, worst = pick_examples(result.image_pq)
    facts = {
        "Truth": truth.json_path,
        "Prediction": prediction.json_path,
        "Images": len(truth.annotations),
        "Taxonomy": truth.taxonomy.name,
        "Command": shlex.join(["python", "scripts/evaluate.py", *sys.argv[1:]]),
        "Date": date.today().isoformat(),
    }
    write_report(
        args.report,
        f"Panoptic quality of {prediction.json_path.name}",
        result.scores,
        truth.taxonomy,
        best=[show(image_id) for image_id in best],
        worst=[show(image_id) for image_id in worst],
        tables=tables,
        facts=facts,
    )


def run(args: Namespace) -> None:
    """Everything that the command does."""
    from data.class_map import map_file, read_class_map
    from data.class_matching import class_map_between
    from data.panoptic_file import read_panoptic_folder, read_panoptic_json
    from evaluation.panoptic_quality import format_table

    check(args)
    if args.truth is None:
        use_demo(args)
    output = args.output or OUTPUT
    truth = read_panoptic_json(args.truth, args.truth_folder, read_taxonomy(args.taxonomy))
    own_classes = truth.taxonomy
    if args.truth_classes is not None:
        truth = map_file(truth, read_class_map(args.truth_classes, truth.taxonomy))
    if args.prediction.is_dir():
        prediction = read_panoptic_folder(args.prediction, own_classes)
    else:
        prediction = read_panoptic_json(args.prediction, args.prediction_folder, truth.taxonomy, is_prediction=True)
    if args.prediction_classes is not None:
        class_map = class_map_between(args.prediction_classes, prediction.taxonomy, truth.taxonomy)
        prediction = map_file(prediction, class_map)
    result = score(truth, prediction, args.workers, args.per_image)
    tables = compare_runs(args, result.scores)
    print(format_table(result.scores))
    kinds = result.kinds.scores()
    print("\n".join(kinds_table(kinds)))
    write_json(output, result.scores | {"errors": kinds})
    show = example_maker(args, truth, prediction, result) if args.report or args.picture else None
    if args.report:
        report(args, truth, prediction, result, tables, show)
    if args.official:
        theirs = score_officially(truth, prediction)
        lines = compare(result.scores, theirs)
        print("\n".join(lines))
    if tables:
        print(f"\n{'':48s} {'PQ':>6s} {'Things':>6s} {'Stuff':>6s}")
        for rows in zip(*(table.rows for table in tables), strict=True):
            shown = ("n/a" if row[1] is None else str(row[1]) for row in rows)
            print(f"{rows[0][0]:48s} " + " ".join(f"{value:>6s}" for value in shown))
    if args.picture:
        draw(args.picture, result, show)
    if findings := result.kinds.findings():
        print("\nWhat costs most:")
        print("\n".join(f"  {text}" for text in findings))
    written = [str(path) for path in (output, args.per_image, args.report, args.picture) if path]
    print(f"\nWrote {' and '.join(written)}")
    if args.official and "differ" in lines[-1]:
        explain_difference(truth)


def kinds_table(kinds: dict) -> list[str]:
    """Lines of a table: how many segments of each kind, and PQ if all of it were right."""
    lines = ["", f"{'kind':12s} {'truths':>8s} {'predictions':>12s} {'PQ if right':>12s} {'gain':>6s}"]
    for kind, entry in kinds["kinds"].items():
        pq, gain = ("n/a" if v is None else f"{100 * v:.1f}" for v in (entry["pq"], entry["gain"]))
        lines.append(f"{kind:12s} {entry['truths']:8d} {entry['predictions']:12d} {pq:>12s} {gain:>6s}")
    return lines


def draw(path: Path, result: "FileScores", show: "Callable[[ImageId], Example]") -> None:
    """Write what shows the image of median PQ."""
    from data.images import write_image
    from evaluation.render import side_by_side
    from evaluation.report import typical_image

    example = show(typical_image(result.image_pq))
    titles, panels = zip(*example.panels, strict=True)
    write_image(path, side_by_side(panels, titles))
    print(f"\n{path} shows {example.image_id}, the image of median PQ, {100 * example.pq:.1f}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
