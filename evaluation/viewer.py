"""The result viewer: a folder that opens by double click and shows, image by image, what a prediction got right and wrong.

  index.html, assets/                the page (evaluation/viewer_page/), the same for every result
  data/run.js                        classes, scores, what costs most, and one entry an image: what the tables show
  data/000000.js, data/000000.jpg    one image: both maps with their segments, and the picture; read when it is looked at
A page that was opened from disk may read scripts and pictures, but no other file: so the data are calls, loadRun(...) and
loadImage(...). Maps travel as the place of each pixel's segment in the list, each row as its difference from the row above,
deflated.
"""

import base64
import io
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data.images import read_image
from data.panoptic_file import ImageId
from data.panoptic_png import PanopticMap, Segment
from data.segment_runs import find_runs
from data.taxonomy import Taxonomy
from evaluation.error_kinds import KINDS, KINDS_OF_ERRORS, ErrorKinds, Outcome
from evaluation.file_scores import Comparison
from evaluation.panoptic_quality import GROUPS
from evaluation.render import segment_colors, segment_index
from evaluation.report import Table
from runtime.files import PARTIAL, InputError, remove_partial_files

FORMAT = 1
PAGE = Path(__file__).with_name("viewer_page")
LARGEST_PICTURE = 2048
"""Pixels of the longer side to which pictures are shrunk; maps keep their size."""
QUALITY = 85
"""Of the pictures' JPEG."""
MARK = "viewer.loadRun("
"""How data/run.js begins, by which a folder is known to be a viewer."""
PARTS = {"index.html", "assets", "data"}
EMPTY_ROW = dict.fromkeys(("pq", "sq", "rq")) | dict.fromkeys(("tp", "fp", "fn"), 0)
EMPTY_ROW |= {"truths": [0] * len(KINDS), "predictions": [0] * len(KINDS), "classes": {}}


@dataclass(frozen=True)
class Problem:
    """A kind of problem that the label doctor found; level is broken or suspicious, effect what it does to a score."""

    level: str
    kind: str
    count: int
    text: str
    effect: str


@dataclass(frozen=True)
class Finding:
    """One problem in one image: place of its Problem, the side (truth or prediction), segment ids, (x, y, width, height)."""

    problem: int
    text: str
    side: str = "truth"
    segment_ids: tuple[int, ...] = ()
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class ViewedRun:
    """A prediction with its name, scores (of PanopticQuality) and kinds of errors."""

    name: str
    scores: dict
    kinds: ErrorKinds


@dataclass(frozen=True)
class Summary:
    """What is known when all images are compared.

    facts: what a number needs beside it. difference: of two runs, in words. problems: of the label doctor.
    """

    title: str
    facts: Mapping[str, object] = field(default_factory=dict)
    runs: Sequence[ViewedRun] = ()
    difference: str = ""
    tables: Sequence[Table] = ()
    problems: Sequence[Problem] = ()


class Viewer:
    """Writes the folder while images are compared, in memory that does not grow with their number; see open_viewer."""

    def __init__(self, folder: Path, taxonomy: Taxonomy, image_ids: Sequence[ImageId], pictures: Mapping[ImageId, Path]):
        self._folder, self._taxonomy, self._pictures = folder, taxonomy, pictures
        self._names = {image_id: f"{k:06d}" for k, image_id in enumerate(image_ids)}
        self._run = (folder / "data" / "run.js").open("w", encoding="ascii")
        self._run.write(MARK + '{"images": [')
        self._num_images = 0
        self.num_bytes = 0

    def write_image(
        self,
        image_id: ImageId,
        truth: PanopticMap | None,
        comparisons: Sequence[Comparison | None] = (),
        findings: Sequence[Finding] = (),
        columns: Mapping[str, object] | None = None,
        size: tuple[int, int] | None = None,
        has_picture: bool = True,
    ) -> dict:
        """Write one image's files; may be called in several threads at once.

        Args:
            comparisons: of this truth with each run's prediction, None where a run has none of this image.
            columns: more values for the table of images.
            size: (height, width) where there is no map.
            has_picture: whether its picture, if there is one, is shown.

        Returns:
            The image's entry, for `add`.

        Raises:
            InputError: if its picture does not read, or has another size than the maps.
        """
        name = self._names[image_id]
        size = list(size) if truth is None else list(truth.segment_ids.shape)
        picture = self._write_picture(image_id, name, size) if has_picture else None
        content = {
            "size": size,
            "truth": None if truth is None else self._map_entry(truth),
            "runs": [_empty_run(truth, size) if c is None else self._run_entry(c) for c in comparisons],
            "problems": [_finding_entry(finding, truth, comparisons) for finding in findings],
        }
        text = f"viewer.loadImage({json.dumps(name)}, {_to_json(content)});\n"
        (self._folder / "data" / f"{name}.js").write_text(text, encoding="ascii")
        counts: dict[int, int] = {}
        for finding in findings:
            counts[finding.problem] = counts.get(finding.problem, 0) + 1
        return {
            "id": str(image_id),
            "file": name,
            "size": size,
            "picture": picture and f"data/{picture.name}",
            "kb": round((len(text) + (picture.stat().st_size if picture else 0)) / 1000, 1),
            "runs": [EMPTY_ROW if c is None else self._table_entry(c) for c in comparisons],
            "problems": sorted(counts.items()),
            "columns": dict(columns or {}),
        }

    def add(self, entry: dict) -> None:
        """List an image that was written; in the order that the table is to have."""
        self._run.write(("" if self._num_images == 0 else ",") + "\n" + _to_json(entry))
        self._num_images += 1
        self.num_bytes += round(1000 * entry["kb"])

    def finish(self, summary: Summary) -> None:
        """Write what stands above the images."""
        classes = [{"name": c.name, "color": list(c.color), "is_thing": c.is_thing} for c in self._taxonomy.categories]
        rest = {
            "format": FORMAT,
            "title": summary.title,
            "facts": [[name, str(value)] for name, value in summary.facts.items() if value is not None],
            "classes": classes,
            "kinds": KINDS,
            "meanings": [kind.meaning for kind in KINDS_OF_ERRORS.values()],
            "runs": [_scores_entry(run) for run in summary.runs],
            "difference": {"text": summary.difference} if summary.difference else None,
            "tables": [asdict(table) for table in summary.tables],
            "problems": [asdict(problem) for problem in summary.problems],
        }
        self._run.write(f"\n],\n{_to_json(rest)[1:]});\n")
        self._run.close()

    def _write_picture(self, image_id: ImageId, name: str, size: list[int]) -> Path | None:
        if image_id not in self._pictures:
            return None
        image = read_image(self._pictures[image_id])
        if list(image.shape[:2]) != size:
            sizes = " and ".join(f"{h}x{w}" for h, w in (image.shape[:2], size))
            found = f"{self._pictures[image_id]}: image and truth are {sizes} pixels"
            raise InputError(f"{found}; give the images that were labelled")
        share = LARGEST_PICTURE / max(size)
        if share < 1:
            shrunk = (max(round(size[1] * share), 1), max(round(size[0] * share), 1))
            image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
        path = self._folder / "data" / f"{name}.jpg"
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
        path.write_bytes(buffer.getvalue())
        return path

    def _map_entry(self, panoptic: PanopticMap) -> dict:
        return {"map": encode_map(panoptic), "segments": self._segment_entries(panoptic)}

    def _segment_entries(self, panoptic: PanopticMap) -> list[dict]:
        runs = find_runs(panoptic.segment_ids)
        areas, boxes = runs.areas().tolist(), runs.boxes().tolist()
        found = {segment_id: (area, box) for segment_id, area, box in zip(runs.ids.tolist(), areas, boxes, strict=True)}
        colors = segment_colors(panoptic.segments, self._taxonomy).tolist()
        return [self._segment_entry(s, c, *found.get(s.segment_id, (0, [0] * 4))) for s, c in zip(panoptic.segments, colors)]

    def _segment_entry(self, segment: Segment, color: list[int], area: int, box: list[int]) -> dict:
        return {
            "class": self._taxonomy.dataset_id_to_train_id[segment.category_id],
            "id": segment.segment_id,
            "color": color,
            "area": area,
            "box": box,
            "is_crowd": segment.is_crowd,
            "score": segment.score,
        }

    def _run_entry(self, comparison: Comparison) -> dict:
        truth_places = _places(comparison.truth)
        places = _places(comparison.prediction)
        outcomes = {(o.side, o.segment.segment_id): o for o in comparison.outcomes}
        entry = self._map_entry(comparison.prediction)
        for segment in entry["segments"]:
            segment.update(_outcome_entry(outcomes["prediction", segment["id"]], truth_places))
        truths = [outcomes.get(("truth", s.segment_id)) for s in comparison.truth.segments]
        return entry | {"truths": [None if outcome is None else _outcome_entry(outcome, places) for outcome in truths]}

    def _table_entry(self, comparison: Comparison) -> dict:
        counts = comparison.matches.counts
        classes: dict[int, dict] = {}
        for category_id, c in counts.items():
            counted = {"tp": c.tp, "fp": c.fp, "fn": c.fn, "iou": round(c.iou_sum, 4)}
            classes[category_id] = counted | {"truths": {}, "predictions": {}}
        totals = {"truths": [0] * len(KINDS), "predictions": [0] * len(KINDS)}
        empty = {"tp": 0, "fp": 0, "fn": 0, "iou": 0.0}
        for outcome in comparison.outcomes:
            side, kind = f"{outcome.side}s", KINDS.index(outcome.kind)
            totals[side][kind] += 1
            of_class = classes.setdefault(outcome.segment.category_id, empty | {"truths": {}, "predictions": {}})
            of_class[side][kind] = of_class[side].get(kind, 0) + 1
        means = comparison.matches.means or (None, None, None)
        sums = {key: sum(getattr(c, key) for c in counts.values()) for key in ("tp", "fp", "fn")}
        train_ids = self._taxonomy.dataset_id_to_train_id
        by_train_id = {train_ids[category_id]: entry for category_id, entry in classes.items()}
        return dict(zip(("pq", "sq", "rq"), means)) | sums | totals | {"classes": by_train_id}


@contextmanager
def open_viewer(
    folder: Path, taxonomy: Taxonomy, image_ids: Sequence[ImageId], pictures: Mapping[ImageId, Path] | None = None
) -> Iterator[Viewer]:
    """Write a viewer whole or not at all; an older one in `folder` goes when the new one is complete.

    Args:
        image_ids: of all images, in the order of the table.
        pictures: the file of each image that has one.

    Raises:
        InputError: if `folder` holds anything but a viewer.
    """
    check_viewer_folder(folder)
    folder = Path(folder).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_partial_files(folder.parent)
    partial = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{os.getpid()}-", dir=folder.parent))
    try:
        (partial / "data").mkdir()
        (partial / "assets").mkdir()
        for source in sorted(PAGE.iterdir()):
            if source.is_file():
                shutil.copyfile(source, partial / ("" if source.suffix == ".html" else "assets") / source.name)
        viewer = Viewer(partial, taxonomy, image_ids, pictures or {})
        yield viewer
        partial.chmod(0o755)
        if folder.exists():
            former = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{os.getpid()}-", dir=folder.parent))
            folder.replace(former)
            try:
                partial.replace(folder)
            except OSError:
                former.replace(folder)
                raise
            shutil.rmtree(former, ignore_errors=True)
        else:
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_viewer_folder(folder: Path) -> None:
    """Refuse a folder that a viewer may not take the place of.

    Raises:
        InputError: if it is a file, or holds anything but a viewer.
    """
    folder = Path(folder).resolve()
    if folder == Path.cwd() or folder in Path.cwd().parents:
        raise InputError(f"{folder}: is the current folder, or one above it; give the report a folder of its own")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, but the report is a folder; give another name")
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found and not (found <= PARTS and _is_viewer(folder)):
        raise InputError(f"{folder}: holds other files than a report, which would go; give another name, or an empty folder")


def _is_viewer(folder: Path) -> bool:
    try:
        with (folder / "data" / "run.js").open(encoding="ascii") as file:
            return file.read(len(MARK)) == MARK
    except (OSError, UnicodeDecodeError):
        return False


def encode_map(panoptic: PanopticMap) -> dict:
    """The map as {bits, data}: segments' places from 1, 0 void; rows as differences modulo 2^bits; deflated; base64."""
    bits = 8 if len(panoptic.segments) < 2**8 else 16
    index = segment_index(panoptic).astype("<u1" if bits == 8 else "<u2")
    rows = index.copy()
    rows[1:] -= index[:-1]
    return {"bits": bits, "data": base64.b64encode(zlib.compress(rows.tobytes(), 6)).decode("ascii")}


def _places(panoptic: PanopticMap) -> dict[int, int]:
    return {segment.segment_id: k for k, segment in enumerate(panoptic.segments)}


def _outcome_entry(outcome: Outcome, places: Mapping[int, int]) -> dict:
    partners = [places[segment_id] for segment_id in outcome.partners]
    return {"kind": KINDS.index(outcome.kind), "iou": outcome.iou, "partners": partners}


def _empty_run(truth: PanopticMap | None, size: list[int]) -> dict:
    """Of a run without a prediction of the image: void, and nothing is said of the truth."""
    void = PanopticMap(np.zeros(size, np.uint32), ())
    truths = [None] * (0 if truth is None else len(truth.segments))
    return {"map": encode_map(void), "segments": [], "truths": truths}


def _finding_entry(finding: Finding, truth: PanopticMap | None, comparisons: Sequence[Comparison | None]) -> dict:
    panoptic = truth
    if finding.side == "prediction":
        panoptic = comparisons[0].prediction if comparisons and comparisons[0] is not None else None
    places = {} if panoptic is None else _places(panoptic)
    segments = [places[segment_id] for segment_id in finding.segment_ids if segment_id in places]
    box = None if finding.box is None else list(finding.box)
    return {"problem": finding.problem, "text": finding.text, "side": finding.side, "segments": segments, "box": box}


def _scores_entry(run: ViewedRun) -> dict:
    errors, keys = run.kinds.scores()["kinds"], ("pq", "sq", "rq", "tp", "fp", "fn")
    return {
        "name": run.name,
        "scores": {group: run.scores[group] for group in GROUPS},
        "classes": [{key: entry[key] for key in keys} for entry in run.scores["per_class"].values()],
        "kinds": [errors[kind] for kind in KINDS],
        "findings": run.kinds.findings(),
    }


def _to_json(value: object) -> str:
    """In ASCII, so that a page reads it whatever encoding it takes; NaN is no JSON."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
