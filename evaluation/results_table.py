"""The results table in its published form: rows All, Things, Stuff; columns PQ, SQ, RQ, N, in percent; as Markdown and JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.panoptic_quality import GROUPS
from runtime.files import atomic_path, write_json

COLUMNS = ("PQ", "SQ", "RQ", "N")


def results_table(scores: Mapping) -> str:
    """The Markdown of PanopticQuality.scores; it reads well as plain text, too. `n/a` where a group has no class."""
    rows = [[name, *_shown(scores[name])] for name in GROUPS]
    return markdown_table(["", *COLUMNS], rows)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width each: the first one on the left of its column, the others on the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(3, *(len(line[k]) for line in lines)) for k in range(len(header))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [[line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:]))] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:]))


def percent(share: float | None) -> str:
    """A share of 1 in percent with one digit, as the published tables have it."""
    return "n/a" if share is None else f"{100 * share:.1f}"


def scores_line(ap: Mapping | None, iou: Mapping | None) -> str:
    """What stands below the table: mask AP (of InstanceAP) and mIoU (of SemanticIoU), in percent; None was not kept."""
    precision = "mask AP not kept" if ap is None else f"mask AP {percent(ap['AP'])} (AP50 {percent(ap['AP50'])})"
    return f"{precision}, mIoU {'not kept (--keep panoptic semantic)' if iou is None else percent(iou['miou'])}"


def write_results(
    folder: Path,
    scores: Mapping | None,
    ap: Mapping | None,
    iou: Mapping | None,
    facts: Mapping[str, object],
    content: Mapping[str, object],
) -> list[Path]:
    """Write results.md, for people, and scores.json, with all digits and classes.

    Args:
        scores: of PanopticQuality. ap: of InstanceAP. iou: of SemanticIoU. None: was not kept.
        facts: what was scored, by which weights and which command: a number without them is worth little.
        content: of the JSON, to which the facts are added.

    Returns:
        The two paths.
    """
    markdown, json_path = Path(folder) / "results.md", Path(folder) / "scores.json"
    lines = [] if scores is None else [results_table(scores), ""]
    lines += [scores_line(ap, iou), "", _per_class(scores, ap, iou), ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    with atomic_path(markdown) as partial:
        partial.write_text("\n".join(lines) + "\n")
    write_json(json_path, {**content, "facts": dict(facts)})
    return [markdown, json_path]


def _shown(group: Mapping) -> list[str]:
    return [*(percent(group[key]) for key in ("pq", "sq", "rq")), str(group["n"])]


def _per_class(scores: Mapping | None, ap: Mapping | None, iou: Mapping | None) -> str:
    """One row a class: PQ, SQ, RQ, AP, IoU, of those that were kept. Stuff has no AP."""
    header, names = ["class"], list((scores or iou or ap)["per_class"])
    rows = {name: [name] for name in names}
    if scores is not None:
        header += COLUMNS[:3]
        for name, entry in scores["per_class"].items():
            is_seen = entry["tp"] + entry["fp"] + entry["fn"] > 0
            rows[name] += [percent(entry[key] if is_seen else None) for key in ("pq", "sq", "rq")]
    for title, part in (("AP", ap), ("IoU", iou)):
        if part is not None:
            header.append(title)
            for name in names:
                rows[name].append(percent(part["per_class"].get(name)))
    return markdown_table(header, list(rows.values()))
