"""What is said of several runs of one truth: in the terminal, in scores.json, and above the images of a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.panoptic_quality import GROUPS, format_table
from evaluation.provenance import provenance
from evaluation.report import Table, compare_scores
from evaluation.results_table import percent
from evaluation.run_scores import RunScores
from evaluation.slices import format_slices
from evaluation.viewer import Summary, ViewedRun
from runtime.files import InputError, read_json, write_json

STAGES_FILE = "stages.json"
"""Beside a prediction's JSON: what fusion/solo_fusion.py --stages has found."""


def read_scores(path: Path) -> dict | None:
    """The content of a scores.json; None of a JSON with `annotations`, which is a prediction.

    Raises:
        InputError: if it is neither.
    """
    content = read_json(path)
    if isinstance(content, dict) and "annotations" in content:
        return None
    if isinstance(content, dict) and all(_is_group(content.get(group)) for group in GROUPS):
        return content
    needed = "a panoptic JSON, or a scores.json of scripts/evaluate.py or fusion/solo_fusion.py"
    raise InputError(f"{path}: no prediction and no scores; give {needed}")


def check_same_truth(name: str, scores: Mapping, truth: Mapping[str, object]) -> None:
    """Refuse scores of another truth, where they say of which they are.

    Args:
        truth: of evaluation.provenance.describe_file.

    Raises:
        InputError: if they are of another one.
    """
    files = scores.get("provenance", {}).get("files", {}) if isinstance(scores.get("provenance"), dict) else {}
    theirs = files.get("truth", {}) if isinstance(files, dict) else {}
    if isinstance(theirs, dict) and theirs.get("pngs_digest", truth["pngs_digest"]) != truth["pngs_digest"]:
        raise InputError(f"{name}: scores of another truth, {theirs.get('path')}; compare runs on the same images")


def _is_group(entry: object) -> bool:
    """Whether an entry of a scores.json is what PanopticQuality.scores says of a group of classes."""
    numbers = [entry.get(key, "absent") for key in ("pq", "sq", "rq", "n")] if isinstance(entry, dict) else ["absent"]
    return all(number is None or type(number) in (int, float) for number in numbers) and numbers[-1] is not None


def read_stages(prediction: Path) -> Table | None:
    """What each stage of a prediction's fusion loses, where that was found; None elsewhere."""
    path = (prediction if prediction.is_dir() else prediction.parent) / STAGES_FILE
    if not path.is_file():
        return None
    try:
        table = read_json(path)["table"]
        return Table(**table | {"columns": tuple(table["columns"]), "rows": tuple(map(tuple, table["rows"]))})
    except (KeyError, TypeError):
        raise InputError(f"{path}: was not written by solo_fusion.py --stages; delete it") from None


def report_tables(runs: Sequence[RunScores], scores: Mapping[str, dict], stages: Table | None) -> list[Table]:
    """Stages, comparison by group of classes, and slices.

    Args:
        runs: what was scored, the first one first.
        scores: of all that is compared, by name.
    """
    tables = [] if stages is None else [stages]
    if len(scores) > 1:
        tables += [compare_scores(f"Compared: {group}", scores, group, emphasis=runs[0].name) for group in GROUPS]
    slices = {} if runs[0].slices is None else runs[0].slices.scores()
    for column, of_values in slices.items():
        rows = [
            (name, *(percent(entry[group]["pq"]) for group in GROUPS), entry["num_images"]) for name, entry in of_values.items()
        ]
        tables.append(Table(f"PQ by {column}", ("", *GROUPS, "images"), tuple(rows)))
    return tables


def summarise(title: str, runs: Sequence[RunScores], facts: Mapping[str, object], tables: Sequence[Table]) -> Summary:
    """What stands above the images of a report, which shows the first two runs: the second one as what was before."""
    shown, difference = list(reversed(runs[:2])), ""
    if len(shown) > 1:
        difference = f"B over A: {shown[1].gains_over(shown[0])['All'].in_words()}"
    return Summary(title, facts, [ViewedRun(run.name, run.scores, run.kinds) for run in shown], difference, tables)


def comparison_lines(runs: Sequence[RunScores], scores: Mapping[str, dict]) -> list[str]:
    """PQ of all that is compared, and what the first run gains over each other one; nothing of a run alone."""
    if len(scores) < 2:
        return []
    lines = ["", f"{'':48s} {'PQ':>6s} {'Things':>6s} {'Stuff':>6s}"]
    for name, entry in scores.items():
        lines.append(f"{name:48s} " + " ".join(f"{percent(entry[group]['pq']):>6s}" for group in GROUPS))
    return lines + [f"over {run.name}: {runs[0].gains_over(run)['All'].in_words()}" for run in runs[1:]]


def scores_to_json(runs: Sequence[RunScores], origin: Mapping[str, object]) -> dict:
    """The content of scores.json: of the first run, and its gains over the others.

    Args:
        origin: of evaluation.provenance.
    """
    content = runs[0].to_json() | {"provenance": dict(origin)}
    if len(runs) > 1:
        gains = {run.name: runs[0].gains_over(run) for run in runs[1:]}
        content["differences"] = {name: {g: vars(d) for g, d in by_group.items()} for name, by_group in gains.items()}
    return content


def write_scores(
    runs: Sequence[RunScores],
    output: Path,
    scores: Mapping[str, dict],
    command: str,
    described: Mapping[str, dict],
    has_dagger: bool,
) -> None:
    """Print what was found, and write it as JSON.

    Args:
        scores: of all that is compared, by name. described: of evaluation.provenance.describe_file, by name.
    """
    print(format_table(runs[0].scores))
    print("\n".join([*runs[0].lines(has_dagger), *kinds_table(runs[0].kinds.scores())]))
    if runs[0].slices is not None:
        print(f"\n{format_slices(runs[0].slices.scores())}")
    for line in comparison_lines(runs, scores):
        print(line)
    if findings := runs[0].kinds.findings():
        print("\nWhat costs most:")
        print("\n".join(f"  {text}" for text in findings))
    write_json(output, scores_to_json(runs, provenance(command, described)))


def kinds_table(kinds: dict) -> list[str]:
    """Lines of a table: how many segments of each kind, and PQ if all of it were right."""
    lines = ["", f"{'kind':12s} {'truths':>8s} {'predictions':>12s} {'PQ if right':>12s} {'gain':>6s}"]
    for kind, entry in kinds["kinds"].items():
        pq, gain = ("n/a" if v is None else f"{100 * v:.1f}" for v in (entry["pq"], entry["gain"]))
        lines.append(f"{kind:12s} {entry['truths']:8d} {entry['predictions']:12d} {pq:>12s} {gain:>6s}")
    return lines
