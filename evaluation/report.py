"""Tables for reports, and a page of tables and figures alone: one static HTML file. Images are shown by evaluation/viewer.py."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from data.panoptic_file import ImageId
from data.taxonomy import Taxonomy
from evaluation.panoptic_quality import GROUPS
from runtime.files import InputError, atomic_path

LARGEST_PANEL, LARGEST_PANEL_HEIGHT = 1024, 4096
"""Pixels to which embedded images are shrunk."""


@dataclass(frozen=True)
class Table:
    """A table of the report. A number is shown as given, None as n/a; the first column is text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]
    note: str = ""
    emphasis: str = ""
    """The first cell of the row to be set in bold."""


def typical_image(image_pq: Mapping[ImageId, float | None]) -> ImageId:
    """The image of median PQ; of two, that of the lower one.

    Raises:
        InputError: if no image has a PQ.
    """
    ranked = sorted((i for i, pq in image_pq.items() if pq is not None), key=lambda i: (image_pq[i], str(i)))
    if not ranked:
        raise InputError("no image has a PQ, as neither truth nor prediction holds a segment; there is none to show")
    return ranked[(len(ranked) - 1) // 2]


def compare_scores(
    title: str, scores_by_name: Mapping[str, dict | None], group: str = "All", note: str = "", emphasis: str = ""
) -> Table:
    """A table with one row a run (say floor, ours, ceiling): PQ, SQ, RQ, N of a group, in percent; None is "not run"."""
    rows = []
    for name, scores in scores_by_name.items():
        entry = None if scores is None else scores[group]
        cells = ["not run"] * 3 if entry is None else [_percent(entry[key]) for key in ("pq", "sq", "rq")]
        rows.append((name, *cells, "not run" if entry is None else entry["n"]))
    return Table(title, ("", "PQ", "SQ", "RQ", "N"), tuple(rows), note, emphasis)


def write_report(
    path: Path,
    title: str,
    scores: dict,
    taxonomy: Taxonomy,
    *,
    tables: Sequence[Table] = (),
    figures: Mapping[str, np.ndarray] | None = None,
    facts: Mapping[str, object] | None = None,
    introduction: str = "",
) -> None:
    """Write the report atomically.

    Args:
        scores: as PanopticQuality.scores gives them.
        tables: more tables, shown below the scores (a comparison of runs, mIoU, mask AP).
        figures: title -> image (H, W, 3) uint8, shown below the tables.
        facts: what a number needs beside it: config, command, hardware, date, number of images.
    """
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    colors = {c.name: "rgb({}, {}, {})".format(*c.color) for c in taxonomy.categories}
    kinds = {c.name: "thing" if c.is_thing else "stuff" for c in taxonomy.categories}
    classes = [
        {"name": name, "color": colors[name], "kind": kinds[name], "is_seen": any(entry[k] for k in ("tp", "fp", "fn"))} | entry
        for name, entry in scores["per_class"].items()
    ]
    text = pages.get_template("report.html.jinja").render(
        title=title,
        introduction=introduction,
        facts={name: value for name, value in (facts or {}).items() if value is not None},
        groups=[(name, scores[name]) for name in GROUPS],
        classes=classes,
        tables=tables,
        figures={name: _to_url(image) for name, image in (figures or {}).items()},
        percent=_percent,
    )
    with atomic_path(Path(path)) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def _percent(fraction: float | None) -> str:
    return "n/a" if fraction is None else f"{100 * fraction:.1f}"


def _to_url(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    share = min(1, LARGEST_PANEL / width, LARGEST_PANEL_HEIGHT / height)
    if share < 1:
        size = (max(round(width * share), 1), max(round(height * share), 1))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
