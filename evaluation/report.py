"""The report: one static HTML file with tables, bars per class, and the best and worst images. No script, no second file."""

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
from data.panoptic_png import PanopticMap
from data.taxonomy import Taxonomy
from evaluation.panoptic_quality import GROUPS
from evaluation.render import ERROR_COLORS, color_panoptic, error_map
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


@dataclass(frozen=True)
class Example:
    """One image of the report: images (H, W, 3) uint8 with their titles, and the image's own PQ (0..1)."""

    image_id: str
    pq: float | None
    panels: tuple[tuple[str, np.ndarray], ...]
    note: str = ""


def make_example(
    image_id: ImageId,
    pq: float | None,
    image: np.ndarray | None,
    truth: PanopticMap,
    prediction: PanopticMap,
    taxonomy: Taxonomy,
) -> Example:
    """Image (where there is one), truth, prediction and errors of one image.

    Raises:
        InputError: if the maps' sizes differ.
    """
    panels = [] if image is None else [("Image", image)]
    panels.append(("Truth", color_panoptic(truth, taxonomy)))
    panels.append(("Prediction", color_panoptic(prediction, taxonomy)))
    panels.append(("Errors", error_map(truth, prediction, taxonomy)))
    counts = (len(truth.segments), len(prediction.segments))
    return Example(str(image_id), pq, tuple(panels), f"{counts[0]} segments in truth, {counts[1]} predicted")


def pick_examples(image_pq: Mapping[ImageId, float | None], count: int = 3) -> tuple[list[ImageId], list[ImageId]]:
    """The images of highest PQ, best first, and of lowest PQ, worst first; no image is in both lists."""
    ranked = sorted((i for i, pq in image_pq.items() if pq is not None), key=lambda i: (-image_pq[i], str(i)))
    best = ranked[: min(count, (len(ranked) + 1) // 2)]
    worst = ranked[len(best) :][::-1][:count]
    return best, worst


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
    best: Sequence[Example] = (),
    worst: Sequence[Example] = (),
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
    groups = [("Best images", [_embed(e) for e in best]), ("Worst images", [_embed(e) for e in worst])]
    text = pages.get_template("report.html.jinja").render(
        title=title,
        introduction=introduction,
        facts={name: value for name, value in (facts or {}).items() if value is not None},
        groups=[(name, scores[name]) for name in GROUPS],
        classes=classes,
        tables=tables,
        figures={name: _to_url(image, "PNG") for name, image in (figures or {}).items()},
        example_groups=[(name, examples) for name, examples in groups if examples],
        error_key=[(name, "rgb({}, {}, {})".format(*color)) for name, color in ERROR_COLORS.items()],
        percent=_percent,
    )
    with atomic_path(Path(path)) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def _percent(fraction: float | None) -> str:
    return "n/a" if fraction is None else f"{100 * fraction:.1f}"


def _embed(example: Example) -> dict:
    """Photos as JPEG, maps as PNG (flat colours compress better and stay exact)."""
    panels = [{"title": title, "url": _to_url(image, "JPEG" if title == "Image" else "PNG")} for title, image in example.panels]
    height, width = example.panels[0][1].shape[:2]
    columns = 2 if width >= 1.5 * height and len(panels) == 4 else len(panels)
    return {"image_id": example.image_id, "pq": example.pq, "note": example.note, "panels": panels, "columns": columns}


def _to_url(image: np.ndarray, kind: str) -> str:
    height, width = image.shape[:2]
    share = min(1, LARGEST_PANEL / width, LARGEST_PANEL_HEIGHT / height)
    if share < 1:
        size = (max(round(width * share), 1), max(round(height * share), 1))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **({"quality": 88} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
