"""python scripts/evaluate.py --truth truth.json --prediction prediction.json

Scores any panoptic PNGs + COCO panoptic JSON against any other: PQ, SQ, RQ for all classes, things, stuff and each class.
Without arguments: the demo's result (outputs/demo) against the truth of the embedded data set.
"""

import argparse
import contextlib
import io
import os
import shlex
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from data.images import find_images, path_to_image_id, read_image, write_image
from data.panoptic_file import ImageId, PanopticFile, read_panoptic_json, read_panoptic_map
from data.taxonomy import TAXONOMIES, Taxonomy
from evaluation.panoptic_quality import GROUPS, FileScores, evaluate_files, format_table
from evaluation.render import side_by_side
from evaluation.report import Example, Table, compare_scores, make_example, pick_examples, typical_image, write_report
from runtime.files import InputError, one_line_errors, read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
DEMO_PREDICTION = ROOT / "outputs" / "demo" / "panoptic.json"
STREETS = ROOT / "datasets" / "streets"


def parse_arguments() -> argparse.Namespace:
    """The command line, parsed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, metavar="A.json", help="COCO panoptic JSON of the truth")
    parser.add_argument("--prediction", type=Path, metavar="B.json", help="COCO panoptic JSON of the prediction")
    parser.add_argument("--truth-folder", type=Path, metavar="DIR", help="its PNGs; default: A.json without .json")
    parser.add_argument("--prediction-folder", type=Path, metavar="DIR", help="its PNGs; default: B.json without .json")
    parser.add_argument(
        "--taxonomy",
        metavar="NAME",
        help=f"classes of a truth without `categories`: {', '.join(TAXONOMIES)}, or a JSON with `categories`; "
        "default: Cityscapes, by ids or train ids",
    )
    parser.add_argument("--official", action="store_true", help="also run cityscapesscripts' evaluator and compare every digit")
    parser.add_argument("--workers", type=int, metavar="N", default=os.cpu_count() or 1, help="threads; never change the result")
    output = ROOT / "outputs" / "evaluate" / "scores.json"
    parser.add_argument("--output", type=Path, metavar="FILE", default=output, help="scores as JSON; default: %(default)s")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="also write a report with best and worst images")
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="FILE.png",
        help="also write photo, truth, prediction, errors of the image of median PQ",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="the photos, for --report and --picture; paired by image id")
    parser.add_argument(
        "--compare",
        action="append",
        default=[],
        metavar="NAME=scores.json",
        help="another run's scores, as a row of the report's and the printed comparison; may be repeated",
    )
    arguments = parser.parse_args()
    if (arguments.truth is None) != (arguments.prediction is None):
        parser.error("give both --truth and --prediction, or neither for the demo's result")
    if arguments.picture and arguments.picture.suffix.lower() != ".png":
        parser.error(f"--picture {arguments.picture}, but a name that ends in .png is needed")
    if arguments.workers < 1:
        parser.error(f"--workers {arguments.workers}, but at least 1 is needed")
    return arguments


def use_demo(arguments: argparse.Namespace) -> None:
    """Fill in the demo's files."""
    arguments.prediction, arguments.truth = DEMO_PREDICTION, STREETS / "gtFine" / "cityscapes_panoptic_val.json"
    print(f"No files given: scoring {arguments.prediction} on the embedded data set, {arguments.truth}", flush=True)
    for path in (arguments.prediction, arguments.truth):
        if not path.exists():
            raise InputError(f"{path}: not there yet; run `make demo`, or give --truth and --prediction")
    if arguments.images is None and (STREETS / "leftImg8bit" / "val").is_dir():
        arguments.images = STREETS / "leftImg8bit" / "val"


def read_taxonomy(name: str | None) -> Taxonomy | None:
    """A known taxonomy, or one from a JSON that is a list of categories or has `categories`."""
    if name is None or name in TAXONOMIES:
        return TAXONOMIES.get(name)
    if not name.endswith(".json"):
        raise InputError(f"--taxonomy {name}: unknown; give {', '.join(TAXONOMIES)}, or the path of a .json with `categories`")
    content = read_json(Path(name))
    categories = content.get("categories") if isinstance(content, dict) else content
    if not isinstance(categories, list):
        raise InputError(f"{name}: has no `categories`; give a JSON that lists the classes")
    return Taxonomy.from_coco_categories(Path(name).stem, categories)


def score(truth: PanopticFile, prediction: PanopticFile, workers: int) -> FileScores:
    """Score with a progress bar on stderr."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("Scoring", total=len(truth.annotations))
        return evaluate_files(truth, prediction, workers, lambda done, _: bar.update(task, completed=done))


def score_officially(truth: PanopticFile, prediction: PanopticFile) -> dict:
    """Scores by cityscapesscripts, {"All"|"Things"|"Stuff": {pq, sq, rq, n}, "per_class": {name: {pq, sq, rq}}}.

    Its parts are called instead of its evaluatePanoptic, for that one adds up in an order that depends on the number of
    cores, fails where a group has no class, and needs `categories` in the truth.
    """
    from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import pq_compute_single_core

    categories = {entry["id"]: entry for entry in truth.taxonomy.to_coco_categories()}
    predicted = {entry["image_id"]: entry for entry in read_json(prediction.json_path)["annotations"]}
    pairs = [(entry, predicted[entry["image_id"]]) for entry in read_json(truth.json_path)["annotations"]]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
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
    lines, differing = ["", f"{'':8s} {'':2s} {'ours':>22s} {'cityscapesscripts':>22s}"], []
    for name in GROUPS:
        for key in ("pq", "sq", "rq", "n"):
            own, official = (s[name][key] for s in (ours, theirs))
            lines.append(f"{name:8s} {key:2s} {own!s:>22s} {official!s:>22s}")
            differing += [f"{name} {key}"] * bool(own != official)
    for name, entry in theirs["per_class"].items():
        differing += [f"{name} {key}" for key in ("pq", "sq", "rq") if ours["per_class"][name][key] != entry[key]]
    verdict = f"differ in: {', '.join(differing[:8])}" if differing else "agree to the last digit, each class too"
    return [*lines, f"Ours and the official evaluator {verdict}"]


def explain_difference(truth: PanopticFile) -> None:
    """The official evaluator believes the areas in the truth's JSON; we count them."""
    wrong = 0
    for image_id, annotation in truth.annotations.items():
        counted = read_panoptic_map(truth, image_id).segments
        wrong += sum(said.area != real.area for said, real in zip(annotation.segments, counted, strict=True))
    reason = f"{wrong} segments have another `area` than their PNG, and the official evaluator believes the JSON"
    raise InputError(f"{truth.json_path}: {reason if wrong else 'areas are right, so this is a bug: please report it'}")


def find_photos(folder: Path | None, truth: PanopticFile) -> dict[ImageId, Path]:
    """The photo of each image that has one: by the image id, or by the file name that the JSON gives it."""
    if folder is None:
        return {}
    by_id = {path_to_image_id(path.name): path for path in find_images(folder)}
    names = {i: (str(i), path_to_image_id(truth.image_files.get(i, ""))) for i in truth.annotations}
    return {i: by_id[name] for i, pair in names.items() for name in pair if name in by_id}


def compare_runs(arguments: argparse.Namespace, ours: dict) -> list[Table]:
    """The tables of --compare, one a group of classes; none without --compare."""
    runs = {"this prediction": ours}
    for given in arguments.compare:
        name, _, path = given.rpartition("=")
        if not name:
            raise InputError(f"--compare {given}: give NAME=scores.json")
        scores = read_json(Path(path))
        if not isinstance(scores, dict) or not set(GROUPS) <= set(scores):
            raise InputError(f"{path}: no scores; give a scores.json of scripts/evaluate.py or fusion/solo_fusion.py")
        runs[name] = scores
    if len(runs) == 1:
        return []
    return [compare_scores(f"Compared: {group}", runs, group, emphasis="this prediction") for group in GROUPS]


def example_maker(
    arguments: argparse.Namespace, truth: PanopticFile, prediction: PanopticFile, result: FileScores
) -> Callable[[ImageId], Example]:
    """What shows an image: its photo where there is one, truth, prediction and errors."""
    photos = find_photos(arguments.images, truth)

    def show(image_id: ImageId) -> Example:
        maps = read_panoptic_map(truth, image_id), read_panoptic_map(prediction, image_id)
        photo = read_image(photos[image_id]) if image_id in photos else None
        if photo is not None and photo.shape[:2] != maps[0].segment_ids.shape:
            sizes = " and ".join(f"{h}x{w}" for h, w in (photo.shape[:2], maps[0].segment_ids.shape))
            raise InputError(f"{photos[image_id]}: photo and truth are {sizes} pixels; give the photos that were labelled")
        return make_example(image_id, result.image_pq[image_id], photo, *maps, truth.taxonomy)

    return show


def report(
    arguments: argparse.Namespace,
    truth: PanopticFile,
    prediction: PanopticFile,
    result: FileScores,
    tables: list[Table],
    show: Callable[[ImageId], Example],
) -> None:
    """Write the HTML report."""
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
        arguments.report,
        f"Panoptic quality of {prediction.json_path.name}",
        result.scores,
        truth.taxonomy,
        best=[show(image_id) for image_id in best],
        worst=[show(image_id) for image_id in worst],
        tables=tables,
        facts=facts,
    )


@one_line_errors()
def main() -> None:
    """The command; see above."""
    arguments = parse_arguments()
    if arguments.truth is None:
        use_demo(arguments)
    truth = read_panoptic_json(arguments.truth, arguments.truth_folder, read_taxonomy(arguments.taxonomy))
    prediction = read_panoptic_json(arguments.prediction, arguments.prediction_folder, truth.taxonomy)
    result = score(truth, prediction, arguments.workers)
    tables = compare_runs(arguments, result.scores)
    print(format_table(result.scores))
    write_json(arguments.output, result.scores)
    show = example_maker(arguments, truth, prediction, result) if arguments.report or arguments.picture else None
    if arguments.report:
        report(arguments, truth, prediction, result, tables, show)
    if arguments.official:
        theirs = score_officially(truth, prediction)
        lines = compare(result.scores, theirs)
        print("\n".join(lines))
    if tables:
        print(f"\n{'':48s} {'PQ':>6s} {'Things':>6s} {'Stuff':>6s}")
        for rows in zip(*(table.rows for table in tables), strict=True):
            shown = ("n/a" if row[1] is None else str(row[1]) for row in rows)
            print(f"{rows[0][0]:48s} " + " ".join(f"{value:>6s}" for value in shown))
    if arguments.picture:
        example = show(typical_image(result.image_pq))
        titles, panels = zip(*example.panels, strict=True)
        write_image(arguments.picture, side_by_side(panels, titles))
        print(f"\n{arguments.picture} shows {example.image_id}, the image of median PQ, {100 * example.pq:.1f}")
    written = [str(path) for path in (arguments.output, arguments.report, arguments.picture) if path]
    print(f"\nWrote {' and '.join(written)}")
    if arguments.official and "differ" in lines[-1]:
        explain_difference(truth)


if __name__ == "__main__":
    main()
