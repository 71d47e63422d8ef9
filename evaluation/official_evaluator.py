"""The official evaluator of Cityscapes beside ours, digit by digit."""

import contextlib
import io

from data.image_names import pair_images
from data.panoptic_file import PanopticFile, read_panoptic_map
from evaluation.panoptic_quality import GROUPS
from runtime.files import InputError, read_json
from runtime.progress import progress_bar


def score_officially(truth: PanopticFile, prediction: PanopticFile) -> dict:
    """Scores by cityscapesscripts, {"All"|"Things"|"Stuff": {pq, sq, rq, n}, "per_class": {name: {pq, sq, rq}}}.

    Its parts are called instead of its evaluatePanoptic, for that one adds up in an order that depends on the number of
    cores, fails where a group has no class, and needs `categories` in the truth.
    """
    from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import pq_compute_single_core

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


def compare_digits(ours: dict, theirs: dict) -> list[str]:
    """Lines that say which numbers agree to the last digit."""
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


def explain_difference(truth: PanopticFile) -> None:
    """The official evaluator believes the areas in the truth's JSON; we count them.

    Raises:
        InputError: always, with the reason.
    """
    wrong = 0
    for image_id, annotation in truth.annotations.items():
        counted = read_panoptic_map(truth, image_id).segments
        wrong += sum(said.area != real.area for said, real in zip(annotation.segments, counted, strict=True))
    reason = f"{wrong} segments have another `area` than their PNG, and the official evaluator believes the JSON"
    raise InputError(f"{truth.json_path}: {reason if wrong else 'areas are right, so this is a bug: please report it'}")
